"""Commands that a site has run before and after a reload."""

from __future__ import annotations

from pathlib import Path

import psutil

from system.daemon import DaemonUnderTest, Project, wait_for


def start(daemon: DaemonUnderTest, more: str) -> None:
    head, _, rest = daemon.sites["blog"].partition("\n")
    daemon.sites["blog"] = f"{head}\n{more}\n{rest}"
    daemon.write()
    daemon.start()


def test_both_run_as_the_site_around_a_reload_and_not_at_the_start(
    daemon: DaemonUnderTest, blog: Project
) -> None:
    tell = "import os, sys; print(sys.argv[1], os.getcwd(), os.environ['DJSUP_SITE'], sys.executable)"
    start(
        daemon,
        f'env = {{ TOLD = "yes" }}\nbefore_reload = "python -c \\"{tell}\\" first"\n'
        "after_reload = \"sh -c 'echo $TOLD $DJSUP_PROGRAM'\"",
    )
    assert not [event for event in daemon.events("blog") if event["kind"].startswith("hook")]
    done = daemon.done("reload", "blog")
    assert "before_reload: python -c" in done.stdout + done.stderr
    assert "ended well after" in done.stdout + done.stderr
    wait_for(lambda: len([e for e in daemon.events("blog") if e["kind"] == "hook-ended"]) == 2, "both ends")
    before, after = (event for event in daemon.events("blog") if event["kind"] == "hook-ended")
    word, folder, site, python = before["details"].split()
    assert (word, Path(folder), site) == ("first", daemon.folder / "blog", "blog")
    assert (
        Path(python).parent == Path(daemon.json("blog", "/about")["environ"].get("PYTHONHOME", python)).parent
    )
    assert after["details"] == "yes after_reload"
    log = daemon.run("logs", "blog").stdout
    assert "yes after_reload" in log


def test_a_reload_that_the_first_refuses_is_rolled_back_with_what_it_printed(
    daemon: DaemonUnderTest, blog: Project
) -> None:
    start(daemon, "before_reload = \"sh -c 'echo three mistakes; exit 4'\"")
    pids = {worker["pid"] for worker in daemon.workers("blog")}
    blog.deploy("two")
    result = daemon.run("reload", "blog")
    assert result.status == 1, result
    assert "exited with status 4" in result.stderr
    assert "three mistakes" in result.stderr
    assert daemon.get("blog") == (200, b"one")
    site = daemon.status("blog")
    assert {worker["pid"] for worker in site["workers"]} == pids
    assert "three mistakes" in site["last_reload"]["details"]


def test_the_second_rolls_nothing_back(daemon: DaemonUnderTest, blog: Project) -> None:
    start(daemon, "after_reload = \"sh -c 'echo no cache; exit 1'\"")
    blog.deploy("two")
    daemon.done("reload", "blog")
    event = wait_for(
        lambda: next((each for each in daemon.events("blog") if each["kind"] == "hook-failed"), None),
        "its end",
    )
    assert (event["level"], event["details"]) == ("error", "no cache")
    assert daemon.get("blog") == (200, b"two")


def test_all_its_processes_are_killed_at_the_time_limit(daemon: DaemonUnderTest, blog: Project) -> None:
    start(daemon, "before_reload = \"sh -c 'sleep 3600 & echo $!; wait'\"\nhook_timeout = 1")
    result = daemon.run("reload", "blog")
    assert result.status == 1, result
    assert "took longer than hook_timeout (1 s)" in result.stderr
    child = int(daemon.status("blog")["last_reload"]["details"].split()[0])
    wait_for(lambda: not psutil.pid_exists(child), "its child to go")


def test_a_newer_reload_kills_one_that_runs(daemon: DaemonUnderTest, blog: Project) -> None:
    flag = daemon.folder / "flag"
    start(daemon, f"before_reload = \"sh -c 'test -e {flag} || {{ touch {flag}; exec sleep 3600; }}'\"")
    daemon.done("reload", "blog", "--no-wait")
    wait_for(flag.exists, "the command to run")
    blog.deploy("two")
    daemon.done("reload", "blog")
    assert daemon.get("blog") == (200, b"two")
    assert "is killed" in " ".join(e["text"] for e in daemon.events("blog") if e["kind"] == "hook-failed")
