"""``python -m benchmarks.reloading [--rounds N] [--quick] [--publish] [WAY...]``: what clients notice of a reload.

Server by server: a Django site that takes two seconds and a bit to load, two workers, sixteen clients that each ask for
its front page so often that these pages keep a fifth of the processors busy: first a while without a reload, then ten
reloads in the way that each server advises, then one reload to code that cannot be imported. Once with connections that
are kept open, once with a new one for each request; all of it several times, for a worst answer differs from one time
to the next.
"""

import argparse
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median

import psutil
from tools.say import Failure

from benchmarks import ours, publish
from benchmarks.launch import Launch
from benchmarks.load import Clients, ClientsResult, Manner, trusting
from benchmarks.running import NotRunning, Running, running
from benchmarks.servers import BY_NAME, OURS, Server
from benchmarks.workloads import APPS, ROOT, Application, Session, Workload

PAGE = ROOT / "docs/explanation/zero-downtime.md"
COMMAND = "make bench-reload"
BOOT_S = 2.0
SITE = APPS / "deployed.py"
ENTRIES = 40
HEALTH = 'health = { path = "/" }'
"""djsup is told that the front page is to be asked for before a worker gets requests, as it advises."""
BROKEN = 'raise RuntimeError("a deploy that went wrong")\n'
CLIENTS, WORKERS, THREADS = 16, 2, 4
BUSY = 0.2
"""The part of all processors that the clients' pages alone would keep busy, without a server, clients and reloads."""
PACED = """
import io, statistics, time
from wsgiref.util import setup_testing_defaults
from slow import application

def page():
    environ = {"wsgi.input": io.BytesIO()}
    setup_testing_defaults(environ)
    began = time.thread_time()
    answer = application(environ, lambda status, headers: None)
    b"".join(answer)
    answer.close()
    return time.thread_time() - began

times = [page() for _ in range(600)]
print(statistics.median(times[100:]))
"""
"""Prints what a page takes of a processor, in seconds."""
RELOADS = 10
ROUNDS = 3
STEADY_S = 20.0
BETWEEN_S = 0.5
BROKEN_S = 8.0
"""How long a server is watched after it was told to load the broken code."""
PROMOTED_S = 1.5
"""A second gunicorn master takes another USR2 once it has noticed that the first is gone."""
NEW_S = 20.0
"""How long it may take until all answers are of the new code."""


@dataclass(frozen=True, slots=True)
class Way:
    """One server, reloaded in one way."""

    name: str
    server: Server
    tell: Callable[[Running], None]
    """Asks for the reload; it need not wait for its end."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What the clients of one way saw."""

    done: int
    """Reloads after which the new code answered."""
    steady: ClientsResult
    during: ClientsResult
    broken: str
    """What became of the broken deploy, in words."""
    broken_failed: int
    """Requests that failed meanwhile."""


def main(arguments: list[str]) -> int:
    """Measure and print, and publish if that is asked for."""
    parser = argparse.ArgumentParser(prog="make bench-reload arguments=", description=__doc__)
    parser.add_argument("ways", nargs="*", metavar="WAY", help=", ".join(f'"{each.name}"' for each in WAYS))
    parser.add_argument(
        "--rounds", type=int, default=ROUNDS, help=f"how often all is measured, one after another; {ROUNDS}"
    )
    parser.add_argument("--quick", action="store_true", help="two reloads, once: a look, no comparison")
    parser.add_argument("--publish", action="store_true", help=f"write the rows into {PAGE.name}")
    given = parser.parse_args(arguments)
    ways = [each for each in WAYS if not given.ways or each.name in given.ways]
    pace = measured_pace()
    seen: dict[str, list[Seen]] = {}
    for number in range(1, 2 if given.quick else given.rounds + 1):
        for way, keep_alive in product(ways, (True, False)):
            key = _key(way, keep_alive)
            sys.stderr.write(f"  round {number}: {way.name}, {'kept' if keep_alive else 'new'} connections\n")
            try:
                way.server.install()
                found = measure(way, pace, keep_alive=keep_alive, reloads=2 if given.quick else RELOADS)
            except (NotRunning, Failure, OSError, psutil.Error) as error:
                sys.stderr.write(f"  not measured: {error}\n")
                continue
            seen.setdefault(key, []).append(found)
            print(row(key, [found]), flush=True)
    table = Table(COMMAND, HEAD, [_key(way, keep_alive) for way, keep_alive in product(WAYS, (True, False))])
    rows = {key: row(key, rounds) for key, rounds in seen.items()}
    table.tell(rows, where(), pace, publishes=given.publish)
    return 0


