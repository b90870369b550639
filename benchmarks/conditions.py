"""``python -m benchmarks.conditions [--rounds N] [--publish] [CONDITION...]``: what clients notice of djsup's reloads.

A Django site that takes a second and a bit to load, two workers, sixteen plain clients that ask for its front page as
``benchmarks.reloading``'s do, and beside them what the condition says: first a while without a reload, then three reloads
under the same load. Failed requests and closed connections are counted of all clients; the latency is that of the plain
ones.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import psutil

from benchmarks import ours
from benchmarks.launch import Launch
from benchmarks.load import PLAIN, Clients, ClientsResult, Manner
from benchmarks.reloading import (
    HEALTH,
    LATENCIES,
    NEW_S,
    PAGE,
    ROUNDS,
    Pace,
    Table,
    deploy,
    latencies,
    measured_pace,
    prepare,
    where,
)
from benchmarks.running import NotRunning, Running, running
from benchmarks.servers import BY_NAME, OURS
from benchmarks.workloads import MIB, Application, Session
from djsup.client import Client

COMMAND = "python -m benchmarks.conditions"
BOOT_S = 1.0
CRASHES = "import os\n\nos.abort()\n"
LOOP = """\
import os
import threading

threading.Timer(0.2, os._exit, (1,)).start()


def application(environ, start_response):
    start_response("204 No Content", [])
    return []
"""
"""A worker of it dies again and again, as often as djsup starts it."""
LOOPING = """
[sites.loop]
directory = "{directory}"
python = "{environment}"
wsgi = "loop:application"
preload = false
listen = ["unix:{folder}/loop.sock"]
"""
PROGRAMS = """
[sites.bench.programs.helper]
command = "sleep 3600"
instances = 2
"""
UNIX = "bench.sock"
CLIENTS, WORKERS, THREADS = 16, 2, 8
RELOADS = 3
STEADY_S = 15.0
BETWEEN_S = 0.5
ASKS = Manner(every_s=1.0)
"""Here a second is one pace; see ``Manner.paced``."""
SELDOM = 5.0

Act = Callable[[Running, Callable[[], None]], None]
"""Makes a reload happen; the function deploys the new code."""


def _ask(runs: Running, verb: str, **arguments: object) -> None:
    """As the command line asks, which itself would keep a processor busy for a while."""
    Client(f"{runs.launch.folder}/run").call(verb, NEW_S, **arguments)


def _plainly(runs: Running, deploys: Callable[[], None]) -> None:
    deploys()
    _ask(runs, "reload", sites=["bench"])


def _while_it_scales(runs: Running, deploys: Callable[[], None]) -> None:
    deploys()
    _ask(runs, "reload", sites=["bench"], wait=False)
    for workers in (WORKERS * 2, WORKERS + 1, WORKERS):
        time.sleep(BOOT_S / 2)
        _ask(runs, "scale", site="bench", workers=workers)


def _while_another_runs(runs: Running, deploys: Callable[[], None]) -> None:
    _ask(runs, "reload", sites=["bench"], wait=False)
    time.sleep(BOOT_S / 2)
    _plainly(runs, deploys)


def _after_one_that_crashes(runs: Running, deploys: Callable[[], None]) -> None:
    (runs.launch.application.directory / "slow.py").write_text(CRASHES)
    _ask(runs, "reload", sites=["bench"])
    _plainly(runs, deploys)


@dataclass(frozen=True, slots=True)
class Condition:
    """What goes on during reloads."""

    name: str
    beside: tuple[tuple[str, int, Manner], ...] = ()
    """Other clients: what they ask for, how many they are, and how they ask."""
    plain: Manner = ASKS
    """How the clients ask whose latency counts."""
    more: str = ""
    """Lines of the site's table."""
    tables: str = ""
    """Tables below it."""
    act: Act = _plainly
    templates: int = 1


CONDITIONS = (
    Condition("nothing else"),
    Condition("TLS", plain=replace(ASKS, tls=True)),
    Condition("Unix socket", plain=replace(ASKS, unix=UNIX)),
    Condition("4 new connections at a time", (("/", 4, replace(ASKS, keep_alive=False)),)),
    Condition("4 streams of 2 s", (("/stream", 4, PLAIN),)),
    Condition("4 requests of 1.5 s", (("/long", 4, PLAIN),)),
    Condition("2 uploads of 8 MiB", (("/upload", 2, Manner(body_bytes=8 * MIB)),)),
    Condition("4 clients with 8 requests at once", (("/", 4, Manner(at_once=8, every_s=SELDOM)),)),
    Condition("16 clients that send for 2 s", (("/", 16, Manner(takes_s=2.0)),)),
    Condition("no template", more="preload = false", templates=0),
    Condition("scaled meanwhile", act=_while_it_scales),
    Condition("another reload runs", act=_while_another_runs),
    Condition("after code that crashes", act=_after_one_that_crashes),
    Condition("a site in a crash loop beside", tables=LOOPING),
    Condition("2 programs", tables=PROGRAMS),
)


