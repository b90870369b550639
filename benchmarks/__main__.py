"""``python -m benchmarks [NAME...]``: djsup and the others, workload by workload, in turns.

A name is a workload, a server, ``memory`` or ``reloads``; without names of a kind all of that kind are measured.
"""

import argparse
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import psutil
from tools.say import Failure

from benchmarks import measure, servers, tables, workloads
from benchmarks.report import Report
from benchmarks.running import NotRunning, running
from benchmarks.servers import Server
from benchmarks.workloads import BARE, BLOG, Application, Session, Workload

Result = TypeVar("Result")

START_STOP_S = 1.5
"""What starting and stopping a server takes, about, in seconds."""
AROUND_S = 0.5
"""What a measurement takes besides the load that is measured: warming up, starting wrk."""
MEMORY_S = 6.0
RELOADS_S = 8.0
MEMORY, RELOADS = "memory", "reloads"
OTHERS = (MEMORY, RELOADS)
APPLICATIONS = (BARE, BLOG)
"""Those whose memory and reloads are measured."""
TROUBLE = (NotRunning, ValueError, OSError, psutil.Error, subprocess.SubprocessError)
"""What keeps one figure from being measured, and none of the others."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured, of whom and for how long."""

    servers: list[Server]
    workloads: list[Workload]
    others: list[str]
    seconds: float
    rounds: int

    def sessions(self) -> list[Session]:
        """The runs that a server makes in each round."""
        return workloads.sessions(self.workloads)

    def with_workers(self) -> list[Server]:
        """The servers whose memory and reloads are measured: not one process, and no second way to run one."""
        return [each for each in self.servers if not each.only and not each.one_process]

    def estimate_s(self) -> float:
        """How long all of it takes, about."""
        runs = [run for session in self.sessions() for server in self.servers for run in server.runs(session)]
        measured_s = sum(
            AROUND_S + measure.load_s(each, self.seconds) for run in runs for each in run.workloads
        )
        once = START_STOP_S * len(runs) + measured_s
        memory_s = MEMORY_S * len(self.with_workers()) if MEMORY in self.others else 0.0
        reloads_s = RELOADS_S * len(self.with_workers()) if RELOADS in self.others else 0.0
        return once * self.rounds + (memory_s + reloads_s) * len(APPLICATIONS)


def main(arguments: list[str]) -> int:
    """Measure, print, save."""
    if shutil.which("wrk") is None:
        sys.stderr.write("wrk makes the load and is not here. Debian: sudo apt-get install -y wrk\n")
        return 1
    plan = read_arguments(arguments)
    report = Report(plan.seconds, plan.rounds)
    plan.servers[:] = _installed(plan.servers, report)
    print(f"This takes about {plan.estimate_s() / 60:.1f} minutes.", flush=True)
    begin = time.monotonic()
    status = 0
    try:
        _measure(report, plan)
    except KeyboardInterrupt:
        print("\nInterrupted; this is what was measured until now.")
        status = 130
    finally:
        print(tables.legend(report))
        print(f"\nAll figures, after {(time.monotonic() - begin) / 60:.1f} minutes: {report.save()}")
    return status


def read_arguments(arguments: list[str]) -> Plan:
    """The plan that the command line asks for. Ends the program with the names that there are at one that is not."""
    names = [*workloads.BY_NAME, *OTHERS, *servers.BY_NAME]
    parser = argparse.ArgumentParser(
        prog="make bench arguments=",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(names))
    parser.add_argument("--quick", action="store_true", help="one round: a look, no comparison")
    parser.add_argument("--seconds", type=float, default=1, help="of each measurement (1)")
    parser.add_argument("--rounds", type=int, default=3, help="of which the median is taken (3)")
    given = parser.parse_args(arguments)
    for name in given.names:
        if name not in names:
            parser.error(f'there is no "{name}"; there are: {", ".join(names)}')
    measured = [name for name in given.names if name not in servers.BY_NAME]
    of_whom = [name for name in given.names if name in servers.BY_NAME]
    return Plan(
        servers=[each for each in servers.SERVERS if not of_whom or each.name in of_whom],
        workloads=[each for each in workloads.WORKLOADS if not measured or each.name in measured],
        others=[each for each in OTHERS if not measured or each in measured],
        seconds=given.seconds,
        rounds=1 if given.quick else given.rounds,
    )


def _installed(wanted: list[Server], report: Report) -> list[Server]:
    """The servers that could be installed; some need a C compiler and Python's headers."""
    found = []
    for server in wanted:
        try:
            server.install()
        except Failure as failure:
            report.miss(f"{server.name}: {failure}", "all")
        else:
            found.append(server)
    return found


def _measure(report: Report, plan: Plan) -> None:
    """All of the plan, a table for each part as soon as it is done."""
    for session in plan.sessions():
        _session(report, plan, session)
    for application in APPLICATIONS if MEMORY in plan.others else ():
        report.memory[application.name] = _each(report, plan, application, measure.memory)
        print(tables.memory(report, application.name), flush=True)
    for application in APPLICATIONS if RELOADS in plan.others else ():
        report.reloads[application.name] = _each(report, plan, application, measure.reloads)
        print(tables.reloads(report, application.name), flush=True)


def _session(report: Report, plan: Plan, session: Session) -> None:
    """All rounds of the workloads of one session, the servers in turn, and the tables.

    A machine that gets slower or faster meanwhile does so for all.
    """
    found: dict[str, dict[str, list[measure.Figures]]] = {each.name: {} for each in session.workloads}
    for number in range(plan.rounds):
        for server in plan.servers:
            for workload in session.workloads:
                if why := server.cannot(workload, session.workers):
                    report.miss(f"{server.name}: {why}", f"{workload.name} with {session.workers}")
            for run in server.runs(session):
                what = ", ".join(each.name for each in run.workloads)
                _progress(
                    f"workers {run.workers}, round {number + 1} of {plan.rounds}: {server.name}, {what}"
                )
                try:
                    for name, figures in _run(report, server, run, plan.seconds):
                        found[name].setdefault(server.name, []).append(figures)
                except NotRunning as error:
                    report.miss(f"{server.name}: {error}", what)
    for name, by_server in found.items():
        medians = {server: measure.median(several) for server, several in by_server.items()}
        report.load.setdefault(session.workers, {})[name] = medians
        print(tables.load(report, session.workers, name), flush=True)


def _run(
    report: Report, server: Server, run: Session, seconds: float
) -> Iterator[tuple[str, measure.Figures]]:
    """The workloads of one run of one server, one after another.

    Raises:
        NotRunning: it does not answer.
    """
    with running(server, run) as runs:
        for workload in run.workloads:
            try:
                yield workload.name, measure.load(runs, workload, seconds)
            except TROUBLE as error:
                report.miss(f"{server.name}: {error}", f"{workload.name} with {run.workers}")


def _each(
    report: Report,
    plan: Plan,
    application: Application,
    one: Callable[[Server, Application], Result],
) -> dict[str, Result]:
    """One measurement of every server that can be started."""
    found: dict[str, Result] = {}
    for server in plan.with_workers():
        _progress(f"{one.__name__}: {application.name}, {server.name}")
        try:
            found[server.name] = one(server, application)
        except TROUBLE as error:
            report.miss(f"{server.name}: {error}", f"{one.__name__} of {application.name}")
    return found


def _progress(text: str) -> None:
    sys.stderr.write(f"  {text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
