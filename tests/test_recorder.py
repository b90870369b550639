"""What is seen each second becomes a series: only what has happened since, whoever comes and goes."""

from __future__ import annotations

import os

import pytest

from djsup import series_left
from djsup.core.model import Pid, SiteName, Slot
from djsup.recorder import MEMORY_EVERY_S, Recorder, Seen
from djsup.shell.samples import Measured, Meter, Totals
from djsup_worker.scoreboard import HISTOGRAM_BUCKETS, Note, Row

BLOG = SiteName("blog")
T0 = 1_700_000_040


def row(requests: int = 0, pid: int = 1) -> Row:
    histogram = (requests, *([0] * (HISTOGRAM_BUCKETS - 1)))
    return Row(pid, 1, "serving", requests, (0, requests, 0, 0, 0), 0, 0, 2, 0, 0, 0, 4, histogram, ())


class CountingMeter(Meter):
    """Says when a process's memory was measured; each is as old as the test says."""

    def __init__(self) -> None:
        super().__init__()
        self.ages: dict[int, float] = {}
        self.measured: list[int] = []

    def measure(self, pid: Pid, memory_fresh_s: float = 0.0) -> Measured:
        if self.memory_age_s(pid) >= memory_fresh_s or pid not in self.ages:
            self.measured.append(pid)
            self.ages[pid] = 0.0
        return Measured(pss_bytes=10 << 20)

    def memory_age_s(self, pid: Pid) -> float:
        return self.ages.get(pid, float("inf"))


class World:
    def __init__(self) -> None:
        self.second = 0
        self.meter = CountingMeter()
        self.recorder = Recorder(self.meter, lambda: T0 + self.second + 1.0)

    def see(self, *rows: Row, retired: int = 0, adopted: bool = False) -> None:
        totals = Totals()
        for each in (row(retired), *rows):
            totals = totals.plus(each)
        seen = [
            Seen(Slot(n), Pid(each.pid), each, serves=True, adopted=adopted) for n, each in enumerate(rows)
        ]
        self.recorder.record(BLOG, 100.0 + self.second, seen, totals, waiting=0)
        self.second += 1

    def shown(self, name: str) -> list[float | None]:
        known = self.recorder.site(BLOG)
        assert known is not None
        return known.table(T0, T0 + self.second, 1).lists([name])[name]


def test_each_second_shows_what_was_answered_in_it() -> None:
    world = World()
    for requests in (3, 3, 10):
        world.see(row(requests))
    assert world.shown("requests_per_s") == [3.0, 0.0, 7.0]
    assert world.shown("workers") == [1.0, 1.0, 1.0]


def test_a_worker_that_goes_and_one_that_comes_make_no_jump() -> None:
    world = World()
    world.see(row(100))
    world.see(row(110), row(5, pid=2))
    world.see(row(8, pid=2), retired=110)
    world.see(row(9, pid=2), row(1, pid=3), retired=110)
    assert world.shown("requests_per_s") == [100.0, 15.0, 3.0, 2.0]


def test_what_a_worker_did_before_this_daemon_is_no_traffic_of_now() -> None:
    world = World()
    world.see(row(50_000), adopted=True)
    world.see(row(50_004), adopted=True)
    assert world.shown("requests_per_s") == [None, 4.0]


def test_a_site_that_wakes_counts_from_its_waking() -> None:
    world = World()
    world.see(row(5))
    for _ in range(100):
        world.recorder.rest(BLOG, 100.0 + world.second)
        world.second += 1
    world.see(row(3, pid=2), retired=5)
    assert world.shown("requests_per_s")[-1] == 3.0
    assert world.shown("requests_per_s")[1:-1] == [None] * 100


def test_a_scoreboard_that_counts_backwards_shows_no_negative_traffic() -> None:
    world = World()
    world.see(row(100))
    world.see(row(2))
    assert world.shown("requests_per_s") == [100.0, 0.0]


def test_memory_of_new_workers_is_measured_at_once_and_of_others_in_turn() -> None:
    world = World()
    rows = [row(pid=pid) for pid in range(1, 9)]
    world.see(*rows)
    assert sorted(world.meter.measured) == list(range(1, 9))
    world.meter.measured.clear()
    world.see(*rows)
    assert world.meter.measured == []
    world.meter.ages = {pid: MEMORY_EVERY_S + pid for pid in range(1, 9)}
    world.see(*rows)
    assert sorted(world.meter.measured) == [7, 8]  # those that wait longest


def test_a_minute_that_is_over_is_kept_and_the_last_when_the_daemon_ends() -> None:
    world = World()
    kept: list[int] = []
    world.recorder.keep = lambda _site, at, _minute: kept.append(at)
    for _ in range(61):
        world.see(row())
    assert kept == [T0 - T0 % 60, T0 - T0 % 60 + 60][: len(kept)]
    before = len(kept)
    world.recorder.close()
    assert len(kept) == before + 1
    world.recorder.forget(BLOG)
    assert world.recorder.site(BLOG) is None


def test_a_slot_shows_its_workers_one_after_the_other() -> None:
    world = World()
    world.see(row(5))
    world.see(row(9))
    world.see(row(2, pid=7), retired=9)
    ring = world.recorder.worker(BLOG, 0)
    assert ring is not None
    assert ring[1] == 7
    assert ring[0].table(T0, T0 + 3).lists(["requests_per_s"])["requests_per_s"] == [None, 4.0, 2.0]
    assert world.recorder.worker(BLOG, 1) is None
    assert world.recorder.worker(SiteName("none"), 0) is None