@dataclass(frozen=True, slots=True)
class Seen:
    """What clients saw of one condition: the plain ones, and those beside them."""

    done: int
    """Reloads after which the new code answered."""
    steady: ClientsResult
    during: ClientsResult
    others: tuple[ClientsResult, ...]
    """During the reloads, too."""


def main(arguments: list[str]) -> int:
    """Measure and print, and publish if that is asked for."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    names = ", ".join(f'"{each.name}"' for each in CONDITIONS)
    parser.add_argument(
        "conditions", nargs="*", metavar="CONDITION", help=f"the beginning of one of: {names}"
    )
    parser.add_argument(
        "--rounds", type=int, default=ROUNDS, help=f"how often all is measured, one after another; {ROUNDS}"
    )
    parser.add_argument("--publish", action="store_true", help=f"write the rows into {PAGE.name}")
    given = parser.parse_args(arguments)
    beginnings = tuple(given.conditions or [""])
    chosen = [each for each in CONDITIONS if each.name.startswith(beginnings)]
    if not chosen:
        parser.error(f"there is no such condition; there are {names}")
    pace = measured_pace()
    seen: dict[str, list[Seen]] = {}
    for number in range(1, given.rounds + 1):
        for condition in chosen:
            sys.stderr.write(f"  round {number}: {condition.name}\n")
            try:
                found = measure(condition, pace)
            except (NotRunning, OSError, psutil.Error) as error:
                sys.stderr.write(f"  not measured: {error}\n")
                continue
            seen.setdefault(condition.name, []).append(found)
            print(row(condition.name, [found]), flush=True)
    table = Table(COMMAND, HEAD, [each.name for each in CONDITIONS])
    rows = {name: row(name, rounds) for name, rounds in seen.items()}
    table.tell(rows, where(CLIENTS, WORKERS, STEADY_S), pace, publishes=given.publish)
    return 0


def measure(condition: Condition, pace: Pace) -> Seen:
    """Run djsup under one condition.

    Raises:
        NotRunning: it does not answer.
    """
    with tempfile.TemporaryDirectory(prefix="djsup-conditions-") as name:
        folder = Path(name)
        code = folder / "slow.py"
        prepare(folder)
        deploy(code, 0, BOOT_S)
        (folder / "loop.py").write_text(LOOP)
        application = Application("slow", folder, "slow:application")
        server = replace(
            BY_NAME[OURS], command=partial(_command, condition=condition), extra=condition.templates
        )
        session = Session(application, WORKERS, THREADS, tls=condition.plain.tls)
        with running(server, session) as runs:
            steady, _ = _under_load(condition, pace, runs, lambda _clients: time.sleep(STEADY_S))
            done = 0

            def reload(clients: Clients) -> None:
                nonlocal done
                for number in range(1, RELOADS + 1):
                    condition.act(runs, partial(deploy, code, number, BOOT_S))
                    done += clients.await_deploy(number, NEW_S)
                    time.sleep(BETWEEN_S)

            during, others = _under_load(condition, pace, runs, reload)
            return Seen(done, steady, during, others)


def _command(launch: Launch, condition: Condition) -> list[str]:
    tables = condition.tables.format(
        directory=launch.application.directory, environment=launch.environment, folder=launch.folder
    )
    listen = f"unix:{launch.folder}/{UNIX}" if condition.plain.unix else ""
    return ours.command(launch, listen=listen, more=f"{HEALTH}\n{condition.more}", tables=tables)


def _under_load(
    condition: Condition, pace: Pace, runs: Running, act: Callable[[Clients], None]
) -> tuple[ClientsResult, tuple[ClientsResult, ...]]:
    """Do something while all clients ask; what the plain ones saw, and the others."""
    plain = condition.plain
    if plain.unix:
        plain = replace(plain, unix=str(runs.launch.folder / plain.unix))
    port = runs.launch.port
    with ExitStack() as stack:
        others = [
            stack.enter_context(Clients(port, path, number, manner.paced(pace.every_s)))
            for path, number, manner in condition.beside
        ]
        with Clients(port, "/", CLIENTS, plain.paced(pace.every_s)) as clients:
            act(clients)
    return clients.result, tuple(each.result for each in others)


HEAD = (
    f"| beside | rounds | reloads | failed | closed | {LATENCIES} |\n"
    "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |"
)


def row(name: str, rounds: Sequence[Seen]) -> str:
    """A line of the table: counts of all rounds and clients together, and what LATENCIES says of the plain ones."""
    everybody = [result for each in rounds for result in (each.during, *each.others)]
    failed = sum(each.failed for each in everybody)
    cells = [
        name,
        str(len(rounds)),
        str(sum(each.done for each in rounds)),
        f"{failed:,} of {sum(each.requests for each in everybody) + failed:,}",
        f"{sum(each.closed for each in everybody):,}",
        *latencies([(each.steady, each.during) for each in rounds]),
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
