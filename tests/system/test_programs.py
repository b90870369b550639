"""Programs of a site: they run beside it, are kept running, follow its reloads, and leave nothing behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
import pytest

from djsup.client import Client, Refused
from system.daemon import WAIT_S, DaemonUnderTest, Project, wait_for

PLAIN = """
import json, os, signal, sys, time
print("works in " + os.getcwd(), flush=True)
print("to stderr", file=sys.stderr, flush=True)
with open("plain.%s.json" % os.environ["DJSUP_INSTANCE"], "w") as file:
    json.dump({"environ": dict(os.environ), "pid": os.getpid(), "argv": sys.argv, "sid": os.getsid(0)}, file)
while True:
    time.sleep(60)
"""
STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
own_group = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], process_group=0)
print("children", child.pid, own_group.pid, flush=True)
time.sleep(600)
"""
TALKING = """
import os, socket, time
notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
notify.connect(os.environ["NOTIFY_SOCKET"])
while not os.path.exists("go"):
    time.sleep(0.02)
notify.send(b"READY=1\\nSTATUS=cooking %d eggs" % os.getpid())
while not os.path.exists("silence"):
    notify.send(b"WATCHDOG=1")
    time.sleep(0.05)
time.sleep(600)
"""
FALSE_CLOCK = """
import time
def false_time():
    with open({file!r}) as file:
        return float(file.read())
time.time = false_time
"""


class Site:
    """The site "blog" with scripts beside it that are its programs."""

    def __init__(self, daemon: DaemonUnderTest, project: Project) -> None:
        self.daemon = daemon
        self.project = project
        self.plain_site = daemon.sites["blog"]
        self.tables: dict[str, str] = {}

    def program(self, name: str, source: str, more: str = "") -> None:
        (self.project.directory / f"{name}.py").write_text(source)
        self.tables[name] = f'[sites.blog.programs.{name}]\ncommand = "python {name}.py"\n{more}\n'
        self.write()

    def write(self) -> None:
        self.daemon.sites["blog"] = self.plain_site + "\n" + "\n".join(self.tables.values())
        self.daemon.write()

    def programs(self, name: str, state: str = "running") -> list[dict[str, Any]]:
        found = self.daemon.status("blog")["programs"]
        return [each for each in found if each["name"] == name and each["state"] == state]

    def one(self, name: str, state: str = "running", *, but: int = 0) -> dict[str, Any]:
        """The one instance of a program, once it is so; ``but``: with another pid than this."""

        def look() -> dict[str, Any] | None:
            found = self.programs(name, state)
            return found[0] if len(found) == 1 and found[0]["pid"] != but else None

        return wait_for(look, f"{name} to be {state}")

    def events(self, kind: str) -> list[dict[str, Any]]:
        return [each for each in self.daemon.events("blog") if each["kind"] == kind]

    def printed(self, program: str, words: str) -> str:
        """The line of a program that begins with these words, once it is there."""

        def look() -> str | None:
            stream = Client(str(self.daemon.runtime)).stream("logs", WAIT_S, site="blog", limit=1000)
            lines = [line.value for line in stream if line.kind == "log"]
            return next(
                (
                    each["text"]
                    for each in lines
                    if each["program"] == program and each["text"].startswith(words)
                ),
                None,
            )

        return wait_for(look, f"{program} to print {words}")


@pytest.fixture
def site(daemon: DaemonUnderTest, blog: Project) -> Site:
    return Site(daemon, blog)


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_instances_run_in_the_site_with_its_environment_and_a_session_of_their_own(
    site: Site, django: Path
) -> None:
    site.program("plain", PLAIN, 'instances = 2\nenv = { OWN = "yes", SITE = "no" }')
    site.plain_site += 'env = { SITE = "yes", OF_SITE = "1" }\n'
    site.write()
    os.environ["DJSUP_TEST_SECRET"] = "must not leak"
    try:
        site.daemon.start()
    finally:
        del os.environ["DJSUP_TEST_SECRET"]
    wait_for(lambda: len(site.programs("plain")) == 2, "both instances")
    wait_for((site.project.directory / "plain.1.json").exists, "the second instance to write")
    site.printed("plain/1", "works in " + str(site.project.directory))
    site.printed("plain/0", "to stderr")
    seen = json.loads((site.project.directory / "plain.0.json").read_text())
    environ = seen["environ"]
    assert (environ["OWN"], environ["SITE"], environ["OF_SITE"]) == ("yes", "no", "1")
    assert environ["PATH"].split(":")[0] == str(django.parent)
    assert environ["VIRTUAL_ENV"] == str(django.parent.parent)
    assert "DJSUP_TEST_SECRET" not in environ
    assert (
        seen["sid"]
        == seen["pid"]
        == next(each["pid"] for each in site.programs("plain") if each["instance"] == 0)
    )
    assert "plain/1" in site.daemon.run("status", "blog").stdout


