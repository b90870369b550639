"""Under every attack: well-behaved clients are answered, memory is bounded, and afterwards nothing is left."""

from __future__ import annotations

import resource
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from benchmarks.attacks import ATTACKS, Attack, Attacker

from hostile.gauge import Gauge
from worker.harness import WAIT_S, Site, client

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.conftest import MakeSite

APPLICATION = (Path(__file__).parents[2] / "benchmarks/apps/several.py").read_text()
ATTACK_S = 0.5
MEMORY_MIB = 100
"""64 for all bodies in memory, and 36 for buffers: far below what these attacks send or ask for."""
IDLE = 10_000
IDLE_MIB = 60
SPARE_DESCRIPTORS = 300


def started(make_site: MakeSite, temporary: Path) -> tuple[Site, Gauge, Callable[[], str]]:
    """A site that was asked a few times, so that what it loads late is loaded."""
    site = make_site(APPLICATION, threads=2)
    site.environment["TMPDIR"] = str(temporary)
    worker = site.start_worker()
    with client(site) as user:
        assert user.get("/big").status == 200
    site.wait_for(lambda row: row.connections == 0)
    return site, Gauge(site, worker, temporary), worker.read


def ask_for(site: Site, seconds: float) -> int:
    """What a well-behaved visitor does: some requests on a connection, then the same on another."""
    answered = 0
    until = time.monotonic() + seconds
    while time.monotonic() < until or not answered:
        with client(site) as user:
            for _ in range(5):
                assert user.get().body == b"Hello, world!\n"
                answered += 1
    return answered


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_visitors_are_answered_memory_is_bounded_and_nothing_is_left(
    make_site: MakeSite, temporary: Path, attack: Attack
) -> None:
    site, gauge, printed = started(make_site, temporary)
    with Attacker(attack, site.port) as attacker:
        ask_for(site, ATTACK_S)
        assert gauge.grown_mib < MEMORY_MIB
    assert attacker.tally.opened >= attack.connections
    gauge.nothing_is_left()
    ask_for(site, 0)
    assert printed() == ""


def test_ten_thousand_idle_connections_take_little_and_disturb_nobody(
    make_site: MakeSite, temporary: Path
) -> None:
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < IDLE + SPARE_DESCRIPTORS:
        pytest.skip(f"a process may not have {IDLE} descriptors here")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    try:
        site, gauge, printed = started(make_site, temporary)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    (idle,) = (each for each in ATTACKS if each.name == "idle connections")
    with Attacker(idle, site.port, IDLE):
        site.wait_for(lambda row: row.requests >= IDLE)
        assert site.row().connections >= IDLE
        assert gauge.grown_mib < IDLE_MIB
        ask_for(site, ATTACK_S)
    gauge.nothing_is_left()
    assert printed() == ""


@pytest.mark.parametrize("kind", ["-H", "-B", "-X"], ids=["slowloris", "slow body", "slow read"])
def test_slowhttptest_finds_the_site_available(make_site: MakeSite, temporary: Path, kind: str) -> None:
    program = shutil.which("slowhttptest")
    if program is None:
        pytest.skip("slowhttptest is not installed")
    site, gauge, printed = started(make_site, temporary)
    path = "big" if kind == "-X" else ""
    command = [program, kind, "-c", "300", "-r", "300", "-i", "1", "-l", "1", "-p", "3", "-x", "10"]
    more = ["-w", "1", "-y", "64", "-n", "1", "-z", "1", "-k", "1"] if kind == "-X" else ["-s", "8192"]
    done = subprocess.run(
        [*command, *more, "-u", f"http://127.0.0.1:{site.port}/{path}"],
        capture_output=True, text=True, timeout=WAIT_S, check=False, cwd=temporary.parent,
    )  # fmt: skip
    assert "service available" in done.stdout, done
    assert "service available:   NO" not in done.stdout.replace("\x1b[0m", ""), done.stdout[-2000:]
    gauge.nothing_is_left()
    ask_for(site, 0)
    assert printed() == ""
