"""What the kernel tells of a listener: how many wait, and that one waits."""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from djsup.core.model import Address, AddressKind
from djsup.shell import queues
from djsup.shell.watches import Watches

HTTP = Address(AddressKind.TCP, "127.0.0.1", 1)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX])
def test_connections_that_nobody_accepted_are_counted(family: socket.AddressFamily, tmp_path: Path) -> None:
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket(family))
        listener.bind(("127.0.0.1", 0) if family == socket.AF_INET else str(tmp_path / "sock"))
        listener.listen(10)
        assert queues.waiting(listener) == 0
        for _ in range(3):
            client = stack.enter_context(socket.socket(family))
            client.connect(listener.getsockname())
        assert queues.waiting(listener) == 3
        stack.enter_context(listener.accept()[0])
        assert queues.waiting(listener) == 2


def test_socket_that_does_not_listen_any_more_has_nobody_waiting() -> None:
    listener = socket.socket()
    listener.close()
    assert queues.waiting(listener) == 0


def test_watch_tells_of_a_connection_once_and_accepts_nothing() -> None:
    async def story() -> None:
        told: asyncio.Queue[Address] = asyncio.Queue()
        watches = Watches(told.put_nowait)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            watches.watch(HTTP, listener)
            with socket.create_connection(listener.getsockname()):
                async with asyncio.timeout(30):
                    assert await told.get() == HTTP
                for _ in range(100):
                    await asyncio.sleep(0)
                assert told.empty(), "told once, though the listener stays readable"
                assert queues.waiting(listener) == 1
                watches.watch(HTTP, listener)  # who waits already is told of too
                async with asyncio.timeout(30):
                    assert await told.get() == HTTP
                watches.watch(HTTP, listener)
                watches.drop(HTTP)
                watches.drop(HTTP)
                for _ in range(100):
                    await asyncio.sleep(0)
                assert told.empty()

    asyncio.run(story())