def test_program_that_ignores_its_stop_signal_is_killed_with_all_its_children(site: Site) -> None:
    site.program("stubborn", STUBBORN, "stop_timeout = 0.3")
    site.daemon.start()
    leader = site.one("stubborn")["pid"]
    children = [int(each) for each in site.printed("stubborn/0", "children").split()[1:]]
    begun = time.monotonic()
    site.daemon.signal(signal.SIGTERM)
    assert site.daemon.wait_end() == 0
    assert time.monotonic() - begun >= 0.3
    assert all(gone(each) for each in (leader, *children))


def test_what_a_dead_program_leaves_behind_is_killed_before_it_is_started_again(site: Site) -> None:
    site.program("stubborn", STUBBORN, "stop_timeout = 0.3")
    site.daemon.start()
    leader = site.one("stubborn")["pid"]
    children = [int(each) for each in site.printed("stubborn/0", "children").split()[1:]]
    os.kill(leader, signal.SIGKILL)
    site.one("stubborn", but=leader)
    assert all(gone(each) for each in children)
    (death,) = site.events("program-died")
    assert "SIGKILL" in death["text"]
    assert "started again in" in death["text"]


def test_program_that_dies_at_once_backs_off_and_says_why_and_the_site_serves_on(site: Site) -> None:
    site.program("doomed", "import sys\nprint('no broker', file=sys.stderr)\nsys.exit(3)\n")
    site.tables["absent"] = '[sites.blog.programs.absent]\ncommand = "no-such-thing --at all"\n'
    site.write()
    site.daemon.start()
    wait_for(lambda: len(site.events("program-died")) >= 6, "three deaths of each")
    deaths = [each for each in site.events("program-died") if "doomed" in each["text"]]
    assert "exited with status 3" in deaths[0]["text"]
    assert deaths[0]["details"] == "no broker"
    assert any("there is no program 'no-such-thing'" in each["text"] for each in site.events("program-died"))
    shown = site.one("doomed", "backing-off")
    assert shown["next_try_s"] > 0
    assert site.daemon.get("blog") == (200, b"one")


def test_broken_site_runs_no_program_and_a_site_that_serves_at_last_does(site: Site) -> None:
    site.program("plain", PLAIN)
    site.project.deploy(urls="raise RuntimeError('broken')")
    site.daemon.start()
    assert site.daemon.status("blog")["state"] == "failed"
    assert site.daemon.status("blog")["programs"] == []
    site.project.deploy()
    site.daemon.reload_well("blog")
    site.one("plain")


def test_reload_replaces_a_program_or_tells_it_or_leaves_it_as_it_is_asked(site: Site) -> None:
    on_hup = "import signal\nsignal.signal(signal.SIGHUP, lambda *_: print('read again', flush=True))\n"
    for name in ("restart", "hup", "none"):
        site.program(name, on_hup + PLAIN.replace("plain", name), f'reload = "{name}"')
    site.daemon.start()
    before = {name: site.one(name)["pid"] for name in ("restart", "hup", "none")}
    for name in before:
        site.printed(f"{name}/0", "works")
    site.daemon.reload_well("blog")
    site.one("restart", but=before["restart"])
    site.printed("hup/0", "read again")
    assert {name: site.one(name)["pid"] for name in ("hup", "none")} == {
        "hup": before["hup"],
        "none": before["none"],
    }

    now = site.one("restart")["pid"]
    site.printed("restart/0", "works")
    site.project.deploy(urls="raise RuntimeError('broken')")
    assert site.daemon.run("reload", "blog").status == 1
    assert site.one("restart")["pid"] == now, "a reload that is rolled back touches no program"
    assert len(site.events("program-died")) == 0


def test_changed_table_restarts_its_program_only_and_instances_scale(site: Site) -> None:
    site.program("one", PLAIN, 'reload = "none"')
    site.program("two", PLAIN, 'reload = "none"')
    site.program("three", PLAIN, 'reload = "none"')
    site.daemon.start()
    before = {name: site.one(name)["pid"] for name in ("one", "two", "three")}
    site.program("one", PLAIN, 'reload = "none"\nenv = { CHANGED = "1" }')
    site.program("two", PLAIN, 'reload = "none"\ninstances = 3')
    del site.tables["three"]
    site.program("four", PLAIN)
    site.daemon.signal(signal.SIGHUP)
    site.one("four")
    site.one("one", but=before["one"])
    wait_for(lambda: len(site.programs("two")) == 3, "three instances")
    assert before["two"] in {each["pid"] for each in site.programs("two")}
    wait_for(
        lambda: not [each for each in site.daemon.status("blog")["programs"] if each["name"] == "three"],
        "three to go",
    )
    assert gone(before["three"])


