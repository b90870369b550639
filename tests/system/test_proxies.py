"""Real proxies in front of one djsup, with the configuration that it prints: what visitors get, and reloads behind them."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tools import debian

from authority import Authority, PairFiles
from system.daemon import WAIT_S, DaemonUnderTest, Project, free_port
from system.load import Load
from system.proxy import PROGRAMS, config_of, running
from system.tap import Tap

UNIX = {"apache", "haproxy"}
"""Those that reach djsup by its Unix socket; the others by TCP."""
FILES = {"nginx", "apache", "caddy"}
"""Those that serve static files themselves."""
MAX_BODY = 2 * 1024 * 1024
MAX_HEADER = 32 * 1024
KEEPALIVE_S = 1.5
"""djsup's; it ends an idle connection up to a second later. The proxies end theirs after 1 s."""
PAUSE_S = 1.8
"""Between two requests: longer than a proxy may keep an idle connection, and far shorter than it does with a wrong time."""
WRONG = {
    "nginx": ("nginx", r"keepalive_timeout \d+s;", "keepalive_timeout 30s;"),
    "apache": ("apache", r" ttl=\d+ ", " ttl=30 "),
    "caddy": ("caddy", r"keepalive \d+s", "keepalive 30s"),
    "haproxy-once": ("haproxy", "retry-on conn-failure empty-response", "retry-on conn-failure"),
    "haproxy-again": ("haproxy", "http-reuse never\n    option http-server-close\n", "http-reuse always\n"),
}
"""In what each proxy is told of idle connections, a mistake."""
RELOADS = 2
CONNECTIONS = 4
HASHED = "site.0123456789ab.css"


def is_here(proxy: str) -> bool:
    return debian.find(PROGRAMS[proxy]) is not None and (
        proxy != "apache" or shutil.which("setpriv") is not None
    )


HERE = [proxy for proxy in PROGRAMS if is_here(proxy)]
PROXIES = [
    pytest.param(
        proxy,
        marks=pytest.mark.skipif(
            proxy not in HERE,
            reason=f"{PROGRAMS[proxy]} is not installed (apt-get install {PROGRAMS[proxy]})",
        ),
    )
    for proxy in PROGRAMS
]
pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


@dataclass
class Front:
    """Where a proxy listens."""

    text: str
    http: int
    https: int


@dataclass
class Stand:
    """One daemon, and all proxies in front of it."""

    daemon: DaemonUnderTest
    blog: Project
    tls: ssl.SSLContext
    fronts: dict[str, Front] = field(default_factory=dict)


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory, django: Path) -> Iterator[Stand]:
    folder = tmp_path_factory.mktemp("stand")
    daemon = DaemonUnderTest(folder)
    authority = Authority()
    pairs = [authority.issue(folder, name, file=name) for name in ("localhost", "other.test")]
    blog = Project(folder / "blog")
    blog.deploy()
    lay_out_files(folder / "static")
    by_unix = configure(daemon, django, pairs)
    stand = Stand(daemon, blog, authority.client_context())
    with ExitStack() as cleanup:
        cleanup.callback(lambda: print(f"--- the daemon's log ---\n{daemon.log}"))
        cleanup.callback(daemon.stop)
        daemon.start()
        for proxy in HERE:
            front = stand.fronts[proxy] = Front("", free_port(), free_port())
            listens = (f"http://127.0.0.1:{front.http}", f"https://127.0.0.1:{front.https}")
            front.text = config_of(by_unix if proxy in UNIX else daemon.config, proxy, *listens)
            text = with_pems(front.text, folder, pairs) if proxy == "haproxy" else front.text
            cleanup.enter_context(running(proxy, folder / proxy, text, front.https))
        yield stand


def lay_out_files(static: Path) -> None:
    static.mkdir()
    (static / "site.css").write_text("a{}")
    (static / HASHED).write_text("a{}" * 100)
    (static / f"{HASHED}.gz").write_bytes(b"compressed")
    (static / "staticfiles.json").write_text(json.dumps({"paths": {"site.css": HASHED}}))
    (static / ".secret").write_text("hidden")
    (static.parent / "secret.txt").write_text("outside")


