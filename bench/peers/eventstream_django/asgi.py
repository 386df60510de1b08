"""What uvicorn serves, with the options that it serves likesite with."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "bench.peers.eventstream_django.settings")
application = get_asgi_application()
