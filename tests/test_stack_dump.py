from __future__ import annotations

import asyncio
import faulthandler
import os

from djsup import stack_dump
from djsup.core.model import LogSettings, SiteName
from djsup.shell.logs import Capture, Logs, Writer


async def dump(write: bytes | None, *, by_signal: bool = False) -> tuple[str, float]:
    """What is found, and after how long, in what a process writes; None: it writes its real stacks.

    ``by_signal``: it hears no message.
    """
    capture = Capture(Logs(LogSettings(), Writer()), SiteName("blog"), 0)
    ends = capture.open()
    found: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    began = asyncio.get_running_loop().time()
    signals = []

    def print_them() -> None:
        if write is None:
            faulthandler.dump_traceback(ends[1], all_threads=True)
        else:
            os.write(ends[1], write)

    def signal() -> None:
        signals.append(asyncio.get_running_loop().time() - began)
        if by_signal:
            print_them()

    stack_dump.StackDump(capture, found.set_result, signal)
    if not by_signal:
        print_them()
    text = await asyncio.wait_for(found, 20)
    took_s = asyncio.get_running_loop().time() - began
    assert not capture.listeners
    assert bool(signals) == (by_signal or not text)
    for end in ends:
        os.close(end)
    capture.finish()
    return text, took_s


def test_the_stacks_that_faulthandler_writes_are_found_whole() -> None:
    text, _ = asyncio.run(dump(None))
    assert "most recent call first" in text.splitlines()[0]
    assert "in test_the_stacks_that_faulthandler_writes_are_found_whole" in text


def test_a_worker_that_does_not_hear_is_asked_by_a_signal_a_second_later() -> None:
    text, took_s = asyncio.run(dump(b"Thread 0x7f01 (most recent call first):\n", by_signal=True))
    assert text.startswith("Thread 0x7f01")
    assert took_s >= stack_dump.WAIT_S * 0.9


def test_what_other_threads_print_in_between_is_left_out() -> None:
    written = b'Thread 0x7f01 (most recent call first):\nGET /\n  File "/srv/a.py", line 3 in view\n'
    text, _ = asyncio.run(dump(written))
    assert text == 'Thread 0x7f01 (most recent call first):\n  File "/srv/a.py", line 3 in view'


def test_a_worker_that_writes_nothing_is_not_waited_for_long() -> None:
    text, took_s = asyncio.run(dump(b"GET /\n"))
    assert text == ""
    assert took_s >= stack_dump.WAIT_S * 0.9


def test_endless_stacks_are_cut() -> None:
    text, _ = asyncio.run(dump(b'  File "/srv/a.py", line 3 in view\n' * 1000))
    assert len(text.splitlines()) == stack_dump.LINES_MAX
