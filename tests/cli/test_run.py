"""``djsup run`` and the table of programs, against a fake daemon."""

from __future__ import annotations

import json
from collections.abc import Callable

from click.testing import Result
from rich.console import Console

from cli.fake_daemon import FakeDaemon
from djsup.cli.program_table import program_table
from djsup.core.snapshot import ProgramSnapshot

DONE = {
    "site": "blog",
    "program": "clean",
    "ended": True,
    "well": True,
    "text": "exited with status 0 after 1.2 s",
}
FAILED = {**DONE, "well": False, "text": "exited with status 3 after 1.2 s"}
PRINTED = {"log": {"at": "x", "site": "blog", "program": "clean/0", "text": "7 cleared\x1b[2J"}}


def test_run_prints_what_the_command_prints_and_how_it_went(
    daemon: FakeDaemon, djsup: Callable[..., Result]
) -> None:
    daemon.answer("run", PRINTED, {"result": DONE})
    result = djsup("run", "blog", "clean", "--runtime-dir", daemon.runtime_dir)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "7 cleared\N{REPLACEMENT CHARACTER}[2J",
        "blog: clean exited with status 0 after 1.2 s",
    ]
    assert daemon.asked[0].items() >= {"site": "blog", "program": "clean", "wait": True}.items()


def test_run_of_a_command_that_fails_exits_with_one(daemon: FakeDaemon, djsup: Callable[..., Result]) -> None:
    daemon.answer("run", {"result": FAILED})
    result = djsup("run", "blog", "clean", "--runtime-dir", daemon.runtime_dir)
    assert result.exit_code == 1
    assert "blog: clean exited with status 3 after 1.2 s" in result.stderr
    result = djsup("run", "blog", "clean", "--json", "--runtime-dir", daemon.runtime_dir)
    assert result.exit_code == 1
    assert json.loads(result.stdout)["well"] is False


def test_run_need_not_wait(daemon: FakeDaemon, djsup: Callable[..., Result]) -> None:
    daemon.answer("run", {"result": {"site": "blog", "program": "clean", "ended": False}})
    result = djsup("run", "blog", "clean", "--no-wait", "--runtime-dir", daemon.runtime_dir)
    assert (result.exit_code, daemon.asked[0]["wait"]) == (0, False)
    assert "clean has begun" in result.stdout


def test_table_of_programs_tells_what_each_does_or_waits_for() -> None:
    console = Console(width=120, color_system=None)
    programs = (
        ProgramSnapshot("celery", 1, 4711, "running", 3700.0, status_text="12 tasks\x1b[2J"),
        ProgramSnapshot("beat", 0, None, "backing-off", 0.0, next_try_s=4.2),
        ProgramSnapshot(
            "clean",
            0,
            None,
            "waiting",
            0.0,
            schedule="0 3 * * *",
            next_run_at=1000.0,
            last_result="exited well",
        ),
    )
    with console.capture() as captured:
        console.print(program_table(console, programs, 400.0))
    header, celery, beat, clean = captured.get().splitlines()
    assert header.split() == ["PROGRAM", "PID", "STATE", "UP", "NOW"]
    assert celery.split() == ["celery/1", "4711", "running", "1h", "12", "tasks\N{REPLACEMENT CHARACTER}[2J"]
    assert beat.rstrip().endswith("backing-off   -  next try in 4.2s")
    assert "next run in 10m; last: exited well" in clean
