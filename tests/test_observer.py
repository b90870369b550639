from __future__ import annotations

import pytest

from djsup.core.model import Limits
from djsup.observer import patience_s, to_next_look_s
from djsup_worker.scoreboard import Running

BEGAN_NS = 7_000_000_000_000


@pytest.mark.parametrize(
    ("asked_s", "limits", "may_run_s"),
    [
        (0, Limits(request_timeout_s=30), 30),
        (10, Limits(request_timeout_s=30), 30),
        (90, Limits(request_timeout_s=30), 90),
        (10**9, Limits(request_timeout_s=30, max_timeout_s=600), 600),
        (90, Limits(request_timeout_s=30, max_timeout_s=0), 30),
        (90, Limits(request_timeout_s=30, soft_timeout_s=20), 100),
        (-5, Limits(request_timeout_s=30), 30),
    ],
)
def test_a_request_may_run_as_long_as_it_has_asked_for_within_bounds(
    asked_s: int, limits: Limits, may_run_s: float
) -> None:
    until_ns = BEGAN_NS + asked_s * 1_000_000_000 if asked_s else 0
    assert patience_s(Running(0, BEGAN_NS, "GET", "/", 1, until_ns), limits) == may_run_s


@pytest.mark.parametrize(
    ("wall_s", "wait_s"),
    [(100.0, 1.0), (100.0003, 0.9997), (100.3, 0.7), (100.7, 1.3), (99.9999, 1.0001)],
)
def test_looks_come_at_full_seconds_and_never_two_at_once(wall_s: float, wait_s: float) -> None:
    assert to_next_look_s(wall_s) == pytest.approx(wait_s)
