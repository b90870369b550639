"""Events on disk outlive the daemon, in bounds, and nothing that a disk does harms anybody."""

from __future__ import annotations

import queue
import sqlite3
import stat
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from djsup.shell import archive
from djsup.shell.archive import Archive
from djsup.shell.history import History

NOW = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def fill(path: Path, numbers: range, at: str = NOW, text: str = "x") -> None:
    kept = Archive(path)
    kept.start()
    for number in numbers:
        row = (number, at, {"id": number, "text": text})
        kept._queue.put((archive._EVENT, row), timeout=20)
    kept.close(20)


def ids(path: Path) -> list[int]:
    return [each["id"] for each in Archive(path).recall(100_000)]


def test_a_history_goes_on_where_the_one_before_has_ended(tmp_path: Path) -> None:
    path = tmp_path / "events"
    first, kept = History(), Archive(path)
    first.keep = lambda entry: kept.add(entry.id, entry.at, entry.to_json())
    kept.start()
    first.add("worker-died", "why", site="blog", details="traceback")
    first.add("site-serving", "again")
    kept.close(20)
    second = History()
    second.recall(Archive(path).recall(100))
    assert second.last(None, 10) == first.last(None, 10)
    assert second.add("more", "after").id == 3
    assert second.counts["blog", "worker-died"] == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_oldest_events_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "KEPT", 100)
    monkeypatch.setattr(archive, "PRUNE_EVERY", 50)
    path = tmp_path / "events"
    fill(path, range(1, 11), at="2020-01-01T00:00:00.000Z")
    fill(path, range(11, 500))
    left = ids(path)
    assert left[-1] == 499
    assert 100 <= len(left) <= 150


def test_the_file_stays_below_its_size_and_takes_the_newest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "SIZE_MAX_BYTES", 1024 * 1024)
    monkeypatch.setattr(archive, "KEPT", 40)
    path = tmp_path / "events"
    fill(path, range(1, 200), text="x" * 32_000)
    assert path.stat().st_size <= 1024 * 1024
    assert ids(path)[-1] == 199


def test_a_disk_that_cannot_be_written_is_said_once(tmp_path: Path) -> None:
    said: queue.SimpleQueue[str] = queue.SimpleQueue()
    kept = Archive(tmp_path / "missing" / "events")
    assert kept.recall(10) == []
    kept.trouble = said.put
    kept.start()
    for number in range(20):
        kept.add(number, NOW, {"id": number})
    kept.close(20)
    assert said.qsize() == 1
    assert "cannot write the events" in said.get()


def test_a_row_that_cannot_be_written_takes_no_other_with_it(tmp_path: Path) -> None:
    path = tmp_path / "events"
    fill(path, range(1, 2))
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(
            "CREATE TRIGGER no BEFORE INSERT ON events WHEN new.id = 5 BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
    said: list[str] = []
    kept = Archive(path)
    kept.trouble = said.append
    for number in range(2, 10):  # before it starts: they are one batch
        kept._queue.put((archive._EVENT, (number, NOW, {"id": number})))
    kept.start()
    kept.close(20)
    assert ids(path) == [1, 2, 3, 4, 6, 7, 8, 9]
    assert len(said) == 1


def test_a_file_that_is_no_database_is_put_aside(tmp_path: Path) -> None:
    path = tmp_path / "events"
    path.write_bytes(b"no database, and long enough to be taken for a header of one" * 100)
    assert Archive(path).recall(10) == []
    fill(path, range(1, 3))
    assert ids(path) == [1, 2]
    assert path.with_suffix(".broken").exists()


T0 = int(time.time()) // 60 * 60


def test_minutes_and_deploys_come_back_and_old_minutes_go(tmp_path: Path) -> None:
    path = tmp_path / "events"
    kept = Archive(path)
    kept.start()
    kept.add_minute("blog", T0 - archive.MINUTES_KEPT_FOR_S - 60, b"too old")
    kept.add_minute("blog", T0, b"begun")
    kept.add_minute("shop", T0, b"of another")
    kept.add_minute("blog", T0 + 60, b"next")
    kept.add_minute("blog", T0, b"whole")
    kept.add_deploy(NOW, {"id": 1, "site": "blog"})
    kept.close(20)
    again = Archive(path)
    assert again.minutes("blog", T0, T0 + 120) == [(T0, b"whole"), (T0 + 60, b"next")]
    assert again.minutes("blog", T0 + 60, T0 + 61) == [(T0 + 60, b"next")]
    assert again.recall_deploys(10) == [{"id": 1, "site": "blog"}]
    fill(path, range(1, 3))  # looks at what is too old
    assert again.minutes("blog", 0, T0) == []


def test_minutes_of_all_sites_together_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MINUTES_KEPT", 30)
    path = tmp_path / "events"
    kept = Archive(path)
    kept.start()
    for minute in range(50):
        for site in ("blog", "shop"):
            kept._queue.put((archive._MINUTE, (T0 + minute * 60, site, b"x" * 150)), timeout=20)
    kept.close(20)
    fill(path, range(1, 3))
    for site in ("blog", "shop"):
        assert [at for at, _ in kept.minutes(site, 0, T0 * 2)] == [
            T0 + minute * 60 for minute in range(35, 50)
        ]


def test_minutes_make_room_for_events_where_the_file_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "SIZE_MAX_BYTES", 1024 * 1024)
    monkeypatch.setattr(archive, "MINUTES_KEPT", 400)
    monkeypatch.setattr(archive, "PRUNE_EVERY", 10**9)
    path = tmp_path / "events"
    kept = Archive(path)
    kept.start()
    for minute in range(1_000):
        kept._queue.put((archive._MINUTE, (T0 + minute * 60, "blog", b"x" * 2_000)), timeout=20)
    kept.close(20)
    fill(path, range(1, 20), text="x" * 10_000)
    assert ids(path)[-1] == 19
    assert kept.minutes("blog", T0 + 999 * 60, T0 * 2)
    assert path.stat().st_size <= 1024 * 1024


def test_earlier_events_are_read_page_by_page(tmp_path: Path) -> None:
    path = tmp_path / "events"
    fill(path, range(1, 30))
    kept = Archive(path)
    assert [each["id"] for each in kept.events_before(12, 3)] == [11, 10, 9]
    assert [each["id"] for each in kept.events_before(3, 100)] == [2, 1]
    assert Archive(tmp_path / "missing" / "events").events_before(3, 10) == []
    assert Archive(tmp_path / "missing" / "events").minutes("blog", 0, 10) == []
