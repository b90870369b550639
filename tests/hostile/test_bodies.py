"""Big bodies in both directions in constant memory."""

from __future__ import annotations

import hashlib
import socket
from typing import TYPE_CHECKING

import pytest

from hostile.gauge import MIB, Gauge
from system.environments import DJANGO, environment
from worker.harness import WAIT_S, Client, client

if TYPE_CHECKING:
    from pathlib import Path

    from worker.conftest import MakeSite

UPLOAD_BYTES = 256 * MIB
UPLOAD_S = 60.0
BLOCK = bytes(range(256)) * 4096
GROWTH_MIB = 24
"""Far below what is sent: buffers of both sides, and what the allocator keeps."""

COUNTS = """
def application(environ, start_response):
    count = 0
    for block in iter(lambda: environ["wsgi.input"].read(65536), b""):
        count += len(block)
    start_response("200 OK", [])
    return [b"%d %s" % (count, environ["CONTENT_LENGTH"].encode())]
"""


@pytest.mark.parametrize("chunked", [False, True], ids=["sized", "chunked"])
def test_an_upload_takes_no_memory(make_site: MakeSite, temporary: Path, *, chunked: bool) -> None:
    site = make_site(COUNTS, limits={"max_body_bytes": UPLOAD_BYTES})
    site.environment["TMPDIR"] = str(temporary)
    worker = site.start_worker()
    with client(site) as user:
        user.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2000000\r\n\r\n" + bytes(2_000_000))
        assert user.answer().status == 200
        gauge = Gauge(site, worker, temporary)
        before = gauge.peak_bytes()
        user.sock.settimeout(UPLOAD_S)
        framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % UPLOAD_BYTES
        user.send(b"POST / HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n" % framing)
        piece = b"%x\r\n%b\r\n" % (len(BLOCK), BLOCK) if chunked else BLOCK
        for _ in range(UPLOAD_BYTES // len(BLOCK)):
            user.send(piece)
        if chunked:
            user.send(b"0\r\n\r\n")
        assert user.answer().body == b"%d %d" % (UPLOAD_BYTES, UPLOAD_BYTES)
        gauge.wait_for(lambda: not gauge.temporary_files(), "the body's file to be closed")
    assert (gauge.peak_bytes() - before) / MIB < GROWTH_MIB


def test_a_long_answer_to_a_slow_reader_takes_no_memory(make_site: MakeSite, temporary: Path) -> None:
    site = make_site(
        """
        def application(environ, start_response):
            start_response("200 OK", [])
            return (b"x" * 1048576 for _ in range(int(environ["QUERY_STRING"])))
        """
    )
    worker = site.start_worker()
    with socket.socket() as sock, client(site) as user:
        assert len(user.get("/?20").body) == 20 * MIB
        gauge = Gauge(site, worker, temporary)
        before = gauge.peak_bytes()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        sock.settimeout(WAIT_S)
        sock.connect(("127.0.0.1", site.port))
        slow = Client(sock)
        slow.send(b"GET /?500 HTTP/1.1\r\nHost: a\r\n\r\n")
        for _ in range(50):
            assert sock.recv(65536)
            assert user.get("/?0").status == 200
        assert (gauge.peak_bytes() - before) / MIB < GROWTH_MIB


FILE_RESPONSE = """
import io, os
import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import FileResponse
from django.urls import path

class Unread(io.FileIO):
    def read(self, *_arguments):
        raise AssertionError("it was read, and not sent by the kernel")

    def close(self):
        if not self.closed:
            open(self.name + ".closed", "w").close()
        super().close()

def view(request):
    return FileResponse(Unread(os.environ["FILE"]), as_attachment=True, filename="big.bin")

settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="for tests only", LOGGING_CONFIG=None)
urlpatterns = [path("", view)]
application = get_wsgi_application()
"""


def test_djangos_file_response_is_sent_by_the_kernel_and_closed(make_site: MakeSite, tmp_path: Path) -> None:
    site = make_site(FILE_RESPONSE, python=str(environment(DJANGO)))
    file = tmp_path / "big"
    file.write_bytes(BLOCK * 20)
    closed = tmp_path / "big.closed"
    site.environment["FILE"] = str(file)
    worker = site.start_worker()
    gauge = Gauge(site, worker, tmp_path)
    with client(site) as user, client(site) as slow:
        answer = user.get()
        assert (answer.status, answer.header("Content-Length")) == (200, str(len(BLOCK) * 20))
        assert hashlib.sha256(answer.body).digest() == hashlib.sha256(BLOCK * 20).digest()
        gauge.wait_for(closed.exists, "the file to be closed")
        closed.unlink()
        assert user.get(method="HEAD").status == 200
        gauge.wait_for(closed.exists, "the file to be closed, though nothing of it was sent")
        closed.unlink()
        slow.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert slow.sock.recv(1000)
        assert not closed.exists()
        assert user.get(method="HEAD").status == 200, "while the slow one has its file half"
        gauge.wait_for(closed.exists, "the quick one's file to be closed")
        closed.unlink()
        slow.sock.close()
        gauge.wait_for(closed.exists, "the file to be closed, whose client has left")


def test_uploads_of_many_clients_share_the_room_in_memory(make_site: MakeSite, temporary: Path) -> None:
    """Bodies just below what goes to a file, each held back by its last byte."""
    site = make_site(COUNTS)
    site.environment["TMPDIR"] = str(temporary)
    worker = site.start_worker()
    with client(site) as user:
        user.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx")
        assert user.answer().status == 200
    site.wait_for(lambda row: row.connections == 0)
    gauge = Gauge(site, worker, temporary)
    socks = [site.connect() for _ in range(200)]
    try:
        for sock in socks:
            sock.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n" + bytes(999_999))
        gauge.wait_for(lambda: len(gauge.temporary_files()) > 100, "bodies to go to files")
        assert gauge.grown_mib < 100
        for sock in socks:
            sock.sendall(b"x")
            assert Client(sock).answer().body == b"1000000 1000000"
    finally:
        for sock in socks:
            sock.close()
    gauge.nothing_is_left()
