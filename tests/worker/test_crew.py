"""Threads: quick requests pay nothing for them, slow ones block nobody."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from djsup_worker.connection import FRESH
from djsup_worker.crew import SHARING_S, STARVES, Crew, Glance, Hand
from djsup_worker.habits import COMPUTES, QUICK_NS, WAITS
from djsup_worker.limits import Limits
from djsup_worker.loop import Listener, Loop
from djsup_worker.request import Line
from djsup_worker.scoreboard import SIZE_BYTES, RowWriter, open_words
from worker.harness import WAIT_S, Client, Site, client

if TYPE_CHECKING:
    from worker.conftest import MakeSite

BLOCKING = '''
import os
import threading

def application(environ, start_response):
    """/block waits until a byte comes through the FIFO that its query names; the answer is the thread."""
    if environ["PATH_INFO"] == "/block":
        with open(environ["QUERY_STRING"], "rb", buffering=0) as fifo:
            fifo.read(1)
    start_response("200 OK", [])
    return [str(threading.get_ident()).encode()]
'''

STREAM = """
import threading

def application(environ, start_response):
    start_response("200 OK", [])
    if environ["PATH_INFO"] == "/quick":
        return [b"quick"]
    return body(threading.get_ident())

def body(begun_in):
    for number in range(60):
        yield b"" if threading.get_ident() == begun_in else b"ANOTHER THREAD"
        yield b"x" * 100000
    yield b"end"
