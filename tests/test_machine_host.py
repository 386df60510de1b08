"""./run.sh where web listens on an address of its own: who is reached there, and a start of what runs already."""

from __future__ import annotations

import http.client
import re
import sys
from collections.abc import Iterator

import psutil
import pytest

from tests.clones import Clone, clone
from tests.servers import eventually

HOST = "127.0.0.2"
PROGRAMS = ("keeper", "postgres", "valkey", "broker", "beat", "web", "locust")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the loopback has one address")


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Clone]:
    """A clone that was started on an address that nothing takes for granted, and that complains early."""
    with clone() as made:
        made.environment |= {"LIKES_HOST": HOST, "LIKES_STALE_SECONDS": "1"}
        made.must("start")
        yield made


def get(made: Clone, path: str, **headers: str) -> int:
    """Return the status of one request to web."""
    connection = http.client.HTTPConnection(HOST, int(made.environment["PORT"]), timeout=10)
    connection.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    status = connection.getresponse().status
    connection.close()
    return status


def firsts(made: Clone) -> list[int]:
    """The first process of each program but the workers: those after it come and go with it."""
    return [made.processes(name)[0].pid for name in PROGRAMS]


def test_web_listens_where_it_is_told_and_locust_never_leaves_the_loopback(elsewhere: Clone) -> None:
    listening = {
        tuple(connection.laddr)
        for process in elsewhere.processes()
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    ports = elsewhere.environment["PORT"], elsewhere.environment["LOCUST_PORT"]
    assert listening == {(HOST, int(ports[0])), ("127.0.0.1", int(ports[1]))}


def test_a_load_run_reaches_it_there(elsewhere: Clone) -> None:
    assert re.search(r"acknowledged +20\b", elsewhere.must("test", "20"))


def test_a_websocket_is_no_error_of_ours(elsewhere: Clone) -> None:
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec_WebSocket_Version": "13",
               "Sec_WebSocket_Key": "AAAAAAAAAAAAAAAAAAAAAA=="}  # fmt: skip
    assert get(elsewhere, "/health", **upgrade) == 200
    assert "Traceback" not in (elsewhere.run_folder / "logs" / "web.log").read_text()


def test_a_start_of_what_runs_without_workers_leaves_it_so_and_says_what_is_wrong(elsewhere: Clone) -> None:
    elsewhere.must("scale", "0")
    elsewhere.must("like")
    eventually(lambda: get(elsewhere, "/ready") == 503, "the like has waited too long")
    before = firsts(elsewhere)
    assert "runs already, and is not ready: the oldest like not persisted is" in elsewhere.must("start")
    assert firsts(elsewhere) == before
    assert not elsewhere.pids("worker1")
    elsewhere.must("scale", "1")
    eventually(lambda: get(elsewhere, "/ready") == 200, "the new worker has flushed")
    assert "runs already\n" in elsewhere.must("start")
