"""The report: tables for people on standard output, JSON for machines in benchmarks/results/."""

import json
import platform
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

from benchmarks.measure import Memory, Reloads, Throughput

RESULTS = Path(__file__).parent / "results"
OURS = "djsup"


@dataclass(slots=True)
class Report:
    """All figures, by workload and then by server."""

    seconds: float
    throughput: dict[str, dict[str, Throughput]] = field(default_factory=dict)
    memory: dict[str, dict[str, Memory]] = field(default_factory=dict)
    reloads: dict[str, dict[str, Reloads]] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    """Why a server could not be measured, one text a time."""

    def show_throughput(self, workload: str) -> None:
        """Print what one worker can do, and what a request costs."""
        figures = self.throughput[workload]
        best = _best({name: each.cpu_us for name, each in figures.items()})
        print(f"\n{workload}: one worker, {self.seconds:g} s, median of the rounds")
        print(f"{'':18}{'requests/s':>12}{'CPU us/req':>12}{'to best':>9}{'p99 ms':>9}{'failed':>8}")
        for name, each in figures.items():
            row = f"{each.requests_per_s:12,.0f}{each.cpu_us:12.1f}{_ratio(each.cpu_us, best)}"
            print(f"{name:18}{row}{each.p99_ms:9.1f}{each.failed:8}")

    def show_memory(self, workload: str) -> None:
        """Print what four workers need."""
        figures = self.memory[workload]
        best = _best({name: each.application_mib for name, each in figures.items()})
        print(f"\n{workload}: memory of four workers (PSS, MiB); djsup's include the template")
        print(f"{'':18}{'workers':>12}{'to best':>9}{'master':>9}")
        for name, each in figures.items():
            print(
                f"{name:18}{each.application_mib:12.1f}{_ratio(each.application_mib, best)}{each.master_mib:9.1f}"
            )

    def show_reloads(self, workload: str) -> None:
        """Print what clients noticed of reloads."""
        print(f"\n{workload}: reloads under load, two workers")
        head = f"{'done':>6}{'failed':>8}{'wrk failed':>12}{'closed':>8}{'worst ms':>10}{'p99 ms':>9}{'each s':>8}"
        print(f"{'':18}{head}")
        for name, each in self.reloads[workload].items():
            counts = f"{each.done:6}{each.failed:8}{each.failed_wrk:12}{each.closed:8}"
            print(f"{name:18}{counts}{each.worst_ms:10.0f}{each.p99_ms:9.1f}{each.seconds:8.2f}")

    def show_legend(self) -> None:
        """Print what the columns mean, and which servers could not be measured."""
        print("\nto best: the figure over that of the best other server; below 1, djsup is better.")
        print("closed: keep-alive connections that the server closed. gunicorn sync keeps none open.")
        for text in dict.fromkeys(self.missing):
            print(f"not measured: {text}")

    def save(self) -> Path:
        """Write the figures and what they were measured on; the path of the file."""
        RESULTS.mkdir(parents=True, exist_ok=True)
        now = time.gmtime()
        path = RESULTS / time.strftime("%Y-%m-%dT%H%M%SZ.json", now)
        document: dict[str, Any] = {
            "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", now),
            "machine": {
                "cpus": psutil.cpu_count(),
                "memory_bytes": psutil.virtual_memory().total,
                "kernel": platform.release(),
                "python": sys.version.split()[0],
            },
            **asdict(self),
        }
        path.write_text(json.dumps(document, indent=2) + "\n")
        return path


def _best(figures: dict[str, float]) -> float:
    """The lowest figure of the others, 0 when there are none."""
    return min((figure for name, figure in figures.items() if name != OURS), default=0.0)


def _ratio(figure: float, best: float) -> str:
    return f"{figure / best:9.2f}" if best else f"{'':9}"