def test_a_process_is_measured_without_psutil_as_with_it() -> None:
    psutil = pytest.importorskip("psutil")
    measured, own = Meter().measure(Pid(os.getpid())), psutil.Process()
    assert measured.os_threads == own.num_threads()
    assert abs(measured.descriptors - own.num_fds()) <= 2
    assert measured.rss_bytes == pytest.approx(own.memory_info().rss, rel=0.1)
    assert measured.cpu_s == pytest.approx(sum(own.cpu_times()[:2]), abs=0.5)
    assert measured.private_bytes > 0


def test_a_request_that_a_worker_has_noted_is_kept_once_whoever_has_the_slot_next() -> None:
    world = World()
    written = {1: [Note(1, 99_000_000_000, 2_000_000_000, 500, "GET", "/a")], 2: []}

    def look(pid: int, noted: int) -> None:
        seen = Seen(Slot(0), Pid(pid), row(pid=pid)._replace(noted=noted), serves=True)
        world.recorder.note(
            BLOG, 100.0, seen, lambda _slot, after: [n for n in written[pid] if n.number > after]
        )

    look(1, 1)
    look(1, 1)
    look(2, 0)
    written[2].append(Note(1, 2**63, 2**63, 999, "GET", "/b"))
    look(2, 1)
    first, second = world.recorder.noted(BLOG)
    assert (first.path, first.status, first.took_s, first.at, first.pid) == ("/a", 500, 2.0, T0 + 0.0, 1)
    assert (second.path, second.at, second.pid) == ("/b", T0 + 1.0, 2)
    assert world.recorder.noted(SiteName("none")) == []


def test_another_program_of_the_daemon_goes_on_without_a_gap() -> None:
    whole, first, second = World(), World(), World()
    kept: list[tuple[int, bytes]] = []
    again: list[tuple[int, bytes]] = []
    whole.recorder.keep = lambda _site, at, minute: kept.append((at, minute))
    second.recorder.keep = lambda _site, at, minute: again.append((at, minute))
    for number in range(37):
        for world in (whole, first):
            world.see(row(number), row(2 * number, pid=2))
    note = Note(1, 136_000_000_000, 2_000_000_000, 500, "GET", "/a")
    seen = Seen(Slot(0), Pid(1), row()._replace(noted=1), serves=True)
    first.recorder.note(BLOG, 137.0, seen, lambda _slot, after: [note] if after < 1 else [])
    first.recorder.close()

    second.recorder.recall(first.recorder.left())
    second.recorder.count_on(BLOG, 0.0, Totals())  # what is known better stays
    second.second = 37
    for number in range(37, 90):
        for world in (whole, second):
            world.see(row(number), row(2 * number, pid=2))
    for step_s in (1, 10):
        tables = [
            known.table(T0, T0 + 90, step_s).to_json()
            for world in (whole, second)
            if (known := world.recorder.site(BLOG)) is not None
        ]
        assert len(tables) == 2
        assert tables[0] == tables[1], step_s
    assert [at for at, _ in kept] == [T0], "one minute is over"
    assert again == kept, "whichever program has begun it"
    slots = [world.recorder.worker(BLOG, 1) for world in (whole, second)]
    assert slots[0] is not None
    assert slots[1] is not None
    assert slots[0][0].table(T0, T0 + 90).to_json() == slots[1][0].table(T0, T0 + 90).to_json()
    assert [each.path for each in second.recorder.noted(BLOG)] == ["/a"]
    second.recorder.note(BLOG, 138.0, seen, lambda _slot, after: [note] if after < 1 else [])
    assert len(second.recorder.noted(BLOG)) == 1, "a note is read once"


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"{}\n",
        b"[]\n",
        b'{"format": 1, "columns": [], "sites": {"blog": {}}, "rings": []}\n',
        b"\xff\n",
    ],
)
def test_what_another_version_has_left_is_a_gap_and_no_peak(broken: bytes) -> None:
    world = World()
    world.recorder.recall(broken)
    world.recorder.count_on(BLOG, 99.5, Totals().plus(row(1_000_000)))
    world.see(row(1_000_001))
    assert world.shown("requests_per_s") == [2.0]


def test_a_part_of_what_is_left_is_cut_off_without_harm() -> None:
    world, other = World(), World()
    for number in range(5):
        world.see(row(number))
    content = world.recorder.left()
    other.recorder.recall(content[:-7])
    assert other.recorder.site(BLOG) is None
    other.recorder.recall(content.replace(b'"running"', b'"walking"'))
    assert other.recorder.site(BLOG) is None


def test_of_many_sites_the_day_is_left_out_first(monkeypatch: pytest.MonkeyPatch) -> None:
    world, other = World(), World()
    for number in range(25):
        world.see(row(number))
    known = world.recorder.site(BLOG)
    assert known is not None
    monkeypatch.setattr(series_left, "MOST_BYTES", known.rings["seconds"].size_bytes + 4000)
    other.recorder.recall(world.recorder.left())
    found = other.recorder.site(BLOG)
    assert found is not None
    assert found.rings["seconds"].size_bytes > 0
    assert found.rings["tens"].size_bytes == 0
