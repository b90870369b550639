"""TLS as an operator has it: https pages, certificates that are renewed while visitors come, a scanner's opinion."""

from __future__ import annotations

import http.client
import json
import os
import pwd
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme

from authority import Authority, PairFiles
from system.daemon import WAIT_S, DaemonUnderTest, Project, free_port, wait_for
from system.load import Load

TLS = """
[sites.{site}.tls]
listen = ["127.0.0.1:{port}"]
certificate = "{pair.certificate}"
key = "{pair.key}"
redirect = true
hsts = "max-age=31536000"
"""


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def pair(authority: Authority, tmp_path: Path) -> PairFiles:
    return authority.issue(tmp_path, "localhost")


@pytest.fixture
def port(daemon: DaemonUnderTest, blog: Project, django: Path, pair: PairFiles) -> int:
    """The port on which the site "blog" speaks TLS."""
    port = free_port()
    daemon.site("blog", django, more="workers = 2" + TLS.format(site="blog", port=port, pair=pair))
    return port


@contextmanager
def https(authority: Authority, port: int) -> Iterator[http.client.HTTPSConnection]:
    connection = http.client.HTTPSConnection(
        "localhost", port, timeout=WAIT_S, context=authority.client_context()
    )
    # The name is checked; it is looked up nowhere.
    connection._create_connection = lambda *_others: socket.create_connection(("127.0.0.1", port), WAIT_S)  # type: ignore[attr-defined]
    try:
        yield connection
    finally:
        connection.close()


def page(connection: http.client.HTTPSConnection, path: str = "/") -> tuple[int, bytes]:
    connection.request("GET", path)
    answer = connection.getresponse()
    return answer.status, answer.read()


def names_shown(authority: Authority, port: int) -> set[str]:
    with https(authority, port) as connection:
        connection.connect()
        assert isinstance(connection.sock, ssl.SSLSocket)
        certificate = connection.sock.getpeercert()
        assert certificate is not None
        return {str(name[1]) for name in certificate["subjectAltName"]}


def kinds(daemon: DaemonUnderTest) -> list[str]:
    return [event["kind"] for event in daemon.events("blog")]


def test_a_django_site_is_served_by_https_and_plain_http_is_sent_on_to_it(
    daemon: DaemonUnderTest, blog: Project, authority: Authority, port: int
) -> None:
    urls = (blog.directory / "project/urls.py").read_text()
    blog.deploy(
        urls=urls + 'urlpatterns.append(path("link", lambda r: HttpResponse(r.build_absolute_uri("/x"))))\n'
    )
    daemon.start()
    assert daemon.status("blog")["listen"] == [f"127.0.0.1:{daemon.ports['blog']}", f"127.0.0.1:{port}"]
    assert daemon.status("blog")["tls_listen"] == [f"127.0.0.1:{port}"]
    with https(authority, port) as connection:
        assert page(connection, "/link") == (200, f"https://localhost:{port}/x".encode())
        connection.request("GET", "/")
        answer = connection.getresponse()
        assert (answer.read(), answer.headers["Strict-Transport-Security"]) == (b"one", "max-age=31536000")
    plain = http.client.HTTPConnection("127.0.0.1", daemon.ports["blog"], timeout=WAIT_S)
    plain.request("GET", "/stream?n=3")
    answer = plain.getresponse()
    assert (answer.status, answer.headers["Location"]) == (301, f"https://127.0.0.1:{port}/stream?n=3")
    plain.close()


def test_a_reload_under_tls_load_fails_no_request(
    daemon: DaemonUnderTest, blog: Project, authority: Authority, port: int
) -> None:
    daemon.start()
    with Load(port, connections=6, tls=authority.client_context()) as load:
        blog.deploy("second")  # of another length: a .pyc knows its source by size and second
        daemon.reload_well("blog")
        load.wait_for_requests(100)
    assert load.outcome.bodies.keys() == {b"one", b"second"}, load.outcome.summary()