def _key(way: Way, keep_alive: bool) -> str:
    """What the way's row begins with."""
    return f"{way.name} | {'kept' if keep_alive else 'new'}"


@dataclass(frozen=True, slots=True)
class Pace:
    """How often clients ask on this machine."""

    page_s: float
    """What a page takes of a processor."""

    @property
    def every_s(self) -> float:
        """How often each client asks, from when it is due on: who waits meanwhile for an answer is not forgotten."""
        return CLIENTS * self.page_s / (BUSY * (os.cpu_count() or 1))

    def fits(self, place: str, section: str) -> bool:
        """Whether figures were measured at this place, on the same day, at nearly this pace."""
        found = re.search(r"A page takes ([\d.]+) ms", section)
        return place in section and found is not None and 0.9 <= self.page_s * 1000 / float(found[1]) <= 1.1

    def __str__(self) -> str:
        return (
            f"A page takes {self.page_s * 1000:.1f} ms of a processor; "
            f"each client asks every {self.every_s * 1000:.0f} ms."
        )


@dataclass(frozen=True, slots=True)
class Table:
    """A table of PAGE."""

    command: str
    """What makes it."""
    head: str
    order: Sequence[str]
    """What all rows there can be begin with."""

    def tell(self, rows: dict[str, str], place: str, pace: Pace, *, publishes: bool) -> None:
        """Print these rows by their beginnings, and write them into PAGE if that is asked for."""
        measured = f"{place} {pace}"
        print("", measured, "", self.head, *rows.values(), sep="\n")
        if publishes:
            fits = partial(pace.fits, place)
            new = publish.with_rows(
                PAGE.read_text(), self.command, measured, self.head, rows, self.order, fits
            )
            PAGE.write_text(new)


def measured_pace() -> Pace:
    """The pace that keeps this machine as busy as any other, so that what is measured is not how quick it is.

    Raises:
        subprocess.CalledProcessError: the site does not load.
    """
    with tempfile.TemporaryDirectory(prefix="djsup-pace-") as name:
        prepare(Path(name))
        deploy(Path(name, "slow.py"), 0, 0.0)
        python = BY_NAME[OURS].environment / "bin/python"
        said = subprocess.run([python, "-c", PACED], cwd=name, check=True, stdout=subprocess.PIPE, text=True)
    return Pace(float(said.stdout))


def measure(way: Way, pace: Pace, *, keep_alive: bool, reloads: int) -> Seen:
    """Run one server in one way.

    Raises:
        NotRunning: the server does not answer.
    """
    with tempfile.TemporaryDirectory(prefix="djsup-reloading-") as name:
        folder = Path(name)
        code = folder / "slow.py"
        prepare(folder)
        deploy(code, 0, BOOT_S)
        # Apache reads it as nobody.
        folder.chmod(0o755)
        application = Application("slow", folder, "slow:application")
        manner = Manner(keep_alive=keep_alive, every_s=pace.every_s)
        load = Workload("reloading", "", application, keep_alive=keep_alive)
        with running(way.server, Session(application, WORKERS, THREADS, workloads=(load,))) as runs:
            with _clients(runs, manner) as steady:
                time.sleep(STEADY_S)
            done = 0
            with _clients(runs, manner) as during:
                for number in range(1, reloads + 1):
                    deploy(code, number, BOOT_S)
                    way.tell(runs)
                    done += during.await_deploy(number, NEW_S)
                    time.sleep(BETWEEN_S)
            code.write_text(BROKEN)
            with _clients(runs, manner) as broken:
                with suppress(psutil.Error):
                    way.tell(runs)
                time.sleep(BROKEN_S)
            return Seen(
                done, steady.result, during.result, _after_broken(runs, reloads), broken.result.failed
            )


