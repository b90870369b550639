"""The daemon is killed: its programs run on, and the next daemon takes them over, or they end in time."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress

import psutil
import pytest

from system.bare import BareSite
from system.daemon import DaemonUnderTest, Project, wait_for
from system.test_programs import Site, gone

CHATTY = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
own_group = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], process_group=0)
print("children", child.pid, own_group.pid, flush=True)
number = 0
while True:
    number += 1
    print("line", number, flush=True)
    print("error", number, file=sys.stderr, flush=True)
    time.sleep(0.02)
"""
TALKING = """
import os, socket, time
notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
notify.connect(os.environ["NOTIFY_SOCKET"])
def wait(name):
    while not os.path.exists(name):
        notify.send(b"WATCHDOG=1")
        time.sleep(0.01)
wait("go")
notify.send(b"READY=1\\nSTATUS=cooking")
wait("silence")
time.sleep(600)
"""
PATIENT = """
import os, time
print("begins", os.getpid(), flush=True)
while not os.path.exists("go"):
    time.sleep(0.02)
print("half done", flush=True)
raise SystemExit(4)
"""


@pytest.fixture
def site(daemon: DaemonUnderTest) -> Site:
    """The site "blog" without Django, for it has to boot twice in each test."""
    bare = BareSite(daemon, "blog")
    return Site(daemon, Project(bare.folder))


def kill(daemon: DaemonUnderTest) -> None:
    os.kill(daemon.pid, signal.SIGKILL)
    daemon.wait_end()


def keeper(daemon: DaemonUnderTest) -> psutil.Process:
    """The keeper of the daemon that runs."""

    def look() -> psutil.Process | None:
        found = []
        for each in daemon.family():
            with suppress(psutil.Error):  # it has just ended
                if "djsup.keeper" in each.cmdline():
                    found.append(each)
        return found[0] if len(found) == 1 else None

    return wait_for(look, "the keeper")


def numbers(daemon: DaemonUnderTest, word: str) -> list[int]:
    """What the chatty program has printed, as the log has it."""
    texts = (
        line.rpartition("] ")[2].split() for line in daemon.log.splitlines() if " blog chatty/0 [" in line
    )
    return [int(text[1]) for text in texts if len(text) == 2 and text[0] == word]


def test_a_program_goes_on_and_none_of_its_lines_is_lost(site: Site) -> None:
    daemon = site.daemon
    site.program("chatty", CHATTY, "instances = 1")
    daemon.start()
    pid = site.one("chatty")["pid"]
    children = [int(each) for each in site.printed("chatty/0", "children").split()[1:]]
    first = keeper(daemon)
    kill(daemon)
    last = numbers(daemon, "line")[-1]
    time.sleep(0.5)  # it prints, and no daemon is there
    daemon.start()
    assert site.one("chatty")["pid"] == pid
    assert site.daemon.status("blog")["programs"][0]["uptime_s"] > 0.5
    wait_for(lambda: numbers(daemon, "line")[-1] > last + 50, "what it prints after the adoption")
    for word in ("line", "error"):
        found = numbers(daemon, word)
        missing = set(range(1, found[-1])) - set(found)
        assert missing <= set(range(last, last + 6)), "at most what the daemon had read and not yet written"
    assert "is adopted from an earlier daemon: 2 workers, 1 program" in daemon.log
    wait_for(lambda: gone(first.pid), "the first keeper to end")
    assert keeper(daemon).pid != first.pid
    assert site.events("program-died") == []

    kill(daemon)  # once more: what was adopted is kept as what was started
    daemon.start()
    assert site.one("chatty")["pid"] == pid
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: all(gone(each) for each in children), "what it has left in its session to be killed")
    site.one("chatty", but=pid)
    (death,) = site.events("program-died")
    assert "its exit status is not known" in death["text"]
    assert death["details"].splitlines()[-1].startswith("error ")
    daemon.done("stop")
    assert daemon.wait_end() == 0
    assert not (daemon.runtime / "keeper.sock").exists()
    assert "mistake" not in daemon.log


def test_without_a_daemon_programs_end_with_all_their_children(site: Site) -> None:
    daemon = site.daemon
    daemon.top = "orphan_grace = 0.5"
    stubborn = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + CHATTY
    site.program("chatty", stubborn, "stop_timeout = 0.3")
    site.program("plain", "import time\ntime.sleep(600)\n", "stop_timeout = 60")
    daemon.start()
    pids = [site.one("chatty")["pid"], site.one("plain")["pid"]]
    pids += [int(each) for each in site.printed("chatty/0", "children").split()[1:]]
    pids.append(keeper(daemon).pid)
    kill(daemon)
    begun = time.monotonic()
    assert not any(gone(each) for each in pids)
    wait_for(lambda: gone(pids[1]), "one to end as told")
    wait_for(
        lambda: all(gone(each) for each in pids),
        "the other to be killed, with its children, and the keeper to end",
    )
    assert 0.7 <= time.monotonic() - begun < 10


