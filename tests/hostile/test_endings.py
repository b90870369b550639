"""However a request ends, nothing of it stays: half-closed, reset in each phase, refused, timed out, killed."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import zlib
from typing import TYPE_CHECKING

import pytest

from hostile.gauge import MIB, Gauge
from worker.harness import Client, Process, Site, client

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from worker.conftest import MakeSite

READS = """
import hashlib

kept = []

def application(environ, start_response):
    if environ["PATH_INFO"] == "/keep":
        kept.append(environ)
    digest = hashlib.sha256()
    for block in iter(lambda: environ["wsgi.input"].read(65536), b""):
        digest.update(block)
    start_response("200 OK", [])
    if environ["PATH_INFO"] == "/big":
        return (b"x" * 65536 for _ in range(320))
    return [digest.hexdigest().encode()]
"""
LONG = 3 * MIB


def reset(user: Client) -> None:
    user.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    user.sock.close()


def started(make_site: MakeSite, temporary: Path, **boot: object) -> tuple[Site, Process, Gauge]:
    site = make_site(READS, **boot)
    site.environment["TMPDIR"] = str(temporary)
    worker = site.start_worker()
    with client(site) as user:
        user.send(head(LONG) + bytes(LONG))
        assert user.answer().status == 200
    site.wait_for(lambda row: row.connections == 0)
    return site, worker, Gauge(site, worker, temporary)


def head(length: int, path: str = "/") -> bytes:
    return b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (path.encode(), length)


def spooling(user: Client, gauge: Gauge) -> None:
    """Send the greater part of a long body, and wait for its file."""
    user.send(head(LONG) + bytes(LONG - 1))
    gauge.wait_for(lambda: bool(gauge.temporary_files()), "the body's file")


def test_a_file_is_closed_with_its_answer_though_the_application_keeps_the_request(
    make_site: MakeSite, temporary: Path
) -> None:
    site, worker, gauge = started(make_site, temporary)
    with client(site) as user:
        user.send(head(LONG, "/keep") + b"a" * LONG)
        assert user.answer().body.decode() == hashlib.sha256(b"a" * LONG).hexdigest()
        gauge.wait_for(lambda: not gauge.temporary_files(), "the body's file to be closed")
    gauge.nothing_is_left()
    assert worker.read() == ""


@pytest.mark.parametrize("leave", [reset, lambda user: user.sock.close()], ids=["reset", "closed"])
def test_a_client_that_leaves_in_its_body_leaves_no_file(
    make_site: MakeSite, temporary: Path, leave: Callable[[Client], None]
) -> None:
    site, worker, gauge = started(make_site, temporary)
    with client(site) as user:
        spooling(user, gauge)
        leave(user)
        gauge.nothing_is_left()
    assert (site.row().requests, worker.read()) == (1, "")


def test_a_body_refused_midway_leaves_no_file(make_site: MakeSite, temporary: Path) -> None:
    site, _worker, gauge = started(make_site, temporary, limits={"max_body_bytes": LONG})
    with client(site) as user:
        user.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        user.send(b"%x\r\n%b\r\n" % (LONG, bytes(LONG)))
        gauge.wait_for(lambda: bool(gauge.temporary_files()), "the body's file")
        user.send(b"1\r\n")
        assert user.answer().status == 413
    gauge.nothing_is_left()


def test_a_body_that_stalls_leaves_no_file(make_site: MakeSite, temporary: Path) -> None:
    site, _worker, gauge = started(make_site, temporary, limits={"body_timeout_s": 1.0})
    with client(site) as user:
        spooling(user, gauge)
        assert user.answer().status == 408
    gauge.nothing_is_left()


def test_a_killed_worker_leaves_no_file(make_site: MakeSite, temporary: Path) -> None:
    site, worker, gauge = started(make_site, temporary)
    with client(site) as user:
        spooling(user, gauge)
        worker.kill()
        worker.exit_status()
        assert list(temporary.iterdir()) == []


def test_a_full_disk_refuses_long_bodies_and_serves_on(make_site: MakeSite, temporary: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(temporary)], check=False, capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"a small file system cannot be mounted: {mounted.stderr.decode()}")
    try:
        site = make_site(READS)
        site.environment["TMPDIR"] = str(temporary)
        worker = site.start_worker()
        with client(site) as user:
            assert user.get().status == 200
        site.wait_for(lambda row: row.connections == 0)
        gauge = Gauge(site, worker, temporary)
        for length in (LONG, MIB + 100):  # the second fails only when what is buffered is written
            with client(site) as user:
                user.send(head(length) + bytes(length))
                assert user.answer().status == 503
        with client(site) as user:
            user.send(head(1000) + bytes(1000))
            assert user.answer().status == 200
        gauge.nothing_is_left()
        said = worker.read()
        assert "cannot be kept in a temporary file: [Errno 28] No space left on device" in said
        assert "mistake" not in said
        worker.kill()
        worker.exit_status()
    finally:
        subprocess.run(["umount", "-l", str(temporary)], check=True)


@pytest.mark.parametrize("path", ["/", "/big"])
def test_a_client_that_has_ended_its_own_direction_gets_its_answers(
    make_site: MakeSite, temporary: Path, path: str
) -> None:
    site, worker, gauge = started(make_site, temporary)
    with client(site) as user:
        user.send(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % path.encode() * 3)
        user.sock.shutdown(socket.SHUT_WR)
        lengths = {len(user.answer().body) for _ in range(3)}
        assert lengths == {320 * 65536 if path == "/big" else 64}
        assert user.closed()
    gauge.nothing_is_left()
    assert worker.read() == ""


PHASES = (
    b"", b"GET", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 50,
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nab", head(LONG) + bytes(LONG - 1),
    head(LONG) + bytes(LONG), b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n", b"\x00\r\n\r\n",
)  # fmt: skip


def test_a_reset_in_any_phase_leaves_nothing(make_site: MakeSite, temporary: Path) -> None:
    site, worker, gauge = started(make_site, temporary)
    for data in PHASES:
        for _ in range(3):
            with client(site) as user:
                user.send(data)
                reset(user)
        gauge.nothing_is_left()
    with client(site) as user:
        assert user.get().status == 200
    assert worker.read() == ""


def test_compressed_bodies_are_the_applications_affair(make_site: MakeSite, temporary: Path) -> None:
    """A kilobyte that unpacks to a megabyte is a kilobyte here."""
    site, _worker, _gauge = started(make_site, temporary)
    bomb = zlib.compress(bytes(MIB))
    with client(site) as user:
        user.send(
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Encoding: deflate\r\nContent-Length: %d\r\n\r\n%b"
            % (len(bomb), bomb)
        )
        assert user.answer().body.decode() == hashlib.sha256(bomb).hexdigest()
