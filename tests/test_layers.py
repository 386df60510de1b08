"""Imports go down and never hide: the design's directions, held against every module of the product."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.servers import ROOT

# From the ground up: a module of `likes` imports from the rows below its own, and a new one has to be placed.
LAYERS = (
    ("values, and what needs nothing of ours", "absent apps asgi_types ids instruments lane latest"
                                               " models probes problems values tokens wire admin.listing"),
    ("what Redis is asked; who may write", "survey authentication"),
    ("the doors: Redis, SQL, the streams' channel", "buffer books ledger events"),
    ("what goes through a door", "announcer"),
    ("the doors joined; parts of rooms", "api counts audit admission bodies heads lifespan mailboxes parameters"
                                         " admin.books"),
    ("the flush; parts of the API and the lane", "tasks delivery exceptions pagination serializers snapshots"
                                                 " pages replies trips"),
    ("the hub of the streams; the lane of bulk calls; buttons; documents", "bulk hub openapi admin.actions"),
    ("rooms and views", "fastlane stream views health admin.posts"),
    ("what collects them", "metrics admin"),
    ("what is called from outside", "urls management.commands.audit management.commands.flush"
                                    " management.commands.loadtest management.commands.reset_likes"
                                    " management.commands.seed_demo"),
)  # fmt: skip
RANK = {module: rank for rank, (_, modules) in enumerate(LAYERS) for module in modules.split()}

# Each outside system has one door: the only modules of `likes` that may import it.
DOORS = {
    "redis": {"wire", "survey", "buffer", "events"},
    "django_eventstream": {"events"},
    "celery": {"tasks"},
    "psycopg2": set(),
    "prometheus_client": {"instruments", "metrics"},
}
# Modules that must know nothing of the database; those that the streams consist of, and what these may use.
WITHOUT_ORM = {
    "values",
    "ids",
    "wire",
    "survey",
    "buffer",
    "events",
    "hub",
    "latest",
    "mailboxes",
    "snapshots",
    "admission",
    "stream",
    "delivery",
    "announcer",
    "lane",
    "heads",
    "trips",
    "replies",
    "bulk",
    "tokens",
    "fastlane",
}
STREAM = {"stream", "admission", "delivery", "hub", "latest", "mailboxes", "snapshots", "lifespan"}
STREAM_MAY = STREAM | {"events", "buffer", "asgi_types", "ids", "problems", "instruments"}
FOREIGN = ("likes.", "likesite.settings", "django.conf", "django.db")
# What serves requests: a slow worker must not be able to slow it. The admin's "flush now" is an operator's errand.
NEVER_TASKS = {"views", "counts", "stream", "hub", "api", "health", "metrics", "pages", "urls", "audit"}


def modules(package: str) -> Iterator[tuple[str, Path]]:
    """Yield the modules of a package that hold code, by their name inside of it."""
    folder = ROOT / package
    for path in sorted(folder.rglob("*.py")):
        name = ".".join(path.relative_to(folder).with_suffix("").parts).removesuffix("__init__").removesuffix(".")
        if name and "migrations" not in path.parts and path.read_text().strip():
            yield name, path


@cache
def imported(path: Path) -> set[str]:
    """Return what a module imports, and each name of a `from` with its module before it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import"
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def inside(package: str, names: set[str], known: set[str]) -> set[str]:
    """Return which modules of a package these names stand for."""
    found = set()
    for name in names:
        first, *parts = name.split(".")
        if first == package and parts:
            ways = [".".join(parts[:end]) for end in range(len(parts), 0, -1)]
            assert set(ways) & known, f"{name} is no module that the table knows"
            found.add(next(way for way in ways if way in known))
    return found


LIKES = dict(modules("likes"))
LIKESITE = dict(modules("likesite"))


def test_every_module_has_its_place() -> None:
    assert set(LIKES) - set(RANK) == set(), "place these in LAYERS, with the least they need"
    assert set(RANK) - set(LIKES) == set(), "these are gone"


@pytest.mark.parametrize("module", LIKES)
def test_imports_go_down(module: str) -> None:
    wrong = {name for name in inside("likes", imported(LIKES[module]), set(RANK)) if RANK[name] >= RANK[module]}
    assert wrong == set(), f"{module} imports upward or sideways"


@pytest.mark.parametrize("path", [*LIKES.values(), *LIKESITE.values()], ids=lambda path: str(path.relative_to(ROOT)))
def test_no_import_hides_in_a_function(path: Path) -> None:
    tree = ast.parse(path.read_text())
    bodies = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    within = [node for body in bodies for node in ast.walk(body)]
    hidden = [node.lineno for node in within if isinstance(node, ast.Import | ast.ImportFrom)]
    called = [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Call) and is_import(node.func)]
    assert hidden + called == [], "lines with an import that nobody sees"


def is_import(function: ast.expr) -> bool:
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return name in ("import_module", "__import__", "import_string")


@pytest.mark.parametrize("system", DOORS)
def test_an_outside_system_has_one_door(system: str) -> None:
    users = {module for module, path in LIKES.items() if any(name.split(".")[0] == system for name in imported(path))}
    assert users <= DOORS[system]


@pytest.mark.parametrize("module", sorted(WITHOUT_ORM))
def test_what_counts_in_redis_knows_no_database(module: str) -> None:
    names = imported(LIKES[module])
    assert {name for name in names if name.startswith("django.db")} == set()
    assert inside("likes", names, set(RANK)) & {"models", "ledger", "books", "counts"} == set()


@pytest.mark.parametrize("module", sorted(STREAM))
def test_the_stream_knows_events_and_totals_only(module: str) -> None:
    assert inside("likes", imported(LIKES[module]), set(RANK)) <= STREAM_MAY


def reachable(module: str, seen: frozenset[str] = frozenset()) -> set[str]:
    """Return every module of `likes` that comes along when this one is imported."""
    found = inside("likes", imported(LIKES[module]), set(RANK)) - seen
    return found.union(*(reachable(name, seen | found) for name in found))


@pytest.mark.parametrize("module", sorted(NEVER_TASKS))
def test_what_serves_requests_never_imports_the_worker(module: str) -> None:
    assert "tasks" not in reachable(module)


def test_likes_does_not_know_the_deployment_it_is_in() -> None:
    users = {module for module, path in LIKES.items() if any(name.startswith("likesite") for name in imported(path))}
    assert users <= {"management.commands.loadtest"}, "a load test is started by hand, from outside the service"


@pytest.mark.parametrize("part", ["embedded", "machine", "loadtest"])
def test_servers_processes_and_load_know_neither_settings_nor_likes(part: str) -> None:
    paths = [path for module, path in LIKESITE.items() if module.split(".")[0] == part]
    assert paths, "it is gone"
    names = set().union(*map(imported, paths))
    assert {name for name in names if name.startswith(FOREIGN)} == set()