def prepare(folder: Path) -> None:
    """What of the site no deploy changes. Every process of every server may read and write its database."""
    shutil.copy(APPS / "small.py", folder)
    file = folder / "site.sqlite3"
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("CREATE TABLE entry (id INTEGER PRIMARY KEY, name TEXT, kind TEXT)")
        rows = [(f"entry {number}", f"kind {number % 7}") for number in range(ENTRIES)]
        database.executemany("INSERT INTO entry (name, kind) VALUES (?, ?)", rows)
    file.chmod(0o666)


def deploy(code: Path, number: int, loads_s: float) -> None:
    """Write new code. Its name changes hands, so that nobody reads half of it, and no older .pyc is taken for it."""
    new = code.with_suffix(".new")
    text = SITE.read_text()
    known = "NUMBER, LOADS_S = 0, 0.0\n"
    if known not in text:
        raise ValueError(f"{SITE} has no line {known!r}")
    new.write_text(text.replace(known, f"NUMBER, LOADS_S = {number}, {loads_s}\n"))
    os.utime(new, (time.time() + number, time.time() + number))
    new.replace(code)


def _clients(runs: Running, manner: Manner) -> Clients:
    return Clients(runs.launch.port, "/", CLIENTS, manner)


def _ask(runs: Running) -> str | None:
    """The number of the deploy that answers a new connection; None: nothing that is fine."""
    try:
        with urllib.request.urlopen(runs.url("/number"), timeout=5, context=trusting()) as response:
            return str(response.read().decode())
    except (OSError, ValueError):
        return None


def _after_broken(runs: Running, last: int) -> str:
    """In a few words, what the server did with code that does not load."""
    if _ask(runs) == str(last):
        return "the old code serves on"
    if runs.processes()[0].is_running():
        return "nothing is served"
    return "the server is gone"


LATENCIES = "p99.9 steady, ms | reloading | worst steady, ms | reloading | ratio"
HEAD = (
    f"| | connections | rounds | reloads | failed | closed | {LATENCIES} | broken code |\n"
    "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- | --- |"
)


def row(key: str, rounds: Sequence[Seen]) -> str:
    """A line of the table: counts of all rounds together, and what LATENCIES says."""
    during = [each.during for each in rounds]
    failed = sum(each.failed for each in during)
    states = " or ".join(sorted({each.broken for each in rounds}))
    broken_failed = sum(each.broken_failed for each in rounds)
    cells = [
        key,
        str(len(rounds)),
        str(sum(each.done for each in rounds)),
        f"{failed:,} of {sum(each.requests for each in during) + failed:,}",
        f"{sum(each.closed for each in during):,}" if key.endswith("kept") else "-",
        *latencies([(each.steady, each.during) for each in rounds]),
        f"{states}; {broken_failed:,} failed in {BROKEN_S * len(rounds):.0f} s",
    ]
    return f"| {' | '.join(cells)} |"


def latencies(rounds: Sequence[tuple[ClientsResult, ClientsResult]]) -> list[str]:
    """The cells below LATENCIES: the medians of what was seen before and during reloads, and all that the ratio came to."""
    results = [*zip(*rounds, strict=True)]
    late_ms = [median(each.percentile_ms(0.999) for each in phase) for phase in results]
    worst_ms = [median(each.worst_ms for each in phase) for phase in results]
    return [*(f"{each:.1f}" for each in (*late_ms, *worst_ms)), _ratio(rounds)]


