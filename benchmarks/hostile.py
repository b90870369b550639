"""``python -m benchmarks.hostile [SERVER...]``: what visitors notice while somebody attacks.

One worker serves; eight keep-alive clients ask for a short answer, each time with a pause. Attackers, visitors
and server share the machine, so each attack is measured twice: against another server of the same kind
("elsewhere": what the machine's being busy costs), and against the one that is visited ("here"). HOSTILE_SECONDS
is how long each measurement takes (default 3), HOSTILE_IDLE how many connections a last attack keeps open (10000).
"""

import contextlib
import os
import resource
import sys
import time
from dataclasses import dataclass, replace

import psutil

from benchmarks.attacks import ATTACKS, Attack, Attacker
from benchmarks.load import Clients, ClientsResult
from benchmarks.running import NotRunning, Running, running
from benchmarks.servers import SERVERS, Server
from benchmarks.workloads import APPS, Application, Session

SEVERAL = Session(Application("several", APPS, "several:application"), workers=1, threads=4)
VISITORS = 8
SETTLE_S = 10.0
"""How long what an attack has left may take to go, in seconds."""
MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen in one measurement."""

    visitors: ClientsResult
    grown_mib: float
    """PSS of the server's processes that is more than before, at the end of the attack."""
    cpu_percent: float
    """CPU time of the server, of one core."""
    left: int
    """Descriptors that are still there afterwards and were not before."""


def main(names: list[str]) -> int:
    """Measure and print."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    seconds = float(os.environ.get("HOSTILE_SECONDS", "3"))
    attacks = list(ATTACKS)
    idle = int(os.environ.get("HOSTILE_IDLE", "10000"))
    attacks += [
        replace(each, connections=idle) for each in ATTACKS if each.name == "idle connections" and idle
    ]
    for server in SERVERS:
        if server.name not in (names or ["djsup"]):
            continue
        try:
            server.install()
            _measure(server, attacks, seconds)
        except NotRunning as error:
            print(error)
    return 0


def _measure(server: Server, attacks: list[Attack], seconds: float) -> None:
    print(f"\n{server.name}: one worker, {VISITORS} visitors, {seconds:g} s each")
    print(f"{'':32}{'elsewhere, ms':>16}{'here, ms':>24}")
    columns = (
        f"{'p50':>8}{'p99':>8}{'p50':>8}{'p99':>8}{'worst':>8}{'failed':>8}{'MiB':>7}{'CPU %':>7}{'left':>6}"
    )
    print(f"{'':32}{columns}")
    with running(server, SEVERAL) as visited, running(server, SEVERAL) as other:
        _visit(visited, 1)
        _show("nobody", _see(visited, None, visited, seconds), _see(visited, None, visited, seconds))
        for attack in attacks:
            elsewhere = _see(visited, attack, other, seconds)
            here = _see(visited, attack, visited, seconds)
            _show(f"{attack.connections} x {attack.name}", elsewhere, here)


def _see(runs: Running, attack: Attack | None, target: Running, seconds: float) -> Seen:
    memory_bytes, descriptors = _memory_bytes(runs), _descriptors(runs)
    with contextlib.ExitStack() as stack:
        if attack is not None:
            stack.enter_context(Attacker(attack, target.launch.port))
        begun, cpu_s = time.monotonic(), _cpu_s(runs)
        visitors = _visit(runs, seconds)
        cpu_percent = (_cpu_s(runs) - cpu_s) / (time.monotonic() - begun) * 100
        memory_bytes = _memory_bytes(runs) - memory_bytes
    deadline = time.monotonic() + SETTLE_S
    while _descriptors(runs) > descriptors and time.monotonic() < deadline:
        time.sleep(0.05)
    return Seen(visitors, memory_bytes / MIB, cpu_percent, _descriptors(runs) - descriptors)


def _visit(runs: Running, seconds: float) -> ClientsResult:
    with Clients(runs.launch.port, "/", VISITORS) as clients:
        time.sleep(seconds)
    return clients.result


def _show(name: str, elsewhere: Seen, here: Seen) -> None:
    figures = (*(each.visitors.percentile_ms(share) for each in (elsewhere, here) for share in (0.5, 0.99)),)
    latencies = "".join(f"{each:8.2f}" for each in figures)
    print(
        f"{name:32}{latencies}{here.visitors.worst_ms:8.1f}{here.visitors.failed:8}"
        f"{here.grown_mib:7.1f}{here.cpu_percent:7.0f}{here.left:6}",
        flush=True,
    )


def _workers(runs: Running) -> list[psutil.Process]:
    return runs.processes()[1:]


def _memory_bytes(runs: Running) -> int:
    return sum(each.memory_full_info().pss for each in _workers(runs))


def _descriptors(runs: Running) -> int:
    return sum(each.num_fds() for each in _workers(runs))


def _cpu_s(runs: Running) -> float:
    return sum(sum(each.cpu_times()[:2]) for each in _workers(runs))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
