"""What was measured is given back as it was put in: in bounds, in any order of times, percentiles of all answers."""

from __future__ import annotations

import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from djsup import series
from djsup.series import MEASURED, SITE, Bin, Ring, SiteSeries, percentiles_ms
from djsup_worker.scoreboard import HISTOGRAM_BUCKETS, bucket_middle_s, bucket_of

T0 = 1_700_000_000 // 86_400 * 86_400
HISTOGRAMS = st.dictionaries(st.integers(0, HISTOGRAM_BUCKETS - 1), st.integers(1, 10**6), max_size=20)
FIGURES = st.lists(
    st.one_of(st.just(math.nan), st.floats(0, 60_000)), min_size=len(MEASURED), max_size=len(MEASURED)
)
PLACE = {column.name: place for place, column in enumerate(SITE)}


def quiet(rate: float = 1.0) -> list[float]:
    return [rate, *(0.0 for _ in MEASURED[1:])]


@given(st.lists(st.tuples(st.integers(0, 5_000), st.floats(0, 4e6)), max_size=200))
def test_a_ring_gives_what_was_put_last_and_never_grows(puts: list[tuple[int, float]]) -> None:
    ring = Ring(SITE[:1], 1, 900, 60)
    expected: dict[int, float] = {}
    for at, figure in puts:
        ring.put(T0 + at, [figure])
        expected[at] = figure
        got = ring.get(T0 + at)
        assert got is not None
        assert got[0] * 64 == pytest.approx(figure, rel=5e-4, abs=1e-4)
    assert ring.size_bytes <= 16 * 60 * 2
    for at, figure in expected.items():
        got = ring.get(T0 + at)
        if got is not None and not math.isnan(got[0]):
            assert got[0] * 64 == pytest.approx(figure, rel=5e-4, abs=1e-4)


@given(st.floats(allow_nan=False, allow_infinity=True))
def test_whatever_stands_in_a_scoreboard_is_kept_in_bounds(figure: float) -> None:
    ring = Ring(SITE, 1, 900, 60)
    ring.put(T0, [figure] * len(SITE))
    assert all(abs(kept) <= 65504 for kept in ring.get(T0) or ())


@given(FIGURES, HISTOGRAMS)
def test_a_minute_comes_back_from_its_bytes(figures: list[float], histogram: dict[int, int]) -> None:
    packed = series.pack_minute(figures, histogram)
    unpacked = series.unpack_minute(packed)
    assert unpacked is not None
    assert unpacked[1] == histogram
    for back, figure in zip(unpacked[0], figures, strict=True):
        assert math.isnan(back) == math.isnan(figure)
        if not math.isnan(figure):
            assert back == pytest.approx(figure, rel=5e-4, abs=0.1)


@given(st.binary(max_size=80))
def test_rubbish_on_disk_is_no_minute_or_one_within_bounds(packed: bytes) -> None:
    unpacked = series.unpack_minute(packed)
    if unpacked is not None:
        assert all(bucket < HISTOGRAM_BUCKETS for bucket in unpacked[1])
    assert series.unpack_minute(series.pack_minute(quiet(), {1: 300})[:-1]) is None


@given(st.lists(HISTOGRAMS, min_size=1, max_size=6))
def test_percentiles_of_a_bin_are_those_of_all_its_answers(histograms: list[dict[int, int]]) -> None:
    together = Bin(T0)
    for histogram in histograms:
        together.add(quiet(), histogram)
    buckets = sorted((b, sum(h.get(b, 0) for h in histograms)) for b in {b for h in histograms for b in h})
    total = sum(number for _, number in buckets)
    found = together.record()[-3:]
    for share, got in zip((0.5, 0.95, 0.99), found, strict=True):
        if not total:
            assert math.isnan(got)
            continue
        seen, middle = 0, 0.0
        for bucket, number in buckets:
            seen += number
            if seen >= share * total:
                middle = bucket_middle_s(bucket) * 1000
                break
        assert got == middle


def test_percentiles_are_exact_to_five_percent_after_all_the_packing() -> None:
    dice = Random(3)
    latencies = [dice.lognormvariate(-4, 1.5) + 1e-4 for _ in range(6_000)]
    kept = SiteSeries()
    for second in range(60):
        histogram: dict[int, int] = {}
        for latency in latencies[second * 100 : second * 100 + 100]:
            histogram[bucket_of(latency)] = histogram.get(bucket_of(latency), 0) + 1
        kept.add(T0 + second, quiet(100), histogram)
    kept.add(T0 + 60, quiet(), {})
    (minute,) = kept.table(T0, T0 + 60, 60).lists(["p99_ms"])["p99_ms"]
    exact = sorted(latencies)[math.ceil(0.99 * len(latencies)) - 1] * 1000
    assert minute == pytest.approx(exact, rel=0.051)
    slowest_second = max(filter(None, kept.table(T0, T0 + 60, 1).lists(["p99_ms"])["p99_ms"]))
    assert slowest_second > 2 * exact  # a mean of seconds would be something else


