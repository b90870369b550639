"""A canary: new code takes a share of the real traffic, and is judged by it before it takes over."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from click.testing import CliRunner

from djsup.cli import reload
from system.bare import BareSite
from system.daemon import DaemonUnderTest, wait_for
from system.load import Load

FAILS = 'raise ValueError("new mistake")'
SLOW = "time.sleep(0.1)"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, BareSite]]:
    """One site for each test."""
    daemon = DaemonUnderTest(tmp_path_factory.mktemp("canary"))
    canary = "workers = 2\nreload.canary = {{ {} }}".format
    sites = {
        "good": canary("seconds = 1, min_requests = 5, max_slowdown = 0"),
        "bad": "workers = 2",
        "slow": canary("seconds = 1, min_requests = 3, max_slowdown = 4"),
    }
    found = {name: BareSite(daemon, name, more) for name, more in sites.items()}
    daemon.start()
    yield found
    daemon.stop()


@pytest.fixture
def sites(shared: dict[str, BareSite]) -> Iterator[dict[str, BareSite]]:
    yield shared
    print(f"--- the daemon's log ---\n{shared['good'].daemon.log}")


def load(site: BareSite, *, may_fail: bool = False) -> Load:
    """New connections, which the kernel gives to old and new workers alike."""
    return Load(site.port, connections=4, keep_alive=False, pause_s=0.01, may_fail=may_fail)


def test_code_that_answers_well_takes_over_with_its_figures_in_the_report(sites: dict[str, BareSite]) -> None:
    site = sites["good"]
    pids = site.pids()
    with load(site) as running:
        site.deploy("two")
        site.daemon.reload("good", wait=False)
        shown = wait_for(
            lambda: found if (found := site.daemon.status("good"))["last_reload"].get("canary") else None,
            "the trial to be shown",
        )
        assert "of 1 s" in shown["last_reload"]["canary"]
        assert " requests, " in shown["last_reload"]["canary"]
        assert shown["state"] == "reloading"
        there = {worker["pid"] for worker in shown["workers"] if worker["state"] in ("idle", "busy")}
        assert pids < there
        assert len(there) == len(pids) + 1, "one worker of the new code, beside all of the old"
        wait_for(lambda: site.daemon.status("good")["generation"] == 2, "the new code to take over")
        running.wait_for_requests(20)
    assert running.outcome.bodies.keys() == {b"one", b"two"}
    report = site.daemon.status("good")["last_reload"]
    assert report["result"] == "done"
    assert "old code: " in report["canary"]
    assert "old code: 0 requests" not in report["canary"], running.outcome.summary()
    assert {"canary-started", "canary-passed"} <= set(site.kinds())


def test_code_that_fails_is_rolled_back_before_the_time_is_over(sites: dict[str, BareSite]) -> None:
    site = sites["bad"]
    with load(site, may_fail=True) as running:
        running.wait_for_requests(20)
        pids = site.pids()
        site.deploy("two", first=FAILS)
        result = site.daemon.run("reload", "bad", "--canary", "10m")
        assert result.status == 1, result
        assert "fails more often than the old" in result.stderr
        assert "requests" in result.stderr
        shown = site.daemon.status("bad")
        assert (shown["generation"], shown["last_reload"]["result"]) == (1, "rolled-back")
        assert {worker["pid"] for worker in shown["workers"] if worker["generation"] == 1} == pids
    assert b"one" in running.outcome.bodies


def test_code_that_is_slow_is_rolled_back_and_a_trial_can_be_left_out(sites: dict[str, BareSite]) -> None:
    site = sites["slow"]
    with load(site) as running:
        running.wait_for_requests(20)
        site.deploy("slow", first=SLOW)
        outcome = site.daemon.reload("slow")
        assert outcome["result"] == "rolled-back"
        assert "slower than the old" in outcome["error"]
        assert site.daemon.reload("slow", canary_s=0)["result"] == "done"
    assert site.daemon.status("slow")["last_reload"]["canary"] == ""
    assert site.daemon.get("slow") == (200, b"slow")


def test_a_stop_in_the_middle_of_a_trial_is_obeyed_at_once(daemon: DaemonUnderTest) -> None:
    BareSite(daemon, "blog", 'workers = 1\nreload.canary = { seconds = "10m" }')
    daemon.start()
    daemon.reload("blog", wait=False)
    wait_for(lambda: daemon.status("blog")["last_reload"]["phase"] == "trying", "the trial")
    daemon.signal(signal.SIGTERM)
    assert daemon.wait_end() == 0


@pytest.mark.parametrize("wrong", ["soon", "-3", "2d5"])
def test_a_wrong_time_is_wrong_usage(wrong: str) -> None:
    result = CliRunner().invoke(reload.command, ["--canary", wrong])
    assert result.exit_code == 2
    assert f"{wrong!r} is no time" in result.output
