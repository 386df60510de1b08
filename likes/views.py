"""The HTTP table: each view parses, counts and answers; knows neither keys nor SQL, and no worker."""

from __future__ import annotations

import logging
from random import Random
from typing import Any

from django.db import Error as DatabaseError
from django.db import transaction
from django.shortcuts import get_object_or_404
from rest_framework import status
from rest_framework.generics import GenericAPIView
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse

from likes import counts, openapi
from likes.api import Api
from likes.buffer import Total, Unavailable, buffer
from likes.models import Post
from likes.pagination import PostPages
from likes.parameters import idempotency_key, post_ids
from likes.serializers import BulkSerializer, DemoPostSerializer, PostSerializer, ShortLikeSerializer

log = logging.getLogger(__name__)

DEMO_POSTS = (1, 2, 3)  # what a demo is seeded with


class Posts(Api, GenericAPIView[Post]):
    """All posts."""

    guarded = frozenset({"POST"})
    opened_by_demo = frozenset({"POST"})
    saves = frozenset({"POST"})
    queryset = Post.objects.all()
    serializer_class = PostSerializer
    pagination_class = PostPages

    @openapi.list_posts
    def get(self, request: Request) -> Response:
        """Answer one page, newest first."""
        page = self.paginate_queryset(self.get_queryset()) or []
        totals = counts.totals(post.pk for post in page)
        still_there = [post for post in page if post.pk in totals]
        return self.get_paginated_response(PostSerializer(still_there, many=True, context={"totals": totals}).data)

    @openapi.create_post
    def post(self, request: Request) -> Response:
        """Make a post."""
        return created(PostSerializer(data=request.data))


class OnePost(Api):
    """One post."""

    guarded = frozenset({"PATCH", "DELETE"})
    saves = frozenset({"PATCH", "DELETE"})

    @openapi.read_post
    def get(self, request: Request, post: int) -> Response:
        """Answer the post."""
        found = get_object_or_404(Post, pk=post)
        return Response(PostSerializer(found, context={"totals": {post: total_of(post)}}).data)

    @openapi.change_post
    def patch(self, request: Request, post: int) -> Response:
        """Change the title; the total is read first, so that a 503 says truly that nothing was changed."""
        context = {"totals": {post: total_of(post)}}
        with transaction.atomic():
            found = get_object_or_404(Post.objects.select_for_update(no_key=True), pk=post)
            serializer = PostSerializer(found, data=request.data, partial=True, context=context)
            serializer.is_valid(raise_exception=True)
            serializer.save()
        return Response(serializer.data)

    @openapi.delete_post
    def delete(self, request: Request, post: int) -> Response:
        """Delete the post; its likes stay in the books."""
        get_object_or_404(Post, pk=post).delete()
        settle(post)
        return Response(status=status.HTTP_204_NO_CONTENT)


class LikePost(Api):
    """The likes of one post."""

    @openapi.like
    def post(self, request: Request, post: int) -> Response:
        """Count one like."""
        return liked(post, idempotency_key(request))


class Likes(Api):
    """The likes of many posts."""

    guarded = frozenset({"POST"})
    opened_by_demo = frozenset({"POST"})

    @openapi.read_many
    def get(self, request: Request) -> Response:
        """Answer the live totals of the posts that exist."""
        posts = post_ids(request)
        totals = counts.totals(posts)
        return Response({"likes": {str(post): totals[post].likes for post in posts if post in totals}})

    @openapi.like_many
    def post(self, request: Request) -> Response:
        """Count many likes."""
        serializer = BulkSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        entries = [(entry["post"], entry["count"]) for entry in serializer.validated_data["likes"]]
        result = counts.like_many(entries, idempotency_key(request))
        return accepted({"accepted": result.accepted, "unknown": result.unknown}, result.replayed)


class PostLikes(Api):
    """The total of one post, and how much of it is persisted."""

    @openapi.read_likes
    def get(self, request: Request, post: int) -> Response:
        """Answer the total in its parts, read at one moment."""
        total = total_of(post)
        parts = {"likes": total.likes, "persisted": total.persisted, "pending": total.pending}
        return Response({"post": post, **parts})


class ShortLikes(PostLikes):
    """The short form of the same."""

    @openapi.short_likes
    def get(self, request: Request, post: int) -> Response:
        """Answer the total in its parts."""
        return super().get(request, post)


class DemoPosts(Api):
    """The short form of making a post."""

    guarded = frozenset({"POST"})
    opened_by_demo = frozenset({"POST"})
    saves = frozenset({"POST"})

    @openapi.create_demo_post
    def post(self, request: Request) -> Response:
        """Make a post, under a title of its own or a demo one."""
        return created(DemoPostSerializer(data=request.data))


class ShortLike(Api):
    """The short form of a like."""

    @openapi.short_like
    def post(self, request: Request) -> Response:
        """Count one like, of the post named or of one of the demo's."""
        serializer = ShortLikeSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        key = idempotency_key(request)
        if "postId" in serializer.validated_data:
            return liked(serializer.validated_data["postId"], key)
        return liked_any(key)


def total_of(post: int) -> Total:
    """Return the live total of one post. Raises UnknownPost, Unavailable."""
    total = counts.totals([post]).get(post)
    if total is None:
        raise counts.UnknownPost
    return total


def created(serializer: PostSerializer) -> Response:
    """Make a post and answer where it is."""
    serializer.is_valid(raise_exception=True)
    post = serializer.save()
    return Response(serializer.data, status.HTTP_201_CREATED, headers={"Location": reverse("post", [post.pk])})


def liked(post: int, key: str | None) -> Response:
    """Count one like and answer it."""
    result = counts.like(post, key)
    return accepted({"post": post, "likes": result.likes}, result.replayed)


def liked_any(key: str | None) -> Response:
    """Count one like of a demo post, or of the oldest where those are gone.

    Under a key, of the post that it was counted for before: a retry goes elsewhere only if that one was deleted.
    """
    before = buffer.answered(DEMO_POSTS, key) if key else []
    random = Random(key)  # noqa: S311 (chooses a demo post, keeps no secret)
    for post in [*before, *random.sample(DEMO_POSTS, len(DEMO_POSTS))]:
        try:
            return liked(post, key)
        except counts.UnknownPost:
            continue
    return liked(counts.oldest_post(), key)


def settle(post: int) -> None:
    """Make Redis forget a deleted post; where it is away, the next tick does, and the deletion stands."""
    try:
        counts.settle([post], door=buffer)
    except (Unavailable, DatabaseError):
        log.warning("not settled yet post=%d: the next tick does it", post, exc_info=True)


def accepted(body: dict[str, Any], replayed: bool) -> Response:
    """Answer 202, and say so where the answer was given before."""
    return Response(body, status.HTTP_202_ACCEPTED, headers={"Idempotent-Replayed": "true"} if replayed else None)