def test_program_says_itself_that_it_is_ready_and_one_that_falls_silent_is_replaced(site: Site) -> None:
    site.program("talking", TALKING, 'notify = true\nwatchdog = "1s"\nstop_timeout = 1')
    site.daemon.start()
    assert site.one("talking", "starting")["pid"]
    (site.project.directory / "go").touch()
    shown = site.one("talking")
    assert shown["status_text"] == f"cooking {shown['pid']} eggs"
    (site.project.directory / "silence").touch()
    death = wait_for(lambda: site.events("program-died"), "the silence to be noticed")[0]
    assert "did not say WATCHDOG=1 for 1 s" in death["text"]
    assert "SIGABRT" in death["text"]
    (site.project.directory / "silence").unlink()
    site.one("talking", but=shown["pid"])
    assert not list((site.daemon.runtime / "notify").glob(f"*{shown['pid']}*"))
    assert len(list((site.daemon.runtime / "notify").iterdir())) == 1


def test_strangers_word_of_being_ready_is_not_heard(site: Site) -> None:
    site.program(
        "mute",
        "import os, time\nprint(os.environ['NOTIFY_SOCKET'], flush=True)\ntime.sleep(600)\n",
        "notify = true",
    )
    site.daemon.start()
    address = site.printed("mute/0", "/")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stranger:
        stranger.sendto(b"READY=1", address)
        stranger.sendto(b"READY=1", address)
    site.daemon.reload_well("blog")  # the daemon has read much since
    assert site.programs("mute") == []


def test_scheduled_command_runs_when_asked_and_tells_how_it_went(site: Site) -> None:
    site.tables["clearsessions"] = (
        '[sites.blog.programs.clearsessions]\ncommand = "python manage.py clearsessions"\nschedule = "0 3 * * *"\n'
    )
    site.program("fails", "print('half done')\nraise SystemExit(4)\n", 'schedule = "0 3 * * *"')
    endless = "import time\ntime.sleep(600)\n"
    site.program("late", endless, 'schedule = "0 3 * * *"\ntimeout = 0.3')
    site.program("endless", endless, 'schedule = "0 3 * * *"')
    site.daemon.start()
    shown = site.one("clearsessions", "waiting")
    assert shown["next_run_at"].endswith(":00Z")
    sessions = site.daemon.run("run", "blog", "clearsessions")
    assert sessions.status == 1  # the site has no sessions: Django says so
    assert "exited with status 1 after" in sessions.stderr
    settings = site.project.directory / "project" / "settings.py"
    settings.write_text(
        settings.read_text()
        + '\nINSTALLED_APPS.append("django.contrib.sessions")\nSESSION_ENGINE = "django.contrib.sessions.backends.file"\n'
    )
    assert "exited with status 0 after" in site.daemon.done("run", "blog", "clearsessions").stdout

    failed = site.daemon.run("run", "blog", "fails")
    assert (failed.status, failed.stdout) == (1, "half done\n")
    finished = site.events("program-finished")[-1]
    assert "exited with status 4" in finished["text"]
    assert finished["details"] == "half done"

    late = site.daemon.ask("run", site="blog", program="late")
    assert (late["well"], "took longer than timeout (0.3 s) and was stopped" in late["text"]) == (False, True)
    site.daemon.ask("run", site="blog", program="endless", wait=False)
    with pytest.raises(Refused, match="a run of it is not over yet"):
        site.daemon.ask("run", site="blog", program="endless")
    assert "the run by" in site.events("program-skipped")[0]["text"]


def test_command_runs_by_its_schedule(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = tmp_path / "clock"
    clock.mkdir()
    (clock / "sitecustomize.py").write_text(FALSE_CLOCK.format(file=str(clock / "now")))

    def set_clock(text: str) -> None:
        (clock / "new").write_text(str(datetime.fromisoformat(text).timestamp()))
        (clock / "new").rename(clock / "now")

    set_clock("2026-01-05T02:59:00+00:00")
    monkeypatch.setenv("PYTHONPATH", str(clock))
    monkeypatch.setenv("TZ", "UTC")
    site.program("tick", "print('tick')\n", 'schedule = "0 3 * * *"')
    site.program("tock", "print('tock')\n", 'schedule = "30 3 * * *"')
    site.daemon.start()
    assert site.one("tick", "waiting")["next_run_at"] == "2026-01-05T03:00:00Z"
    set_clock("2026-01-05T03:00:01+00:00")
    finished = wait_for(lambda: site.events("program-finished"), "the run")
    assert "program tick, run by schedule, exited with status 0" in finished[0]["text"]
    assert site.one("tick", "waiting")["next_run_at"] == "2026-01-06T03:00:00Z"
    set_clock("2026-01-05T03:30:00+00:00")
    wait_for(lambda: len(site.events("program-finished")) > 1, "the other")
    assert [("tick" in each["text"]) for each in site.events("program-finished")] == [True, False]


def test_killed_daemon_takes_its_programs_along(site: Site) -> None:
    site.program("plain", PLAIN)
    site.daemon.top = "orphan_grace = 0"
    site.write()
    site.daemon.start()
    pid = site.one("plain")["pid"]
    os.kill(site.daemon.pid, signal.SIGKILL)
    site.daemon.wait_end()
    wait_for(lambda: gone(pid), "the program to end")
