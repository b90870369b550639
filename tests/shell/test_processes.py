from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from djsup import turns
from djsup.core.events import Exit
from djsup.core.model import Pid
from djsup.shell.processes import CannotRun, Command, Identity, Processes, environment
from scheduling import knows_sessions, may_be_idle, session_niceness

Story = Callable[[Processes], Awaitable[None]]


def python(code: str, identity: Identity | None = None) -> Command:
    return Command((sys.executable, "-c", code), "/", {}, identity or Identity(), 1, 2)


async def end_of(
    processes: Processes, command: Command, act: Callable[[Pid], None] = lambda _pid: None
) -> Exit:
    ended: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
    act(processes.run(command, ended.set_result))
    async with asyncio.timeout(10):
        return await ended


async def until(question: Callable[[], bool], within_s: float = 10) -> None:
    """Wait for what nobody tells."""
    async with asyncio.timeout(within_s):
        while not question():  # noqa: ASYNC110 -- nobody tells
            await asyncio.sleep(0.01)


def in_loop(story: Story) -> None:
    async def run() -> None:
        processes = Processes(lambda: None)
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGCHLD, processes.reap_strays)
        try:
            await story(processes)
        finally:
            # The loop would take its pipe away first, and complain of a child that ends before the handler is gone too.
            loop.remove_signal_handler(signal.SIGCHLD)

    asyncio.run(run())


def test_the_exit_status_is_told() -> None:
    async def story(processes: Processes) -> None:
        assert await end_of(processes, python("raise SystemExit(7)")) == Exit(status=7)

    in_loop(story)


def test_a_death_by_signal_is_told_by_name() -> None:
    async def story(processes: Processes) -> None:
        end = await end_of(processes, python("import os; os.kill(os.getpid(), 11)"))
        assert end.signal == "SIGSEGV"
        assert end.status is None

    in_loop(story)


def test_a_signal_reaches_the_process_through_its_pidfd() -> None:
    async def story(processes: Processes) -> None:
        waiting = python("import signal; signal.pause()")
        end = await end_of(processes, waiting, lambda pid: processes.kill(pid, "SIGKILL"))
        assert end == Exit(signal="SIGKILL")

    in_loop(story)


def test_a_signal_to_what_is_gone_is_nothing() -> None:
    async def story(processes: Processes) -> None:
        pids: list[Pid] = []
        await end_of(processes, python("pass"), pids.append)
        processes.kill(pids[0], "SIGKILL")

    in_loop(story)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (Command(("/no/such/python",), "/", {}, Identity(), 1, 2), "/no/such/python"),
        (Command((sys.executable,), "/no/such/folder", {}, Identity(), 1, 2), "/no/such/folder"),
    ],
)
def test_what_cannot_be_run_is_named(command: Command, said: str) -> None:
    async def story(processes: Processes) -> None:
        with pytest.raises(CannotRun, match=said):
            processes.run(command, lambda _end: None)

    in_loop(story)


def test_an_unknown_user_is_named() -> None:
    with pytest.raises(CannotRun, match="no user 'nobody-of-that-name'"):
        Identity.of("nobody-of-that-name", None)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run processes as another user")
def test_a_process_of_another_user_has_none_of_roots_groups(tmp_path: Path) -> None:
    out = tmp_path / "out"

    async def story(processes: Processes) -> None:
        with out.open("w") as file:
            code = 'echo "$(id -u) $(id -G)"'
            command = Command(("/bin/sh", "-c", code), "/", {}, Identity.of("nobody", None), file.fileno(), 2)
            await end_of(processes, command)

    in_loop(story)
    uid, *groups = out.read_text().split()
    assert uid != "0"
    assert "0" not in groups


@knows_sessions
def test_what_stands_back_for_the_daemon_before_comes_forward_for_this_one() -> None:
    async def story(processes: Processes) -> None:
        ends: asyncio.Queue[Exit] = asyncio.Queue()
        pid = processes.run(python("import time; time.sleep(60)"), ends.put_nowait)
        assert turns.stand_back(pid)
        assert session_niceness(pid) == 10
        processes.come_forward(pid)
        assert session_niceness(pid) == 0
        processes.kill(pid, "SIGKILL")
        await ends.get()

    in_loop(story)


