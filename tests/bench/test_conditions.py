"""The table of reloads under conditions: whose failures and closed connections are counted, and what is said of several rounds."""

from __future__ import annotations

import pytest
from benchmarks.conditions import CONDITIONS, Seen, main, row
from benchmarks.load import ClientsResult

FIRST = CONDITIONS[0].name


def test_row_counts_failures_of_all_clients_and_the_latency_of_the_plain_ones() -> None:
    steady = ClientsResult(requests=2, worst_ms=2.0, latencies_ms=[1.0, 2.0])
    during = ClientsResult(requests=2, closed=1, worst_ms=5.0, latencies_ms=[1.0, 5.0])
    other = ClientsResult(requests=1, failed=2, closed=3, worst_ms=900.0, latencies_ms=[900.0])
    cells = "3 | 2 of 5 | 4 | 2.0 | 5.0 | 2.0 | 5.0 | 2.5"
    assert row(FIRST, [Seen(3, steady, during, (other,))]) == f"| {FIRST} | 1 | {cells} |"


def test_row_of_several_rounds_has_all_that_was_lost_and_the_median_of_what_was_slow() -> None:
    rounds = [
        Seen(
            3,
            ClientsResult(requests=1, worst_ms=steady_ms, latencies_ms=[steady_ms]),
            ClientsResult(requests=1, failed=failed, closed=1, worst_ms=ms, latencies_ms=[ms]),
            (),
        )
        for steady_ms, ms, failed in ((2.0, 9.0, 0), (2.0, 3.0, 1), (4.0, 6.0, 0))
    ]
    cells = "3 | 9 | 1 of 4 | 3 | 2.0 | 6.0 | 2.0 | 6.0 | 1.5 (1.5 to 4.5)"
    assert row(FIRST, rounds) == f"| {FIRST} | {cells} |"


def test_unknown_condition_is_answered_with_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["rain"])
    assert f'"{FIRST}"' in capsys.readouterr().err


def test_names_do_not_begin_alike() -> None:
    """So that each can be measured alone."""
    names = [each.name for each in CONDITIONS]
    assert not [one for one in names for other in names if one != other and other.startswith(one)]