def configure(daemon: DaemonUnderTest, django: Path, pairs: list[PairFiles]) -> Path:
    """Write the configuration; also to a second file, whose path this gives, that names the Unix socket first."""
    first, other = pairs
    port, by_unix = free_port(), f"unix:{daemon.folder}/blog.sock"
    by_tcp = f"127.0.0.1:{port}"
    daemon.site(
        "blog",
        django,
        listen=f'{by_tcp}", "{by_unix}',
        more=f"""
workers = 2
health.path = "/healthz"
hosts = ["localhost", "other.test"]
default = true
static = {{ "/static/" = "static" }}
trusted_proxies = ["127.0.0.1", "unix"]
limits = {{ keepalive = {KEEPALIVE_S}, max_body = {MAX_BODY}, max_header = {MAX_HEADER} }}
[sites.blog.tls]
listen = ["127.0.0.1:{free_port()}"]
certificate = "{first.certificate}"
key = "{first.key}"
[[sites.blog.tls.certificates]]
certificate = "{other.certificate}"
key = "{other.key}"
""",
    )
    daemon.ports["blog"] = port
    turned = daemon.folder / "unix.toml"
    text = daemon.config.read_text()
    turned.write_text(text.replace(f'"{by_tcp}", "{by_unix}"', f'"{by_unix}", "{by_tcp}"'))
    return turned


def with_pems(text: str, folder: Path, pairs: list[PairFiles]) -> str:
    """What the comments of HAProxy's configuration say: a certificate and its key in one file each."""
    for name, pair in zip(("blog", "blog-2"), pairs, strict=True):
        (folder / f"{name}.pem").write_bytes(pair.pem)
        assert f"cat {pair.certificate} {pair.key} > /etc/haproxy/certs/{name}.pem" in text
    return text.replace("/etc/haproxy/certs", str(folder))


