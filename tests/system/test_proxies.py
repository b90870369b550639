"""Real proxies in front of djsup, with the configuration that it prints: what visitors get, and reloads behind them."""

from __future__ import annotations

import hashlib
import http.client
import json
import shutil
from pathlib import Path

import pytest
from tools import debian

from system.daemon import WAIT_S, DaemonUnderTest, Project, free_port, wait_for
from system.load import Load
from system.proxy import PROGRAMS, config_of, running

KINDS = {"nginx": "tcp", "apache": "unix", "caddy": "tcp", "haproxy": "unix"}
"""How each reaches djsup: each kind is tried twice, for thrift."""
PROXIES = [
    pytest.param(
        proxy,
        marks=pytest.mark.skipif(
            debian.find(program) is None or (proxy == "apache" and shutil.which("setpriv") is None),
            reason=f"{program} is not installed (apt-get install {program})",
        ),
    )
    for proxy, program in PROGRAMS.items()
]
RELOADS = 3
CONNECTIONS = 16


def start_behind(daemon: DaemonUnderTest, django: Path, kind: str) -> None:
    """Start the blog as it stands behind a proxy."""
    folder = daemon.folder / "static"
    folder.mkdir()
    (folder / "site.css").write_text("a{}")
    (folder / ".secret").write_text("hidden")
    more = (
        'workers = 2\nhealth.path = "/healthz"\nhosts = ["localhost"]\ndefault = true\n'
        'static = { "/static/" = "static" }\nlimits = { keepalive = 6, max_body = "2MiB" }\n'
    )
    if kind == "unix":
        daemon.site(
            "blog", django, listen=f"unix:{daemon.folder}/blog.sock", more=f'{more}trusted_proxies = ["unix"]'
        )
    else:
        daemon.site("blog", django, more=f'{more}trusted_proxies = ["127.0.0.1"]')
    daemon.start()


def ask(
    port: int,
    path: str,
    *,
    method: str = "GET",
    body: bytes | None = None,
    fields: dict[str, str] | None = None,
) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S)
    try:
        connection.request(method, path, body=body, headers={"Host": "localhost", **(fields or {})})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


@pytest.mark.parametrize("proxy", PROXIES)
def test_visitors_get_all_through_a_proxy_and_reloads_behind_it_fail_no_request(
    daemon: DaemonUnderTest, blog: Project, django: Path, proxy: str
) -> None:
    start_behind(daemon, django, KINDS[proxy])
    port = free_port()
    text = config_of(daemon, proxy, "--listen", f"http://127.0.0.1:{port}")
    with running(proxy, daemon.folder / proxy, text, port):
        wait_for(lambda: ask(port, "/")[0] == 200, "the first page")

        lies = {"X-Forwarded-For": "6.6.6.6", "X-Forwarded-Proto": "https", "X-Real-IP": "6.6.6.6"}
        status, body = ask(
            port, "/about", fields={**lies, "X-Forwarded-Host": "evil", "Forwarded": "for=6.6.6.6"}
        )
        assert status == 200, body
        seen = json.loads(body)
        assert (seen["remote"], seen["secure"]) == ("127.0.0.1", False)

        upload = b"0123456789abcdef" * 65536
        assert (
            ask(port, "/upload", method="POST", body=upload)[1] == hashlib.sha256(upload).hexdigest().encode()
        )
        assert ask(port, "/static/site.css") == (200, b"a{}")
        assert ask(port, "/static/.secret")[0] in (403, 404)
        assert ask(port, "/static/missing.css")[0] == 404
        assert str(2 * 1024 * 1024) in text, "max_body"

        with (
            Load(port, connections=CONNECTIONS) as load,
            Load(port, connections=2, keep_alive=False) as fresh,
        ):
            for number in range(2, 2 + RELOADS):
                blog.deploy(f"version {number}")
                daemon.done("reload", "blog")
                load.wait_for_requests(CONNECTIONS * 4)
                fresh.wait_for_requests(4)
    assert load.outcome.failures == [], load.outcome.summary()
    assert fresh.outcome.failures == [], fresh.outcome.summary()
    assert f"version {1 + RELOADS}".encode() in load.outcome.bodies
