#!/usr/bin/env python
"""Django's command line for likesite."""

import os
import sys

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "likesite.settings")
    if sys.argv[1:2] == ["up"]:
        # Settings do not load without the secrets that a first start makes.
        from likesite import embedded
        from likesite.machine.plan import data_folder

        embedded.make_secrets(data_folder(os.environ))
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)
