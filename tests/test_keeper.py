"""The keeper's process by itself: what it is given, what it gives, and whom it ends."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from djsup.core.model import Pid, ProcId
from djsup.keeper import letters
from djsup.keeper.letters import Conversation, Farewell
from djsup.keeper.ward import TAIL_MAX_BYTES, Tail
from djsup.keeper_line import KeeperLine
from djsup.shell import heirloom, processes

SLEEP = "import time; time.sleep(600)"
TERM = Farewell("SIGTERM", 5.0)


@dataclass
class Stage:
    """A keeper, and the daemon's end of its channel."""

    home: Path
    process: subprocess.Popen[bytes]
    channel: socket.socket
    line: KeeperLine
    programs: list[subprocess.Popen[bytes]] = field(default_factory=list)
    pipes: list[int] = field(default_factory=list)

    def program(self, proc: int, code: str, farewell: Farewell = TERM) -> subprocess.Popen[bytes]:
        """Start one as the daemon does; what it prints goes through a pipe that the keeper reads, too."""
        out, into = os.pipe()
        os.set_blocking(out, False)
        self.pipes.append(out)
        assert self.line.keep(ProcId(proc), farewell, {letters.STDOUT: out})
        command = processes.Command(
            (sys.executable, "-c", code), "/", {}, processes.Identity(), into, into,
            announcement=self.line.announcement(ProcId(proc)),
        )  # fmt: skip
        self.programs.append(processes.start(command))
        os.close(into)
        return self.programs[-1]

    def daemon_dies(self) -> None:
        for pipe in self.pipes:
            os.close(pipe)
        self.pipes.clear()
        self.channel.close()

    def asked(self) -> Conversation:
        """What another daemon is given."""
        return Conversation(self.home)

    def ends(self) -> int:
        return self.process.wait(20)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    found = start(tmp_path / "keeper.sock", 60.0)
    yield found
    found.daemon_dies()
    for each in (found.process, *found.programs):
        with suppress(ProcessLookupError):
            os.killpg(each.pid, signal.SIGKILL)
        each.wait()


def start(home: Path, grace_s: float) -> Stage:
    ours, theirs = letters.open_pair()
    with theirs, heirloom.open_home(home) as listener:
        fds = (theirs.fileno(), listener.fileno())
        own = {
            "DJSUP_KEEPER_FD": str(fds[0]),
            "DJSUP_KEEPER_HOME_FD": str(fds[1]),
            "DJSUP_KEEPER_GRACE": str(grace_s),
        }
        process = subprocess.Popen(
            [sys.executable, "-I", "-m", "djsup.keeper"], env=own, pass_fds=fds, start_new_session=True
        )
    line = KeeperLine()
    line.open(ours, process.kill)
    return Stage(home, process, ours, line)


def until(question: Callable[[], object]) -> None:
    end = time.monotonic() + 20
    while not question():
        assert time.monotonic() < end
        time.sleep(0.01)


@contextmanager
def asked(stage: Stage) -> Iterator[dict[int, letters.Kept]]:
    """What the next daemon gets, which dies before it has told that it has it."""
    talk = stage.asked()
    yield talk.kept
    for each in talk.kept.values():
        each.close()
    talk.close()


def printed(stage: Stage, proc: int) -> bytes:
    with asked(stage) as kept:
        return kept[proc].take_text(letters.STDOUT)


def is_told(stage: Stage, proc: int) -> bool:
    with asked(stage) as kept:
        return kept[proc].told


def test_while_the_daemon_lives_nothing_is_read_and_nobody_is_answered(stage: Stage) -> None:
    until(lambda: letters.keeper_pid(stage.home) == stage.process.pid)
    stage.program(7, "print('hello', flush=True); " + SLEEP)
    assert select.select(stage.pipes, [], [], 20)[0], "it has printed"
    time.sleep(0.1)
    assert os.read(stage.pipes[0], 100) == b"hello\n"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as asker:
        asker.settimeout(0.2)
        asker.connect(str(stage.home))
        with pytest.raises(TimeoutError):
            asker.recv(100)


def test_the_next_daemon_gets_everything_and_until_it_has_it_again_and_again(stage: Stage) -> None:
    program = stage.program(7, "print('one', flush=True); " + SLEEP)
    stage.daemon_dies()
    until(lambda: printed(stage, 7) == b"one\n")
    talk = stage.asked()
    kept = talk.kept.pop(7)
    assert (kept.pid, kept.told, kept.ready) == (program.pid, False, False)
    assert kept.take_text(letters.STDOUT) == b"one\n"
    assert not select.select([kept.fds[letters.PIDFD]], [], [], 0)[0]
    talk.over()
    assert stage.ends() == 0
    assert program.poll() is None, "it lives, and is the next daemon's"
    signal.pidfd_send_signal(kept.fds[letters.PIDFD], signal.SIGKILL)
    assert select.select([kept.fds[letters.PIDFD]], [], [], 20)[0]
    kept.close()


