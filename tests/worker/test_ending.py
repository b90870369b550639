from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from djsup_worker import ending
from worker.harness import client

if TYPE_CHECKING:
    from worker.conftest import MakeSite


def run(code: str) -> tuple[int, str]:
    """In a process of its own, which has the worker's package at hand."""
    path = os.path.dirname(os.path.dirname(ending.__file__))  # noqa: PTH120
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, env={"PYTHONPATH": path}, capture_output=True, text=True, check=False, timeout=10
    )
    assert not done.stderr
    return done.returncode, done.stdout


def test_the_end_has_its_status() -> None:
    assert run("from djsup_worker.ending import end; end(7); print('never')") == (7, "")


SAYS_HOW = """
import os, threading, time
from djsup_worker.ending import let_others_go
{}
let_others_go()
print({{os.sched_getscheduler(int(each)) for each in os.listdir("/proc/self/task")}} == {{os.{}}})
"""


def test_what_ends_lets_others_go() -> None:
    assert run(SAYS_HOW.format("", "SCHED_IDLE")) == (0, "True\n")


def test_a_thread_that_is_about_to_end_is_waited_for() -> None:
    about_to_end = """
from djsup_worker import ending
ending.LAST_MS = 5000
threading.Thread(target=time.sleep, args=(0.05,)).start()
"""
    assert run(SAYS_HOW.format(about_to_end, "SCHED_IDLE")) == (0, "True\n")


def test_what_has_other_threads_ends_as_it_has_run() -> None:
    """Who reaps it would have to wait until somebody lets them run (proc(5); the kernel's proc_flush_pid)."""
    other = "threading.Thread(target=time.sleep, args=(60,), daemon=True).start()"
    assert run(SAYS_HOW.format(other, "SCHED_OTHER")) == (0, "True\n")


LEAVES_THREADS = """
import atexit, os, sys, time

def application(environ, start_response):
    time.sleep(0.01)
    start_response("200 OK", [])
    return [b"hello"]

def count():
    for _ in range(1000):
        left = len(os.listdir("/proc/self/task"))
        if left <= 2:
            break
        time.sleep(0.005)
    sys.stderr.write("%d threads left\\n" % left)

atexit.register(count)
"""


def test_a_worker_that_has_left_has_ended_its_own_threads(make_site: MakeSite) -> None:
    site = make_site(LEAVES_THREADS, threads=4)
    site.start_template()
    worker = site.fork_worker()
    with ExitStack() as users:
        for each in [users.enter_context(client(site)) for _ in range(6)]:
            each.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        time.sleep(0.1)
    site.drain(worker, to=None)
    assert worker.exit_status() == 0
    assert "2 threads left" in worker.read(), "itself, and the one that watches over its end"
