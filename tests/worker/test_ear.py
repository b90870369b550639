"""Who hears the daemon, and what of it is answered at once; the text of the stacks, as the daemon reads it."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest

from djsup import stacks
from djsup_worker import messages
from djsup_worker import stacks as own_stacks
from djsup_worker.ear import Ear, Heard
from djsup_worker.messages import NewLimits, Stacks
from djsup_worker.sampler import Sampler
from djsup_worker.stacks import DEPTH_MAX
from worker.inprocess import InProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

FAR_NS = 60_000_000_000
WAIT_S = 20.0


class Listening:
    """An ear, the daemon's end of its channel, and what the polling thread was told."""

    def __init__(self) -> None:
        self.inside = InProcess()
        self.ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        theirs.setblocking(False)
        self.theirs = theirs
        self.told: list[Heard | None] = []
        self.ear = Ear("site", self.inside.loop, Sampler(), self.told.append)
        self.ear.listen(theirs)

    def ask(self, until_ns: int) -> int:
        """Ask for stacks; gives the end at which they can be read."""
        reading, writing = os.pipe()
        messages.send(self.ours, Stacks(until_ns), [writing])
        os.close(writing)
        return reading

    def close(self) -> None:
        """The daemon is gone; the ear has ended once that was told."""
        self.ours.close()
        if None not in self.told:
            self.polls_until(len(self.told) + 1)
        self.theirs.close()
        self.inside.loop.close()

    def polls_until(self, number: int) -> None:
        deadline = time.monotonic() + WAIT_S
        while len(self.told) < number:
            assert time.monotonic() < deadline, self.told
            self.inside.turn()


@pytest.fixture
def listening() -> Iterator[Listening]:
    with contextlib.closing(Listening()) as one:
        yield one


def text_of(fd: int) -> bytes:
    with open(fd, "rb") as pipe:
        assert select.select([pipe], [], [], WAIT_S)[0]
        return pipe.read()


def test_stacks_are_told_while_nobody_polls_and_the_rest_is_for_who_polls_in_order(
    listening: Listening,
) -> None:
    one = listening
    limits = NewLimits({})
    messages.send(one.ours, limits)
    found = stacks.parse(text_of(one.ask(time.monotonic_ns() + FAR_NS)).decode())
    assert one.told == []
    mine = next(each for each in found if each.ident == threading.get_ident())
    assert "test_stacks_are_told_while_nobody_polls" in str([frame.function for frame in mine.frames])
    assert [each.idle for each in found if each.idle == "hears the daemon"]
    one.ours.close()
    one.polls_until(2)
    assert one.told == [(limits, []), None]


def test_who_is_asked_too_late_says_nothing(listening: Listening) -> None:
    assert text_of(listening.ask(time.monotonic_ns())) == b""


def test_without_a_thread_to_be_had_who_polls_hears_the_daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        one = Listening()
    reading = one.ask(time.monotonic_ns() + FAR_NS)
    messages.send(one.ours, NewLimits({}))
    one.ours.close()
    one.polls_until(2)
    assert b"most recent call first" in text_of(reading)
    assert one.told == [(NewLimits({}), []), None]
    one.close()


def test_the_text_is_faulthandlers_whatever_a_file_is_called_and_however_deep_it_is() -> None:
    found: list[str] = []
    names = {"look": lambda: found.append(own_stacks.of_all_threads())}
    code = "def deep(more):\n    return deep(more - 1) if more else look()\n"
    exec(compile(code, 'a "file"\n  File "/etc/x", line 1 in é', "exec"), names)
    names["deep"](300)  # type: ignore[call-arg]
    mine = next(each for each in stacks.parse(found[0]) if each.ident == threading.get_ident())
    assert len(mine.frames) == DEPTH_MAX
    assert [(frame.function, frame.line) for frame in mine.frames[2:]] == [("deep", 2)] * (DEPTH_MAX - 2)
    assert mine.frames[2].file == 'a "file"\\n  File "/etc/x", line 1 in é'
    assert "\n  ...\n" in found[0]
