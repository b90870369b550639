"""Handover sockets: what is sent to a generation that nobody serves for any more still reaches its heir."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import ExitStack

import pytest

from djsup.core.model import Generation, SiteName
from djsup.shell.handovers import PASSED_ON_MAX, Handovers

BLOG = SiteName("blog")
ONE, TWO, THREE = Generation(1), Generation(2), Generation(3)
WAIT_S = 20.0


class Stage(ExitStack):
    """Handover sockets, and copies of their ends as workers have them."""

    def __init__(self) -> None:
        super().__init__()
        self.handovers = Handovers()
        for number in (THREE, TWO, ONE):
            self.callback(self.handovers.forget, BLOG, number)

    def sender(self, number: Generation) -> socket.socket:
        """What a draining worker was given."""
        return self._copy(self.handovers.sending_end(BLOG, number))

    def receiver(self, number: Generation) -> socket.socket:
        """What a worker of the generation takes connections from."""
        return self._copy(self.handovers.receiving_end(BLOG, number))

    def _copy(self, fd: int) -> socket.socket:
        copy = self.enter_context(socket.socket(fileno=os.dup(fd)))
        copy.setblocking(False)
        return copy


def send(sender: socket.socket, word: bytes) -> None:
    """Hand over a connection whose client has sent this word."""
    client, ours = socket.socketpair()
    with client, ours:
        client.sendall(word)
        socket.send_fds(sender, [b"{}"], [ours.fileno()])


def take(receiver: socket.socket) -> bytes:
    """What the client of the next connection has sent.

    Raises:
        BlockingIOError: there is none.
    """
    note, fds, _flags, _address = socket.recv_fds(receiver, 100, 2)
    assert note == b"{}"
    with socket.socket(fileno=fds[0]) as connection:
        return connection.recv(100)


async def taken(receiver: socket.socket) -> bytes:
    """The next connection, once it is there."""
    async with asyncio.timeout(WAIT_S):
        while True:
            try:
                return take(receiver)
            except BlockingIOError:
                await asyncio.sleep(0.001)


def test_a_connection_outlives_its_sender() -> None:
    with Stage() as stage:
        with stage.sender(TWO) as sender:
            send(sender, b"still here")
        assert take(stage.receiver(TWO)) == b"still here"
        stage.handovers.forget(BLOG, TWO)


def test_what_comes_for_a_deserted_generation_goes_to_its_heir() -> None:
    async def story() -> None:
        with Stage() as stage:
            sender, receiver = stage.sender(TWO), stage.receiver(THREE)
            stage.handovers.succeed(BLOG, TWO, THREE)
            send(sender, b"before")  # nobody takes it out
            stage.handovers.desert(BLOG, TWO)
            assert await taken(receiver) == b"before"
            send(sender, b"after")
            assert await taken(receiver) == b"after"
            stage.handovers.forget(BLOG, TWO)

    asyncio.run(story())


def test_what_is_left_when_a_generation_is_forgotten_goes_to_its_heir_and_who_comes_later_is_told() -> None:
    async def story() -> None:
        with Stage() as stage:
            sender, receiver = stage.sender(TWO), stage.receiver(THREE)
            stage.handovers.succeed(BLOG, TWO, THREE)
            for _ in range(PASSED_ON_MAX + 1):
                send(sender, b"in time")
            stage.handovers.forget(BLOG, TWO)
            with pytest.raises(BrokenPipeError):
                send(sender, b"late")
            for _ in range(PASSED_ON_MAX + 1):
                assert await taken(receiver) == b"in time"

    asyncio.run(story())


def test_two_reloads_later_it_goes_to_the_newest_and_back_to_a_generation_that_serves_again() -> None:
    async def story() -> None:
        with Stage() as stage:
            sender, first, third = stage.sender(TWO), stage.receiver(ONE), stage.receiver(THREE)
            stage.handovers.succeed(BLOG, ONE, TWO)
            stage.handovers.desert(BLOG, ONE)
            stage.handovers.succeed(BLOG, TWO, THREE)
            stage.handovers.desert(BLOG, TWO)
            send(stage.sender(ONE), b"from the first")
            assert await taken(third) == b"from the first"
            stage.handovers.succeed(BLOG, THREE, ONE)  # a rollback
            send(stage.sender(ONE), b"to the first")
            assert await taken(first) == b"to the first"
            send(sender, b"from the second")
            assert await taken(first) == b"from the second"
            assert not stage.handovers.has_heir(BLOG, ONE)

    asyncio.run(story())


def test_an_heir_without_room_gets_them_when_it_has_some() -> None:
    async def story() -> None:
        with Stage() as stage:
            sender, receiver, full = stage.sender(TWO), stage.receiver(THREE), stage.sender(THREE)
            number = 0
            while True:
                try:
                    send(full, b"fills it")
                except BlockingIOError:
                    break
                number += 1
            stage.handovers.succeed(BLOG, TWO, THREE)
            stage.handovers.desert(BLOG, TWO)
            send(sender, b"waits")
            await asyncio.sleep(0)  # it is held now, or still where it was sent
            for _ in range(number):
                assert await taken(receiver) == b"fills it"
            assert await taken(receiver) == b"waits"

    asyncio.run(story())
