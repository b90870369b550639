from __future__ import annotations

import os
import subprocess
import sys

from djsup_worker import ending


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


def test_what_ends_lets_others_go_with_all_its_threads() -> None:
    code = """
import os, threading, time
from djsup_worker.ending import let_others_go
threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
let_others_go()
threads = os.listdir("/proc/self/task")
print(len(threads), {os.sched_getscheduler(int(each)) for each in threads} == {os.SCHED_IDLE})
"""
    assert run(code) == (0, "2 True\n")
