"""The faults: each is inflicted on a fleet under load and lifted again, and says what it may have cost.

A fault returns when nothing of it acts any more; from then on the runner measures how long it takes until all is
well. A victim is stopped before it is killed, so that what it held is known exactly: a stopped process accepts
nothing.
"""

from __future__ import annotations

import http.client
import os
import random
import signal
import subprocess
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from chaos.clients import Excuse
from chaos.fleet import PROMISES, Fleet, ports_held
from djsup.client import ClientError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

STOPPED_S = 1.5
LIFTED_S = 1.0
BIG_REQUESTS = 4


class Skipped(Exception):
    """This fault cannot be had here; the text says why."""


@dataclass
class Inflicting:
    """One fault under way."""

    fleet: Fleet
    random: random.Random
    name: str
    excuses: list[Excuse] = field(default_factory=list)
    gone: set[int] = field(default_factory=set)
    """Processes that have to be replaced."""

    def site(self, *among: str) -> str:
        return self.random.choice(among or tuple(PROMISES))

    def worker(self, site: str) -> int:
        found = self.fleet.workers(site)
        if not found:
            raise Skipped("no worker serves")
        return self.random.choice(found)

    def template(self, site: str) -> int:
        found = self.fleet.template(site)
        if found is None:
            raise Skipped("there is no template")
        return found

    def stop(self, site: str, pid: int) -> Excuse:
        """Stop a worker for now; what it holds then is all that it can lose."""
        os.kill(pid, signal.SIGSTOP)
        _wait_until_stopped(pid)
        return self.excuse(site, pid, exact=True)

    def excuse(self, site: str, pid: int, *, exact: bool) -> Excuse:
        ports = ports_held(pid, self.fleet.ports[site])
        self.excuses.append(Excuse(self.name, site, pid, ports, exact))
        return self.excuses[-1]

    def kill(self, site: str, pid: int, number: signal.Signals) -> None:
        """Kill a worker; nothing but what it held in that moment is excused."""
        self.stop(site, pid)
        os.kill(pid, number)
        with suppress(ProcessLookupError):  # of a killed one the daemon has heard already
            os.kill(pid, signal.SIGCONT)
        self.gone.add(pid)

    def ask(self, site: str, path: str, timeout_s: float = 20.0) -> None:
        """One request of our own, whatever becomes of it."""
        connection = http.client.HTTPConnection("127.0.0.1", self.fleet.ports[site], timeout=timeout_s)
        with suppress(OSError, http.client.HTTPException):
            connection.request("GET", path)
            connection.getresponse().read()
        connection.close()


def _wait_until_stopped(pid: int) -> None:
    end = time.monotonic() + 5
    while time.monotonic() < end:
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "TtZ":
            return
        time.sleep(0.001)
    raise AssertionError(f"pid {pid} does not stop")


@contextmanager
def _limited(pid: int, name: str, soft: int) -> Iterator[None]:
    """A live process with a lower limit (prlimit(1)), until the block ends or it does.

    Its own user sets it: that needs no capability, which root in a container may lack.
    """
    at = {"as": "Max address space", "nofile": "Max open files", "nproc": "Max processes"}[name]
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
    before = next(line[len(at) :].split()[0] for line in lines if line.startswith(at))
    _set_limit(pid, name, str(soft))
    try:
        yield
    finally:
        with suppress(subprocess.CalledProcessError, FileNotFoundError):  # it has ended
            _set_limit(pid, name, before)


def _set_limit(pid: int, name: str, soft: str) -> None:
    found = Path(f"/proc/{pid}").stat()
    command = ["prlimit", "--pid", str(pid), f"--{name}={soft}:"]
    if found.st_uid == os.geteuid():
        subprocess.run(command, check=True, capture_output=True)
        return
    subprocess.run(
        command, check=True, capture_output=True, user=found.st_uid, group=found.st_gid, extra_groups=[]
    )


def _descriptors(pid: int) -> int:
    """One more than the highest descriptor that a process has open."""
    return max(int(each.name) for each in Path(f"/proc/{pid}/fd").iterdir()) + 1


# --- workers and templates -------------------------------------------------------------------------


def worker_killed(it: Inflicting) -> None:
    site = it.site()
    it.kill(site, it.worker(site), signal.SIGKILL)


def worker_segfaults(it: Inflicting) -> None:
    site = it.site()
    it.kill(site, it.worker(site), signal.SIGSEGV)


def all_workers_killed(it: Inflicting) -> None:
    site = it.site()
    for pid in it.fleet.workers(site):
        it.kill(site, pid, signal.SIGKILL)


