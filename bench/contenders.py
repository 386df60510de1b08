"""Who takes likes in the benchmark: how each is started, where it listens, and what it lacks on this machine.

Each is one web process with what its users give it in production. Knows no load and no figure.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import psutil

from likesite.machine.plan import Machine, read_settings
from tests.servers import Process, eventually, folder, free_port

PEERS = Path(__file__).with_name("peers")
START_SECONDS = 60.0  # a deadline; they take 3 s at most
INSTALL_SECONDS = 300
NGINX_PLACES = ("/usr/sbin", "/usr/local/sbin", "/usr/local/openresty/nginx/sbin")  # not on everybody's PATH
OWN_HEADERS = {"date", "server", "connection", "keep-alive"}  # those of a server, which say nothing of a like


class Absent(Exception):
    """A peer cannot be had here; the message says what to install."""


class Contender:
    """A web server on a port of its own."""

    def __init__(self, port: int, command: list[str], **environment: str) -> None:
        self.port = port
        self.process = Process(command, folder("contender") / "log", **environment)
        self.process.start()
        eventually(self._listens, f"{command[0]} listens", START_SECONDS)

    @property
    def pid(self) -> int:
        """Return the process that the others of this server are children of."""
        assert self.process.popen is not None
        return self.process.popen.pid

    def _listens(self) -> bool:
        assert self.process.running, self.process.output
        try:
            return self.call("GET", "/")[0] > 0
        except OSError:
            return False

    def call(self, method: str, path: str) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body of one call."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, headers={"Content-Length": "0"} if method == "POST" else {})
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def total(self, posts: Iterable[int]) -> int:
        """Return how many likes these posts have, as a client of likesite reads them."""
        wanted, likes = list(posts), 0
        for first in range(0, len(wanted), 100):
            named = "&".join(f"post={post}" for post in wanted[first : first + 100])
            status, _, body = self.call("GET", f"/api/v1/likes?{named}")
            assert status == 200, body
            likes += sum(json.loads(body)["likes"].values())
        return likes


def likesite(**environment: str) -> Contender:
    """Start the web process of `./run.sh start`, by the very line and settings that a start would use."""
    port = free_port()
    given = {name: os.environ[name] for name in ("DATABASE_URL", "REDIS_URL", "SECRET_KEY", "LOG_LEVEL")}
    machine = Machine(read_settings(given | environment | {"PORT": str(port), "LIKES_DATA_DIR": str(folder("data"))}))
    web = next(program for program in machine.programs(0) if program.name == "web")
    return Contender(port, web.command, **machine.environment({}), **web.variables)


def lane() -> Contender:
    """Start likesite as shipped."""
    return likesite()


def drf() -> Contender:
    """Start likesite with every like going through Django REST Framework."""
    return likesite(LIKES_FASTLANE="off")


def gunicorn(application: str, threads: int) -> Contender:
    """Start gunicorn with one worker of threads, which keeps connections open."""
    port = free_port()
    place = ["--bind", f"127.0.0.1:{port}", "--workers", "1", "--backlog", "1024"]
    worker = ["--worker-class", "gthread", "--threads", str(threads), "--keep-alive", "75", "--log-level", "warning"]
    return Contender(port, [sys.executable, "-m", "gunicorn", *place, *worker, f"bench.peers.{application}"])


def naive_django() -> Contender:
    """Start the Django view that runs one UPDATE a like."""
    return gunicorn("naive_django:application", threads=4)  # more of them wait for the same row


def flask() -> Contender:
    """Start the Flask view that pushes likes onto a list."""
    return gunicorn("flask_lpush:application", threads=16)  # fewer are slower here, more are not faster


def express(**environment: str) -> Contender:
    """Start the Express view that INCRs, its packages installed as its lock says."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if not node or not npm:
        raise Absent("Node.js and npm (Debian: apt install nodejs npm)")
    home, port = PEERS / "express", free_port()
    install(npm, home)
    place = {"PORT": str(port), "REDIS_SOCKET": redis_socket()}
    return Contender(port, [node, str(home / "server.js")], NODE_ENV="production", **place, **environment)


def express_pipelining() -> Contender:
    """Start the same with ioredis gathering commands, which has to be asked for."""
    return express(AUTO_PIPELINING="on")


def install(npm: str, home: Path) -> None:
    """Install the packages of a lock, unless that was done before; raises Absent."""
    installed, lock = home / "node_modules" / ".package-lock.json", home / "package-lock.json"
    if installed.exists() and installed.stat().st_mtime >= lock.stat().st_mtime:
        return
    try:
        command = [npm, "ci", "--omit=dev", "--no-audit", "--no-fund"]
        subprocess.run(command, cwd=home, capture_output=True, timeout=INSTALL_SECONDS, check=True)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        raise Absent(f"its packages, and `npm ci` in bench/peers/{home.name} failed") from error


def nginx() -> Contender:
    """Start nginx with the Lua handler that INCRs."""
    binary = shutil.which("nginx", path=os.pathsep.join([os.environ["PATH"], *NGINX_PLACES]))
    wanted = Absent(
        "nginx, its Lua module, lua-resty-redis (Debian: nginx-light libnginx-mod-http-lua lua-nginx-redis)"
    )
    if not binary:
        raise wanted
    port, home = free_port(), folder("nginx")
    config = home / "nginx.conf"
    config.write_text((PEERS / "nginx" / "nginx.conf").read_text().replace("@PORT@", str(port)))
    command = [binary, "-p", str(home), "-c", str(config), "-g", nginx_globals(binary)]
    environment = {"REDIS_SOCKET": redis_socket()}
    checked = [*command, "-t", "-q"]
    if subprocess.run(checked, env=os.environ | environment, capture_output=True, timeout=30, check=False).returncode:
        raise wanted
    return Contender(port, command, **environment)


def nginx_globals(binary: str) -> str:
    """Return what nginx needs to be told here: its modules where they are files, and to stay root as its Redis is."""
    built = subprocess.run([binary, "-V"], capture_output=True, text=True, timeout=10, check=True).stderr
    _, _, modules = built.partition("--modules-path=")
    place = Path(modules.split()[0]) if modules else Path()
    files = [place / f"{name}_module.so" for name in ("ndk_http", "ngx_http_lua")]
    told = ["daemon off", *(f"load_module {file}" for file in files if modules and file.exists())]
    return "".join(f"{part}; " for part in [*told, *(["user root"] if os.geteuid() == 0 else [])])


def redis_socket() -> str:
    """Return the path of the socket of the Redis that all share."""
    return os.environ["REDIS_URL"].removeprefix("unix://")


def answers_alike(contender: Contender, model: Contender) -> None:
    """Like post 1 and fail unless status, body and headers are those that `model` answers with."""
    (_, wanted, _), (status, headers, body) = (one.call("POST", "/api/v1/posts/1/like") for one in (model, contender))
    likes = json.loads(body)["likes"]
    assert (status, body) == (202, b'{"post":1,"likes":%d}' % likes), (status, body)
    for name in wanted.keys() - OWN_HEADERS - {"content-length"}:
        assert headers.get(name, "").partition(";")[0] == wanted[name].partition(";")[0], f"{name}: {headers.get(name)}"
    assert headers["content-length"] == str(len(body))


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process, its children and those of them that have ended."""
    root = psutil.Process(pid)
    while True:
        try:
            return sum(sum(one.cpu_times()[:4]) for one in [root, *root.children(recursive=True)])
        except psutil.NoSuchProcess:  # one has just ended: what it used is its parent's now
            if not root.is_running():
                raise
