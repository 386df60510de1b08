"""The Django app of everything about likes."""

from django.apps import AppConfig


class LikesConfig(AppConfig):
    """Names the app; connects nothing."""

    name = "likes"
    verbose_name = "Likes"
