"""A worker that has more connections than the others lets them take the next one."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from djsup_worker.balance import PAUSE_MAX_NS, PAUSE_NS, SHARE_PAUSE_MAX_NS, SLACK, Balance
from djsup_worker.scoreboard import ACCEPTED_AT, CONNECTIONS_AT, MAGIC, SIZE_BYTES, RowWriter, open_words
from worker.harness import client

if TYPE_CHECKING:
    from worker.conftest import MakeSite


@pytest.fixture
def words() -> Iterator[memoryview]:
    fd = os.memfd_create("scoreboard")
    os.ftruncate(fd, SIZE_BYTES)
    yield open_words(fd)
    os.close(fd)


def worker(
    words: memoryview,
    slot: int,
    connections: int,
    *,
    generation: int = 1,
    state: str = "serving",
    pid: int = 0,
) -> RowWriter:
    row = RowWriter(words, slot, pid or os.getpid(), generation, 4)
    row.state(state)
    row.add(CONNECTIONS_AT, connections)
    return row


def test_a_worker_alone_never_stands_back(words: memoryview) -> None:
    worker(words, 0, 1000)
    assert Balance(words, 0).pause_ns() == 0


def test_the_more_a_worker_leads_the_longer_it_stands_back(words: memoryview) -> None:
    worker(words, 0, 5)
    worker(words, 1, 3)
    worker(words, 7, 9)
    assert Balance(words, 0).pause_ns() == 2 * PAUSE_NS
    assert Balance(words, 1).pause_ns() == 0, "it has the fewest"
    assert Balance(words, 7).pause_ns() == 6 * PAUSE_NS


def test_a_small_lead_is_no_reason(words: memoryview) -> None:
    worker(words, 0, SLACK)
    worker(words, 1, 0)
    assert Balance(words, 0).pause_ns() == 0


def test_nobody_stands_back_for_long(words: memoryview) -> None:
    worker(words, 0, 100_000)
    worker(words, 1, 0)
    assert Balance(words, 0).pause_ns() == PAUSE_MAX_NS


@pytest.mark.parametrize("other", [{"generation": 2}, {"state": "booting"}, {"state": "draining"}])
def test_only_workers_that_serve_the_same_code_count(words: memoryview, other: dict[str, object]) -> None:
    worker(words, 0, 50)
    worker(words, 1, 0, **other)  # type: ignore[arg-type]
    assert Balance(words, 0).pause_ns() == 0


def test_while_two_generations_serve_each_worker_takes_its_share_in(words: memoryview) -> None:
    old, also_old = worker(words, 0, 0), worker(words, 1, 0)
    old.add(ACCEPTED_AT, 1000)  # long before
    new = worker(words, 2, 0, generation=2)
    balances = [Balance(words, slot) for slot in range(3)]
    assert [each.pause_ns() for each in balances] == [0, 0, 0]
    new.add(ACCEPTED_AT, 1)
    assert [each.pause_ns() for each in balances] == [0, 0, PAUSE_NS]
    old.add(ACCEPTED_AT, 1)
    also_old.add(ACCEPTED_AT, 1)
    assert [each.pause_ns() for each in balances] == [0, 0, 0]
    old.add(ACCEPTED_AT, 10_000)
    assert [each.pause_ns() for each in balances] == [SHARE_PAUSE_MAX_NS, 0, 0]


def test_who_has_just_begun_is_seen_as_soon_as_is_asked_for(words: memoryview) -> None:
    worker(words, 0, 5)
    balance = Balance(words, 0)
    assert balance.pause_ns() == 0
    worker(words, 1, 0)
    assert balance.pause_ns() == 0, "it has looked a moment ago"
    assert balance.pause_ns(0) == 5 * PAUSE_NS


def test_the_row_of_a_worker_that_died_does_not_count(words: memoryview) -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    worker(words, 0, 50)
    worker(words, 1, 0, pid=process.pid)
    assert Balance(words, 0).pause_ns() == 0


def test_nonsense_in_the_scoreboard_is_no_more_than_a_short_pause(words: memoryview) -> None:
    worker(words, 0, 3)
    for slot in range(1, 100):
        for word in range(20):
            words[slot * (len(words) // 128) + word] = 2**64 - 1
        words[slot * (len(words) // 128)] = MAGIC
    assert 0 <= Balance(words, 0).pause_ns() <= PAUSE_MAX_NS


def test_a_burst_of_connections_is_shared_by_all_workers(make_site: MakeSite) -> None:
    site = make_site(
        """
        def application(environ, start_response):
            start_response("200 OK", [])
            return [b"hello"]
        """
    )
    slots = (0, 1, 2)
    for slot in slots:
        site.start_worker(slot)
    with contextlib.ExitStack() as stack:
        users = [stack.enter_context(client(site)) for _ in range(45)]
        for user in users:
            assert user.get().status == 200
        assert min(site.row(slot).connections for slot in slots) >= 5
        assert sum(site.row(slot).connections for slot in slots) == 45