def _ratio(rounds: Sequence[tuple[ClientsResult, ClientsResult]]) -> str:
    befores_ms = [before.percentile_ms(0.999) for before, _ in rounds]
    if not all(befores_ms):
        return "-"
    ratios = sorted(during.worst_ms / ms for ms, (_, during) in zip(befores_ms, rounds, strict=True))
    middle = f"{median(ratios):.1f}"
    return middle if len(ratios) == 1 else f"{middle} ({ratios[0]:.1f} to {ratios[-1]:.1f})"


def where(clients: int = CLIENTS, workers: int = WORKERS, steady_s: float = STEADY_S) -> str:
    """When and on what it was measured."""
    day = time.strftime("%Y-%m-%d")
    uname = os.uname()
    version = ".".join(map(str, sys.version_info[:3]))
    return (
        f"Measured on {day}: {os.cpu_count()} cores, Linux {uname.release}, Python {version}; {clients} clients, "
        f"{workers} workers, {steady_s:.0f} s steady, then the reloads."
    )


# --- the ways ------------------------------------------------------------------------------------


def _signal(number: signal.Signals) -> Callable[[Running], None]:
    return lambda runs: runs.process.send_signal(number)


def _chain(runs: Running) -> None:
    """The file by which uWSGI is told to replace one worker after another."""
    (runs.launch.folder / "chain").touch()


def _second_master(runs: Running) -> None:
    """The way to upgrade gunicorn: a second master beside the first, which is told to end once the second serves.

    With ``--preload`` a master has workers once it has loaded the code, so one can see when that is.
    """
    first = runs.process
    before = set(first.children())
    first.send_signal(signal.SIGUSR2)
    end = time.monotonic() + NEW_S
    while time.monotonic() < end:
        for second in set(first.children()) - before:
            with suppress(psutil.NoSuchProcess):
                if len(second.children()) >= runs.launch.workers:
                    runs.process = second
                    first.send_signal(signal.SIGTERM)
                    with suppress(psutil.TimeoutExpired):
                        first.wait(NEW_S)
                    time.sleep(PROMOTED_S)
                    return
        time.sleep(0.02)


def _gunicorn_preloaded(launch: Launch) -> list[str]:
    pid_file = str(launch.folder / "gunicorn.pid")
    program, *options = BY_NAME["gunicorn-gthread"].command(launch)
    return [program, "--preload", "--pid", pid_file, *options]


def _uwsgi(launch: Launch) -> list[str]:
    """Behind its own HTTP router: without, each connection that is kept has a thread of a worker to itself."""
    options = ["--master", "--die-on-term", "--disable-logging", "--module", launch.application.wsgi]
    options += ["--processes", str(launch.workers), "--threads", str(launch.threads), "--need-app"]
    options += ["--http", launch.address, "--socket", str(launch.folder / "workers.sock")]
    return [str(launch.programs / "uwsgi"), *options, *(["--http-keepalive"] if launch.keep_alive else [])]


def _uwsgi_lazy(launch: Launch) -> list[str]:
    chain = launch.folder / "chain"
    chain.touch()
    return [*_uwsgi(launch), "--lazy-apps", "--touch-chain-reload", str(chain)]


WAYS = (
    Way(
        "djsup HUP",
        replace(BY_NAME[OURS], command=partial(ours.command, more=HEALTH)),
        _signal(signal.SIGHUP),
    ),
    Way("gunicorn HUP", BY_NAME["gunicorn-gthread"], _signal(signal.SIGHUP)),
    Way(
        "gunicorn USR2, TERM",
        replace(BY_NAME["gunicorn-gthread"], command=_gunicorn_preloaded),
        _second_master,
    ),
    Way("Granian HUP", BY_NAME["granian"], _signal(signal.SIGHUP)),
    Way("uWSGI HUP", replace(BY_NAME["uwsgi"], command=_uwsgi, extra=1), _signal(signal.SIGHUP)),
    Way("uWSGI chain reload", replace(BY_NAME["uwsgi"], command=_uwsgi_lazy, extra=1), _chain),
    Way("mod_wsgi graceful", BY_NAME["mod_wsgi"], _signal(signal.SIGUSR1)),
)

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
