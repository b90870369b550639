"""What a site's worker, or a client, does on purpose to a connection that it has had: the other sites are served all the same."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from djsup_worker.link import Routed
from router.test_routing import A, B, get, wait_until
from router.world import World, answers, world


@pytest.fixture
def two() -> Iterator[World]:
    with world(A, B, workers=1) as made:
        yield made


def had_by(made: World, number: int) -> Routed:
    """The connection that a worker has parked."""
    parked = made._workers[number][1].links[0]._parked
    wait_until(lambda: len(parked) == 1)
    (connection,) = parked.values()
    return connection


def is_served(made: World) -> None:
    with made.connect() as other:
        other.settimeout(3)
        other.sendall(get("b.example"))
        assert answers(other, 1) == [(200, b"b")]


def test_a_worker_that_has_calls_wait_on_a_connection_has_nobody_else_wait(two: World) -> None:
    with two.connect() as client:
        client.settimeout(3)
        client.sendall(get("a.example"))
        assert answers(client, 1) == [(200, b"a")]
        os.set_blocking(had_by(two, 0).fd, True)
        client.sendall(get("b.example"))
        assert answers(client, 1) == [(200, b"b")]
        client.sendall(b"BAD\r\n\r\n")
        assert client.recv(4096).startswith(b"HTTP/1.1 400 ")
        is_served(two)
