"""The measurements: one workload under load, memory of four workers, ten reloads under load."""

import math
import statistics
import time
from contextlib import suppress
from dataclasses import dataclass

from benchmarks.load import Clients, Newcomer, Wrk
from benchmarks.running import Running, running
from benchmarks.servers import Server
from benchmarks.workloads import MIB, SLOW_CONNECTIONS, Application, Session, Workload

WARM_S = 0.3
CONNECTIONS = 16
WORKERS_FOR_MEMORY = 4
MEMORY_LOAD_S = 3.0
MEMORY_REST_S = 0.5
MEMORY_REST_S_MAX = 10.0
MEMORY_REST_MIB = 0.5
"""Memory is at rest when it has changed by less than this within MEMORY_REST_S."""
WORKERS_FOR_RELOADS = 2
RELOADS = 10
RELOADS_S_MAX = 10.0
"""Reloads that are not done by then are not begun."""
BETWEEN_RELOADS_S = 0.3
THREADS = 4


@dataclass(frozen=True, slots=True)
class Figures:
    """One server under as much of one workload as it takes."""

    cpu_us: float
    """CPU time of all the server's processes, user and system, in microseconds a request."""
    spread: float
    """By how much the rounds differ in it: greatest less smallest, over the median."""
    requests_per_s: float
    p50_ms: float
    p99_ms: float
    p999_ms: float
    newcomer_ms: float | None
    """How long a client waits that arrives under this load; None: it was not answered while the load lasted."""
    cores: float
    """How many cores the server's processes kept busy: below its workers, something else was the limit."""
    requests: int
    failed: int


@dataclass(frozen=True, slots=True)
class Memory:
    """PSS in MiB: pages that several processes share are divided among them."""

    application_mib: float
    """The workers, and the template if there is one."""
    master_mib: float
    """The process that watches over them."""

    @property
    def total_mib(self) -> float:
        """All of it."""
        return self.application_mib + self.master_mib


@dataclass(frozen=True, slots=True)
class MemoryOfFour:
    """Four workers as they were started, and after each of them has served."""

    started: Memory
    loaded: Memory


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


def load_s(workload: Workload, seconds: float) -> float:
    """How long a workload is measured; wrk knows whole seconds only."""
    return float(max(1, round(seconds * workload.times)))


def load(runs: Running, workload: Workload, seconds: float) -> Figures:
    """Warm up, then measure one workload on a server that runs.

    Raises:
        ValueError: nothing was answered, or not in the way that the workload is about.
    """
    url = runs.url(workload.path)
    if not workload.keep_alive and not runs.closes(workload.path):
        raise ValueError("it keeps connections that the client asked it to close")
    lasts_s = load_s(workload, seconds)
    slow = None
    if workload.beside:
        slow = Wrk(runs.url(workload.beside), lasts_s + 10, SLOW_CONNECTIONS)
    _warm(url, workload)
    before_s = runs.cpu_s()
    began = time.monotonic()
    wrk = _wrk(url, lasts_s, workload)
    newcomer = Newcomer(url, began, lasts_s)
    result = wrk.result()
    cpu_s = runs.cpu_s() - before_s
    failed = result.failed
    if slow is not None:
        slow.stop()
        failed += slow.result().failed
    if not result.requests:
        raise ValueError(f"no request was answered in {lasts_s:g} s")
    return Figures(
        cpu_us=cpu_s / result.requests * 1e6,
        spread=0.0,
        requests_per_s=result.requests_per_s,
        p50_ms=result.p50_ms,
        p99_ms=result.p99_ms,
        p999_ms=result.p999_ms,
        newcomer_ms=newcomer.waited_ms(),
        cores=cpu_s / result.seconds,
        requests=result.requests,
        failed=failed,
    )


