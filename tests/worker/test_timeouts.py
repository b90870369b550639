"""Soft timeouts: a call that lasts is ended where it is, answered 503, and nothing else ever is."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from djsup_worker import messages, scoreboard, timeouts
from djsup_worker.crew import Hand
from djsup_worker.limits import Limits
from djsup_worker.timeouts import RequestTimeout, Timeouts
from worker.harness import Site, client

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from worker.conftest import MakeSite
    from worker.interpreters import Interpreter

    MakeBench = Callable[[float], "Bench"]

STUCK = '''
import os, socket, threading, time

trace = []
ours, theirs = socket.socketpair()

def loop():
    while True:
        pass

def wait_and_retry():
    while True:
        try:
            time.sleep(0.01)
            1 / 0
        except Exception:
            pass

def wait_for_lock():
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()

def wait_for_database():
    ours.recv(1)

def sleep():
    time.sleep(60)

def application(environ, start_response):
    """/NAME runs a function that never ends, in a transaction; /trace tells what became of the transactions."""
    name = environ["PATH_INFO"][1:]
    if name == "swallow":
        try:
            loop()
        except BaseException as error:
            name = type(error).__name__
    elif name == "ask":
        environ["djsup.extend_timeout"](3600)
        time.sleep(0.5)
    elif name not in ("pid", "trace"):
        trace.append("begin " + name)
        try:
            globals()[name]()
            trace.append("commit")
        finally:
            trace.append("rollback")
    start_response("200 OK", [])
    return [(str(os.getpid()) if name == "pid" else str(trace) if name == "trace" else name).encode()]
'''
SOFT = {"soft_timeout_s": 0.2}


def ended(site: Site) -> messages.TimedOut:
    return site.processes[0].channel.receive(messages.TimedOut)


@pytest.fixture
def make_bench() -> Iterator[MakeBench]:
    """Timeouts without a worker, by their soft_timeout in seconds."""
    made: list[Bench] = []

    def make(soft_timeout_s: float) -> Bench:
        made.append(Bench(soft_timeout_s))
        return made[-1]

    yield make
    for each in made:
        each.timeouts.close()
        if each.timeouts._watcher is not None:
            each.timeouts._watcher.join(10)


@pytest.mark.parametrize("name", ["loop", "wait_and_retry", "wait_for_lock", "wait_for_database", "sleep"])
def test_a_lone_thread_is_freed_wherever_it_waits_and_the_worker_lives_on(
    make_site: MakeSite, name: str
) -> None:
    site = make_site(STUCK, threads=1, limits=SOFT)
    worker = site.start_worker()
    with client(site) as user:
        answer = user.get(f"/{name}")
        assert (answer.status, answer.body) == (503, timeouts.BODY)
        assert user.get("/trace").body.decode() == str([f"begin {name}", "rollback"])
        assert user.get("/pid").body.decode() == str(worker.pid)
    told = ended(site)
    assert told.request == f"GET /{name}"
    assert told.outcome == "ended with 503"
    assert f"in {name}" in told.traceback


def test_a_thread_of_several_is_freed_from_an_endless_loop_while_another_request_goes_on(
    make_site: MakeSite,
) -> None:
    site = make_site(STUCK, threads=4, limits=SOFT)
    worker = site.start_worker()
    with contextlib.ExitStack() as stack:
        users = [stack.enter_context(client(site)) for _ in range(4)]
        for user, name in zip(users, ("loop", "ask", "wait_and_retry", "loop"), strict=True):
            user.send(f"GET /{name} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert [user.answer().status for user in users] == [503, 200, 503, 503]
        assert users[0].get("/pid").body.decode() == str(worker.pid)
    site.wait_for(lambda row: not row.running)


def test_soft_timeouts_work_in_every_python(
    make_site: MakeSite, interpreter: Interpreter, folder_for: Callable[[Interpreter], Path]
) -> None:
    site = make_site(STUCK, python=interpreter.path, folder=folder_for(interpreter), threads=2, limits=SOFT)
    site.start_worker()
    with client(site) as one, client(site) as other:
        for user in (one, other):
            user.send(b"GET /loop HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (one.answer().status, other.answer().status) == (503, 503)
        assert one.get("/pid").status == other.get("/pid").status == 200


def test_an_application_that_keeps_the_exception_to_itself_is_told_of_and_hurts_no_other_request(
    make_site: MakeSite,
) -> None:
    site = make_site(STUCK, threads=1, limits=SOFT)
    site.start_worker()
    with client(site) as user:
        assert user.get("/swallow").body == b"RequestTimeout"
        assert "all the same" in ended(site).outcome
        assert user.get("/pid").status == 200


def test_a_request_that_asks_gets_more_time_and_the_daemon_sees_how_much(make_site: MakeSite) -> None:
    site = make_site(STUCK, threads=1, limits={**SOFT, "max_timeout_s": 500.0})
    site.start_worker()
    with client(site) as user:
        user.send(b"GET /ask HTTP/1.1\r\nHost: a\r\n\r\n")
        site.wait_for(lambda row: bool(row.running and row.running[0].until_ns))
        (running,) = site.row().running
        assert running.until_ns - running.since_ns == 500_000_000_000, "as max_timeout allows"
        assert user.answer().body == b"ask"
        assert user.get("/sleep").status == 503, "the next request has not asked"


def test_a_soft_timeout_is_told_to_a_running_worker(make_site: MakeSite) -> None:
    site = make_site(STUCK, threads=1)
    worker = site.start_worker()
    worker.channel.send(messages.NewLimits(dict(SOFT)))
    with client(site) as user:
        # The message and the request come by different ways: only the second is sure to be later.
        user.get("/pid")
        assert user.get("/loop").status == 503


class Bench:
    """Timeouts without a worker, in a thread of their own."""

    def __init__(self, soft_timeout_s: float) -> None:
        words = memoryview(bytearray(scoreboard.SIZE_BYTES)).cast("Q")
        self.row = scoreboard.RowWriter(words, 0, 1, 1, 1)
        self.hand: Hand | None = None
        self.timeouts = Timeouts("site", self.row, lambda: self.hand)
        self.timeouts.new_limits(Limits(soft_timeout_s=soft_timeout_s))
        self.told: list[Any] = []
        self.timeouts.tell = self.told.append

    def call(self, application: Callable[..., Iterable[bytes]]) -> str:
        """Call it as a worker would; gives the status."""
        said: list[str] = []
        list(self.timeouts.guard(application)({}, lambda status, *_: said.append(status)))
        return said[-1]


def test_no_exception_ever_comes_outside_of_the_call_that_it_is_for(
    make_bench: MakeBench, capsys: pytest.CaptureFixture[str]
) -> None:
    soft_s = 0.003
    bench = make_bench(soft_s)
    escaped: list[BaseException] = []
    statuses: dict[str, int] = {}

    def application(_environ: Any, start_response: Any) -> list[bytes]:
        end = time.monotonic() + soft_s  # about as long as it may
        while time.monotonic() < end:
            pass
        start_response("200 OK", [])
        return []

    def serve() -> None:
        until = time.monotonic() + 1.0
        try:
            while time.monotonic() < until:
                status = bench.call(application)
                statuses[status] = statuses.get(status, 0) + 1
                for _ in range(2000):  # what is pending would come here
                    pass
        except BaseException as error:  # noqa: BLE001  # that is the question
            escaped.append(error)

    thread = threading.Thread(target=serve)
    thread.start()
    thread.join(30)
    capsys.readouterr()
    assert not escaped
    assert len(bench.told) == sum("503" in each or "same" in each for each in _outcomes(bench))
    assert sum(statuses.values()) > 20
    assert bench.told, "at least some were ended"


def _outcomes(bench: Bench) -> list[str]:
    return [each.outcome for each in bench.told]


def test_an_exception_that_has_not_come_yet_is_taken_back(
    make_bench: MakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The narrow case, made wide: the watch has decided, and sets the exception when the call has ended."""
    bench = make_bench(3600.0)
    decided, let_go = threading.Event(), threading.Event()
    setting = timeouts._raise_in

    def late(ident: int, error: type | None) -> None:
        if error is not None:
            decided.set()
            assert let_go.wait(10)
        setting(ident, error)

    monkeypatch.setattr(timeouts, "_raise_in", late)
    results: list[object] = []
    calls: list[timeouts.Call] = []
    setter = threading.Thread(target=lambda: bench.timeouts._end(calls[0]))

    def application(_environ: Any, start_response: Any) -> list[bytes]:
        (call,) = bench.timeouts._calls.values()
        calls.append(call)
        setter.start()
        assert decided.wait(10)
        threading.Timer(0.1, let_go.set).start()
        start_response("200 OK", [])
        return []

    def serve() -> None:
        try:
            results.append(bench.call(application))
            while setter.is_alive():  # set too late, it would come here
                pass
        except RequestTimeout as escaped:
            results.append(escaped)

    thread = threading.Thread(target=serve)
    thread.start()
    thread.join(30)
    assert results in (["200 OK"], ["503 Service Unavailable"]), results
    assert len(bench.told) == 1


def test_more_time_can_only_be_asked_for_by_the_thread_that_runs_the_request(make_bench: MakeBench) -> None:
    bench = make_bench(0)
    with pytest.raises(RuntimeError, match="in the thread that runs the request"):
        bench.timeouts.extend(10)
    bench.hand = Hand(0)
    with pytest.raises(RuntimeError):
        bench.timeouts.extend(10)
    bench.row.begin(0, time.monotonic_ns(), b"GET /")
    assert 9 < bench.timeouts.extend(10) <= 30
    assert 59 < bench.timeouts.extend(60) <= 60
    bench.row.rest(0)


def test_where_there_is_no_soft_timeout_the_application_is_called_as_it_is(make_bench: MakeBench) -> None:
    bench = make_bench(0)

    def application(_environ: Any, _start_response: Any) -> list[bytes]:
        return []

    assert bench.timeouts.guard(application) is application
