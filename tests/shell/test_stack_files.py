"""Stacks come whole, from a process that runs Python of any version, and nobody else's text gets among them."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import djsup_worker
from djsup.core.model import Pid
from djsup.shell.stack_files import NoStacks, StackFile
from djsup.stacks import parse
from djsup_worker.stacks import TRACE_SIGNAL
from worker.interpreters import VERSIONS, find

SOURCES = Path(djsup_worker.__file__).parents[1]
PROGRAM = """
import sys, threading, time
sys.path.insert(0, sys.argv[1])
from djsup_worker.stacks import show_on_signal
def deep(left):
    if left:
        deep(left - 1)
    else:
        ready.release()
        time.sleep(60)
ready = threading.Semaphore(0)
for _ in range(20):
    threading.Thread(target=deep, args=(90,), daemon=True).start()
for _ in range(20):
    ready.acquire()
if int(sys.argv[2]) >= 0:
    show_on_signal(int(sys.argv[2]))
print("ready", flush=True)
time.sleep(60)
"""


@contextmanager
def process(file: StackFile | None, python: str = sys.executable) -> Iterator[Pid]:
    """A process with 21 threads, twenty of them deep in calls."""
    fd = -1 if file is None else file.fd
    child = subprocess.Popen(
        [python, "-c", PROGRAM, str(SOURCES), str(fd)],
        stdout=subprocess.PIPE,
        pass_fds=() if file is None else (fd,),
    )
    assert child.stdout is not None
    try:
        assert child.stdout.readline() == b"ready\n"
        yield Pid(child.pid)
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


@pytest.fixture
def file() -> Iterator[StackFile]:
    made = StackFile("blog")
    yield made
    made.close()


async def read(file: StackFile, pid: Pid) -> str:
    return await file.read(pid, lambda: os.kill(pid, TRACE_SIGNAL))


@pytest.mark.parametrize("version", VERSIONS)
def test_the_stacks_of_all_threads_come_whole(file: StackFile, version: str) -> None:
    interpreter = find(version)
    if interpreter is None:
        pytest.skip(f"there is no Python {version} here")
    with process(file, interpreter.path) as pid:
        for _ in range(5):
            stacks = parse(asyncio.run(read(file, pid)))
            assert sorted(len(each.frames) for each in stacks) == [1] + [94] * 20


def test_two_that_ask_at_once_both_get_what_they_asked_for(file: StackFile) -> None:
    async def both(first: Pid, second: Pid) -> list[str]:
        return list(await asyncio.gather(read(file, first), read(file, second), read(file, first)))

    with process(file) as first, process(file) as second:
        texts = asyncio.run(both(first, second))
    idents = [{each.ident for each in parse(text)} for text in texts]
    assert [len(each) for each in idents] == [21, 21, 21]
    assert idents[0] == idents[2]


def test_a_process_that_is_not_ready_for_the_signal_is_not_asked(file: StackFile) -> None:
    with process(None) as pid:
        with pytest.raises(NoStacks, match="just starting"):
            asyncio.run(read(file, pid))
        os.kill(pid, 0)


def test_what_a_late_process_writes_gets_not_among_anothers(file: StackFile) -> None:
    async def play(late: Pid, other: Pid) -> str:
        os.kill(late, signal.SIGSTOP)
        with pytest.raises(NoStacks, match="stopped"):
            await read(file, late)

        def ask() -> None:
            os.kill(late, signal.SIGCONT)
            os.kill(other, TRACE_SIGNAL)

        return await file.read(other, ask)

    with process(file) as late, process(file) as other:
        assert len(parse(asyncio.run(play(late, other)))) == 21


def test_a_process_that_has_ended_is_said_to_have(file: StackFile) -> None:
    with process(file) as pid:
        pass
    with pytest.raises(NoStacks, match="ended"):
        asyncio.run(read(file, pid))