def test_a_program_that_prints_much_does_not_block_and_its_last_lines_are_kept(stage: Stage) -> None:
    loud = "for number in range(100_000): print('line', number)"
    program = stage.program(7, f"{loud}\nprint('end', flush=True)\n{SLEEP}")
    stage.daemon_dies()

    def has_printed_all() -> bool:
        with asked(stage) as kept:
            text, lost = kept[7].take_text(letters.STDOUT), kept[7].lost.get(letters.STDOUT, 0)
        if not text.endswith(b"end\n"):
            return False
        lines = text.decode().splitlines()
        assert lines[0].startswith("line ")
        assert len(text) <= TAIL_MAX_BYTES
        return len(text) + lost == len("end\n") + sum(len(f"line {number}\n") for number in range(100_000))

    until(has_printed_all)
    assert program.poll() is None


def test_one_that_ends_meanwhile_is_given_with_its_last_words(stage: Stage) -> None:
    stage.program(7, "print('last words')")
    stage.daemon_dies()
    until(lambda: printed(stage, 7) == b"last words\n")
    with asked(stage) as kept:
        assert select.select([kept[7].fds[letters.PIDFD]], [], [], 20)[0]


def test_what_is_gone_before_or_never_came_to_be_is_not_given(stage: Stage) -> None:
    stage.program(7, SLEEP)
    stage.program(8, SLEEP)
    stage.line.gone(ProcId(7))
    stage.line.keep(ProcId(9), TERM, {})
    stage.daemon_dies()
    with asked(stage) as kept:
        assert list(kept) == [8]


def test_a_keeper_passes_over_what_a_daemon_of_another_version_says_more_or_less(stage: Stage) -> None:
    reading, odd = os.pipe()
    for content in (
        {"kind": "tomorrow"},
        {"no": "kind"},
        {"kind": "keep"},
        {"kind": "keep", "proc": 7},
        {"kind": "farewell", "proc": 8},
        {"kind": "born", "proc": 8},
        {"kind": "grace"},
        {"kind": "gone"},
        {"kind": "keep", "proc": 8, "signal": "SIGTERM", "timeout_s": 5.0, "tomorrow": 1},
    ):
        letters.send(stage.channel, content, {"tomorrow": odd})
    stage.program(9, SLEEP)
    os.close(odd)
    assert select.select([reading], [], [], 20)[0], "it has it yet"
    os.close(reading)
    assert stage.process.poll() is None
    stage.daemon_dies()
    with asked(stage) as kept:
        assert list(kept) == [9]
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as asker:
        asker.connect(str(stage.home))
        while (letter := letters.receive(asker)) and letter.content["kind"] != "all":
            letter.close()
        letters.send(asker, {"no": "kind"})
    with asked(stage) as kept:
        assert list(kept) == [9], "that was no answer"


def test_the_next_daemon_passes_over_what_a_keeper_of_another_version_says_more_or_less(
    tmp_path: Path,
) -> None:
    reading, odd = os.pipe()
    pidfd = os.pidfd_open(os.getpid())

    def give() -> None:
        asker, _ = home.accept()
        for content in (
            {"kind": "tomorrow"},
            {"no": "kind"},
            {"kind": "kept", "proc": 7},
            {"kind": "kept", "proc": 8, "pid": 80, "tomorrow": 1},
        ):
            letters.send(asker, content, {"tomorrow": odd, letters.PIDFD: pidfd})
        letters.send(asker, {"kind": "all", "tomorrow": 1})
        asker.close()

    with heirloom.open_home(tmp_path / "keeper.sock") as home:
        giver = threading.Thread(target=give)
        giver.start()
        talk = Conversation(tmp_path / "keeper.sock")
        giver.join()
    os.close(odd)
    os.close(pidfd)
    assert select.select([reading], [], [], 20)[0], "it has it yet"
    os.close(reading)
    (kept,) = talk.kept.values()
    assert (kept.pid, kept.told, kept.ready, kept.alive, kept.status, kept.lost) == (
        80,
        False,
        False,
        False,
        None,
        {},
    )
    assert list(kept.fds) == [letters.PIDFD]
    kept.close()
    talk.close()


