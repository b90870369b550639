"""The verbs against a fake daemon: what they ask, print, and exit with."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from djsup import __version__
from djsup.cli import VERBS
from djsup.cli import status as status_verb
from djsup.core.snapshot import (
    CurrentRequest,
    DaemonSnapshot,
    Latency,
    ReloadReport,
    ReloadResult,
    SiteSnapshot,
    SiteState,
    Snapshot,
    WorkerSnapshot,
    WorkerState,
    to_json,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result

    from cli.fake_daemon import FakeDaemon

ASKING = (
    "stop",
    "status",
    "reload",
    "restart",
    "scale",
    "run",
    "logs",
    "events",
    "trace",
    "deploys",
    "requests",
)
ARGUMENTS = {
    "restart": ["blog"],
    "trace": ["blog"],
    "deploys": ["blog"],
    "requests": ["blog"],
    "scale": ["blog=2"],
    "run": ["blog", "clean"],
}


NOW = 1_767_323_045.0
"""The moment of all pictures."""


@pytest.fixture(autouse=True)
def now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status_verb, "time", SimpleNamespace(time=lambda: NOW))


@pytest.fixture
def ask(daemon: FakeDaemon, djsup: Callable[..., Result]) -> Callable[..., Result]:
    """Run a verb against the fake daemon."""
    return lambda *arguments: djsup(*arguments, "--runtime-dir", daemon.runtime_dir)


def worker(slot: int, state: WorkerState = WorkerState.IDLE, *current: CurrentRequest) -> WorkerSnapshot:
    return WorkerSnapshot(
        slot=slot,
        pid=4000 + slot,
        generation=3,
        state=state,
        started_at=NOW - 100,
        uptime_s=100,
        requests=12,
        threads=4,
        busy=len(current),
        connections=2,
        pss_bytes=30 * 2**20,
        current=current,
    )


BLOG = SiteSnapshot(
    name="blog",
    state=SiteState.SERVING,
    generation=3,
    listen=("127.0.0.1:8001",),
    workers_asked=2,
    python="3.12.1",
    django="5.1.2",
    requests=120,
    requests_per_s=1.25,
    latency_ms=Latency(0.42, 12.3, 1500.0),
    status=(100, 10, 9, 1),
    memory_bytes=64 * 2**20,
    last_reload=ReloadReport(3, ReloadResult.DONE, NOW - 190, 1.5, "root (cli)"),
    workers=(worker(0), worker(1, WorkerState.BUSY, CurrentRequest("GET", "/slow", 3.2))),
)
SHOP = SiteSnapshot(
    name="shop",
    state=SiteState.BACKING_OFF,
    generation=0,
    listen=("unix:/run/shop.sock",),
    workers_asked=2,
    error="cannot import [bold]shop.wsgi[/bold]\x1b[2J",
    next_try_s=4.2,
    last_reload=ReloadReport(
        2,
        ReloadResult.ROLLED_BACK,
        NOW - 7300,
        1.5,
        "root (cli)",
        "it is broken",
        "Traceback:\n  boom",
    ),
    notes=("runs without a template: 2 threads",),
)


def picture(*sites: SiteSnapshot) -> dict[str, Any]:
    daemon = DaemonSnapshot(4321, __version__, NOW - 60, 60.0, "/etc/djsup.toml", "http://127.0.0.1:9000/")
    return to_json(Snapshot(daemon, sites))


# --- all verbs ---------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_every_verb_is_short_and_has_an_example(djsup: Callable[..., Result], verb: str) -> None:
    result = djsup(verb, "--help")
    assert result.exit_code == 0
    assert f"\n  djsup {verb}" in result.stdout.split("Examples:")[1]
    assert len(result.stdout.splitlines()) < 30
    first = djsup("--help").stdout.split(f"\n  {verb} ")[1].splitlines()[0]
    assert not first.endswith("...")


@pytest.mark.parametrize(
    ("typed", "meant"), [("stats", "status"), ("relaod", "reload"), ("ps", "status"), ("validate", "check")]
)
def test_unknown_verb_suggests_the_nearest(djsup: Callable[..., Result], typed: str, meant: str) -> None:
    result = djsup(typed)
    assert result.exit_code == 2
    assert f'no verb "{typed}"; did you mean "{meant}"?' in result.stderr


def test_unknown_verb_that_is_near_to_none_lists_all(djsup: Callable[..., Result]) -> None:
    assert "there are: start, stop" in djsup("xyzzy").stderr


@pytest.mark.parametrize("verb", ASKING)
def test_daemon_that_does_not_run_is_exit_3(djsup: Callable[..., Result], verb: str, tmp_path: Path) -> None:
    result = djsup(verb, *ARGUMENTS.get(verb, []), "--runtime-dir", tmp_path)
    assert result.exit_code == 3
    assert result.stdout == ""
    assert result.stderr == f"djsup: no daemon is running in {tmp_path}\n"


def test_error_is_json_with_json(djsup: Callable[..., Result], tmp_path: Path) -> None:
    result = djsup("--json", "status", "--runtime-dir", tmp_path)
    assert json.loads(result.stdout) == {"error": f"no daemon is running in {tmp_path}", "exit": 3}
    assert result.stderr == ""


def test_daemon_that_does_not_answer_is_exit_4(daemon: FakeDaemon, ask: Callable[..., Result]) -> None:
    daemon.answers["reload"] = lambda _request: [{"result": 1}] if daemon.leaving.wait(30) else []
    result = ask("reload", "--wait", "0.1")
    assert result.exit_code == 4
    assert "did not answer to reload in time" in result.stderr


def test_refusal_gives_its_exit_status_and_every_problem(
    daemon: FakeDaemon, ask: Callable[..., Result]
) -> None:
    daemon.answer("reload", {"ok": False, "error": "not valid", "problems": ["a:1: x", "a:2: y"], "exit": 2})
    result = ask("reload")
    assert result.exit_code == 2
    assert result.stderr == "a:1: x\na:2: y\ndjsup: not valid\n"


def test_daemon_is_found_through_the_configuration_before_or_behind_the_verb(
    daemon: FakeDaemon, djsup: Callable[..., Result], nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon.answer("scale", {"result": {"site": "blog", "workers": 2}})
    file = nowhere.parent / "x.toml"
    file.write_text('runtime_dir = "run"\nwith = "mistakes"\n')
    assert djsup("-c", file, "scale", "blog=2").exit_code == 0
    assert djsup("scale", "blog=2", "-c", file).exit_code == 0
    monkeypatch.setenv("DJSUP_CONFIG", str(file))
    assert djsup("scale", "blog=2").exit_code == 0
    monkeypatch.delenv("DJSUP_CONFIG")
    (nowhere / "djsup.toml").write_text('runtime_dir = "../run"\n')
    assert djsup("scale", "blog=2").exit_code == 0


def test_configuration_that_cannot_be_read_is_exit_2(djsup: Callable[..., Result], nowhere: Path) -> None:
    (nowhere / "djsup.toml").write_text("a =")
    result = djsup("status")
    assert result.exit_code == 2
    assert "djsup.toml:1:4: this is no TOML" in result.stderr
    assert "--runtime-dir" in result.stderr


# --- status ------------------------------------------------------------------------------------


def test_status_is_a_line_a_site_and_remarks(daemon: FakeDaemon, ask: Callable[..., Result]) -> None:
    daemon.answer("status", {"result": picture(BLOG, SHOP)})
    result = ask("status")
    assert result.exit_code == 0
    head, header, blog, shop, _blank, *remarks = result.stdout.splitlines()
    assert head == f"djsup {__version__}  pid 4321  up 1m  /etc/djsup.toml  http://127.0.0.1:9000/"
    assert header.split() == [
        "SITE",
        "STATE",
        "GEN",
        "WORKERS",
        "REQ/S",
        "P50",
        "P95",
        "P99",
        "5XX",
        "MEMORY",
        "RELOAD",
        "LISTENS",
        "ON",
    ]
    assert blog.split() == [
        "blog",
        "serving",
        "3",
        "2/2",
        "1.2",
        "0.4ms",
        "12ms",
        "1.5s",
        "1",
        "64M",
        "done",
        "3m",
        "ago",
        "127.0.0.1:8001",
    ]
    assert shop.split() == [
        "shop",
        "backing-off",
        "-",
        "0/2",
        "0",
        "-",
        "-",
        "-",
        "0",
        "-",
        "rolled",
        "back",
        "2h",
        "unix:/run/shop.sock",
    ]
    assert remarks == [
        "shop: cannot import [bold]shop.wsgi[/bold]\N{REPLACEMENT CHARACTER}[2J; next try in 4.2s",
        "shop: generation 2 was rolled back: it is broken",
        "shop: runs without a template: 2 threads",
    ]


def test_piped_output_has_no_colours_no_tabs_and_no_blanks_at_ends(
    daemon: FakeDaemon, ask: Callable[..., Result]
) -> None:
    daemon.answer("status", {"result": picture(BLOG, SHOP)})
    for arguments in (("status",), ("status", "shop")):
        printed = ask(*arguments).stdout
        assert not set(printed) & set("\x1b\t\r│─")
        assert not any(line.endswith(" ") for line in printed.splitlines())


def test_status_of_a_site_shows_workers_and_what_they_do(
    daemon: FakeDaemon, ask: Callable[..., Result]
) -> None:
    daemon.answer("status", {"result": picture(BLOG)})
    lines = ask("status", "blog").stdout.splitlines()
    assert daemon.asked[0]["site"] == "blog"
    assert lines[0] == "blog  serving  generation 3"
    assert "  runs     Python 3.12.1, Django 5.1.2" in lines
    assert "  requests 120, 1.2/s   2xx 100  3xx 10  4xx 9  5xx 1" in lines
    assert lines[-1].split() == [
        "1",
        "4001",
        "3",
        "busy",
        "12",
        "1/4",
        "2",
        "30M",
        "0%",
        "1m",
        "3.2s",
        "GET",
        "/slow",
    ]


def test_status_of_a_rolled_back_site_shows_the_traceback(
    daemon: FakeDaemon, ask: Callable[..., Result]
) -> None:
    daemon.answer("status", {"result": picture(SHOP)})
    printed = ask("status", "shop").stdout
    assert "next try in 4.2s" in printed
    assert printed.endswith("why generation 2 was rolled back:\n    Traceback:\n      boom\n")


def test_status_json_is_the_daemons_answer(daemon: FakeDaemon, ask: Callable[..., Result]) -> None:
    answer = picture(BLOG, SHOP)
    daemon.answer("status", {"result": answer})
    assert json.loads(ask("status", "--json").stdout) == answer


def test_daemon_of_another_version_is_said(daemon: FakeDaemon, ask: Callable[..., Result]) -> None:
    answer = picture(BLOG)
    answer["daemon"]["version"] = "9.9"
    answer["sites"][0]["new_field"] = 1
    daemon.answer("status", {"result": answer})
    result = ask("status")
    assert result.exit_code == 1
    assert f"the daemon is of version 9.9 and this is {__version__}" in result.stderr


# --- reload, restart, scale, stop --------------------------------------------------------------


def outcome(name: str, result: str, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "generation": 4,
        "result": result,
        "error": None,
        "details": "",
        "duration_s": 1.5,
    } | more


def test_reload_shows_progress_and_success(daemon: FakeDaemon, ask: Callable[..., Result]) -> None:
    progress = {"progress": {"site": "blog", "text": 'site "blog": is loading'}}
    daemon.answer("reload", progress, {"result": {"sites": [outcome("blog", "done")]}})
    result = ask("reload", "blog")
    assert result.exit_code == 0
    assert result.stdout == "blog: is loading\nblog: generation 4 serves (1.5s)\n"
    assert daemon.asked[0] | {"by": ""} == {"verb": "reload", "by": "", "sites": ["blog"], "wait": True}


def test_reload_that_was_rolled_back_prints_why_and_exits_1(
    daemon: FakeDaemon, ask: Callable[..., Result]
) -> None:
    bad = outcome("shop", "rolled-back", error="no module", details="Traceback\n  x")
    daemon.answer("reload", {"result": {"sites": [outcome("blog", "done"), bad]}})
    daemon.answer("status", {"result": picture(BLOG, SHOP)})
    result = ask("reload")
    assert result.exit_code == 1
    assert result.stdout == "blog: generation 4 serves (1.5s)\n"
    assert result.stderr == (
        "shop: generation 4 was rolled back, nothing serves: no module\n    Traceback\n      x\n"
    )


def test_reload_that_was_rolled_back_says_what_serves_on(
    daemon: FakeDaemon, ask: Callable[..., Result]
) -> None:
    daemon.answer("reload", {"result": {"sites": [outcome("blog", "rolled-back", error="x")]}})
    daemon.answer("status", {"result": picture(BLOG)})
    assert ask("reload").stderr == "blog: generation 4 was rolled back, generation 3 serves on: x\n"


def test_reload_that_was_superseded_exits_1(daemon: FakeDaemon, ask: Callable[..., Result]) -> None:
    daemon.answer("reload", {"result": {"sites": [outcome("blog", "superseded")]}})
    result = ask("reload")
    assert result.exit_code == 1
    assert "given up for a newer reload" in result.stderr


def test_reload_without_waiting_says_that_it_has_begun(
    daemon: FakeDaemon, ask: Callable[..., Result]
) -> None:
    daemon.answer("reload", {"result": {"sites": [outcome("blog", "started")]}})
    result = ask("reload", "--no-wait")
    assert result.exit_code == 0
    assert result.stdout == "blog: the reload to generation 4 has begun\n"
    assert daemon.asked[0]["wait"] is False


def test_reload_json_prints_the_result_only(daemon: FakeDaemon, ask: Callable[..., Result]) -> None:
    bad = outcome("shop", "rolled-back")
    daemon.answer("reload", {"progress": {"site": "shop", "text": "x"}}, {"result": {"sites": [bad]}})
    result = ask("reload", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout) == {"sites": [bad]}


@pytest.mark.parametrize(
    ("answer", "status", "expected"),
    [
        ({"state": "serving"}, 0, "blog: serving\n"),
        ({"state": "failed", "error": "boom"}, 1, "djsup: blog: failed: boom\n"),
        ({"state": "backing-off"}, 1, "djsup: blog: backing-off; djsup events blog tells why\n"),
    ],
)
def test_restart_says_how_the_site_is(
    daemon: FakeDaemon, ask: Callable[..., Result], answer: dict[str, str], status: int, expected: str
) -> None:
    daemon.answer("restart", {"result": {"site": "blog", **answer}})
    result = ask("restart", "blog")
    assert result.exit_code == status
    assert result.output == expected
    assert (daemon.asked[0]["site"], daemon.asked[0]["wait"]) == ("blog", True)


def ordered(state: str, *, changed: bool = True, error: str | None = None) -> dict[str, Any]:
    return {"result": {"sites": [{"name": "blog", "state": state, "changed": changed, "error": error}]}}


@pytest.mark.parametrize(
    ("words", "verb", "answer", "status", "expected"),
    [
        (("stop",), "stop_sites", ordered("stopped"), 0, "blog: stopped\n"),
        (("stop", "--no-wait"), "stop_sites", ordered("stopping"), 0, "blog: stopping\n"),
        (("stop",), "stop_sites", ordered("stopped", changed=False), 0, "blog: stopped, and was so before\n"),
        (
            ("stop", "--now"),
            "stop_sites",
            ordered("starting", error="it was started meanwhile"),
            1,
            "blog: starting: it was started meanwhile\n",
        ),
        (("start",), "start_sites", ordered("serving"), 0, "blog: serving\n"),
        (
            ("start",),
            "start_sites",
            ordered("serving", changed=False),
            0,
            "blog: serving, and was not stopped before\n",
        ),
        (("start",), "start_sites", ordered("failed", error="no module"), 1, "blog: failed: no module\n"),
    ],
)
def test_sites_are_stopped_and_started_by_name(
    daemon: FakeDaemon,
    ask: Callable[..., Result],
    words: tuple[str, ...],
    verb: str,
    answer: dict[str, Any],
    status: int,
    expected: str,
) -> None:
    daemon.answer(verb, answer)
    result = ask(words[0], "blog", *words[1:])
    assert (result.exit_code, result.output) == (status, expected)
    (call,) = daemon.asked
    assert (call["verb"], call["sites"], call["wait"]) == (verb, ["blog"], "--no-wait" not in words)
    assert call.get("now", False) == ("--now" in words)


@pytest.mark.parametrize("words", [("stop", "--no-wait"), ("start", "--no-wait"), ("start", "blog", "-d")])
def test_what_is_for_sites_is_not_for_the_daemon_and_the_other_way_round(
    daemon: FakeDaemon, ask: Callable[..., Result], words: tuple[str, ...]
) -> None:
    assert ask(*words).exit_code == 2
    assert daemon.asked == []


@pytest.mark.parametrize(("wish", "workers"), [("blog=4", 4), ("blog=+1", "+1"), ("blog=-2", "-2")])
def test_scale_asks_for_a_number_or_a_step(
    daemon: FakeDaemon, ask: Callable[..., Result], wish: str, workers: int | str
) -> None:
    daemon.answer("scale", {"result": {"site": "blog", "workers": 1}})
    result = ask("scale", wish)
    assert result.stdout == "blog: 1 worker\n"
    assert daemon.asked[0]["workers"] == workers


@pytest.mark.parametrize("wish", ["blog", "blog=", "blog=x", "=3", "blog=1.5", "blog=+"])
def test_scale_without_a_number_is_wrong_usage(ask: Callable[..., Result], wish: str) -> None:
    assert ask("scale", wish).exit_code == 2


@pytest.fixture
def process() -> Any:
    """A process that ends when its standard input is closed."""
    with subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE
    ) as found:
        yield found
        found.kill()


@pytest.mark.parametrize("now", [False, True])
def test_stop_waits_until_the_daemon_is_gone(
    daemon: FakeDaemon, ask: Callable[..., Result], process: subprocess.Popen[bytes], now: bool
) -> None:
    def end(_request: dict[str, Any]) -> Any:
        yield {"result": {}}
        assert process.stdin is not None
        process.stdin.close()

    daemon.answer("ping", {"result": {"pid": process.pid}})
    daemon.answers["stop"] = end
    result = ask("stop", *(["--now"] if now else []))
    assert result.exit_code == 0
    assert result.stdout.startswith(f"stopped pid {process.pid} in ")
    assert daemon.asked[1]["now"] is now
    assert process.poll() is not None


def test_stop_that_takes_too_long_is_exit_4(
    daemon: FakeDaemon, ask: Callable[..., Result], process: subprocess.Popen[bytes]
) -> None:
    daemon.answer("ping", {"result": {"pid": process.pid}})
    daemon.answer("stop", {"result": {}})
    result = ask("stop", "--wait", "0.1")
    assert result.exit_code == 4
    assert f"pid {process.pid} has not ended after 100ms; it goes on stopping" in result.stderr


# --- logs, events ------------------------------------------------------------------------------

EVENT = {
    "id": 1,
    "at": "2026-01-02T03:04:05.678Z",
    "kind": "load-failed",
    "level": "error",
    "site": "blog",
    "generation": 3,
    "pid": 77,
    "text": 'site "blog": could not be loaded',
    "details": "\n".join(f"line {number}" for number in range(20)),
    "by": "root (cli)",
}


def test_events_say_when_where_what_by_whom_and_why(daemon: FakeDaemon, ask: Callable[..., Result]) -> None:
    daemon.answer("events", {"event": EVENT}, {"result": {}})
    first, left_out, *details = ask("events", "blog", "-n", "7").stdout.splitlines()
    assert first.startswith("2026-01-02 ")
    assert first.endswith(" blog gen 3 pid 77 could not be loaded (by root (cli))")
    assert left_out == "    [8 lines more with --full]"
    assert details[-1] == "    line 19"
    assert daemon.asked[0] | {"by": ""} == {
        "verb": "events", "by": "", "site": "blog", "follow": False, "limit": 7,
    }  # fmt: skip
    assert "    line 0\n" in ask("events", "--full").stdout


def test_events_json_is_an_object_a_line(daemon: FakeDaemon, ask: Callable[..., Result]) -> None:
    daemon.answer("events", {"event": EVENT}, {"event": EVENT}, {"result": {}})
    assert [json.loads(line) for line in ask("events", "--json").stdout.splitlines()] == [EVENT, EVENT]


def test_deploys_are_a_table_and_their_tracebacks_come_with_full(
    daemon: FakeDaemon, ask: Callable[..., Result]
) -> None:
    deploy = {
        "id": 2, "site": "blog", "generation": 4, "started_at": "2026-01-02T03:04:05.000Z", "duration_s": 75.0,
        "result": "rolled-back", "error": "cannot import\x1b[2J", "traceback": "Traceback\n  line 1\n", "by": "root (cli)",
    }  # fmt: skip
    found = {"deploys": [deploy], "more": False}
    daemon.answer("deploys", {"result": found})
    printed = ask("deploys", "blog", "-n", "3").stdout
    for word in ("2026-01-02 ", " 4 ", "rolled-back", "1m 15s", "root (cli)", "cannot import"):
        assert word in printed
    assert "\x1b" not in printed
    assert "line 1" not in printed
    assert daemon.asked[0] | {"by": ""} == {"verb": "deploys", "by": "", "site": "blog", "limit": 3}
    assert "  line 1" in ask("deploys", "blog", "--full").stdout
    assert json.loads(ask("deploys", "blog", "--json").stdout) == found


def test_requests_shows_what_failed_and_what_was_slow(daemon: FakeDaemon, ask: Callable[..., Result]) -> None:
    request = {
        "at": "2026-01-02T03:04:05.000Z", "method": "GET", "path": "/a\x1b[2J", "status": 503, "duration_ms": 1500.0,
        "slot": 1, "pid": 7,
    }  # fmt: skip
    found = {"failed": [request], "slowest": [], "slow_ms": 500.0}
    daemon.answer("requests", {"result": found})
    printed = ask("requests", "blog").stdout
    for word in ("failed: 1", "503", "1.5s", "GET /a", "slowest: none"):
        assert word in printed
    assert "\x1b" not in printed
    assert json.loads(ask("requests", "blog", "--json").stdout) == found


def test_logs_are_labelled_and_their_control_characters_are_taken_out(
    daemon: FakeDaemon, ask: Callable[..., Result]
) -> None:
    log = {
        "at": "2026-01-02T03:04:05Z",
        "site": "blog",
        "slot": 0,
        "pid": 7,
        "stream": "stderr",
        "text": "a\x1b[2J b",
    }
    daemon.answer("logs", {"log": log}, {"result": {}})
    printed = ask("logs").stdout
    assert printed.endswith(" blog/0 7 a\N{REPLACEMENT CHARACTER}[2J b\n")


def test_following_prints_at_once_and_ends_quietly_on_interrupt(daemon: FakeDaemon) -> None:
    def follow(_request: dict[str, Any]) -> Any:
        yield {"log": {"at": "x", "site": "blog", "text": "hello"}}
        daemon.leaving.wait(30)

    daemon.answers["logs"] = follow
    command = [sys.executable, "-m", "djsup", "logs", "-f", "--runtime-dir", str(daemon.runtime_dir)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "x blog hello\n"
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=20)
    assert process.returncode == 130
    assert stderr == ""


def test_reader_that_goes_away_ends_the_verb_quietly(daemon: FakeDaemon) -> None:
    line = {"log": {"at": "x", "site": "blog", "text": "hello"}}
    daemon.answers["logs"] = lambda _request: (line for _ in range(10**6))
    command = f"{sys.executable} -m djsup logs --runtime-dir {daemon.runtime_dir} | head -1"
    result = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60, check=False)
    assert result.stdout == "x blog hello\n"
    assert result.stderr == ""


# --- version, schema ---------------------------------------------------------------------------


def test_version_and_schema_need_no_daemon(djsup: Callable[..., Result]) -> None:
    assert djsup("version").stdout.startswith(f"djsup {__version__} (Python 3.")
    assert json.loads(djsup("version", "--json").stdout)["version"] == __version__
    assert "sites" in json.loads(djsup("schema").stdout)["properties"]
