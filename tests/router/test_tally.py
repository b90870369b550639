"""What a worker gives back without a word: it is found when it is wanted, and at the latest when somebody waits for it."""

from __future__ import annotations

import os
import socket
import threading
import time

import pytest

from djsup.router import loop as router_loop
from djsup.router import sites
from djsup_worker.link import GIVEN, LEAVES, NOBODY, NOTHING, SAID
from djsup_worker.tally import DONE, open_words
from router.test_ill_will import another_worker, is_served, two
from router.test_routing import A, B, Slow, get
from router.world import WAIT_S, World, answers, route, wait_until, world

__all__ = ["two"]
REQUESTS = 30


def notes_of(made: World, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What kinds of notes the router gets from now on."""
    told = made.router._told
    kinds: list[int] = []

    def noted(worker: sites.Worker, kind: int, number: bytes) -> None:
        kinds.append(kind)
        told(worker, kind, number)

    monkeypatch.setattr(made.router, "_told", noted)
    return kinds


def ask(made: World, client: socket.socket, times: int = 1, host: str = "a.example") -> None:
    for _ in range(times):
        client.sendall(get(host))
        assert answers(client, 1) == [(200, host[:1].encode())]


def test_a_connection_that_comes_back_costs_no_note(two: World, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = notes_of(two, monkeypatch)
    with two.connect() as client:
        for _ in range(REQUESTS):
            ask(two, client)
            time.sleep(0.002)  # who asks at once may be quicker than the worker's last step
    assert len(kinds) < REQUESTS / 2


def test_a_worker_of_a_router_without_memory_says_all_in_notes(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(_fd: int) -> memoryview:
        raise OSError("no memory")

    monkeypatch.setattr(sites, "open_words", none)
    with world(A, workers=1) as made:
        kinds = notes_of(made, monkeypatch)
        with made.connect() as client:
            ask(made, client, REQUESTS)
            wait_until(lambda: len(kinds) == REQUESTS)


@pytest.mark.parametrize("threads", [1, 4])
def test_whoever_waits_for_what_comes_back_is_told(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither sweeps nor ticks help here: a wake-up that is lost is an answer that does not come."""
    monkeypatch.setattr(router_loop, "SWEEP_S", 1000.0)
    monkeypatch.setattr(router_loop, "QUEUE_TICK_S", 1000.0)
    with world(route("a", "a.example", threads=threads), B, workers=2) as made:
        failed: list[BaseException] = []

        def hammer(pipelined: int) -> None:
            try:
                with made.connect() as client:
                    for _ in range(REQUESTS):
                        client.sendall(get("a.example") * pipelined + get("b.example"))
                        assert answers(client, pipelined + 1) == [(200, b"a")] * pipelined + [(200, b"b")]
            except BaseException as error:  # noqa: BLE001 -- told below
                failed.append(error)

        hammers = [threading.Thread(target=hammer, args=(number % 3,)) for number in range(12)]
        for each in hammers:
            each.start()
        for each in hammers:
            each.join()
        assert not failed
        for site in made.router.sites.values():
            wait_until(lambda site=site: [each.busy - each.tally[DONE] for each in site.workers] == [0, 0])


def test_a_worker_that_is_gone_takes_nothing_with_it_that_it_had_given_back() -> None:
    slow = Slow()
    with world(A, workers=1) as made, made.connect() as idle, made.connect() as busy:
        made.application = slow
        ask(made, idle)
        busy.sendall(get("a.example", "/slow"))
        assert slow.busy.acquire(timeout=WAIT_S)
        (worker,) = made.router.sites[A.site].workers
        made.do(lambda: made.router._worker_gone(worker))
        slow.go.set()
        made.add_worker("a")
        ask(made, idle)


def test_a_worker_that_leaves_has_given_back_what_its_tally_says(two: World) -> None:
    with two.connect() as client:
        ask(two, client)
        loop = two._workers[0][1]
        (line,) = loop.links
        loop.on_wake[3] = line.leave
        loop.wake(3)
        wait_until(lambda: not two.router.sites[A.site].workers)
        ask(two, client, host="b.example")
        two.add_worker("a")
        ask(two, client)
    line._sock.close()  # a worker that leaves keeps it until it ends


def test_an_idle_connection_is_closed_though_nobody_was_told_that_it_is_idle(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with world(route("a", "a.example", keepalive_s=0.3), workers=1) as made, made.connect() as client:
        kinds = notes_of(made, monkeypatch)
        ask(made, client)
        assert client.recv(1) == b""
        assert not kinds


def test_a_client_that_goes_while_nobody_was_told_is_gone(two: World) -> None:
    with two.connect() as client:
        ask(two, client)
    wait_until(lambda: not two.router._clients)


def test_a_tally_keeps_its_length_and_what_is_written_there_is_its_own_sites_affair(two: World) -> None:
    with another_worker(two) as line, two.connect() as client:
        _, (fd,), _, _ = socket.recv_fds(line, 100, 1)
        with pytest.raises(PermissionError):
            os.ftruncate(fd, 0)
        words = open_words(fd)
        os.close(fd)
        line.send(SAID + NOBODY + NOTHING)
        client.sendall(get("a.example", "/long") + get("b.example"))
        for at in range(len(words)):
            if at < 5000:  # all that there are in this process
                words[at] = 1 << 63
        line.send(GIVEN + NOBODY + NOTHING)
        is_served(two)
        line.send(LEAVES + NOBODY + NOTHING)
        with two.connect() as other:
            ask(two, other, REQUESTS)