def test_words_of_being_ready_are_heard_while_no_daemon_is_there(site: Site) -> None:
    site.program("talking", TALKING, 'notify = true\nwatchdog = "1s"\nstop_timeout = 1')
    site.daemon.start()
    pid = site.one("talking", "starting")["pid"]
    kill(site.daemon)
    (site.project.directory / "go").touch()
    time.sleep(0.3)
    site.daemon.start()
    shown = site.one("talking")
    assert (shown["pid"], shown["status_text"]) == (pid, "cooking")
    time.sleep(1.2)
    assert site.one("talking")["pid"] == pid, "its signs of life are heard"
    (site.project.directory / "silence").touch()
    death = wait_for(lambda: site.events("program-died"), "the silence to be noticed")[0]
    assert "did not say WATCHDOG=1 for 1 s" in death["text"]


def test_a_command_that_runs_is_not_run_twice(site: Site) -> None:
    site.program("patient", PATIENT, 'schedule = "0 3 * * *"')
    site.program("brief", "print('brief')\n", 'schedule = "0 3 * * *"')
    site.daemon.start()
    site.daemon.ask("run", site="blog", program="patient", wait=False)
    pid = site.one("patient")["pid"]
    site.daemon.ask("run", site="blog", program="brief")
    kill(site.daemon)
    site.daemon.start()
    assert site.one("patient")["pid"] == pid
    shown = site.one("brief", "waiting")
    assert (shown["runs"], shown["last_well"]) == (1, True), "how the last run went is known"
    (site.project.directory / "go").touch()
    finished = wait_for(
        lambda: [each for each in site.events("program-finished") if "patient" in each["text"]], "its end"
    )[-1]
    assert "its exit status is not known" in finished["text"]
    assert finished["details"].splitlines()[-1] == "half done"
    assert (finished["level"], site.one("patient", "waiting")["last_well"]) == ("warning", None)
    assert site.daemon.log.count("begins") == 1


def test_what_changes_meanwhile_is_as_with_a_reload(site: Site) -> None:
    plain = "import time\ntime.sleep(600)\n"
    for name in ("same", "other", "removed"):
        site.program(name, plain)
    site.daemon.start()
    before = {name: site.one(name)["pid"] for name in ("same", "other", "removed")}
    keeper(site.daemon)
    kill(site.daemon)
    os.kill(before["same"], 0)
    site.program("other", plain, 'env = { CHANGED = "1" }')
    del site.tables["removed"]
    site.write()
    site.daemon.start()
    site.one("other", but=before["other"])
    assert site.one("same")["pid"] == before["same"]
    wait_for(lambda: gone(before["removed"]), "the one that was removed to end")


def test_a_keeper_that_dies_is_replaced_and_without_one_programs_start_anew(site: Site) -> None:
    site.program("chatty", CHATTY)
    site.program("later", "import time\ntime.sleep(600)\n")
    site.daemon.start()
    pid = site.one("chatty")["pid"]
    children = [int(each) for each in site.printed("chatty/0", "children").split()[1:]]
    first = keeper(site.daemon)
    first.kill()
    wait_for(lambda: keeper(site.daemon).pid != first.pid, "the next keeper")
    second = keeper(site.daemon).pid
    site.daemon.done("upgrade")
    assert keeper(site.daemon).pid == second, "it stays with another program of its daemon"
    os.kill(site.one("later")["pid"], signal.SIGKILL)
    wait_for(lambda: site.events("program-died"), "its death")
    later = site.one("later")["pid"]
    kill(site.daemon)
    site.daemon.start()
    assert site.one("chatty")["pid"] == pid, "the next keeper was given what the first had"
    assert site.one("later")["pid"] == later, "and what was started afterwards"

    # The keeper dies together with the daemon: nobody reads what the program prints.
    (last := keeper(site.daemon)).suspend()
    kill(site.daemon)
    last.kill()
    site.daemon.start()
    site.one("chatty", but=pid)
    wait_for(lambda: all(gone(each) for each in (pid, *children)), "the old one to end, and what it has left")
