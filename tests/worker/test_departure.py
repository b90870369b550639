"""Leaving: connections pass to the next generation, nothing is cut, nothing is lost."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from djsup_worker import departure
from djsup_worker.departure import receive_connection
from djsup_worker.limits import SECOND_NS
from djsup_worker.loop import Listener
from djsup_worker.messages import Drained
from worker.harness import WAIT_S, Client, Process, Site, client
from worker.inprocess import BATCHES_MAX, in_process
from worker.test_crew import BLOCKING, Gate, block, busy

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.conftest import MakeSite

WHO = """
import os

def application(environ, start_response):
    start_response("200 OK", [])
    return [str(os.getpid()).encode()]
"""


def wait_until(question: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT_S
    while not question():
        assert time.monotonic() < end
        time.sleep(0.01)


def files(worker: Process) -> set[str]:
    """What a worker has open, as far as it can be seen in one look."""
    found = set()
    for each in Path(f"/proc/{worker.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.add(str(each.readlink()))
    return found


def drained(worker: Process) -> Drained:
    """The last message of a worker that ends well."""
    message = worker.channel.receive(Drained)
    assert worker.exit_status() == 0
    assert worker.read() == ""
    return message


@pytest.fixture
def generations(make_site: MakeSite) -> tuple[Site, Site]:
    old = make_site(WHO, threads=2)
    return old, make_site.another(old)  # type: ignore[attr-defined]


def test_without_an_heir_the_doors_stay_open_for_as_long_as_the_template_may_have_the_listeners(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(departure, "LAST_CALL_NS", 3600 * SECOND_NS)
    told: list[Drained] = []
    with in_process() as worker, socket.create_server(("127.0.0.1", 0)) as of_the_template:
        worker.loop.add_door(Listener(worker.loop, of_the_template.dup()))
        leaving = departure.Departure(worker.loop, 7200.0, None, told.append)
        leaving.begin()
        with socket.create_connection(of_the_template.getsockname(), WAIT_S) as late:
            late.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            late.setblocking(False)
            answer = b""
            for _ in range(BATCHES_MAX):
                worker.turn()
                with contextlib.suppress(BlockingIOError):
                    answer += late.recv(4096)
                if answer:
                    break
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert b"\r\nConnection: close\r\n" in answer
        worker.turn()
        assert told == [], "others may come yet"
        monkeypatch.setattr(departure, "LAST_CALL_NS", 0)
        departure.Departure(worker.loop, 7200.0, None, told.append).begin()
        worker.turn()
        assert told == [Drained(handed_over=0, closed=0, cut=0)]


def test_who_has_just_begun_gets_as_many_connections_as_those_who_began_before(
    generations: tuple[Site, Site],
) -> None:
    old, new = generations
    leaving = [old.start_worker(slot) for slot in range(2)]
    new.start_template()
    with contextlib.ExitStack() as stack:
        users = [stack.enter_context(client(old)) for _ in range(24)]
        for user in users:
            user.get()
        halves = [old.row(slot).connections for slot in range(2)]
        assert sum(halves) == len(users)
        for slot, worker in enumerate(leaving):
            new.fork_worker(slot)
            old.drain(worker, to=new)
            assert drained(worker).handed_over == halves[slot]
        wait_until(lambda: sum(new.row(slot).connections for slot in range(2)) == len(users))
        # Not exactly half: for as long as it has no processor the other takes one every two milliseconds.
        assert new.row(1).connections >= halves[1] // 3, (halves, new.row(0).connections)
        for user in users:
            user.get()


def test_idle_connections_pass_to_the_next_generation(generations: tuple[Site, Site]) -> None:
    old, new = generations
    leaving = old.start_worker()
    with contextlib.ExitStack() as stack:
        users = [stack.enter_context(client(old)) for _ in range(20)]
        silent = stack.enter_context(client(old))
        for user in users:
            user.get()
        old.wait_for(lambda row: row.connections == 21)
        staying = new.start_worker()
        old.drain(leaving, to=new)
        assert drained(leaving).closed == 0
        for user in [*users, silent]:
            answer = user.get()
            assert answer.body == str(staying.pid).encode()
            assert answer.header("Connection") is None
    assert old.row().handed_over == new.row().taken_over == 21


def test_the_address_of_a_connection_passes_with_it(make_site: MakeSite) -> None:
    old = make_site(
        """
        def application(environ, start_response):
            start_response("200 OK", [])
            names = "REMOTE_ADDR", "REMOTE_PORT", "SERVER_NAME", "SERVER_PORT"
            return [repr([environ[name] for name in names]).encode()]
        """
    )
    new = make_site.another(old)  # type: ignore[attr-defined]
    leaving = old.start_worker()
    with client(old) as user:
        before = user.get().body
        old.drain(leaving, to=new)
        drained(leaving)
        new.start_worker()
        assert user.get().body == before


def test_a_busy_connection_passes_when_its_answer_is_out(make_site: MakeSite, tmp_path: Path) -> None:
    old = make_site(BLOCKING, threads=2)
    new = make_site.another(old)  # type: ignore[attr-defined]
    leaving = old.start_worker()
    with contextlib.closing(Gate(tmp_path / "gate")) as gate, client(old) as user, client(old) as partial:
        block(user, gate)
        busy(old, 1)
        partial.send(b"GET /part HTTP/1.1\r\n")
        old.wait_for(lambda row: row.connections == 2)
        time.sleep(0.05)  # the first part is read
        new.start_worker()
        old.drain(leaving, to=new)
        partial.send(b"Host: a\r\n\r\n")
        assert partial.answer().header("Connection") is None
        new.wait_for(lambda row: row.taken_over == 1)
        gate.open()
        assert user.answer().status == 200
        assert drained(leaving).handed_over == 2
        assert user.get().status == 200
        assert partial.get().status == 200


def test_a_worker_that_drains_can_be_led_to_a_later_generation(make_site: MakeSite, tmp_path: Path) -> None:
    old = make_site(BLOCKING, threads=2)
    gone, new = make_site.another(old), make_site.another(old)  # type: ignore[attr-defined]
    leaving = old.start_worker()
    new.start_worker()
    with contextlib.closing(Gate(tmp_path / "gate")) as gate, client(old) as user:
        block(user, gate)
        busy(old, 1)
        old.drain(leaving, to=gone, timeout_s=WAIT_S)
        old.drain(leaving, to=new, timeout_s=0.0)
        before, now = (f"socket:[{os.fstat(each.handover_out.fileno()).st_ino}]" for each in (gone, new))
        wait_until(lambda: now in files(leaving) and before not in files(leaving))
        gate.open()
        assert user.answer().status == 200
        assert drained(leaving).handed_over == 1
        assert user.get().status == 200
    assert new.row().taken_over == 1


@pytest.mark.parametrize("had_one", [False, True])
def test_a_worker_that_leaves_alone_can_be_given_an_heir(
    make_site: MakeSite, tmp_path: Path, *, had_one: bool
) -> None:
    old = make_site(BLOCKING, threads=2)
    gone, new = make_site.another(old), make_site.another(old)  # type: ignore[attr-defined]
    gone.handover_in.close()
    leaving = old.start_worker()
    with contextlib.closing(Gate(tmp_path / "gate")) as gate, client(old) as user, client(old) as partial:
        block(user, gate)
        busy(old, 1)
        partial.send(b"GET /part HTTP/1.1\r\n")
        old.wait_for(lambda row: row.connections == 2)
        time.sleep(0.05)  # the first part is read: it stays, and so does the worker
        with client(old) as idle:
            old.wait_for(lambda row: row.connections == 3)
            new.start_worker()
            old.drain(leaving, to=gone if had_one else None, timeout_s=WAIT_S)
            old.wait_for(lambda row: row.state == "draining")
            old.drain(leaving, to=new, timeout_s=0.0)
            new.wait_for(lambda row: row.taken_over == 1)
            assert idle.get().status == 200
        partial.send(b"Host: a\r\n\r\n")
        assert partial.answer().header("Connection") is None
        gate.open()
        assert user.answer().status == 200
        assert (drained(leaving).handed_over, new.row().taken_over) == (3, 3)
        assert user.get().status == 200
        assert partial.get().status == 200


def test_bytes_that_arrive_while_a_connection_is_on_its_way_are_read_by_the_next(
    generations: tuple[Site, Site],
) -> None:
    old, new = generations
    leaving = old.start_worker()
    with client(old) as user:
        user.get()
        old.drain(leaving, to=new)
        assert drained(leaving).handed_over == 1
        user.send(b"GET /on/its/way HTTP/1.1\r\nHost: a\r\n\r\n")  # nobody has the connection but the kernel
        staying = new.start_worker()
        assert user.answer().body == str(staying.pid).encode()


def test_more_connections_than_the_handover_socket_holds_wait_and_pass(
    generations: tuple[Site, Site],
) -> None:
    old, new = generations
    leaving = old.start_worker()
    with contextlib.ExitStack() as stack:
        users = [stack.enter_context(client(old)) for _ in range(600)]
        for user in users:
            user.get()
        old.drain(leaving, to=new)
        time.sleep(0.1)  # the socket is full by now
        staying = new.start_worker()
        message = drained(leaving)
        assert (message.handed_over, message.closed, message.cut) == (600, 0, 0)
        for user in users:
            assert user.get().body == str(staying.pid).encode()


def test_a_worker_that_leaves_passes_on_what_it_was_just_given(make_site: MakeSite) -> None:
    first = make_site(WHO)
    second, third = make_site.another(first), make_site.another(first)  # type: ignore[attr-defined]
    worker = first.start_worker()
    with client(first) as user:
        user.get()
        middle = second.start_worker()
        os.kill(middle.pid, signal.SIGSTOP)
        first.drain(worker, to=second)
        drained(worker)  # the connection is in the middle's handover socket
        second.drain(middle, to=third)
        os.kill(middle.pid, signal.SIGCONT)
        drained(middle)
        last = third.start_worker()
        assert user.get().body == str(last.pid).encode()


def test_a_connection_that_the_kernel_announced_to_a_leaving_worker_is_not_forgotten(
    generations: tuple[Site, Site],
) -> None:
    old, new = generations
    leaving, staying = old.start_worker(), new.start_worker()
    for worker in (leaving, staying):
        os.kill(worker.pid, signal.SIGSTOP)
    with contextlib.ExitStack() as stack:
        users = [stack.enter_context(client(old)) for _ in range(4)]
        old.drain(leaving, to=new)
        for worker in (leaving, staying):
            os.kill(worker.pid, signal.SIGCONT)
        drained(leaving)
        for user in users:
            assert user.get().body == str(staying.pid).encode()


def test_without_a_heir_answers_say_close_and_idle_connections_end_soon(make_site: MakeSite) -> None:
    site = make_site(WHO)
    worker = site.start_worker()
    with client(site) as idle, client(site) as active:
        idle.get()
        active.get()
        site.drain(worker, to=None)
        site.wait_for(lambda row: row.state == "draining")
        answer = active.get()
        assert answer.header("Connection") == "close"
        assert active.closed()
        begun = time.monotonic()
        assert idle.closed(5)
        assert time.monotonic() - begun > 0.5, "a request that was on its way would still have been served"
    message = drained(worker)
    assert (message.handed_over, message.cut) == (0, 0)


@pytest.mark.parametrize("number", [signal.SIGTERM])
def test_a_term_signal_drains_even_while_the_main_thread_is_in_the_application(
    make_site: MakeSite, tmp_path: Path, number: signal.Signals
) -> None:
    site = make_site(BLOCKING, threads=2)
    worker = site.start_worker()
    with contextlib.closing(Gate(tmp_path / "gate")) as gate, client(site) as user:
        block(user, gate)
        busy(site, 1)
        worker.kill(number)
        site.wait_for(lambda row: row.state == "draining")
        gate.open()
        assert user.answer().header("Connection") is None  # its promise was made before
    assert drained(worker).cut == 0


def test_requests_beyond_the_deadline_are_cut_and_counted(make_site: MakeSite, tmp_path: Path) -> None:
    site = make_site(BLOCKING, threads=2)
    worker = site.start_worker()
    with contextlib.closing(Gate(tmp_path / "gate")) as gate, client(site) as user:
        block(user, gate)
        busy(site, 1)
        site.drain(worker, to=None, timeout_s=0.3)
        message = drained(worker)
        assert message.cut == 1
        assert user.closed()


def test_a_heir_that_is_gone_is_no_disaster(generations: tuple[Site, Site]) -> None:
    old, new = generations
    leaving = old.start_worker()
    with client(old) as user:
        user.get()
        old.drain(leaving, to=new)
        new.handover_in.close()
        assert drained(leaving).cut == 0


def test_an_interrupt_signal_is_not_for_workers(make_site: MakeSite) -> None:
    site = make_site(WHO)
    worker = site.start_worker()
    worker.kill(signal.SIGINT)
    with client(site) as user:
        assert user.get().status == 200


@pytest.mark.skipif(not shutil.which("wrk"), reason="wrk is not installed (apt-get install wrk)")
def test_ten_generations_under_load_close_no_connection_and_lose_no_request(make_site: MakeSite) -> None:
    first = make_site(WHO, threads=2)
    sites = [first, *(make_site.another(first) for _ in range(10))]  # type: ignore[attr-defined]
    workers = [[sites[0].start_worker(slot) for slot in range(2)]]
    load = subprocess.Popen(
        ["wrk", "-c", "32", "-t", "1", "-d", "60", f"http://127.0.0.1:{first.port}/"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        sites[0].wait_for(lambda row: row.requests > 1000)
        for old, new in pairwise(sites):
            workers.append([new.start_worker(slot) for slot in range(2)])
            for worker in workers[-2]:
                old.drain(worker, to=new)
            for worker in workers[-2]:
                message = drained(worker)
                assert (message.closed, message.cut) == (0, 0)
        load.send_signal(signal.SIGINT)  # the end of the load: it prints what it saw
        output, _ = load.communicate(timeout=WAIT_S)
    finally:
        load.kill()
        load.communicate()
    assert "Socket errors" not in output, output
    assert "Non-2xx" not in output, output
    served = int(re.findall(r"(\d+) requests in", output)[0])
    # The last workers may have sent an answer that they have not counted yet.
    wait_until(lambda: sum(site.row(slot).requests for site in sites for slot in range(2)) >= served)
    rows = [site.row(slot) for site in sites for slot in range(2)]
    assert sum(row.accepted for row in rows) in (32, 33), "wrk opens one more to look at the server"
    assert sum(row.requests for row in rows) <= served + 33
    assert sum(row.handed_over for row in rows) == sum(row.taken_over for row in rows) > 200


def test_half_sent_requests_survive_a_handover_at_any_byte(make_site: MakeSite) -> None:
    """A client writes a request in two pieces, cut anywhere, while generations follow one another."""
    first = make_site(WHO)
    sites = [first, *(make_site.another(first) for _ in range(3))]  # type: ignore[attr-defined]
    request = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n"
    failures: list[object] = []
    over = threading.Event()

    def talk(user: Client, seed: int) -> None:
        cut = seed
        try:
            while not over.is_set():
                cut = (cut + 7) % (len(request) + 1)
                user.send(request[:cut])
                time.sleep(0.002)
                user.send(request[cut:])
                assert user.answer().status == 200
        except Exception as error:  # noqa: BLE001
            failures.append(error)

    worker = first.start_worker()
    with contextlib.ExitStack() as stack:
        users = [stack.enter_context(client(first)) for _ in range(8)]
        threads = [threading.Thread(target=talk, args=(user, seed)) for seed, user in enumerate(users)]
        for thread in threads:
            thread.start()
        try:
            for old, new in pairwise(sites):
                following = new.start_worker()
                time.sleep(0.1)
                old.drain(worker, to=new)
                assert drained(worker).closed == 0
                worker = following
        finally:
            over.set()
            for thread in threads:
                thread.join(WAIT_S)
    assert failures == []


@pytest.mark.parametrize("garbage", [b"[" * 4000, b"\xff\xfe", b"[]", b"null", b'{"local": 1, "peer": []}'])
def test_garbage_in_the_handover_socket_is_no_connection_and_no_disaster(garbage: bytes) -> None:
    intake, outlet = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with intake, outlet:
        outlet.send(garbage)
        assert receive_connection(intake) is None
