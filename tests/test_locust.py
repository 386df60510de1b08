"""Load runs by the real Locust against the real service, and against one that lies."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db.models import Max, QuerySet

from likes import counts
from likes.buffer import LIKE
from likes.models import Post
from tests import lying, stack
from tests.conftest import clean
from tests.loadrun import RUN_SECONDS, WebUI, command, locust, number
from tests.proxy import Fault, Proxy
from tests.servers import Process, Server, eventually, folder, free_port, manage

New = Callable[[], QuerySet[Post]]


@pytest.fixture(scope="module")
def service() -> Iterator[stack.Web]:
    """The web process, with worker and beat behind it: one for all tests, since each run looks at posts of its own."""
    clean()
    started: list[Process] = []

    def start(*arguments: Any, **environment: str) -> Process:
        started.append(Process(*arguments, **environment))
        return started[-1]

    stack.worker(start)
    stack.beat(start)
    yield stack.Web(start, LIKES_FASTLANE="on").start()
    for one in started:
        one.kill()


@pytest.fixture(autouse=True)
def fresh() -> None:
    """Instead of the one that empties everything between tests: the processes stay, and so must what they know."""


@pytest.fixture
def new() -> New:
    """The posts made since the test began."""
    newest = Post.objects.aggregate(Max("pk", default=0))["pk__max"]
    return lambda: Post.objects.filter(pk__gt=newest)


def likes(posts: QuerySet[Post]) -> int:
    """What PostgreSQL holds of these posts."""
    return sum(posts.values_list("likes", flat=True))


def test_a_run_ends_in_an_exact_certificate_whatever_else_goes_on(service: stack.Web, new: New) -> None:
    other = stack.make_posts(1)[0]
    over = threading.Event()

    def strangers() -> None:
        while not over.is_set():
            service.call("POST", f"/api/v1/posts/{other}/like")

    thread = threading.Thread(target=strangers)
    thread.start()
    code, out = locust(service.port, "--likes", "200")
    over.set()
    thread.join()
    assert (code, number(out, "acknowledged"), number(out, "counted"), number(out, "persisted")) == (
        0,
        200,
        200,
        200,
    ), out
    assert "EXACT" in out
    assert likes(new().exclude(pk=other)) == 200


def test_two_processes_share_a_run_and_its_certificate(service: stack.Web) -> None:
    port = str(free_port())
    place = ["--master-bind-host", "127.0.0.1", "--master-bind-port", port, "--master-port", port]
    code, out = locust(service.port, "--likes", "101", "--users", "6", "--processes", "2", *place)
    assert (code, number(out, "acknowledged"), number(out, "counted")) == (0, 101, 101), out
    assert "2 workers connected" in out


def test_the_command_runs_so_many_likes_and_passes_the_exit_code_on(service: stack.Web) -> None:
    run = manage("loadtest", "120", "--host", f"http://127.0.0.1:{service.port}")
    assert run.returncode == 0, run.stdout + run.stderr
    assert number(run.stdout, "acknowledged") == number(run.stdout, "persisted") == 120
    assert {"likes/s", "p50", "p99"} <= set(run.stdout.split())


@pytest.fixture
def proxied(service: stack.Web, request: pytest.FixtureRequest) -> Iterator[lying.Proxy]:
    proxy = lying.Proxy(service.port, request.param, every=25)
    yield proxy
    proxy.stop()


@pytest.mark.parametrize("proxied", [lying.lose], indirect=True)
def test_lost_likes_break_the_certificate(proxied: lying.Proxy) -> None:
    code, out = locust(proxied.port, "--likes", "100", "Liker")
    assert (code, number(out, "lost"), number(out, "doubled")) == (1, 4, 0), out


@pytest.mark.parametrize("proxied", [lying.double], indirect=True)
def test_doubled_likes_break_the_certificate(proxied: lying.Proxy) -> None:
    code, out = locust(proxied.port, "--likes", "100", "--keyed", "0", "Liker")
    assert (code, number(out, "lost"), number(out, "doubled")) == (1, 0, 4), out


@pytest.mark.parametrize("proxied", [lying.double], indirect=True)
def test_likes_doubled_under_their_keys_are_counted_once(proxied: lying.Proxy) -> None:
    code, out = locust(proxied.port, "--likes", "100", "--keyed", "1", "Liker")
    assert (code, number(out, "acknowledged"), number(out, "counted")) == (0, 100, 100), out


class Losing(Proxy):
    """A network that loses the replies of Redis to every tenth trip with likes, and the connection with them."""

    trips = 0

    def strike(self, request: bytes) -> Fault | None:
        if LIKE.sha.encode() not in request:
            return None
        self.trips += 1
        return Fault(cut=True) if self.trips % 10 == 0 else None


@pytest.mark.parametrize("fastlane", ["on", "off"])
def test_a_run_over_a_network_that_loses_replies_holds_at_either_door(
    service: stack.Web, process: type[Process], redis: Server, fastlane: str
) -> None:
    line = Losing(redis.server.socket)
    web = stack.Web(process, LIKES_FASTLANE=fastlane, REDIS_URL=line.url).start()
    code, out = locust(web.port, "--likes", "200", "--keyed", "0.3")
    assert (code, number(out, "lost"), number(out, "doubled")) == (0, 0, 0), out
    assert "HOLDS WITHIN AN INTERVAL" in out
    assert number(out, "unknown") > 0, out
    line.close()


@pytest.mark.parametrize("proxied", [lying.hang_up], indirect=True)
def test_answers_that_never_came_make_an_interval_and_nothing_is_sent_twice_without_a_key(proxied: lying.Proxy) -> None:
    code, out = locust(proxied.port, "--likes", "100", "--keyed", "0", "Liker")
    assert (code, number(out, "acknowledged"), number(out, "unknown")) == (0, 96, 4), out
    assert "HOLDS WITHIN AN INTERVAL: 100 counted lies in [96, 100]" in out
    assert proxied.likes == 100


@pytest.mark.parametrize("proxied", [lying.hang_up], indirect=True)
def test_a_key_lets_a_like_be_sent_until_it_is_decided(proxied: lying.Proxy) -> None:
    code, out = locust(proxied.port, "--likes", "100", "--keyed", "1", "Liker")
    assert (code, number(out, "acknowledged"), number(out, "unknown"), number(out, "counted")) == (0, 100, 0, 100), out
    assert proxied.likes > 100


def test_totals_taken_back_during_a_run_break_it(service: stack.Web, process: type[Process], new: New) -> None:
    log = folder("locust") / "log"
    run = process(command(service.port, "--headless", "--only-summary", "--users", "4"), log).start()
    eventually(lambda: likes(new()) > 50, "likes arrive")
    assert sum(counts.reset(new(), by="a test")) > 0
    assert run.stop(timeout=RUN_SECONDS) == 1
    assert number(run.output, "lost") > 0, run.output


def test_a_service_that_is_away_is_no_success() -> None:
    code, out = locust(free_port(), "--likes", "10")
    assert (code, "could not begin" in out) == (2, True), out


def test_a_worker_that_dies_leaves_the_run_undecided(service: stack.Web, process: type[Process], new: New) -> None:
    port, log = str(free_port()), folder("locust") / "log"
    place = ["--master-bind-host", "127.0.0.1", "--master-bind-port", port, "--expect-workers", "1"]
    master = process(command(service.port, "--headless", "--master", "--likes", "100000", *place), log).start()
    worker = process(command(service.port, "--worker", "--master-port", port), folder("locust") / "log").start()
    eventually(lambda: likes(new()) > 50, "likes arrive", RUN_SECONDS)
    worker.kill()
    eventually(lambda: not master.running, "the master gives up on the worker", RUN_SECONDS)
    assert master.stop() == 2
    assert "UNDECIDED: no report from" in master.output


def test_each_run_of_a_web_ui_session_has_posts_and_a_certificate_of_its_own(
    service: stack.Web, process: type[Process], new: New
) -> None:
    ui = WebUI(process, service.port)
    page = ui.get("/")
    assert "./certificates.js" in page
    assert re.search(r'"available_shape_classes": \["Default", "Ramp", "Soak", "Spike"\]', page)

    assert ui.post("/swarm", user_count=3, spawn_rate=3)["success"]
    eventually(lambda: likes(new()) > 50, "likes arrive", RUN_SECONDS)
    assert ui.post("/stop")["success"]
    assert ui.post("/swarm", user_count=3, spawn_rate=3, likes=40)["success"]
    eventually(lambda: ui.certified(2), "both runs are certified", RUN_SECONDS)
    assert ui.post("/swarm", shape_class="Spike", shape_seconds=3, peak=5, likes=0)["success"]
    eventually(lambda: ui.certified(3), "the shape ends by itself", RUN_SECONDS)

    runs = [run["certificate"] for run in ui.runs()]
    assert [run["exit_code"] for run in runs] == [0, 0, 0], runs
    assert runs[1]["acknowledged"] == runs[1]["counted"] == 40
    assert new().count() == 3 * 8
    assert sum(run["persisted"] for run in runs) == likes(new())
    assert ui.get("/certificates").count("EXACT") == 3
    assert ui.process.stop() == 0


def test_a_field_with_nonsense_in_it_is_refused_by_name(service: stack.Web) -> None:
    code, out = locust(service.port, "--likes", "10", "--keyed", "7")
    assert (code, "keyed: must be 0 to 1" in out) == (2, True), out


def test_a_headless_run_takes_a_shape_by_name(service: stack.Web) -> None:
    code, out = locust(service.port, "--shape", "Ramp", "--shape-seconds", "4", "--peak", "4")
    assert (code, "EXACT" in out) == (0, True), out
    assert "Shape test updating to 4 users" in out