def test_who_was_given_to_another_keeper_is_known_by_its_pidfd(stage: Stage) -> None:
    with subprocess.Popen(["sleep", "600"], start_new_session=True) as program:
        pidfd = os.pidfd_open(program.pid)
        stage.line.keep(ProcId(7), TERM, {letters.PIDFD: pidfd}, Pid(program.pid))
        os.close(pidfd)
        stage.line.change(ProcId(7), Farewell("SIGINT", 5.0))
        stage.line.grace(0.0)
        stage.daemon_dies()
        assert program.wait(20) == -signal.SIGINT, "it is ended as was said last"
    assert stage.ends() == 0


def test_one_that_was_told_to_end_is_given_as_such_and_killed_in_time(stage: Stage) -> None:
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); "
    program = stage.program(7, deaf + SLEEP, Farewell("SIGTERM", 1.0))
    assert select.select(stage.pipes, [], [], 20)[0]
    stage.line.grace(0.1)
    stage.daemon_dies()
    until(lambda: is_told(stage, 7))
    assert program.poll() is None
    assert program.wait(20) == -signal.SIGKILL
    assert stage.ends() == 0


ABANDON = """
import os, subprocess, sys
from pathlib import Path
from djsup import upgrade
from djsup.core.estate import Estate
from djsup.core.memory import FailuresLeft, InstanceLeft, ProcessLeft, ProgramsLeft
from djsup.core.model import Generation, Pid, ProcId, ProgramSettings, SiteName, SiteSettings
from djsup.core.program import State
from djsup.keeper.letters import PIDFD, Conversation, Farewell, keeper_pid
from djsup.shell.estates import Estates
from test_keeper import SLEEP, start, until

folder = Path(sys.argv[1])
stage = start(folder / "keeper.sock", 60.0)
known, other = (subprocess.Popen([sys.executable, "-c", SLEEP], start_new_session=True) for _ in range(2))
stage.line.keep(ProcId(7), Farewell("SIGTERM", 5.0), {PIDFD: os.pidfd_open(known.pid)}, Pid(known.pid))
runs = ProcessLeft(State.RUNNING, ProcId(7), Pid(known.pid), 1.0, 1.0, None, "", False, FailuresLeft())
celery = ProgramSettings("celery", "celery")
one = Generation(1)
programs = ProgramsLeft(one, None, (celery,), False, (InstanceLeft(celery, 0, one, runs, celery, ""),), ())
site = SiteSettings(SiteName("blog"), "/", sys.executable, ())
Estates(folder / "estates", "1").write(site.name, Estate(site, None, 1, programs=programs))
until(lambda: keeper_pid(folder / "keeper.sock") == stage.process.pid)
try:
    upgrade.abandon(str(folder))
    assert other.wait(20) == -15, "it is told to end"
    talk = Conversation(folder / "keeper.sock")
    assert talk.kept[7].pid == known.pid, "the keeper lives and gives what it has"
    talk.over()
    assert stage.process.wait(20) == 0
    assert known.poll() is None, "the program goes on"
finally:
    for each in (known, other, stage.process):
        each.kill()
"""


def test_a_daemon_that_begins_anew_in_its_own_process_spares_programs_and_keeper(tmp_path: Path) -> None:
    path = {"PYTHONPATH": os.pathsep.join(each for each in sys.path if each)}
    done = subprocess.run(
        [sys.executable, "-c", ABANDON, str(tmp_path)], env={**os.environ, **path}, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_a_keeper_that_takes_no_more_is_killed(stage: Stage) -> None:
    os.kill(stage.process.pid, signal.SIGSTOP)
    told = 0
    while stage.line.keep(ProcId(told), TERM, {}) and told < 100_000:
        told += 1
    assert 50 < told < 100_000
    assert stage.ends() == -signal.SIGKILL
    assert stage.line.announcement(ProcId(1)) is None, "nobody is told any more"


def test_a_new_keeper_that_is_told_much_is_waited_for(stage: Stage) -> None:
    os.kill(stage.process.pid, signal.SIGSTOP)
    threading.Timer(0.3, os.kill, (stage.process.pid, signal.SIGCONT)).start()
    with stage.line.patience():
        assert all(stage.line.keep(ProcId(number), TERM, {}) for number in range(5000))
    assert stage.process.poll() is None
    assert not stage.channel.getblocking()


def test_a_tail_keeps_whole_lines_and_counts_the_rest() -> None:
    reader, writer = os.pipe()
    tail = Tail(reader)
    sent = b""
    for number in range(40):
        block = b"x" * 5000 + b"%d\n" % number
        sent += block
        os.write(writer, block)
        assert tail.read()
    os.close(writer)
    assert not tail.read(), "its end"
    text = tail.text()
    assert TAIL_MAX_BYTES - 5010 < len(text) <= TAIL_MAX_BYTES
    assert sent.endswith(b"\n" + text)
    assert tail.lost == len(sent) - len(text)
    os.close(reader)
