"""All figures of one run of the benchmark, and the file of JSON in benchmarks/results/ that keeps them."""

import json
import platform
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import psutil

from benchmarks.measure import Figures, Memory, MemoryOfFour, Reloads

RESULTS = Path(__file__).parent / "results"
OURS = "djsup"


@dataclass(slots=True)
class Report:
    """Figures by workers, workload and server."""

    seconds: float
    """How long each measurement took; workloads with few requests a second take longer."""
    rounds: int
    at: str = ""
    machine: dict[str, Any] = field(default_factory=dict)
    load: dict[int, dict[str, dict[str, Figures]]] = field(default_factory=dict)
    memory: dict[str, dict[str, MemoryOfFour]] = field(default_factory=dict)
    reloads: dict[str, dict[str, Reloads]] = field(default_factory=dict)
    missing: dict[str, list[str]] = field(default_factory=dict)
    """Why something was not measured, and what."""

    def miss(self, why: str, what: str) -> None:
        """Remember that something was not measured."""
        several = self.missing.setdefault(why, [])
        if what not in several:
            several.append(what)

    def save(self) -> Path:
        """Write the figures and what they were measured on; the path of the file."""
        now = time.gmtime()
        self.at = time.strftime("%Y-%m-%dT%H:%M:%SZ", now)
        self.machine = {
            "cpus": psutil.cpu_count(),
            "memory_bytes": psutil.virtual_memory().total,
            "kernel": platform.release(),
            "python": sys.version.split()[0],
        }
        RESULTS.mkdir(parents=True, exist_ok=True)
        path = RESULTS / time.strftime("%Y-%m-%dT%H%M%SZ.json", now)
        path.write_text(json.dumps(asdict(self), indent=2) + "\n")
        return path

    @classmethod
    def read(cls, path: Path) -> Self:
        """The figures of an earlier run."""
        document = json.loads(path.read_text())
        load = {
            int(workers): {
                workload: {server: Figures(**each) for server, each in by_server.items()}
                for workload, by_server in by_workload.items()
            }
            for workers, by_workload in document.pop("load").items()
        }
        memory = {
            application: {
                server: MemoryOfFour(Memory(**each["started"]), Memory(**each["loaded"]))
                for server, each in by_server.items()
            }
            for application, by_server in document.pop("memory").items()
        }
        reloads = {
            application: {server: Reloads(**each) for server, each in by_server.items()}
            for application, by_server in document.pop("reloads").items()
        }
        return cls(load=load, memory=memory, reloads=reloads, **document)


def newest() -> Path | None:
    """The file of the last run."""
    return max(RESULTS.glob("*.json"), default=None)


def best_rival(figures: dict[str, float], *, greater: bool = False) -> str | None:
    """The name of the best of the others; None when there are none. The smaller is the better, unless said so."""
    rivals = [name for name in figures if name != OURS]
    best = max if greater else min
    return best(rivals, key=figures.__getitem__, default=None)


def ratio(figure: float, best: float) -> float | None:
    """How many times the best figure this one is; None when nothing can be said."""
    return figure / best if best else None
