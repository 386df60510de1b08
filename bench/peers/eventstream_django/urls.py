"""One address: `/events/?channel=…`."""

from django.urls import include, path

urlpatterns = [path("events/", include("django_eventstream.urls"))]
