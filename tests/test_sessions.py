"""What a session's leader has left is killed, and nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import psutil
import pytest

from djsup import sessions

LEADER = """
import subprocess, sys
sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
children = [subprocess.Popen(sleep), subprocess.Popen(sleep, process_group=0)]
print(*(each.pid for each in children), flush=True)
sys.stdin.read()
"""
MARKS = {"DJSUP_SITE": "blog", "DJSUP_PROGRAM": "celery"}


@dataclass
class Session:
    leader: subprocess.Popen[str]
    children: list[int]

    def leader_ends(self) -> None:
        self.leader.kill()
        self.leader.wait()

    @property
    def living(self) -> list[int]:
        found = []
        for pid in self.children:
            with suppress(psutil.NoSuchProcess):
                if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                    found.append(pid)
        return found

    def all_end(self) -> bool:
        end = time.monotonic() + 10
        while self.living and time.monotonic() < end:
            time.sleep(0.01)
        return not self.living


@pytest.fixture
def session() -> Iterator[Session]:
    with subprocess.Popen(
        [sys.executable, "-c", LEADER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        start_new_session=True, env={**os.environ, **MARKS},
    ) as leader:  # fmt: skip
        assert leader.stdout is not None
        found = Session(leader, [int(each) for each in leader.stdout.readline().split()])
        yield found
        leader.kill()
        for pid in found.living:
            os.kill(pid, signal.SIGKILL)


def test_everything_is_killed_also_what_has_a_group_of_its_own(session: Session) -> None:
    sessions.kill(session.leader.pid)
    assert session.all_end()
    assert session.leader.wait(10) == -signal.SIGKILL


@pytest.mark.parametrize("nobody", [0, 1, -1])
def test_a_number_that_means_many_is_nobodys(nobody: int, monkeypatch: pytest.MonkeyPatch) -> None:
    killed: list[int] = []
    monkeypatch.setattr(
        os, "killpg", lambda group, _number: killed.append(group)
    )  # were it sent, no test would live
    with pytest.raises(ValueError, match="no session"):
        sessions.kill(nobody)
    assert killed == []


def test_the_rest_is_killed_when_the_leader_is_gone_and_not_before(session: Session) -> None:
    sessions.kill_rest(session.leader.pid)
    assert len(session.living) == 2, "somebody has the number"
    session.leader_ends()
    sessions.kill_rest(session.leader.pid)
    assert session.all_end()


@pytest.mark.parametrize("marks", [{**MARKS, "DJSUP_PROGRAM": "beat"}, MARKS])
def test_long_after_the_leaders_end_only_what_is_marked_is_killed(
    session: Session, marks: dict[str, str]
) -> None:
    sessions.kill_marked(session.leader.pid, marks)
    assert len(session.living) == 2, "somebody has the number"
    session.leader_ends()
    sessions.kill_marked(session.leader.pid, marks)
    if marks == MARKS:
        assert session.all_end()
    else:
        time.sleep(0.1)
        assert len(session.living) == 2