def median(several: list[Figures]) -> Figures:
    """The median of each figure; requests and failures are added up."""

    def middle(*values: float) -> float:
        return statistics.median(values)

    cpu_us = [each.cpu_us for each in several]
    newcomer_ms = middle(*(math.inf if each.newcomer_ms is None else each.newcomer_ms for each in several))
    return Figures(
        cpu_us=middle(*cpu_us),
        spread=(max(cpu_us) - min(cpu_us)) / middle(*cpu_us) if any(cpu_us) else 0.0,
        requests_per_s=middle(*(each.requests_per_s for each in several)),
        p50_ms=middle(*(each.p50_ms for each in several)),
        p99_ms=middle(*(each.p99_ms for each in several)),
        p999_ms=middle(*(each.p999_ms for each in several)),
        newcomer_ms=newcomer_ms if math.isfinite(newcomer_ms) else None,
        cores=middle(*(each.cores for each in several)),
        requests=sum(each.requests for each in several),
        failed=sum(each.failed for each in several),
    )


def memory(server: Server, application: Application) -> MemoryOfFour:
    """Four workers, before and after as many requests as make each of them load what it loads late.

    Raises:
        NotRunning: the server does not answer.
    """
    with running(server, _session(application, WORKERS_FOR_MEMORY)) as runs:
        started = _memory_at_rest(runs)
        # New connections all the time: an old one stays with the worker that it came to.
        Wrk(runs.url(application.check), MEMORY_LOAD_S, CONNECTIONS * 2, keep_alive=False).result()
        return MemoryOfFour(started, _memory_now(runs))


def reloads(server: Server, application: Application) -> Reloads:
    """Ten reloads in a row while wrk and our own clients ask.

    Raises:
        NotRunning: the server does not answer.
    """
    done = 0
    took_s: list[float] = []
    with running(server, _session(application, WORKERS_FOR_RELOADS)) as runs:
        wrk = Wrk(runs.url(application.check), RELOADS_S_MAX * 4, CONNECTIONS)
        try:
            with Clients(runs.launch.port, application.check, CONNECTIONS) as clients:
                end = time.monotonic() + RELOADS_S_MAX
                while done < RELOADS and time.monotonic() < end:
                    time.sleep(BETWEEN_RELOADS_S)
                    begin = time.monotonic()
                    if not runs.reload():
                        break
                    took_s.append(time.monotonic() - begin)
                    done += 1
                time.sleep(BETWEEN_RELOADS_S)
        finally:
            wrk.stop()
        of_wrk = wrk.result()
    seen = clients.result
    mean_s = statistics.fmean(took_s) if took_s else 0.0
    return Reloads(
        done, of_wrk.failed, seen.failed, seen.closed, seen.worst_ms, seen.percentile_ms(0.99), mean_s
    )


def _session(application: Application, workers: int) -> Session:
    return Session(application, workers, THREADS)


def _wrk(url: str, seconds: float, workload: Workload) -> Wrk:
    return Wrk(
        url, seconds, workload.connections, body_bytes=workload.body_bytes, keep_alive=workload.keep_alive
    )


def _warm(url: str, workload: Workload) -> None:
    """The same load for a moment: caches fill, threads and Python's specialised instructions settle."""
    wrk = _wrk(url, 10, workload)
    time.sleep(WARM_S)
    wrk.stop()
    with suppress(ValueError):  # stopped before it had begun
        wrk.result()


def _memory_at_rest(runs: Running) -> Memory:
    """As ``_memory_now``, once it grows no more: a server may answer while others of its workers still load."""
    end = time.monotonic() + MEMORY_REST_S_MAX
    before = _memory_now(runs)
    while time.monotonic() < end:
        time.sleep(MEMORY_REST_S)
        now = _memory_now(runs)
        if abs(now.application_mib - before.application_mib) < MEMORY_REST_MIB:
            return now
        before = now
    return before


def _memory_now(runs: Running) -> Memory:
    first, *others = (each.memory_full_info().pss / MIB for each in runs.processes())
    return Memory(sum(others), first) if others else Memory(first, 0.0)
