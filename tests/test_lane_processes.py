"""Web processes with the fast lane, killed, left by their clients, two at once: every like is counted once."""

from __future__ import annotations

import re
import socket
import struct
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection

import psutil
import pytest

from likes import audit, counts, tasks
from likes.buffer import buffer, flusher
from likesite.loadtest.outcome import Outcome
from tests.likers import Likers, over_http
from tests.servers import eventually
from tests.stack import Start, Web, make_posts, persisted

RESET = struct.pack("ii", 1, 0)  # linger for no time: closing resets the connection


@pytest.fixture
def posts() -> list[int]:
    """Make warm posts of several shards."""
    mine = make_posts(6)
    counts.totals(mine)
    return mine


def counted(posts: list[int]) -> int:
    return sum(total.likes for total in counts.totals(posts).values())


def test_a_web_process_killed_under_likes_loses_none_that_it_acknowledged(process: Start, posts: list[int]) -> None:
    web = Web(process, LIKES_FASTLANE="on").start()
    likers = Likers(over_http(web.port), posts, 12)
    for _ in range(2):
        aim, away = likers.acknowledged + 300, likers.turned_away
        eventually(lambda aim=aim: likers.acknowledged >= aim, "likes are taken", 60)
        web.process.kill()
        eventually(lambda away=away: likers.turned_away > away, "somebody notices")
        web.start()
    likers.end()
    assert likers.told[Outcome.UNKNOWN] > 0, "it was killed with likes on their way"
    for shard in flusher.work():
        tasks.flush_shard(shard)
    likers.hold(sum(persisted(posts).values()))
    assert audit.take().exit_code == 0


def test_clients_that_hang_up_while_their_like_is_on_its_way_disturb_nobody(process: Start, posts: list[int]) -> None:
    web = Web(process, LIKES_FASTLANE="on").start()
    likers = Likers(over_http(web.port), posts, 8)
    hung_up = 0
    while hung_up < 100 or likers.acknowledged < 500:
        hang_up(web.port, posts[hung_up % len(posts)])
        hung_up += 1
    likers.end()
    assert likers.told.keys() == {Outcome.ACKNOWLEDGED}
    assert web.call("POST", f"/api/v1/posts/{posts[0]}/like")[0] == 202
    assert 0 <= counted(posts) - likers.acknowledged - 1 <= hung_up
    assert "Traceback" not in web.process.output
    assert audit.take().exit_code == 0


def hang_up(port: int, post: int) -> None:
    """Send a like and be gone."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as mine:
        mine.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        mine.sendall(b"POST /api/v1/posts/%d/like HTTP/1.1\r\nHost: localhost\r\n\r\n" % post)


def test_calls_sent_one_after_another_without_waiting_are_answered_in_their_order(process: Start) -> None:
    [post] = make_posts(1)
    counts.totals([post])
    web = Web(process, LIKES_FASTLANE="on").start()
    like, cold = f"POST /api/v1/posts/{post}/like", "POST /api/v1/posts/999/like"
    calls = [like, cold, like, f"GET /api/v1/likes?post={post}", "GET /health", like]
    sent = "".join(f"{call} HTTP/1.1\r\nHost: localhost\r\n\r\n" for call in calls)
    with socket.create_connection(("127.0.0.1", web.port), timeout=20) as mine:
        mine.sendall(sent.encode().removesuffix(b"\r\n") + b"Connection: close\r\n\r\n")
        answers = b"".join(iter(lambda: mine.recv(65536), b"")).decode()
    assert re.findall(r"HTTP/1.1 (\d+)", answers) == ["202", "404", "202", "200", "200", "202"]
    assert re.findall(r'"likes":(\d+)', answers) == ["1", "2", "3"]
    assert counted([post]) == 3


def test_two_web_processes_commit_in_groups_of_their_own_and_count_exactly(process: Start) -> None:
    [post] = make_posts(1)
    counts.totals([post])
    web = Web(process, workers=2, LIKES_FASTLANE="on").start()
    clients = connect_to_both(web)
    before, each = evalsha_calls(), 30

    def like(client: HTTPConnection) -> list[int]:
        totals = []
        for _ in range(each):
            client.request("POST", f"/api/v1/posts/{post}/like")
            totals.append(int(client.getresponse().read().rpartition(b":")[2][:-1]))
        client.close()
        return totals

    with ThreadPoolExecutor(len(clients)) as pool:
        told = [total for totals in pool.map(like, clients) for total in totals]
    assert sorted(told) == list(range(1, each * len(clients) + 1))
    assert evalsha_calls() - before < len(told) / 2
    assert counted([post]) == len(told)
    assert audit.take().exit_code == 0


def connect_to_both(web: Web) -> list[HTTPConnection]:
    """Open connections until each of two processes has at least eight of them."""
    assert web.process.popen is not None
    parent = psutil.Process(web.process.popen.pid)
    clients: list[HTTPConnection] = []

    def shared() -> bool:
        clients.append(HTTPConnection("127.0.0.1", web.port, timeout=20))
        clients[-1].request("GET", "/health")
        clients[-1].getresponse().read()
        served = [connections(child, web.port) for child in parent.children(recursive=True)]
        return sum(number >= 8 for number in served) == 2

    eventually(shared, "both processes have clients")
    return clients


def connections(process: psutil.Process, port: int) -> int:
    """Return how many clients of a port a process serves."""
    return sum(
        one.laddr.port == port and one.status == psutil.CONN_ESTABLISHED for one in process.net_connections("tcp")
    )


def evalsha_calls() -> int:
    return int(buffer.client.info("commandstats").get("cmdstat_evalsha", {}).get("calls", 0))
