"""The bodies that come in and go out, checked field by field; knows no server."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from likes.ids import DIGITS, MAX_ID, MOST_ENTRIES, MOST_LIKES
from likes.models import Post

NO_POST = 0  # an id that no post can have
DEMO_TITLE = "A demo post"


class WholeNumber(serializers.IntegerField):
    """A JSON integer: DRF would also take true, 1.0 and "1"."""

    def to_internal_value(self, data: Any) -> int:
        """Return `data`; raise ValidationError unless it is an integer."""
        if type(data) is not int:
            self.fail("invalid")
        return data


@extend_schema_field({"oneOf": [{"type": "integer"}, {"type": "string", "pattern": "^[0-9]+$"}]})
class PostId(serializers.Field[int, Any, int, Any]):
    """An id as old clients send it: 1 or "1"."""

    def to_internal_value(self, data: Any) -> int:
        """Return the id, of any size; raise ValidationError for what is none."""
        if type(data) is int:
            return data
        if not isinstance(data, str) or not DIGITS.fullmatch(data):
            raise serializers.ValidationError("must be a post's id: a whole number, or one in a string")
        return int(data) if len(data) <= len(str(MAX_ID)) else NO_POST

    def to_representation(self, value: int) -> int:
        """Return the id as it is."""
        return value


class PostSerializer(serializers.ModelSerializer[Post]):
    """A post with its live total, which comes in the context: `totals`, by id."""

    likes = serializers.SerializerMethodField(help_text="the live total: persisted and pending")

    class Meta:
        model = Post
        fields = ("id", "title", "likes", "created_at", "updated_at")

    def get_likes(self, post: Post) -> int:
        """Return the live total; a post that was just made has none."""
        total = self.context.get("totals", {}).get(post.pk)
        return total.likes if total else 0


class DemoPostSerializer(PostSerializer):
    """The same, for those who only want a post to like."""

    title = serializers.CharField(max_length=200, default=DEMO_TITLE)


class EntrySerializer(serializers.Serializer[Any]):
    """So many likes of one post."""

    post = WholeNumber()
    count = WholeNumber(min_value=1, max_value=MOST_LIKES)


class BulkSerializer(serializers.Serializer[Any]):
    """Many likes in one call; one bad entry refuses all."""

    likes = serializers.ListField(child=EntrySerializer(), min_length=1, max_length=MOST_ENTRIES)


class ShortLikeSerializer(serializers.Serializer[Any]):
    """The body of `POST /like`, which may be left out."""

    postId = PostId(required=False)  # noqa: N815 (the name that clients of the older systems send)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Refuse a body that names no post, unless by leaving it to a demo: a misspelt name must like nothing else."""
        if unknown := [name for name in self.initial_data if name not in self.fields]:
            raise serializers.ValidationError(dict.fromkeys(unknown, "is not known here: only postId is"))
        if "postId" not in attrs and not settings.LIKES_DEMO:
            raise serializers.ValidationError({"postId": "is required, where there is no demo to choose a post from"})
        return attrs