def worker_stopped(it: Inflicting) -> None:
    """Then it goes on. What it held only waits, unless a request was overdue: then it is replaced."""
    site = it.site()
    pid = it.worker(site)
    it.stop(site, pid).over_at = time.monotonic() + 10
    time.sleep(STOPPED_S)
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


def worker_stopped_for_good(it: Inflicting) -> None:
    """It hangs in the middle of a request: it is overdue, killed and replaced."""
    site = it.site("forked", "plain")
    asking = [threading.Thread(target=it.ask, args=(site, "/slow")) for _ in range(8)]
    for each in asking:
        each.start()
    time.sleep(0.1)
    busy = [each["pid"] for each in it.fleet.sites()[site]["workers"] if each["state"] == "busy"]
    pid = it.random.choice(busy) if busy else it.worker(site)
    excuse = it.stop(site, pid)
    end = time.monotonic() + 12
    while psutil.pid_exists(pid) and time.monotonic() < end:
        time.sleep(0.05)
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)
    for each in asking:
        each.join()
    excuse.over_at = time.monotonic() + 1


def template_killed(it: Inflicting) -> None:
    pid = it.template(it.site("blog", "forked"))
    os.kill(pid, it.random.choice([signal.SIGKILL, signal.SIGSEGV]))
    it.gone.add(pid)


def template_stopped(it: Inflicting) -> None:
    """And a worker dies meanwhile: its replacement comes when the template goes on, or is given up."""
    site = it.site("blog", "forked")
    template = it.template(site)
    os.kill(template, signal.SIGSTOP)
    it.kill(site, it.worker(site), signal.SIGKILL)
    time.sleep(STOPPED_S)
    with suppress(ProcessLookupError):
        os.kill(template, signal.SIGCONT)


def program_killed(it: Inflicting) -> None:
    pid = it.fleet.sites()["blog"]["programs"][0]["pid"]
    os.kill(pid, signal.SIGKILL)
    it.gone.add(pid)


# --- starving --------------------------------------------------------------------------------------


def workers_without_memory(it: Inflicting) -> None:
    """RLIMIT_AS at what they have, and requests that need more."""
    site = it.site("forked", "plain")
    with _starved(it, site, "as", lambda pid: psutil.Process(pid).memory_info().vms):
        for _ in range(BIG_REQUESTS):
            it.ask(site, "/big")
        time.sleep(LIFTED_S / 2)


def workers_without_descriptors(it: Inflicting) -> None:
    """The site's own code takes all that there are: accepting pauses, and goes on."""
    site = it.site("forked", "plain")
    with _starved(it, site, "nofile", _descriptors):
        it.ask(site, "/hoard")
        time.sleep(LIFTED_S / 2)


@contextmanager
def _starved(it: Inflicting, site: str, name: str, soft: Callable[[int], int]) -> Iterator[None]:
    """All workers of a site, for the kernel chooses which of them gets the request that hurts."""
    with ExitStack() as limits:
        excuses = []
        for pid in it.fleet.workers(site):
            excuses.append(it.excuse(site, pid, exact=False))
            limits.enter_context(_limited(pid, name, soft(pid)))
        yield
    for each in excuses:
        each.over_at = time.monotonic()


def forks_fail(it: Inflicting) -> None:
    """RLIMIT_NPROC of a template's user is reached while a worker is to be replaced."""
    if it.fleet.other_user is None:
        raise Skipped("no other user to limit: it takes root and a /usr/bin/python3 of our version")
    template = it.template("forked")
    with _limited(template, "nproc", 1):
        it.kill("forked", it.worker("forked"), signal.SIGKILL)
        time.sleep(LIFTED_S)


def template_without_descriptors(it: Inflicting) -> None:
    """It cannot take what a new worker needs from the daemon."""
    site = it.site("blog", "forked")
    template = it.template(site)
    with _limited(template, "nofile", 3):
        it.kill(site, it.worker(site), signal.SIGKILL)
        time.sleep(LIFTED_S)


def daemon_without_descriptors(it: Inflicting) -> None:
    """The daemon can open nothing while a worker is to be replaced."""
    site = it.site()
    victim, daemon = it.worker(site), it.fleet.daemon.pid
    with _limited(daemon, "nofile", 3):
        it.kill(site, victim, signal.SIGKILL)
        time.sleep(LIFTED_S)


@contextmanager
def _full_disk(it: Inflicting) -> Iterator[None]:
    """Not a single byte can be written until the block ends; uploads that need the disk may fail."""
    if not it.fleet.disk_is_small:
        raise Skipped("no small disk to fill: mounting a tmpfs takes root")
    excuses = [Excuse(it.name, site, None) for site in ("forked", "plain")]
    it.excuses += excuses
    filler = it.fleet.disk / "filler"
    try:
        with filler.open("wb", buffering=0) as file:
            for size in (2**20, 4096, 1):
                with suppress(OSError):
                    while True:
                        file.write(b"x" * size)
        yield
        time.sleep(LIFTED_S)
    finally:
        filler.unlink()
        for each in excuses:
            each.over_at = time.monotonic()


