"""A short run of ``make chaos``: one of each kind of fault that takes no time, and all that must be true after it."""

from __future__ import annotations

import pytest

from chaos import faults
from chaos.clients import Excuse, Failure
from chaos.fleet import Fleet
from chaos.run import Run

QUICK = (
    faults.worker_killed,
    faults.template_killed,
    faults.daemon_without_descriptors,
    faults.channel_corrupted,
    faults.disk_full,
    faults.daemon_killed,
    faults.daemon_killed_with_a_full_disk,
)


@pytest.mark.system
@pytest.mark.timeout(300)
def test_only_requests_inside_a_killed_worker_fail_and_nothing_leaks() -> None:
    fleet = Fleet()
    try:
        run = Run(fleet, seed=7)
        run.begin()
        for fault in QUICK:
            run.inflict(fault)
        run.end()
        print(run.table())
        print(fleet.daemon.log[-5000:])
        assert run.broken == []
        assert run.clients.answers > 100
    finally:
        fleet.close()


def test_a_failure_is_excused_by_its_own_worker_and_by_no_other() -> None:
    excuse = Excuse("worker killed", "blog", 7, frozenset({40_000}), begun_at=10.0, over_at=11.0)

    def failure(**other: object) -> Failure:
        fields = {"site": "blog", "upload": False, "port": 1, "pid": 7, "begun_at": 9.0, "failed_at": 10.5}
        return Failure(**{**fields, "what": "EOF", **other})  # type: ignore[arg-type]

    assert excuse.covers(failure())
    assert excuse.covers(failure(port=40_000, pid=8)), "it was handed over, and held by the victim"
    assert not excuse.covers(failure(pid=8))
    assert not excuse.covers(failure(pid=None)), "all that it held is known"
    assert not excuse.covers(failure(site="shop"))
    assert not excuse.covers(failure(failed_at=9.9))
    assert not excuse.covers(failure(begun_at=11.1, failed_at=11.2))
