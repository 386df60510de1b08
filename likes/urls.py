"""The addresses of the HTTP table; knows what answers each, and not how."""

from django.urls import path, register_converter
from drf_spectacular.views import SpectacularJSONAPIView, SpectacularSwaggerSplitView

from likes import health, metrics, pages, views
from likes.parameters import PostIdConverter

register_converter(PostIdConverter, "post")

urlpatterns = [
    path("", pages.home, name="home"),
    path("favicon.ico", pages.favicon),  # browsers ask for it on pages that name none: the admin, the API's docs
    path("api/v1/posts", views.Posts.as_view(), name="posts"),
    path("api/v1/posts/<post:post>", views.OnePost.as_view(), name="post"),
    path("api/v1/posts/<post:post>/like", views.LikePost.as_view(), name="like"),
    path("api/v1/posts/<post:post>/likes", views.PostLikes.as_view(), name="post-likes"),
    path("api/v1/likes", views.Likes.as_view(), name="likes"),
    path("posts", views.DemoPosts.as_view(), name="short-posts"),
    path("like", views.ShortLike.as_view(), name="short-like"),
    path("likes/<post:post>", views.ShortLikes.as_view(), name="short-likes"),
    path("health", health.Health.as_view(), name="health"),
    path("ready", health.Ready.as_view(), name="ready"),
    path("metrics", metrics.Metrics.as_view(), name="metrics"),
    path("api/schema", SpectacularJSONAPIView.as_view(), name="schema"),
    path("api/docs", SpectacularSwaggerSplitView.as_view(url_name="schema"), name="docs"),
]
