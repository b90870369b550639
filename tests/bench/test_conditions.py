"""The table of reloads under conditions: whose failures and closed connections are counted, and how rows are put together."""

from __future__ import annotations

import pytest
from benchmarks.conditions import COMMAND, CONDITIONS, HEAD, Seen, main, published, row
from benchmarks.load import ClientsResult
from benchmarks.publish import marks

FIRST, SECOND, THIRD = (each.name for each in CONDITIONS[:3])


def page(section: str) -> str:
    first, last = marks(COMMAND)
    return f"before\n{first}\n{section}\n{last}\nafter"


def a_row(name: str, number: int = 3) -> str:
    return f"| {name} | {number} | 0 of 9 | 0 | 1.0 | 1.0 | 1.0 | 1.0 | 1.0 |"


def test_row_counts_failures_of_all_clients_and_the_latency_of_the_plain_ones() -> None:
    steady = ClientsResult(requests=2, worst_ms=2.0, latencies_ms=[1.0, 2.0])
    during = ClientsResult(requests=2, closed=1, worst_ms=5.0, latencies_ms=[1.0, 5.0])
    other = ClientsResult(requests=1, failed=2, closed=3, worst_ms=900.0, latencies_ms=[900.0])
    cells = "3 | 2 of 5 | 4 | 2.0 | 5.0 | 2.0 | 5.0 | 2.5"
    assert row(CONDITIONS[0], Seen(3, steady, during, (other,))) == f"| {FIRST} | {cells} |"


def test_rows_of_the_same_day_stand_together_in_their_order() -> None:
    text = published(page("old"), "Measured today.", "Slowly.", {THIRD: a_row(THIRD), FIRST: a_row(FIRST)})
    text = published(text, "Measured today.", "Quickly.", {SECOND: a_row(SECOND), FIRST: a_row(FIRST, 2)})
    table = "\n".join((HEAD, a_row(FIRST, 2), a_row(SECOND), a_row(THIRD)))
    assert text == page(f"\nMeasured today. Quickly.\n\n{table}\n")


def test_rows_of_another_day_are_not_kept() -> None:
    text = published(page("old"), "Measured today.", "Slowly.", {FIRST: a_row(FIRST)})
    text = published(text, "Measured tomorrow.", "Quickly.", {SECOND: a_row(SECOND)})
    assert a_row(SECOND) in text
    assert a_row(FIRST) not in text


def test_unknown_condition_is_answered_with_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["rain"])
    assert f'"{FIRST}"' in capsys.readouterr().err


def test_names_do_not_begin_alike() -> None:
    """So that each can be measured alone."""
    names = [each.name for each in CONDITIONS]
    assert not [one for one in names for other in names if one != other and other.startswith(one)]
