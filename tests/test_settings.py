"""A bad setting is refused at start, by name."""

import pytest

from likesite.environment import redis_arguments
from tests.servers import manage

BAD = {
    "LIKES_SHARDS": "2h",
    "LIKES_FLUSH_SECONDS": "1m",
    "LIKES_STALE_SECONDS": "0",
    "LIKES_PREFIX": "a:b",
    "LIKES_BARRIER": "maybe",
    "LIKES_DEMO": "onn",
    "DATABASE_URL": "sqlite:///x",
    "REDIS_URL": "redis://localhost:6379?socket_timeout=30",
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_value_is_refused_by_name(name: str) -> None:
    done = manage("check", **{name: BAD[name]})
    assert done.returncode != 0
    assert name in done.stderr.splitlines()[-1]


def test_django_eventstream_reaches_the_redis_that_counts() -> None:
    assert redis_arguments("unix:///a%20folder/valkey.sock") == {"unix_socket_path": "/a folder/valkey.sock"}
    secure = redis_arguments("rediss://me:p%40ss@host:7000/2?ssl_cert_reqs=none")
    assert secure == {
        "username": "me",
        "password": "p@ss",
        "host": "host",
        "port": 7000,
        "db": 2,
        "ssl": True,
        "ssl_cert_reqs": "none",
    }
