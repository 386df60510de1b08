"""The document of the API says what the API does, and the page that shows it needs nobody else."""

from __future__ import annotations

import re
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client, override_settings

TABLE = {
    "/api/v1/posts": {"get", "post"},
    "/api/v1/posts/{post}": {"get", "patch", "delete"},
    "/api/v1/posts/{post}/like": {"post"},
    "/api/v1/posts/{post}/likes": {"get"},
    "/api/v1/likes": {"get", "post"},
    "/posts": {"post"},
    "/like": {"post"},
    "/likes/{post}": {"get"},
    "/events": {"get"},
    "/events/pipeline": {"get"},
    "/health": {"get"},
    "/ready": {"get"},
    "/metrics": {"get"},
}
LIKES = [("/api/v1/posts/{post}/like", "post"), ("/like", "post"), ("/api/v1/likes", "post")]


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """What the service says of itself."""
    response = Client().get("/api/schema")
    assert response.status_code == 200
    found: dict[str, Any] = response.json()
    return found


def test_the_document_is_valid_and_drawn_without_a_warning() -> None:
    out = StringIO()
    call_command("spectacular", "--validate", "--fail-on-warn", stdout=out)
    assert "openapi:" in out.getvalue()


def test_the_document_has_every_route_of_the_table_and_no_other(document: dict[str, Any]) -> None:
    assert {path: set(methods) for path, methods in document["paths"].items()} == TABLE


@pytest.mark.parametrize(("path", "method"), LIKES)
def test_every_way_to_like_documents_its_key_its_replay_and_its_outcomes(
    document: dict[str, Any], path: str, method: str
) -> None:
    operation = document["paths"][path][method]
    assert "Idempotency-Key" in [parameter["name"] for parameter in operation["parameters"]]
    assert "Idempotent-Replayed" in operation["responses"]["202"]["headers"]
    assert "Retry-After" in operation["responses"]["503"]["headers"]
    assert {"202", "400", "413", "503"} <= operation["responses"].keys()


def test_every_error_is_documented_as_a_problem_document(document: dict[str, Any]) -> None:
    for methods in document["paths"].values():
        for operation in methods.values():
            for status, response in operation["responses"].items():
                kinds = set(response.get("content", {}))
                assert (kinds == {"application/problem+json"}) == (int(status) >= 400), (operation, status)
    problem = document["components"]["schemas"]["Problem"]["properties"]
    assert {"type", "title", "status", "detail", "errors", "outcome"} <= problem.keys()


def test_writing_is_documented_with_its_keys_and_the_demo_without(document: dict[str, Any]) -> None:
    assert {"token": []} in document["paths"]["/api/v1/posts"]["post"]["security"]
    assert "security" not in document["paths"]["/api/v1/posts"]["get"]
    with override_settings(LIKES_DEMO=True):
        opened = Client().get("/api/schema").json()["paths"]
    assert "security" not in opened["/api/v1/posts"]["post"]
    assert {"token": []} in opened["/api/v1/posts/{post}"]["delete"]["security"]


def test_the_page_of_the_api_is_served_from_here_whole() -> None:
    client = Client()
    page = client.get("/api/docs", headers={"Accept": "application/json"})
    text = page.content.decode()
    addresses = re.findall(r'(?:src|href)="([^"]+)"', text)
    assert page.headers["Content-Type"].startswith("text/html")
    assert len(addresses) >= 4
    for address in addresses:
        assert address.startswith("/")
        assert client.get(address.replace("&amp;", "&")).status_code == 200, address
    assert not re.findall(r"<script>", text)
