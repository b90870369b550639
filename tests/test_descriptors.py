from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from djsup import descriptors
from djsup.shell import channels
from djsup_worker import messages

LINGER_S = 20


@pytest.fixture
def lingering() -> Iterator[int]:
    """A connection whose close(2) waits, for its peer reads nothing of what is unsent."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        peer, _ = server.accept()
        client.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                client.send(b"x" * 65536)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, LINGER_S))
        client.setblocking(True)
        yield client.detach()
        peer.close()


def test_the_daemon_does_not_wait_for_what_a_worker_sends_it(lingering: int) -> None:
    ours, theirs = channels.open_pair()
    with ours, theirs:
        socket.send_fds(theirs, [messages.encode(messages.Hello())], [lingering])
        os.close(lingering)
        begun = time.monotonic()
        received = channels.receive(ours)
        assert time.monotonic() - begun < LINGER_S / 2
    assert received is not None
    assert received.message == messages.Hello()


def test_what_is_no_socket_is_closed_too() -> None:
    fds = list(os.pipe())
    descriptors.close_all(fds)
    for fd in fds:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
    descriptors.close_all(fds)