def disk_full(it: Inflicting) -> None:
    """No room for logs, events, estates and large bodies; a worker dies and a site is reloaded meanwhile."""
    with _full_disk(it):
        site = it.site()
        it.kill(site, it.worker(site), signal.SIGKILL)
        with suppress(ClientError):
            it.fleet.ask("reload", sites=[it.site("blog", "forked")])


# --- messages --------------------------------------------------------------------------------------


def channel_corrupted(it: Inflicting) -> None:
    """A site's code writes garbage, and messages that it has no business to send, into its channel: it costs nothing."""
    it.ask(it.site("forked", "plain"), "/babble")
    time.sleep(LIFTED_S / 2)


# --- operators -------------------------------------------------------------------------------------


def good_reload(it: Inflicting) -> None:
    site = it.site("forked", "plain")
    it.fleet.deploy(site)
    result = it.fleet.daemon.run("reload", site, timeout_s=60)
    assert result.status == 0, result


def broken_reload(it: Inflicting) -> None:
    site = it.site("forked", "plain")
    it.fleet.deploy(site, broken=True)
    try:
        result = it.fleet.daemon.run("reload", site, timeout_s=60)
        assert result.status == 1, result
    finally:
        it.fleet.deploy(site)
    result = it.fleet.daemon.run("reload", site, timeout_s=60)  # so that a lost template finds good code
    assert result.status == 0, result


def killed_in_the_middle_of_a_reload(it: Inflicting) -> None:
    site = it.site("forked", "plain")
    it.fleet.deploy(site)
    with suppress(ClientError):
        it.fleet.ask("reload", sites=[site], wait=False)
    time.sleep(it.random.uniform(0.0, 0.5))
    with suppress(Skipped, ProcessLookupError, FileNotFoundError):
        it.kill(site, it.worker(site), signal.SIGKILL)


def scaled(it: Inflicting) -> None:
    site = it.site()
    for number in (PROMISES[site] + 2, max(1, PROMISES[site] - 1), PROMISES[site]):
        it.fleet.ask("scale", site=site, workers=number)
        time.sleep(it.random.uniform(0.0, 0.4))


# --- the daemon ------------------------------------------------------------------------------------


def daemon_stopped(it: Inflicting) -> None:
    """Nobody needs it to be served."""
    pid = it.fleet.daemon.pid
    os.kill(pid, signal.SIGSTOP)
    site = it.site()
    try:
        time.sleep(STOPPED_S)
    finally:
        os.kill(pid, signal.SIGCONT)
    it.kill(site, it.worker(site), signal.SIGKILL)


def daemon_killed(it: Inflicting) -> None:
    """kill -9, and another that adopts what is left; sometimes a worker dies while there is none."""
    site = it.site()
    victim = it.worker(site)
    os.kill(it.fleet.daemon.pid, signal.SIGKILL)
    it.fleet.daemon.wait_end()
    if it.random.random() < 0.5:
        it.kill(site, victim, signal.SIGKILL)
    time.sleep(it.random.uniform(0.0, 1.0))
    it.fleet.daemon.start()


def daemon_killed_with_a_full_disk(it: Inflicting) -> None:
    """kill -9, and the one that adopts finds no room for a single byte."""
    with _full_disk(it):
        os.kill(it.fleet.daemon.pid, signal.SIGKILL)
        it.fleet.daemon.wait_end()
        it.fleet.daemon.start()


FAULTS: tuple[Callable[[Inflicting], None], ...] = (
    worker_killed,
    worker_segfaults,
    all_workers_killed,
    worker_stopped,
    worker_stopped_for_good,
    template_killed,
    template_stopped,
    program_killed,
    workers_without_memory,
    workers_without_descriptors,
    forks_fail,
    template_without_descriptors,
    daemon_without_descriptors,
    disk_full,
    daemon_killed_with_a_full_disk,
    channel_corrupted,
    good_reload,
    broken_reload,
    killed_in_the_middle_of_a_reload,
    scaled,
    daemon_stopped,
)
"""In turn at random. The daemon's own death is ``daemon_killed``, which the runner puts where it belongs."""


def is_gone(error: BaseException) -> bool:
    """Whether a victim had ended by itself before it could be hit."""
    return isinstance(error, ProcessLookupError | FileNotFoundError | psutil.NoSuchProcess)