@pytest.fixture(params=PROXIES)
def proxy(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def front(stand: Stand, proxy: str) -> Front:
    return stand.fronts[proxy]


@dataclass
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes


@contextmanager
def connect(stand: Stand, port: int) -> Iterator[http.client.HTTPSConnection]:
    connection = http.client.HTTPSConnection("localhost", port, timeout=WAIT_S, context=stand.tls)
    # The name is checked; it is looked up nowhere.
    connection._create_connection = lambda *_others: socket.create_connection(("127.0.0.1", port), WAIT_S)  # type: ignore[attr-defined]
    with closing(connection):
        yield connection


def ask(
    connection: http.client.HTTPConnection,
    path: str,
    *,
    method: str = "GET",
    body: bytes | None = None,
    fields: dict[str, str] | None = None,
) -> Answer:
    connection.request(method, path, body=body, headers={"Host": "localhost", **(fields or {})})
    answer = connection.getresponse()
    return Answer(answer.status, answer.headers, answer.read())


def curl(*arguments: str) -> list[str]:
    """The version of HTTP, the status and the body that curl got."""
    said = "%{http_version} %{http_code} "
    command = ["curl", "-sk", "--noproxy", "*", "--max-time", "30", "-w", said, "-H", "Expect:", *arguments]
    done = subprocess.run(
        [*command, "-o", "/dev/stderr"], capture_output=True, text=True, check=False, timeout=60
    )
    return [*done.stdout.split(), done.stderr]


def test_https_is_spoken_by_http_2_and_the_site_knows_it_and_who_the_client_is(
    stand: Stand, front: Front
) -> None:
    lies = {
        "X-Forwarded-For": "6.6.6.6",
        "X-Forwarded-Proto": "http",
        "X-Real-IP": "6.6.6.6",
        "X-Forwarded-Host": "evil",
        "Forwarded": "for=6.6.6.6;proto=http",
    }
    url = f"https://localhost:{front.https}/about"
    words = [word for name, lie in lies.items() for word in ("-H", f"{name}: {lie}")]
    version, status, body = curl("--http2", "--resolve", f"localhost:{front.https}:127.0.0.1", *words, url)
    assert (version, status) == ("2", "200"), body
    by_2 = json.loads(body)
    with connect(stand, front.https) as connection:
        by_1 = json.loads(ask(connection, "/about", fields=lies).body)
    for seen in (by_1, by_2):
        assert (seen["remote"], seen["secure"]) == ("127.0.0.1", True)


def test_http_is_sent_on_to_https_at_its_port(front: Front) -> None:
    with closing(http.client.HTTPConnection("127.0.0.1", front.http, timeout=WAIT_S)) as connection:
        answer = ask(connection, "/a%20b/%c3%a9?c=d%26e", fields={"Host": f"localhost:{front.http}"})
    assert answer.status == 301
    assert answer.headers["Location"] == f"https://localhost:{front.https}/a%20b/%c3%a9?c=d%26e"


def test_each_name_is_shown_its_certificate(stand: Stand, front: Front) -> None:
    for name in ("localhost", "other.test"):
        with (
            socket.create_connection(("127.0.0.1", front.https), WAIT_S) as plain,
            stand.tls.wrap_socket(plain, server_hostname=name) as secured,  # which checks the name
        ):
            secured.sendall(f"GET /healthz HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
            assert secured.recv(4096).startswith(
                (b"HTTP/1.1 200 ", b"HTTP/1.1 400 ")
            )  # Django's ALLOWED_HOSTS


def test_limits_of_body_and_header_are_those_of_djsup(stand: Stand, front: Front, tmp_path: Path) -> None:
    url = f"https://localhost:{front.https}/upload"
    host = ["--resolve", f"localhost:{front.https}:127.0.0.1"]
    file = tmp_path / "body"
    file.write_bytes(os.urandom(MAX_BODY))
    right = hashlib.sha256(file.read_bytes()).hexdigest()
    assert curl("--http2", *host, "--data-binary", f"@{file}", url) == ["2", "200", right]
    chunked = ["--http1.1", "-H", "Transfer-Encoding: chunked"]
    assert curl(*chunked, *host, "--data-binary", f"@{file}", url) == ["1.1", "200", right]
    with file.open("ab") as more:
        more.write(b"!")
    assert curl("--http1.1", *host, "--data-binary", f"@{file}", url)[:2] == ["1.1", "413"]
    assert curl("--http2", *host, "--data-binary", f"@{file}", url)[:2] == ["2", "413"]
    assert curl(*chunked, *host, "--data-binary", f"@{file}", url)[:2] == ["1.1", "413"]

    fields = {f"X-Long-{number}": "x" * (MAX_HEADER // 5) for number in range(5)}
    with connect(stand, front.https) as connection:
        assert ask(connection, "/", fields={**fields, "X-Long-4": ""}).status == 200
        assert ask(connection, "/", fields=fields).status in (400, 431)
    with connect(stand, front.https) as connection:
        assert ask(connection, "/", fields={"X-Long": "x" * MAX_HEADER}).status in (400, 431)


def test_static_files_are_sent_as_djsup_sends_them_and_nothing_else_is(
    stand: Stand, front: Front, proxy: str
) -> None:
    static = stand.daemon.folder / "static"
    link = static / "link.txt"
    if not link.exists():
        link.symlink_to("../secret.txt")
    direct = http.client.HTTPConnection("127.0.0.1", stand.daemon.ports["blog"], timeout=WAIT_S)
    with closing(direct), connect(stand, front.https) as connection:
        for path in ("/static/site.css", f"/static/{HASHED}"):
            here, there = ask(connection, path), ask(direct, path)
            assert (here.status, here.body) == (there.status, there.body) == (200, here.body)
            for name in ("Cache-Control", "X-Content-Type-Options", "Access-Control-Allow-Origin"):
                assert here.headers[name] == there.headers[name], (path, name)
            assert here.headers.get_content_type() == "text/css"
        assert "immutable" in here.headers["Cache-Control"]
        if proxy != "apache":
            packed = ask(connection, f"/static/{HASHED}", fields={"Accept-Encoding": "gzip"})
            assert (packed.headers["Content-Encoding"], packed.body) == ("gzip", b"compressed")
            assert packed.headers["Vary"] == "Accept-Encoding"
        for path in (
            "/static/.secret",
            "/static/missing.0123456789ab.css",
            "/static/",
            "/static/%2e%2e/secret.txt",
        ):
            answer = ask(connection, path)
            assert answer.status in (400, 403, 404), path
            assert "max-age=3" not in (answer.headers["Cache-Control"] or ""), path
        if proxy != "caddy":  # which follows links, as its configuration says
            assert ask(connection, "/static/link.txt").status in (403, 404)


@dataclass
class Watched:
    """What was seen of a proxy whose visitor rests for longer than djsup keeps a connection."""

    tap: Tap
    failures: list[str] = field(default_factory=list)

    def visit(self, port: int) -> None:
        """Ask at once, so that a kept connection is used again, and after the pause."""
        body = b"x" * 1000
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S)) as connection:
            for method, pause_s in (*(("GET", 0), ("POST", 0)) * 2, ("GET", PAUSE_S)):
                time.sleep(pause_s)
                posts = method == "POST"
                try:
                    answer = ask(
                        connection, "/upload" if posts else "/", method=method, body=body if posts else None
                    )
                except (OSError, http.client.HTTPException) as error:
                    self.failures.append(f"{method}: {error!r}")
                    connection.close()
                    continue
                right = hashlib.sha256(body).hexdigest().encode() if posts else answer.body
                if (answer.status, answer.body) != (200, right):
                    self.failures.append(f"{method}: {answer.status} {answer.body[:200]!r}")

    def mistakes(self, proxy: str) -> list[str]:
        """What can fail, or has, because djsup ends the connection that a request is sent on."""
        if proxy == "haproxy":  # which sends GET once more, and has to send all else on new connections
            return self.failures + [f"{each}" for each in self.tap.reuses if each.method == "POST"]
        return self.failures + [f"{each}" for each in self.tap.reuses if each.idle_s >= KEEPALIVE_S]


@pytest.fixture(scope="module")
def watched(stand: Stand, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Watched]:
    """Each proxy behind a tap: as printed, by its name, and with each mistake."""
    daemon = stand.daemon
    by_port, by_unix = f"127.0.0.1:{daemon.ports['blog']}", f"unix:{daemon.folder}/blog.sock"
    config = daemon.folder / "tapped.toml"
    found, ports = {}, []
    as_printed = {proxy: (proxy, "", "") for proxy in HERE}
    planted = {f"{name}, wrong": mistake for name, mistake in WRONG.items() if mistake[0] in HERE}
    with ExitStack() as cleanup, ThreadPoolExecutor(len(as_printed) + len(planted)) as pool:
        for name, (proxy, right, wrong) in {**as_printed, **planted}.items():
            folder = tmp_path_factory.mktemp("tap")
            folder.chmod(0o755)
            where: Path | int = folder / "tap.sock" if proxy in UNIX else free_port()
            mine = f'"unix:{where}"' if proxy in UNIX else f'"127.0.0.1:{where}"'
            text = daemon.config.read_text().replace(f'"{by_port}", "{by_unix}"', mine)
            # Without the proxies' own questions, which may use the kept connections, too.
            config.write_text(text.replace('health.path = "/healthz"\n', ""))
            ports.append(free_port())
            text = config_of(config, proxy, f"http://127.0.0.1:{ports[-1]}")
            if right:
                text, number = re.subn(right, wrong, text)
                assert number == 1, text
            tap = Tap(where, daemon.ports["blog"], cuts="GET" if proxy == "haproxy" else "")
            found[name] = Watched(cleanup.enter_context(tap))
            cleanup.enter_context(running(proxy, folder / proxy, text, ports[-1]))
        list(pool.map(Watched.visit, found.values(), ports))
    return found


def test_no_request_is_sent_on_a_connection_that_djsup_may_just_be_ending(
    watched: dict[str, Watched], proxy: str
) -> None:
    seen = watched[proxy]
    assert seen.tap.reuses, "no connection was kept at all"
    assert seen.tap.cut > 0 or proxy != "haproxy"
    assert seen.mistakes(proxy) == []


@pytest.mark.parametrize("mistake", WRONG)
def test_a_mistake_in_what_is_printed_would_be_seen(watched: dict[str, Watched], mistake: str) -> None:
    """What the test above is worth."""
    proxy = WRONG[mistake][0]
    if proxy not in HERE:
        pytest.skip(f"{PROGRAMS[proxy]} is not installed")
    seen = watched[f"{mistake}, wrong"]
    print(seen)
    assert seen.mistakes(proxy)


def test_reloads_behind_all_of_them_fail_no_request(stand: Stand) -> None:
    with ExitStack() as cleanup:
        loads = [
            cleanup.enter_context(load)
            for front in stand.fronts.values()
            for load in (
                Load(front.https, connections=CONNECTIONS, pause_s=0.02, tls=stand.tls),
                Load(front.https, connections=1, pause_s=0.02, tls=stand.tls, keep_alive=False),
                Load(front.https, "/upload", connections=1, pause_s=0.02, tls=stand.tls, post=b"x" * 1000),
            )
        ]
        for number in range(2, 2 + RELOADS):
            stand.blog.deploy(f"version {number}")
            stand.daemon.reload_well("blog")
            for load in loads:
                load.wait_for_requests(4)
    for load in loads:
        assert load.outcome.failures == [], load.outcome.summary()
    assert all(f"version {1 + RELOADS}".encode() in load.outcome.bodies for load in loads[::3])


def test_without_https_all_is_served_by_http(stand: Stand, proxy: str, tmp_path: Path) -> None:
    port = free_port()
    text = config_of(stand.daemon.config, proxy, f"http://127.0.0.1:{port}")
    tmp_path.chmod(0o755)
    with (
        running(proxy, tmp_path / proxy, text, port),
        closing(http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S)) as connection,
    ):
        answer = ask(connection, "/about")
        assert (answer.status, json.loads(answer.body)["secure"]) == (200, False)
