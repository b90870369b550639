"""What loads or forks rests now and then: only where it stands back and is in the way, and not for ever."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import djsup_worker
from worker.conftest import MakeSite
from worker.harness import Client

LOADS = """
import json, os, sys, time
from djsup_worker import rests

stands_back, load, number = sys.argv[1:]
for each in range(int(number)):
    with open("module%d.py" % each, "w") as file:
        file.write("import time\\nend = time.thread_time() + 0.002\\nwhile time.thread_time() < end: pass\\n")
sys.path.insert(0, ".")
if stands_back == "yes":
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
slept = []
sleep, rests._sleep = rests._sleep, lambda s: slept.append(s) or sleep(s)
own, finders = rests.Rests(load), list(sys.meta_path)
own.begin()
time.sleep = None  # the site has one of its own
for each in range(int(number)):
    __import__("module%d" % each)
own.end_imports()
imports, tidy = len(slept), sys.meta_path == finders
for _ in range(int(number)):
    end = time.thread_time() + 0.002
    while time.thread_time() < end: pass
    own.find_spec("what asks a finder that it has kept")
assert len(slept) == imports
own.look()
print(json.dumps({"slept_s": sum(slept), "times": imports, "looks": len(slept) - imports, "tidy": tidy}))
"""
MANY = max(2, os.cpu_count() or 1)
"""With itself as many run as there are processors, or on one at least one more."""


def running(number: int) -> str:
    """What /proc/loadavg says then."""
    return f"3.10 2.70 2.62 {number}/1170 14821\n"


def loads(folder: Path, *, stands_back: bool, load: str | None, number: int = 20) -> dict[str, Any]:
    """What a process did that imported so many modules, while the kernel told this of what runs."""
    file = folder / "loadavg"
    if load is not None:
        file.write_text(load)
    assert djsup_worker.__file__ is not None
    done = subprocess.run(
        [sys.executable, "-c", LOADS, "yes" if stands_back else "no", str(file), str(number)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(djsup_worker.__file__).parent.parent)},
        stdout=subprocess.PIPE,
        check=True,
        timeout=60,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["tidy"]
    return found


def test_what_stands_back_rests_before_each_import_while_it_is_in_the_way(tmp_path: Path) -> None:
    found = loads(tmp_path, stands_back=True, load=running(MANY))
    assert found["times"] >= 20, "each of them computes for longer than it takes to look again"
    assert found["looks"] == 4, "between other steps, too"


@pytest.mark.parametrize(
    ("stands_back", "load"),
    [(False, running(MANY)), (True, running(MANY - 1)), (True, "nothing that this knows"), (True, None)],
    ids=["it does not stand back", "a processor is free", "not Linux as we know it", "no such file"],
)
def test_else_it_does_not_rest(tmp_path: Path, load: str | None, *, stands_back: bool) -> None:
    found = loads(tmp_path, stands_back=stands_back, load=load)
    assert (found["times"], found["looks"]) == (0, 0)


def test_on_a_machine_that_is_always_too_busy_it_rests_for_a_second_in_all(tmp_path: Path) -> None:
    assert loads(tmp_path, stands_back=True, load=running(MANY), number=400)["slept_s"] == pytest.approx(
        1.0, abs=0.01
    )


def test_a_site_sees_nothing_of_it_once_it_is_loaded(make_site: MakeSite) -> None:
    site = make_site(
        """
        import sys
        during = [type(each).__module__ for each in sys.meta_path]
        def application(environ, start_response):
            start_response("200 OK", [("Content-Type", "text/plain")])
            after = [getattr(each, "__module__", "") for each in sys.meta_path]
            return [repr((during.count("djsup_worker.rests"), after.count("djsup_worker.rests"))).encode()]
        """
    )
    site.start_template()
    site.fork_worker()
    with contextlib.closing(site.connect()) as sock:
        assert Client(sock).get().body == b"(1, 0)"