def test_a_renewed_certificate_is_shown_without_a_reload_and_no_connection_notices(
    daemon: DaemonUnderTest, blog: Project, authority: Authority, pair: PairFiles, port: int
) -> None:
    daemon.start()
    before = {worker["pid"] for worker in daemon.workers("blog")}
    with https(authority, port) as old, Load(port, connections=4, tls=authority.client_context()) as load:
        assert page(old) == (200, b"one")
        authority.issue(pair.certificate.parent, "localhost", "renewed.example")
        # Each worker hears of it by itself, so one that shows it does not tell of the other.
        wait_for(lambda: "certificate-changed" in kinds(daemon), "the daemon to notice")
        wait_for(
            lambda: all("renewed.example" in names_shown(authority, port) for _ in range(8)),
            "the new certificate",
        )
        load.wait_for_requests(100)
        assert page(old) == (200, b"one")
    assert load.outcome.closed == 0, load.outcome.summary()
    assert {worker["pid"] for worker in daemon.workers("blog")} == before


def test_a_bad_new_pair_changes_nothing_and_is_said(
    daemon: DaemonUnderTest, blog: Project, authority: Authority, pair: PairFiles, port: int
) -> None:
    daemon.start()
    pair.key.write_bytes(authority.issue(pair.key.parent, "localhost", file="other").key.read_bytes())
    refused = wait_for(
        lambda: next((each for each in daemon.events("blog") if each["kind"] == "certificate-refused"), None),
        "the refusal",
    )
    assert f"the key in {pair.key} does not match the certificate in {pair.certificate}" in refused["text"]
    daemon.signal(signal.SIGHUP)
    told = wait_for(
        lambda: next((each for each in daemon.events() if each["kind"] == "settings-refused"), None),
        "HUP's refusal",
    )
    assert "sites.blog.tls.key" in told["details"]
    with https(authority, port) as connection:
        assert page(connection) == (200, b"one")
    assert kinds(daemon).count("certificate-refused") == 1, "once, not every second"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run sites as other users")
def test_a_site_serves_with_a_key_that_its_user_cannot_read(
    daemon_for_all: DaemonUnderTest, python_for_all: Path, authority: Authority
) -> None:
    daemon = daemon_for_all
    pair = authority.issue(daemon.folder, "localhost")
    folder = daemon.folder / "bare"
    folder.mkdir()
    (folder / "app.py").write_text(
        "import os\n"
        "def application(environ, start_response):\n"
        "    start_response('200 OK', [('Content-Type', 'text/plain')])\n"
        f"    try: open({str(pair.key)!r}).close()\n"
        "    except PermissionError: return [b'%d' % os.getuid()]\n"
        "    return [b'the key can be read']\n"
    )
    port = free_port()
    more = 'wsgi = "app:application"\nuser = "nobody"' + TLS.format(site="bare", port=port, pair=pair)
    daemon.site("bare", python_for_all, more=more)
    daemon.start()
    with https(authority, port) as connection:
        assert page(connection) == (200, str(pwd.getpwnam("nobody").pw_uid).encode())


def test_a_scanner_finds_no_old_protocol_no_weak_cipher_and_no_known_vulnerability(
    daemon: DaemonUnderTest, blog: Project, authority: Authority, pair: PairFiles, port: int
) -> None:
    """With an RSA key: there are more weak ciphers for it."""
    authority.issue(pair.certificate.parent, "localhost", key_type=trustme.KeyType.RSA)
    daemon.start()
    scan = subprocess.run(
        [sys.executable, Path(__file__).with_name("scan.py"), str(port)],
        capture_output=True, text=True, check=False, timeout=90,
    )  # fmt: skip
    assert scan.returncode == 0, scan.stderr
    found = json.loads(scan.stdout)
    assert found["versions"] == ["1.2", "1.3"]
    # No public authority has signed the test's certificate. And Python before 3.15 can't choose the curves: OpenSSL
    # offers two more than the profile has, which are stronger than those in it.
    assert found["issues"].keys() <= {"certificate_path_validation", "tls_curves"}, found
    assert set(found["curves"]) <= {"X25519", "X448", "prime256v1", "secp256r1", "secp384r1", "secp521r1"}
    assert (found["renegotiates"], found["early_data"]) == (False, False)