def test_every_step_shows_the_same_traffic_and_what_runs_now() -> None:
    kept = SiteSeries()
    for second in range(130):
        kept.add(T0 + second, quiet(rate=float(second // 60)), {40: 1})
    for step_s, expected in (
        (1, [0.0] * 60 + [1.0] * 60 + [2.0] * 10),
        (10, [0.0] * 6 + [1.0] * 6 + [2.0]),
        (60, [0, 1, 2]),
    ):
        assert kept.table(T0, T0 + 130, step_s).lists(["requests_per_s"])["requests_per_s"] == expected
    assert kept.table(T0, T0 + 180, 180).lists(["requests_per_s"])["requests_per_s"] == [1.0]


def test_the_longest_queue_of_a_time_is_shown_and_not_its_mean() -> None:
    kept = SiteSeries()
    for second in range(10):
        figures = quiet()
        figures[PLACE["queue"]] = 40.0 if second == 3 else 0.0
        figures[PLACE["busy"]] = 4.0 if second < 5 else 0.0
        kept.add(T0 + second, figures, {})
    lists = kept.table(T0, T0 + 10, 10).lists(["queue", "busy"])
    assert lists == {"queue": [40], "busy": [2.0]}


def test_where_nothing_was_measured_there_is_null() -> None:
    kept = SiteSeries()
    kept.add(T0 + 5, quiet(), {})
    table = kept.table(T0, T0 + 20, 10).to_json()
    assert table["t"] == [T0, T0 + 10]
    assert table["requests_per_s"] == [1.0, None]
    assert table["p50_ms"] == [None, None]
    assert SiteSeries().table(T0, T0 + 2, 1).to_json()["busy"] == [None, None]


def test_a_clock_that_is_set_back_or_far_ahead_does_no_harm() -> None:
    kept = SiteSeries()
    for at in (T0, T0 + 10**8, T0 + 1, T0 - 10**8, T0 + 2, T0 + 62):
        kept.add(at, quiet(), {1: 1})
    assert kept.table(T0 + 2, T0 + 3, 1).lists(["requests_per_s"]) == {"requests_per_s": [1.0]}
    assert kept.table(T0, T0 + 120, 60).lists(["requests_per_s"]) == {"requests_per_s": [1.0, 1.0]}


def test_a_day_of_a_busy_site_takes_less_than_half_a_mebibyte() -> None:
    kept = SiteSeries()
    busy = dict.fromkeys(range(30, 75), 3)
    for at in range(T0, T0 + 26 * 3600, 10):  # more than is kept; a second in ten, for the time it takes
        kept.add(at, quiet(), busy)
    for at in range(T0 + 26 * 3600, T0 + 26 * 3600 + 1000):
        kept.add(at, quiet(), busy)
    assert kept.size_bytes < 500_000


def test_minutes_of_the_archive_and_of_memory_make_one_table() -> None:
    earlier, kept = SiteSeries(), SiteSeries()
    packed = [over for at in range(T0, T0 + 180, 20) if (over := earlier.add(at, quiet(2.0), {10: 5}))]
    kept.add(T0 + 240, quiet(4.0), {10: 5})
    older = series.in_steps([*packed, (T0 + 60, b"of another version")], 120)
    rates = kept.table(T0, T0 + 360, 120, older).lists(["requests_per_s"])["requests_per_s"]
    assert rates == [2.0, None, 4.0]


@pytest.mark.parametrize(
    ("long_s", "ago_s", "step_s"),
    [
        (900, 900, 1),
        (900, 3600, 10),
        (3600, 3600, 10),
        (86_400, 86_400, 60),
        (900, 3 * 86_400, 60),
        (7 * 86_400, 7 * 86_400, 900),
    ],
)
def test_the_finest_step_that_is_kept_and_not_too_long_is_chosen(
    long_s: int, ago_s: int, step_s: int
) -> None:
    now = T0 + 0.7
    assert series.choose_step(now - ago_s, now - ago_s + long_s, now) == step_s


def test_a_share_of_no_answers_is_no_number() -> None:
    assert all(map(math.isnan, percentiles_ms({})))
