"""Routes of the deployment, and what answers where no route does."""

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

urlpatterns = [
    path("admin", RedirectView.as_view(pattern_name="admin:index")),  # APPEND_SLASH is off, and people type it
    path("admin/", admin.site.urls),
    path("", include("likes.urls")),
]

handler400 = "likes.problems.bad_request"
handler403 = "likes.problems.forbidden"
handler404 = "likes.problems.not_found"
handler500 = "likes.problems.server_error"