@knows_sessions
def test_what_stands_back_does_so_until_it_need_not_or_for_a_while() -> None:
    async def story(processes: Processes) -> None:
        command = replace(python("import time; time.sleep(60)"), patience_s=60.0)
        ends: asyncio.Queue[Exit] = asyncio.Queue()
        patient = processes.run(replace(command, stands_back_s=60.0), ends.put_nowait)
        brief = processes.run(replace(command, stands_back_s=0.2), ends.put_nowait)
        plain = processes.run(command, ends.put_nowait)
        assert [session_niceness(each) for each in (patient, brief, plain)] == [10, 10, 0]
        processes.come_forward(patient)
        assert [session_niceness(each) for each in (patient, brief)] == [0, 10]
        await until(lambda: not session_niceness(brief))
        for each in (patient, brief, plain):
            processes.kill(each, "SIGKILL")
            await ends.get()

    in_loop(story)


@knows_sessions
def test_what_stands_back_and_is_kept_waiting_loses_patience() -> None:
    """All on one processor, which others want more."""
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\nwhile True: pass"

    async def story(processes: Processes) -> None:
        ends: asyncio.Queue[Exit] = asyncio.Queue()
        others = [processes.run(python(code), ends.put_nowait) for _ in range(3)]
        waits = processes.run(replace(python(code), stands_back_s=600.0, patience_s=0.5), ends.put_nowait)
        assert session_niceness(waits) == 10
        await until(lambda: not session_niceness(waits), within_s=60)
        assert os.sched_getscheduler(waits) == os.SCHED_OTHER
        for each in (*others, waits):
            processes.kill(each, "SIGKILL")
            await ends.get()

    in_loop(story)


@may_be_idle
def test_who_begins_to_serve_comes_forward_though_what_loaded_it_has_ended(tmp_path: Path) -> None:
    code = """
        import os, time
        while os.sched_getscheduler(0) != os.SCHED_IDLE:
            pass
        child = os.fork()
        if child:
            print(child, flush=True)
        else:
            time.sleep(60)
    """

    async def story(processes: Processes) -> None:
        with (tmp_path / "out").open("w+") as file:
            command = replace(python(textwrap.dedent(code)), stands_back_s=60.0, patience_s=60.0)
            await end_of(processes, replace(command, stdout=file.fileno()))
            file.seek(0)
            child = Pid(int(file.read()))
        ends: asyncio.Queue[Exit] = asyncio.Queue()
        assert processes.adopt(child, ends.put_nowait)
        assert os.sched_getscheduler(child) == os.SCHED_IDLE
        processes.come_forward(child)
        assert os.sched_getscheduler(child) == os.SCHED_OTHER
        processes.kill(child, "SIGKILL")
        await ends.get()

    in_loop(story)


@may_be_idle
def test_one_of_a_session_stands_back_alone() -> None:
    async def story(processes: Processes) -> None:
        ends: asyncio.Queue[Exit] = asyncio.Queue()
        code = "import os, time; os.fork(); time.sleep(60)"
        leader = processes.run(python(code), ends.put_nowait)
        parent = psutil.Process(leader)
        await until(lambda: parent.children() != [])
        child = Pid(parent.children()[0].pid)
        assert processes.adopt(child, ends.put_nowait)
        processes.stand_back(child, 60.0, 60.0)
        assert [os.sched_getscheduler(each) for each in (leader, child)] == [os.SCHED_OTHER, os.SCHED_IDLE]
        assert not turns.stands_back(leader)
        processes.come_forward(child)
        assert os.sched_getscheduler(child) == os.SCHED_OTHER
        processes.stand_back(child, 0.1, 60.0)
        await until(lambda: os.sched_getscheduler(child) == os.SCHED_OTHER)
        for each in (child, leader):
            processes.kill(each, "SIGKILL")
            await ends.get()

    in_loop(story)


