"""The Celery application that `celery -A likesite worker` and `… beat` start; knows no task."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "likesite.settings")

app = Celery("likesite")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(["likes"])
