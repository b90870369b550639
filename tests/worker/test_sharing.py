"""Connections that are kept are shared evenly again when a worker of the generation has begun or ended."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from worker.conftest import MakeSite
from worker.harness import WAIT_S, Client, Site, client
from worker.test_departure import WHO

EIGHT = 8


@contextmanager
def keeping(site: Site) -> Iterator[list[Client]]:
    """Eight clients whose connections stay open; each has been answered once."""
    with ExitStack() as stack:
        users = [stack.enter_context(client(site)) for _ in range(EIGHT)]
        for each in users:
            assert each.get().status == 200
        yield users


def ask(users: list[Client]) -> Counter[int]:
    """How many of them each worker answers."""
    found: Counter[int] = Counter()
    for each in users:
        answer = each.get()
        assert answer.status == 200
        assert answer.header("Connection") != "close"
        found[int(answer.body)] += 1
    return found


def ask_until(users: list[Client], holds: Callable[[Counter[int]], bool]) -> None:
    end = time.monotonic() + WAIT_S
    while not holds(found := ask(users)):
        assert time.monotonic() < end, found
        time.sleep(0.005)


def test_who_begins_later_gets_its_share_of_what_is_there(make_site: MakeSite) -> None:
    site = make_site(WHO)
    site.start_template()
    first = site.fork_worker(0)
    with keeping(site) as users:
        assert ask(users) == {first.pid: EIGHT}
        second = site.fork_worker(1)
        ask_until(users, lambda found: found == {first.pid: EIGHT // 2, second.pid: EIGHT // 2})
        third = site.fork_worker(2)
        ask_until(users, lambda found: sorted(found.values()) == [2, 3, 3])
        assert set(ask(users)) == {first.pid, second.pid, third.pid}
        taken = sum(site.row(slot).taken_over for slot in range(3))
        for _ in range(20):
            ask(users)
            time.sleep(0.005)
        assert sum(site.row(slot).taken_over for slot in range(3)) == taken, "even is even"


def test_a_worker_alone_keeps_what_it_has(make_site: MakeSite) -> None:
    site = make_site(WHO)
    site.start_template()
    site.fork_worker(0)
    with keeping(site) as users:
        for _ in range(10):
            ask(users)
            time.sleep(0.005)
        assert (site.row(0).handed_over, site.row(0).connections) == (0, EIGHT)


def test_who_is_stuck_gets_nothing_and_holds_up_nobody(make_site: MakeSite) -> None:
    site = make_site(WHO)
    site.start_template()
    first, second = site.fork_worker(0), site.fork_worker(1)
    os.kill(second.pid, signal.SIGSTOP)
    try:
        with keeping(site) as users:
            begun = time.monotonic()
            while time.monotonic() < begun + 2:
                assert ask(users) == {first.pid: EIGHT}
            tried, took_s = site.row(0).handed_over, time.monotonic() - begun
            # A hundred times a second at first, after seven times once a second.
            assert 0 < tried <= 9 + took_s, "it is tried ever more seldom"
    finally:
        os.kill(second.pid, signal.SIGCONT)


def test_while_one_is_stuck_the_others_share(make_site: MakeSite) -> None:
    site = make_site(WHO)
    site.start_template()
    stuck = site.fork_worker(0)
    os.kill(stuck.pid, signal.SIGSTOP)
    try:
        site.fork_worker(1)
        with keeping(site) as some, keeping(site) as more:
            site.fork_worker(2)
            begun = time.monotonic()
            apart = []
            while time.monotonic() < begun + 4:
                ask(some + more)
                time.sleep(0.005)
                apart.append(abs(site.row(1).connections - site.row(2).connections))
            late = apart[len(apart) // 2 :]
            assert sum(late) / len(late) <= 4, apart
            moved = sum(site.row(slot).handed_over for slot in (1, 2))
            assert moved <= 60, "what is passed on in vain is tried ever more seldom"
    finally:
        os.kill(stuck.pid, signal.SIGCONT)


def test_pipelined_requests_are_answered_in_order_while_it_moves(make_site: MakeSite) -> None:
    site = make_site(
        """
        def application(environ, start_response):
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [environ["PATH_INFO"].encode()]
        """
    )
    site.start_template()
    site.fork_worker(0)
    with keeping(site) as users:
        site.fork_worker(1)
        end = time.monotonic() + WAIT_S
        while site.row(1).taken_over < EIGHT // 2:
            assert time.monotonic() < end
            for number, each in enumerate(users):
                paths = [f"/{number}/{which}" for which in range(3)]
                each.sock.sendall(
                    b"".join(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode() for path in paths)
                )
                assert [each.answer().body.decode() for _ in paths] == paths
