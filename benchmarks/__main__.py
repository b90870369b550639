"""``python -m benchmarks [WORKLOAD...]``: the whole comparison, round by round, one server after another in each.

BENCH_SECONDS is how long each measurement of throughput takes (default 3), BENCH_ROUNDS how many there are (3).
"""

import os
import sys
from collections.abc import Callable
from typing import TypeVar

from tools.say import Failure

from benchmarks import measure
from benchmarks.report import Report
from benchmarks.servers import SERVERS, NotRunning, Server
from benchmarks.workloads import WORKLOADS, Workload

Figures = TypeVar("Figures")


def main(names: list[str]) -> int:
    """Measure, print, save."""
    workloads = [each for each in WORKLOADS if not names or each.name in names]
    report = Report(seconds=float(os.environ.get("BENCH_SECONDS", "3")))
    rounds = int(os.environ.get("BENCH_ROUNDS", "3"))
    servers = _installed(report)
    for workload in workloads:
        report.throughput[workload.name] = _throughput(report, servers, workload, rounds)
        report.show_throughput(workload.name)
    for workload in workloads:
        report.memory[workload.name] = _each(report, servers, "memory", workload, measure.memory)
        report.show_memory(workload.name)
    for workload in workloads:
        report.reloads[workload.name] = _each(report, servers, "reloads", workload, measure.reloads)
        report.show_reloads(workload.name)
    report.show_legend()
    print(f"\nAll figures: {report.save()}")
    return 0


def _installed(report: Report) -> list[Server]:
    """The servers that could be installed; uWSGI needs a C compiler and Python's headers."""
    found = []
    for server in SERVERS:
        try:
            server.install()
        except Failure as failure:
            report.missing.append(f"{server.name}: {failure}")
        else:
            found.append(server)
    return found


def _throughput(
    report: Report, servers: list[Server], workload: Workload, rounds: int
) -> dict[str, measure.Throughput]:
    """In turns, so that a machine that gets slower or faster does so for all."""
    found: dict[str, list[measure.Throughput]] = {}
    for number in range(rounds):
        what = f"throughput, round {number + 1} of {rounds}"

        def one(server: Server, workload: Workload) -> measure.Throughput:
            return measure.throughput(server, workload, report.seconds)

        for name, figures in _each(report, servers, what, workload, one).items():
            found.setdefault(name, []).append(figures)
    return {name: measure.median(several) for name, several in found.items()}


def _each(
    report: Report,
    servers: list[Server],
    what: str,
    workload: Workload,
    one: Callable[[Server, Workload], Figures],
) -> dict[str, Figures]:
    """One measurement of every server that can be started."""
    found: dict[str, Figures] = {}
    for server in servers:
        sys.stderr.write(f"  {what}: {workload.name}, {server.name}\n")
        try:
            found[server.name] = one(server, workload)
        except NotRunning as error:
            report.missing.append(str(error))
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