"""


class Gate:
    """Lets a blocked request go."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        self._fd: int | None = os.open(path, os.O_RDWR)

    def open(self, count: int = 8) -> None:
        """Let this many requests go."""
        assert self._fd is not None
        os.write(self._fd, b"x" * count)

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def threads_of(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def block(user: Client, gate: Gate) -> None:
    user.send(f"GET /block?{gate.path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())


def busy(site: Site, count: int) -> None:
    site.wait_for(lambda row: len(row.running) == count)


def test_a_quick_request_is_answered_while_slow_ones_block(make_site: MakeSite, tmp_path: Path) -> None:
    site = make_site(BLOCKING, threads=4)
    site.start_worker()
    with contextlib.closing(Gate(tmp_path / "gate")) as gate, contextlib.ExitStack() as stack:
        slow = [stack.enter_context(client(site)) for _ in range(3)]
        for user in slow:
            block(user, gate)
        busy(site, 3)
        with client(site) as user:
            for _ in range(20):
                assert user.get("/quick").status == 200
        # The row is written after the answer, so the last quick request may still stand in it.
        site.wait_for(lambda row: {running.path for running in row.running} == {"/block"})
        gate.open()
        assert len({user.answer().body for user in slow}) == 3, "each ran in a thread of its own"
        for user in slow:
            assert user.get("/again").status == 200
    busy(site, 0)


def test_no_more_threads_than_asked_and_the_next_request_waits_for_one(
    make_site: MakeSite, tmp_path: Path
) -> None:
    site = make_site(BLOCKING, threads=2)
    worker = site.start_worker()
    with contextlib.closing(Gate(tmp_path / "gate")) as gate, contextlib.ExitStack() as stack:
        slow = [stack.enter_context(client(site)) for _ in range(2)]
        for user in slow:
            block(user, gate)
        busy(site, 2)
        with client(site) as user:
            user.sock.settimeout(0.3)
            user.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            with pytest.raises(TimeoutError):
                user.answer()
            assert threads_of(worker.pid) == 4, "two, the monitor, and the ear"
            gate.open()
            user.sock.settimeout(WAIT_S)
            assert user.answer().status == 200


def test_threads_are_started_when_they_are_needed(make_site: MakeSite) -> None:
    site = make_site(BLOCKING, threads=8)
    worker = site.start_worker()
    assert threads_of(worker.pid) == 3, "one that polls, the monitor, and the ear"
    with client(site) as user:
        for _ in range(5):
            user.get("/quick")
    assert threads_of(worker.pid) == 3, "nobody else was needed"


def test_one_thread_means_one_thread(make_site: MakeSite) -> None:
    site = make_site(BLOCKING, threads=1)
    worker = site.start_worker()
    with client(site) as user:
        user.get("/quick")
    assert threads_of(worker.pid) == 2, "one, and the ear"


@pytest.mark.parametrize("threads", [1, 4])
def test_an_idle_worker_never_wakes(make_site: MakeSite, threads: int) -> None:
    site = make_site(BLOCKING, threads=threads)
    worker = site.start_worker()

    def switches() -> int:
        total = 0
        for task in Path(f"/proc/{worker.pid}/task").iterdir():
            lines = (task / "status").read_text().splitlines()
            total += sum(int(line.split()[1]) for line in lines if "voluntary_ctxt_switches" in line)
        return total

    with client(site) as user:
        assert user.get("/quick").status == 200
        for _ in range(20):  # until the monitor rests, which takes longer on a busy machine
            before = switches()
            time.sleep(0.5)
            if switches() - before <= 1:
                break
        else:
            pytest.fail("it wakes and wakes")
        assert user.get("/quick").status == 200


def test_a_response_goes_on_in_the_thread_that_began_it(make_site: MakeSite, tmp_path: Path) -> None:
    """A slow reader's response pauses; meanwhile the polling moves to another thread, again and again."""
    site = make_site(
        STREAM.replace(
            'if environ["PATH_INFO"] == "/quick":',
            'if environ["PATH_INFO"] == "/block":\n        open(environ["QUERY_STRING"], "rb", buffering=0).read(1)\n        return [b"was blocked"]\n    if environ["PATH_INFO"] == "/quick":',
        ),
        threads=4,
    )
    site.environment["PYTHONWARNINGS"] = "ignore"
    site.start_worker()
    with contextlib.closing(Gate(tmp_path / "gate")) as gate, contextlib.ExitStack() as stack:
        readers = [stack.enter_context(client(site)) for _ in range(3)]
        for reader in readers:
            reader.send(b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n")
        for reader in readers:
            reader.buffer += reader.sock.recv(1000)
        blocked = [stack.enter_context(client(site)) for _ in range(2)]
        for user in blocked:
            user.send(f"GET /block?{gate.path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        busy(site, 2)
        with client(site) as user:
            assert user.get("/quick").body == b"quick"
        gate.open()
        for user in blocked:
            assert user.answer().body == b"was blocked"
        for reader in readers:
            assert reader.answer().body == b"x" * 6_000_000 + b"end"


def test_a_client_that_leaves_while_its_request_runs_harms_nobody(
    make_site: MakeSite, tmp_path: Path
) -> None:
    site = make_site(BLOCKING, threads=3)
    worker = site.start_worker()
    with contextlib.closing(Gate(tmp_path / "gate")) as gate:
        for _ in range(2):
            with client(site) as user:
                user.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                block(user, gate)
                busy(site, 1)
            with client(site) as user:
                assert user.get("/quick").status == 200
            gate.open(1)
            busy(site, 0)
        site.wait_for(lambda row: row.connections == 0)
    assert worker.read() == ""


def test_requests_pipelined_behind_a_slow_one_are_served_after_it(
    make_site: MakeSite, tmp_path: Path
) -> None:
    site = make_site(BLOCKING, threads=2)
    site.start_worker()
    with contextlib.closing(Gate(tmp_path / "gate")) as gate, client(site) as user:
        block(user, gate)
        busy(site, 1)
        user.send(b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n")
        gate.open()
        for _ in range(3):
            assert user.answer().status == 200


def test_many_clients_of_quick_and_slow_requests_all_get_their_answers(make_site: MakeSite) -> None:
    """The polling role changes hands hundreds of times; no request is lost, none is answered twice."""
    site = make_site(
        """
        import time

        def application(environ, start_response):
            number = int(environ["PATH_INFO"][1:])
            if number % 7 == 0:
                time.sleep(0.012)
            start_response("200 OK", [])
            return [environ["PATH_INFO"].encode()]
        """,
        threads=4,
    )
    worker = site.start_worker()
    with contextlib.ExitStack() as stack:
        users = [stack.enter_context(client(site)) for _ in range(16)]
        for round_ in range(60):
            for index, user in enumerate(users):
                user.send(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % (round_ * 16 + index))
            for index, user in enumerate(users):
                assert user.answer().body == b"/%d" % (round_ * 16 + index)
    site.wait_for(lambda row: row.requests == 60 * 16 and row.connections == 0 and not row.running)
    assert threads_of(worker.pid) <= 6
    assert worker.read() == ""


def make_loop(application: Any, threads: int) -> tuple[Loop, socket.socket]:
    """A loop of this very process, and a listening socket that it takes connections from."""
    scoreboard_fd = os.memfd_create("scoreboard")
    os.ftruncate(scoreboard_fd, SIZE_BYTES)
    row = RowWriter(open_words(scoreboard_fd), 0, os.getpid(), 1, threads)
    os.close(scoreboard_fd)
    loop = Loop(
        site="a", application=application, threads=threads, limits=Limits(), row=row, errors=sys.stderr
    )
    listening = socket.create_server(("127.0.0.1", 0))
    loop.add_door(Listener(loop, listening))
    return loop, listening


@contextlib.contextmanager
def running(loop: Loop) -> Iterator[None]:
    thread = threading.Thread(target=loop.run)
    thread.start()
    try:
        yield
    finally:
        loop.end()
        loop.wake()
        for each in (thread, *(each for each in threading.enumerate() if each.name.startswith("djsup-"))):
            each.join(WAIT_S)
            assert not each.is_alive()


@pytest.mark.parametrize("habit", [WAITS, COMPUTES])
def test_the_role_is_given_away_before_a_call_that_is_known_to_last(
    habit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without any monitor: nobody takes the role away, so it was given."""
    monkeypatch.setattr(Crew, "wake_monitor", lambda _self: None)
    gate = threading.Event()

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        if environ["PATH_INFO"] == "/slow/7":
            gate.wait(WAIT_S)
        start_response("200 OK", [])
        return [threading.current_thread().name.encode()]

    loop, listening = make_loop(application, threads=2)
    assert loop.crew is not None
    loop.crew.habits.seen(Line({}, b"GET /slow/1", is_head=False, is_http_1_0=False), habit, 10**9)
    with running(loop):
        address = listening.getsockname()
        slow, quick = (Client(socket.create_connection(address, timeout=WAIT_S)) for _ in range(2))
        slow.send(b"GET /slow/7 HTTP/1.1\r\nHost: a\r\n\r\n")
        answers = {quick.get("/").body for _ in range(3)}
        assert answers == {b"djsup-1"}
        time.sleep(QUICK_NS / 10**9)  # so that the call was not quick after all
        gate.set()
        assert slow.answer().body != b"djsup-1"
        assert slow.get("/").status == 200
        for each in (slow, quick):
            each.sock.close()
    assert loop.crew.habits.of(Line({}, b"GET /slow/8", is_head=False, is_http_1_0=False)) == habit
    loop.close()
    listening.close()


@pytest.mark.parametrize("habit", [WAITS, COMPUTES])
def test_the_first_thread_that_is_free_takes_the_role_from_a_call_that_is_known_to_last(
    habit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As all were busy when that call began, its thread had nobody to give the role to. Without any monitor."""
    monkeypatch.setattr(Crew, "wake_monitor", lambda _self: None)
    gates = {f"/slow/{number}": threading.Event() for number in range(3)}
    begun = threading.Semaphore(0)

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        if environ["PATH_INFO"] in gates:
            begun.release()
            gates[environ["PATH_INFO"]].wait(WAIT_S)
        start_response("200 OK", [])
        return []

    loop, listening = make_loop(application, threads=3)
    assert loop.crew is not None
    loop.crew.habits.seen(Line({}, b"GET /slow/1", is_head=False, is_http_1_0=False), habit, 10**9)
    with running(loop), contextlib.ExitStack() as stack:
        address = listening.getsockname()
        quick, *others = (
            Client(stack.enter_context(socket.create_connection(address, timeout=WAIT_S))) for _ in range(4)
        )
        slow = dict(zip(gates, others, strict=True))
        assert quick.get("/").status == 200
        for path, user in slow.items():
            user.send(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            assert begun.acquire(timeout=WAIT_S)
        for path, user in slow.items():
            gates[path].set()
            assert user.answer().status == 200
            assert quick.get("/").status == 200
    loop.close()
    listening.close()


def test_the_interpreter_is_shared_finely_only_while_a_call_computes_beside_the_poller() -> None:
    usual_s = sys.getswitchinterval()
    seen: list[float] = []

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        until = time.thread_time() + (2 if environ["PATH_INFO"] == "/compute" else 0)
        while time.thread_time() < until and not seen:
            pass
        if environ["PATH_INFO"] != "/compute" and sys.getswitchinterval() < usual_s:
            seen.append(sys.getswitchinterval())
        start_response("200 OK", [])
        return []

    loop, listening = make_loop(application, threads=2)
    with running(loop):
        address = listening.getsockname()
        slow, quick = (Client(socket.create_connection(address, timeout=WAIT_S)) for _ in range(2))
        slow.send(b"GET /compute HTTP/1.1\r\nHost: a\r\n\r\n")
        deadline = time.monotonic() + WAIT_S
        while not seen and time.monotonic() < deadline:
            quick.get("/")
        assert seen == [SHARING_S]
        assert slow.answer().status == 200
        while sys.getswitchinterval() != usual_s and time.monotonic() < deadline:
            quick.get("/")
        assert sys.getswitchinterval() == usual_s
        for each in (slow, quick):
            each.sock.close()
    loop.close()
    listening.close()


class Sleeper(Hand):
    """A thread of which is known whether it sleeps."""

    def __init__(self, *, asleep: bool) -> None:
        super().__init__(0)
        self.asleep = asleep

    def sleeps(self) -> bool:
        return self.asleep


MS = 1_000_000


@pytest.mark.parametrize(
    ("lasted_ms", "used_ms", "asleep", "others_asleep", "verdict"),
    [
        (1, 0, True, True, None),  # too young to tell
        (6, 0, True, True, WAITS),
        (6, 4, True, True, None),  # works
        (6, 0, False, True, None),  # waits for a processor
        (6, 0, True, False, None),  # waits for the interpreter, perhaps
        (12, 0, True, False, STARVES),
        (60, 49, False, True, None),
        (60, 50, False, True, COMPUTES),
        (400, 10, False, True, None),  # other processes have the machine
    ],
)
def test_the_monitor_tells_waiting_from_computing(
    lasted_ms: int, used_ms: int, asleep: bool, others_asleep: bool, verdict: str | None
) -> None:
    hand, other = Sleeper(asleep=asleep), Sleeper(asleep=others_asleep)
    hand.token.append(None)
    hand.since_ns = time.monotonic_ns()
    before = Glance(hand)
    now = Glance(hand, before)
    now.now_ns = hand.since_ns + lasted_ms * MS
    now.cpu_ns = before.cpu_ns + used_ms * MS
    assert now.in_call
    assert now.judge(before, [hand, other]) == verdict


def test_who_waits_at_a_door_is_let_in_by_the_next_poller() -> None:
    """Where every page outlasts the tick, each poller loses the role before it comes to its doors."""
    loop, listening = make_loop(lambda *_: [], threads=2)
    (door,) = loop._doors
    with socket.create_connection(listening.getsockname()):
        loop.knock(door)  # what a poller did that then lost the role
        loop.ended = True
        loop.poll(Hand(1))
        assert [connection.phase for connection in loop.connections.values()] == [FRESH]
    loop.close()
    listening.close()
