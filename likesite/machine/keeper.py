"""Supervisord, looking every tenth of a second. Runs as a script; knows nothing of likesite.

Supervisord notices an end in one look and restarts in the next, and sleeps up to a second before each: together with
a program's own start that would break the promise that what dies is back within 2 s.
"""

import sys

from supervisor.medusa import asyncore_25 as asyncore
from supervisor.options import ServerOptions
from supervisor.supervisord import Supervisor

LOOK_SECONDS = 0.1


def main(arguments: list[str]) -> None:
    options = ServerOptions()
    wait = options.poller.poll
    options.poller.poll = lambda timeout: wait(min(timeout, LOOK_SECONDS))
    options.realize(arguments, doc=__doc__)
    options.first, options.test = True, False
    try:
        Supervisor(options).main()
    except asyncore.ExitNow:
        options.close_httpservers()
        options.close_logger()


if __name__ == "__main__":
    main(sys.argv[1:])
