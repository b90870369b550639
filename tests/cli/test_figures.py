"""Figures as people read them."""

from __future__ import annotations

import pytest

from djsup.cli import figures

NEW = "new code: 6 requests, 5 failed (83.3 %), p50 8.1 ms"
OLD = "old code: 31 requests, 0 failed (0.0 %)"


@pytest.mark.parametrize(
    ("verdict", "shown"),
    [
        (
            f"canary: the new code fails more often; {NEW}; {OLD}",
            ("canary: the new code fails more often", [NEW, OLD]),
        ),
        (f"too few requests to judge: {NEW}; {OLD}", ("too few requests to judge", [NEW, OLD])),
        (f"{NEW}; {OLD}", ("", [NEW, OLD])),
        ("no worker of the old code serves any more", ("no worker of the old code serves any more", [])),
        ("", ("", [])),
    ],
)
def test_the_figures_of_a_trial_stand_apart_from_its_reason(
    verdict: str, shown: tuple[str, list[str]]
) -> None:
    assert figures.of_trial(verdict) == shown
