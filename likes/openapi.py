"""What /api/schema says of every route; documents what the views do and does none of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any, TypeVar

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import serializers

from likes.ids import MOST_POSTS
from likes.problems import MEDIA_TYPE
from likes.serializers import BulkSerializer, DemoPostSerializer, PostSerializer, ShortLikeSerializer

Method = TypeVar("Method", bound=Callable[..., Any])
GUARDED = (401, 403)
BODY = (400, 413, 415)
EVENT_STREAM = "text/event-stream"


class ProblemSerializer(serializers.Serializer[Any]):
    """An error, as RFC 9457 has it."""

    type = serializers.CharField(help_text="about:blank: the status says what kind of problem it is")
    title = serializers.CharField()
    status = serializers.IntegerField()
    detail = serializers.CharField()
    errors = serializers.DictField(  # type: ignore[assignment]  # a declared field, moved off the class by DRF
        child=serializers.ListField(child=serializers.CharField()),
        required=False,
        help_text="of a 400: what is wrong, by field, such as `likes[3].count`",
    )
    outcome = serializers.ChoiceField(
        ["not_applied", "unknown"], required=False, help_text="of a 503: whether the change was made"
    )


class LikedSerializer(serializers.Serializer[Any]):
    """A post and its live total, this like included."""

    post = serializers.IntegerField()
    likes = serializers.IntegerField()


class AcceptedSerializer(serializers.Serializer[Any]):
    """How many likes were counted, and the posts that are unknown."""

    accepted = serializers.IntegerField()
    unknown = serializers.ListField(child=serializers.IntegerField())


class TotalsSerializer(serializers.Serializer[Any]):
    """Live totals by id; unknown ids are left out."""

    likes = serializers.DictField(child=serializers.IntegerField())


class PostLikesSerializer(serializers.Serializer[Any]):
    """likes = persisted + pending, all of one moment."""

    post = serializers.IntegerField()
    likes = serializers.IntegerField()
    persisted = serializers.IntegerField()
    pending = serializers.IntegerField()


class BearerScheme(OpenApiAuthenticationExtension):
    """How BearerAuthentication is named in the document."""

    target_class = "likes.authentication.BearerAuthentication"
    name = "token"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        """Return the scheme."""
        return {"type": "http", "scheme": "bearer", "description": "One of LIKES_API_TOKENS."}


def header(name: str, description: str, *, response: Sequence[int] | bool = False) -> OpenApiParameter:
    """Describe a header, of the request or of the responses with these statuses."""
    return OpenApiParameter(name, str, OpenApiParameter.HEADER, description=description, response=response)


KEY = header("Idempotency-Key", "1 to 255 visible ASCII characters; a retry under the same key counts once")
REPLAYED = header("Idempotent-Replayed", "true: this key was answered before, with this", response=[202])
RETRY_AFTER = header("Retry-After", "in seconds", response=[503])
CHALLENGE = header("WWW-Authenticate", "how to authenticate", response=[401])
LOCATION = header("Location", "the post's address", response=[201])
POSTS = OpenApiParameter(
    "post", {"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": MOST_POSTS}, required=True
)


def operation(
    name: str, summary: str, answer: tuple[Any, Any], problems: Sequence[int] = (), **more: Any
) -> Callable[[Method], Method]:
    """Describe a method of a view: its one good answer, and the problems that it can be answered with.

    `more` is what `extend_schema` takes: tags, request, parameters.
    """
    responses = dict([answer])
    for code in sorted({*problems, 413}):
        responses[code, MEDIA_TYPE] = OpenApiResponse(ProblemSerializer, description=HTTPStatus(code).phrase)
    added = [param for code, param in ((503, RETRY_AFTER), (401, CHALLENGE)) if code in problems]
    parameters = [*more.pop("parameters", []), *added]
    decorator: Callable[[Method], Method] = extend_schema(
        operation_id=name, summary=summary, responses=responses, parameters=parameters, **({"request": None} | more)
    )
    return decorator


like = operation(
    "like", "Like a post", (202, LikedSerializer), (400, 404, 503), tags=["likes"], parameters=[KEY, REPLAYED]
)
like_many = operation(
    "likeMany",
    "Count many likes in one call",
    (202, AcceptedSerializer),
    (*BODY, *GUARDED, 503),
    tags=["likes"],
    request=BulkSerializer,
    parameters=[KEY, REPLAYED],
)
read_many = operation(
    "readLikes", "Live totals of posts", (200, TotalsSerializer), (400, 503), tags=["likes"], parameters=[POSTS]
)
read_likes = operation(
    "readPostLikes", "The total of a post, in its parts", (200, PostLikesSerializer), (404, 503), tags=["likes"]
)
list_posts = operation(
    "listPosts",
    "Posts, newest first",
    (200, PostSerializer(many=True)),
    (400, 503),
    tags=["posts"],
)
create_post = operation(
    "createPost",
    "Make a post",
    (201, PostSerializer),
    (*BODY, *GUARDED, 503),
    tags=["posts"],
    request=PostSerializer,
    parameters=[LOCATION],
)
read_post = operation("readPost", "A post", (200, PostSerializer), (404, 503), tags=["posts"])
change_post = operation(
    "changePost",
    "Change a post's title",
    (200, PostSerializer),
    (*BODY, *GUARDED, 404, 503),
    tags=["posts"],
    request=PostSerializer,
)
delete_post = operation(
    "deletePost", "Delete a post", (204, OpenApiResponse(description="gone")), (*GUARDED, 404, 503), tags=["posts"]
)
short_like = operation(
    "shortLike",
    "Like a post, or without postId a random demo post",
    (202, LikedSerializer),
    (*BODY, 404, 503),
    tags=["short forms"],
    request=ShortLikeSerializer,
    parameters=[KEY, REPLAYED],
)
short_likes = operation(
    "shortLikes", "The total of a post, in its parts", (200, PostLikesSerializer), (404, 503), tags=["short forms"]
)
create_demo_post = operation(
    "createDemoPost",
    "Make a post, under a title of its own or a demo one",
    (201, DemoPostSerializer),
    (*BODY, *GUARDED, 503),
    tags=["short forms"],
    request=DemoPostSerializer,
    parameters=[LOCATION],
)
health = operation("health", "Whether this process is alive", (200, OpenApiTypes.OBJECT), tags=["operating"])
ready = operation("ready", "Whether each part works, by name", (200, OpenApiTypes.OBJECT), (503,), tags=["operating"])
metrics = operation("metrics", "Measures for Prometheus", ((200, "text/plain"), OpenApiTypes.STR), tags=["operating"])


def add_streams(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Add the event streams, which are answered in front of Django (POSTPROCESSING_HOOKS)."""
    filtered = {
        "name": "post",
        "in": "query",
        "description": "only these posts; none: all",
        "schema": {"type": "array", "items": {"type": "integer"}, "maxItems": MOST_POSTS},
    }
    result["paths"] |= {
        "/events": stream("likes", "Live totals, as they change", [filtered]),
        "/events/pipeline": stream("pipeline", "What the flushes do, as they do it", []),
    }
    return result


def stream(name: str, summary: str, parameters: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Describe one event stream."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    problems = {str(code): {"description": HTTPStatus(code).phrase, "content": content} for code in (400, 429)}
    events = {"content": {EVENT_STREAM: {"schema": {"type": "string"}}}, "description": "unnamed events, JSON as data"}
    return {
        "get": {
            "operationId": name,
            "summary": summary,
            "tags": ["live"],
            "parameters": list(parameters),
            "responses": {"200": events, **problems},
        }
    }
