"""The measurements: CPU per request, memory of four workers, ten reloads under load."""

import contextlib
import statistics
import time
from dataclasses import dataclass

import psutil

from benchmarks.load import Clients, Wrk
from benchmarks.servers import Running, Server
from benchmarks.workloads import Workload

CONNECTIONS = 16
WARM_S = 1.0
WORKERS_FOR_MEMORY = 4
WORKERS_FOR_RELOADS = 2
RELOADS = 10
RELOADS_S_MAX = 20.0
"""Reloads that are not done by then are not begun."""
BETWEEN_RELOADS_S = 0.3
MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Throughput:
    """One worker under as much load as it takes."""

    requests_per_s: float
    cpu_us: float
    """CPU time of all the server's processes, in microseconds a request."""
    p99_ms: float
    failed: int


@dataclass(frozen=True, slots=True)
class Memory:
    """Four workers after some requests each. PSS: shared pages are divided among those who share them."""

    application_mib: float
    """The workers, and the template if there is one."""
    master_mib: float
    """The process that watches over them."""


@dataclass(frozen=True, slots=True)
class Reloads:
    """What clients notice of reloads."""

    done: int
    failed_wrk: int
    failed: int
    closed: int
    worst_ms: float
    p99_ms: float
    seconds: float
    """How long one reload takes under this load, on average."""


def throughput(server: Server, workload: Workload, seconds: float) -> Throughput:
    """One worker, wrk on keep-alive connections."""
    with server.running(workload, 1) as running:
        Wrk(running.url, WARM_S, CONNECTIONS).result()
        before = _cpu_s(running)
        result = Wrk(running.url, seconds, CONNECTIONS).result()
        cpu_s = _cpu_s(running) - before
    return Throughput(
        result.requests_per_s, cpu_s / max(1, result.requests) * 1e6, result.p99_ms, result.failed
    )


def median(several: list[Throughput]) -> Throughput:
    """The median of each figure; failures are added up."""
    return Throughput(
        statistics.median(each.requests_per_s for each in several),
        statistics.median(each.cpu_us for each in several),
        statistics.median(each.p99_ms for each in several),
        sum(each.failed for each in several),
    )


def memory(server: Server, workload: Workload) -> Memory:
    """Four workers, after as many requests as make each of them load what it loads late."""
    with server.running(workload, WORKERS_FOR_MEMORY) as running:
        Wrk(running.url, WARM_S * 2, CONNECTIONS * 2).result()
        master, *others = (each.memory_full_info().pss / MIB for each in running.processes())
    return Memory(sum(others), master)


def reloads(server: Server, workload: Workload) -> Reloads:
    """Ten reloads in a row while wrk and our own clients ask."""
    done = 0
    took_s: list[float] = []
    with server.running(workload, WORKERS_FOR_RELOADS) as running:
        Wrk(running.url, WARM_S, CONNECTIONS).result()
        wrk = Wrk(running.url, RELOADS_S_MAX * 2, CONNECTIONS)
        try:
            with Clients(running.port, running.path, CONNECTIONS) as clients:
                end = time.monotonic() + RELOADS_S_MAX
                while done < RELOADS and time.monotonic() < end:
                    time.sleep(BETWEEN_RELOADS_S)
                    begin = time.monotonic()
                    if not running.reload():
                        break
                    took_s.append(time.monotonic() - begin)
                    done += 1
                time.sleep(BETWEEN_RELOADS_S)
        finally:
            wrk.stop()
        of_wrk = wrk.result()
    seen = clients.result
    p99_ms = seen.latencies_ms[int(len(seen.latencies_ms) * 0.99)] if seen.latencies_ms else 0.0
    mean_s = statistics.fmean(took_s) if took_s else 0.0
    return Reloads(done, of_wrk.failed, seen.failed, seen.closed, seen.worst_ms, p99_ms, mean_s)


def _cpu_s(running: Running) -> float:
    """CPU time that all processes of a server have used, in seconds (utime and stime of /proc/PID/stat)."""
    total = 0.0
    for process in running.processes():
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total
