"""Commands that a site has run before and after a reload."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from system.bare import BareSite
from system.daemon import DaemonUnderTest, wait_for

TELL = "import os, sys; print(sys.argv[1], os.getcwd(), os.environ['DJSUP_SITE'], sys.executable)"
SITES = {
    "both": f"""env = {{ TOLD = "yes" }}
before_reload = "python -c \\"{TELL}\\" first"
after_reload = "sh -c 'echo $TOLD $DJSUP_PROGRAM'\"""",
    "refused": "before_reload = \"sh -c 'echo three mistakes; exit 4'\"",
    "second": "after_reload = \"sh -c 'echo no cache; exit 1'\"",
    "late": "before_reload = \"sh -c 'sleep 3600 & echo $!; wait'\"\nhook_timeout = 1",
    "newer": "before_reload = \"sh -c 'test -e flag || { touch flag; exec sleep 3600; }'\"",
}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, BareSite]]:
    """One site for each test."""
    daemon = DaemonUnderTest(tmp_path_factory.mktemp("hooks"))
    found = {name: BareSite(daemon, name, more) for name, more in SITES.items()}
    daemon.start()
    yield found
    daemon.stop()


@pytest.fixture
def sites(shared: dict[str, BareSite]) -> Iterator[dict[str, BareSite]]:
    yield shared
    print(f"--- the daemon's log ---\n{shared['both'].daemon.log}")


def test_both_run_as_the_site_around_a_reload_and_not_at_the_start(sites: dict[str, BareSite]) -> None:
    site = sites["both"]
    assert not [kind for kind in site.kinds() if kind.startswith("hook")]
    done = site.daemon.done("reload", "both")
    assert "before_reload: python -c" in done.stdout + done.stderr
    assert "ended well after" in done.stdout + done.stderr
    wait_for(lambda: site.kinds().count("hook-ended") == 2, "both ends")
    before, after = (event for event in site.daemon.events("both") if event["kind"] == "hook-ended")
    word, folder, name, python = before["details"].split()
    assert (word, Path(folder), name) == ("first", site.folder, "both")
    assert Path(python).parent == Path(sys.executable).parent, "the site's own, by its name alone"
    assert after["details"] == "yes after_reload"
    assert "yes after_reload" in site.daemon.run("logs", "both").stdout


def test_a_reload_that_the_first_refuses_is_rolled_back_with_what_it_printed(
    sites: dict[str, BareSite],
) -> None:
    site = sites["refused"]
    pids = site.pids()
    site.deploy("two")
    result = site.daemon.run("reload", "refused")
    assert result.status == 1, result
    assert "exited with status 4" in result.stderr
    assert "three mistakes" in result.stderr
    assert site.daemon.get("refused") == (200, b"one")
    assert site.pids() == pids
    assert "three mistakes" in site.daemon.status("refused")["last_reload"]["details"]


def test_the_second_rolls_nothing_back(sites: dict[str, BareSite]) -> None:
    site = sites["second"]
    site.reload()
    wait_for(lambda: "hook-failed" in site.kinds(), "its end")
    (event,) = (each for each in site.daemon.events("second") if each["kind"] == "hook-failed")
    assert (event["level"], event["details"]) == ("error", "no cache")
    assert site.daemon.get("second") == (200, b"two")


def test_all_its_processes_are_killed_at_the_time_limit(sites: dict[str, BareSite]) -> None:
    site = sites["late"]
    outcome = site.daemon.reload("late")
    assert outcome["result"] == "rolled-back"
    assert "took longer than hook_timeout (1 s)" in outcome["error"]
    child = int(site.daemon.status("late")["last_reload"]["details"].split()[0])
    wait_for(lambda: not psutil.pid_exists(child), "its child to go")


def test_a_newer_reload_kills_one_that_runs(sites: dict[str, BareSite]) -> None:
    site = sites["newer"]
    site.daemon.reload("newer", wait=False)
    wait_for((site.folder / "flag").exists, "the command to run")
    site.reload()
    assert site.daemon.get("newer") == (200, b"two")
    failed = [event["text"] for event in site.daemon.events("newer") if event["kind"] == "hook-failed"]
    assert "is killed" in " ".join(failed)
