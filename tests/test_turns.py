"""Short and long turns, and sessions that stand back, as the kernel tells of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from djsup import turns
from djsup.turns import Seen, Turn
from scheduling import knows_sessions, knows_turns, may_be_idle, session_niceness
from scheduling import turns as turns_of

Sleeper = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def sleeper() -> Iterator[Sleeper]:
    """Starts a process that sleeps, in a session of its own."""
    started = []

    def start(before: Callable[[], object] | None = None) -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen(["sleep", "60"], start_new_session=True, preexec_fn=before))  # noqa: PLW1509
        return started[-1]

    yield start
    for each in started:
        each.kill()
        each.wait()


@knows_turns
def test_a_process_takes_the_turns_that_it_is_told_to(sleeper: Sleeper) -> None:
    usual = turns_of(sleeper().pid)
    process = sleeper()
    for turn in (Turn.SHORT, Turn.LONG):
        turns.take(process.pid, turn)
        assert turns_of(process.pid) == {turn}
    turns.take(process.pid, Turn.USUAL)
    assert turns_of(process.pid) == usual


@knows_turns
def test_all_threads_take_the_same_turns_and_keep_their_niceness(sleeper: Sleeper) -> None:
    ready, over = threading.Event(), threading.Event()

    def wait() -> None:
        ready.set()
        over.wait()

    other = threading.Thread(target=wait)
    other.start()
    ready.wait()
    try:
        turns.take(os.getpid(), Turn.LONG)
        assert turns_of(os.getpid()) == {Turn.LONG}
    finally:
        turns.take(os.getpid(), Turn.USUAL)
        over.set()
        other.join()
    polite, own = sleeper(lambda: os.nice(7)), os.nice(0)
    turns.take(polite.pid, Turn.SHORT)
    assert turns_of(polite.pid) == {Turn.SHORT}
    assert os.getpriority(os.PRIO_PROCESS, polite.pid) == min(own + 7, 19)


@knows_turns
def test_what_somebody_else_schedules_is_left_alone(sleeper: Sleeper) -> None:
    batch = sleeper(lambda: os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0)))
    before = turns_of(batch.pid)
    turns.take(batch.pid, Turn.SHORT)
    assert turns_of(batch.pid) == before
    assert os.sched_getscheduler(batch.pid) == os.SCHED_BATCH


def test_what_is_gone_has_no_turn_any_more(sleeper: Sleeper) -> None:
    process = sleeper()
    process.kill()
    process.wait()
    turns.take(process.pid, Turn.SHORT)
    assert not turns.stand_back(process.pid)
    assert turns.come_forward([process.pid]), "there is nobody left to ask for"


@knows_sessions
def test_a_session_stands_back_and_comes_forward(sleeper: Sleeper) -> None:
    process = sleeper()
    assert session_niceness(process.pid) == 0
    assert turns.stand_back(process.pid)
    assert session_niceness(process.pid) == 10
    assert turns.stands_back(process.pid)
    assert turns.come_forward([process.pid])
    assert session_niceness(process.pid) == 0
    assert not turns.stands_back(process.pid)


@may_be_idle
def test_a_processor_is_free_that_only_runs_what_stands_back(sleeper: Sleeper) -> None:
    """That is what SCHED_IDLE is to the kernel. What was started meanwhile comes forward, too."""
    code = "import subprocess; print(subprocess.Popen(['sleep', '60']).pid, flush=True); input(); print(subprocess.Popen(['sleep', '60']).pid, flush=True); input()"
    command = [sys.executable, "-c", code]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True, text=True
    ) as parent:
        assert parent.stdin
        assert parent.stdout
        older = int(parent.stdout.readline())
        turns.take(parent.pid, Turn.LONG)
        assert turns.stand_back(parent.pid)
        assert [os.sched_getscheduler(pid) for pid in (parent.pid, older)] == [os.SCHED_IDLE] * 2
        parent.stdin.write("\n")
        parent.stdin.flush()
        younger = int(parent.stdout.readline())
        assert os.sched_getscheduler(younger) == os.SCHED_IDLE
        assert turns.come_forward([parent.pid])
        assert {os.sched_getscheduler(pid) for pid in (parent.pid, older, younger)} == {os.SCHED_OTHER}
        for pid in (older, younger, parent.pid):
            os.kill(pid, signal.SIGKILL)


def test_who_could_not_take_it_back_is_not_made_idle() -> None:
    code = (
        "import os; from djsup import turns; pid = os.getpid(); os.setsid(); os.setuid(65534)\n"
        "turns.stand_back(pid)\n"
        "print(os.sched_getscheduler(0) == os.SCHED_OTHER)"
    )
    command = [sys.executable, "-c", code]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    assert said.stdout == "True\n"


def test_what_computes_is_seen_to_get_on_and_what_sleeps_to_want_nothing(sleeper: Sleeper) -> None:
    end = time.monotonic() + 10
    process = sleeper()
    while turns.see([process.pid]).want:  # it begins
        assert time.monotonic() < end
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        first = turns.see([busy.pid])
        while (now := turns.see([busy.pid])).ran_s <= first.ran_s:
            assert time.monotonic() < end
        assert now.want
        assert now.at > first.at
        busy.kill()


@pytest.mark.parametrize(
    ("before", "now", "kept_waiting_s"),
    [
        (Seen(1.0, 0.0, want=True), Seen(2.0, 0.25, want=True), 0.75),
        (Seen(1.0, 0.0, want=True), Seen(2.0, 1.5, want=True), 0.0),  # on two processors
        (Seen(1.0, 0.0, want=False), Seen(2.0, 0.0, want=True), 0.0),  # it has slept, for all we know
        (Seen(1.0, 0.0, want=True), Seen(2.0, 0.0, want=False), 0.0),
    ],
)
def test_who_wants_a_processor_and_does_not_run_is_kept_waiting(
    before: Seen, now: Seen, kept_waiting_s: float
) -> None:
    assert turns.kept_waiting_s(before, now) == kept_waiting_s


@knows_sessions
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_who_is_not_root_has_to_ask_again() -> None:
    code = (
        "import ctypes, os; from djsup import turns; pid = os.getpid(); os.setsid(); os.setuid(65534)\n"
        "ctypes.CDLL(None).prctl(4, 1)\n"  # PR_SET_DUMPABLE: its own files in /proc are its own again
        "while not turns.stand_back(pid): pass\n"  # somebody else on the machine may have asked just now
        "print(turns.come_forward([pid]))"
    )
    command = [sys.executable, "-c", code]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    assert said.stdout == "False\n"
