from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import djsup_worker


def hazards(source: str, *pass_fds: int) -> list[str]:
    """What a fresh process that ran this finds unsafe about itself."""
    script = (
        textwrap.dedent(source)
        + "\nfrom djsup_worker.forksafety import hazards\nprint(*hazards(ours), sep='\\n')"
    )
    assert djsup_worker.__file__ is not None
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(Path(djsup_worker.__file__).parent.parent)},
        capture_output=True, text=True, check=True, timeout=20, pass_fds=pass_fds,
    )  # fmt: skip
    return done.stdout.split("\n")[:-1] if done.stdout.strip() else []


def test_a_plain_process_is_safe() -> None:
    assert hazards("ours = ()") == []


def test_a_thread_is_a_hazard_and_named() -> None:
    found = hazards(
        """
        import threading
        threading.Thread(target=threading.Event().wait, name="metrics", daemon=True).start()
        ours = ()
        """
    )
    assert found == ["the import started 1 thread: metrics"]


def test_an_established_connection_is_a_hazard_unless_it_is_ours() -> None:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as sock:
            assert hazards("ours = ()", sock.fileno()) == [
                f"the import left a connection to 127.0.0.1 port {port} open (descriptor {sock.fileno()})"
            ]
            assert hazards(f"ours = ({sock.fileno()},)", sock.fileno()) == []
            assert hazards("ours = ()", server.fileno()) == [], "a listening socket is not connected"


def test_a_unix_stream_is_a_hazard_and_a_datagram_socket_is_not() -> None:
    for kind, count in ((socket.SOCK_STREAM, 1), (socket.SOCK_DGRAM, 0)):
        ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
        with ours, theirs:
            assert len(hazards("ours = ()", ours.fileno())) == count