def test_strays_are_reaped_and_children_that_are_known_are_told() -> None:
    """In a process of its own: a subreaper reaps whatever ends below it."""
    code = """
        import asyncio, os, signal, sys, subprocess
        from djsup.shell.processes import Command, Identity, Processes, become_subreaper

        async def story():
            become_subreaper()
            claims = []
            processes = Processes(lambda: claims.append(1))
            asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, processes.reap_strays)
            # A child that leaves a grandchild behind: the grandchild ends later and is ours to reap.
            ended = asyncio.get_running_loop().create_future()
            orphan = "import os, time; os.fork() or (time.sleep(0.3), os._exit(0)); print('parent gone')"
            processes.run(Command((sys.executable, '-c', orphan), '/', {}, Identity(), 1, 2), ended.set_result)
            await asyncio.wait_for(ended, 10)
            for _ in range(500):
                try:
                    os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                except ChildProcessError:
                    break
                # Without this the reaping, which is this loop's too, would never get its turn.
                await asyncio.sleep(0.02)
            print('claims', len(claims), 'children', 'none')
        asyncio.run(story())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=30, check=True
    )
    assert "claims 1 children none" in done.stdout


def test_a_site_gets_its_own_environment_and_four_names_of_the_daemons(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_DAEMON", "x")
    monkeypatch.setenv("LANG", "C.UTF-8")
    made = environment(Identity(home="/srv/blog"), {"DEBUG": "0"})
    assert made["DEBUG"] == "0"
    assert made["HOME"] == "/srv/blog"
    assert made["LANG"] == "C.UTF-8"
    assert set(made) <= {"DEBUG", "HOME", "LANG", "PATH", "TZ"}


LEAVES_CHILDREN = """
import os, subprocess, sys
sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
print(subprocess.Popen(sleep).pid, subprocess.Popen(sleep, process_group=0).pid, flush=True)
"""


def alive(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def gone(*pids: int) -> bool:
    """Whether all have ended, within the time that a busy machine may take."""
    end = time.monotonic() + 10
    while any(alive(each) for each in pids):
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def children_of_one_that_has_ended(*, whole_group: bool) -> list[int]:
    reader, writer = os.pipe()

    async def story(processes: Processes) -> None:
        arguments = (sys.executable, "-c", LEAVES_CHILDREN)
        command = Command(arguments, "/", {}, Identity(), writer, 2, whole_group=whole_group)
        assert await end_of(processes, command) == Exit(status=0)

    in_loop(story)
    children = [int(each) for each in os.read(reader, 100).split()]
    os.close(reader)
    os.close(writer)
    return children


def test_session_of_a_process_is_killed_with_it_when_that_is_asked_for() -> None:
    assert gone(*children_of_one_that_has_ended(whole_group=True))
    left = children_of_one_that_has_ended(whole_group=False)
    assert all(alive(each) for each in left)
    for each in left:
        os.kill(each, signal.SIGKILL)


def test_process_gets_its_orphan_signal_when_the_daemon_dies() -> None:
    daemon = """
        import asyncio, os, sys
        from djsup.shell.processes import Command, Identity, Processes
        async def main():
            code = "import time; time.sleep(600)"
            command = Command((sys.executable, "-c", code), "/", {}, Identity(), 1, 2, orphan_signal="SIGTERM")
            print(Processes(lambda: None).run(command, print), flush=True)
            os.kill(os.getpid(), 9)
        asyncio.run(main())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(daemon)], stdout=subprocess.PIPE, text=True, timeout=30, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL
    assert gone(int(done.stdout))


def test_a_kill_for_memory_is_told_from_one_by_somebody(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = [3]
    monkeypatch.setattr("djsup.shell.processes._count_oom_kills", lambda: counted[0])
    waiting = python("import signal; signal.pause()")

    async def story(processes: Processes) -> None:
        async def killed(kills_of_the_kernel: int) -> Exit:
            def kill(pid: Pid) -> None:
                counted[0] += kills_of_the_kernel
                os.kill(pid, signal.SIGKILL)

            return await end_of(processes, waiting, kill)

        assert not (await killed(0)).out_of_memory
        assert (await killed(1)).out_of_memory
        assert not (await killed(0)).out_of_memory, "that one is explained already"
        counted[0] += 1
        processes.look_at_memory()
        assert (await killed(0)).out_of_memory, "it may have been between the look and the reaping"
        counted[0] += 1
        processes.look_at_memory()
        processes.look_at_memory()
        assert not (await killed(0)).out_of_memory, "of long ago, and another process's"

    in_loop(story)
