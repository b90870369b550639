from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from djsup_worker import scoreboard
from djsup_worker.scoreboard import RowWriter, Running


@pytest.fixture
def words() -> Iterator[memoryview]:
    fd = os.memfd_create("scoreboard")
    os.ftruncate(fd, scoreboard.SIZE_BYTES)
    words = scoreboard.open_words(fd)
    os.close(fd)
    yield words
    words.release()


def test_a_row_that_nobody_uses_is_none(words: memoryview) -> None:
    assert scoreboard.read(words, 5) is None
    with pytest.raises(IndexError):
        scoreboard.read(words, scoreboard.ROWS)


def test_what_is_written_is_read(words: memoryview) -> None:
    writer = RowWriter(words, 2, pid=77, generation=9, threads=4)
    writer.state("draining")
    writer.name_thread(3, 0x7F0000001234)
    writer.begin(3, 123, "GET /ä".encode())
    writer.begin(0, 124, b"POST /x")
    writer.end(0, 204, 60_000, 10, 20)
    writer.end(-1, 404, 10**15, 0, 5)
    writer.end(-1, 0, 0, 0, 0)
    writer.add(scoreboard.CONNECTIONS_AT, 2)
    writer.add(scoreboard.CONNECTIONS_AT, -1)
    row = scoreboard.read(words, 2)
    assert row is not None
    assert (row.pid, row.generation, row.state, row.requests) == (77, 9, "draining", 3)
    assert (row.classes, row.bytes_in, row.bytes_out, row.connections) == ((0, 1, 0, 1, 0), 10, 25, 1)
    assert row.running == (Running(3, 123, "GET", "/ä", 0x7F0000001234),)
    assert row.histogram[0] == 1
    assert row.histogram[scoreboard.bucket_of(60e-6)] == 1
    assert row.histogram[-1] == 1
    writer.rest(3)
    after = scoreboard.read(words, 2)
    assert after is not None
    assert after.running == ()


def test_a_long_path_is_cut_and_a_short_one_after_it_is_clean(words: memoryview) -> None:
    writer = RowWriter(words, 0, 1, 1, 1)
    writer.begin(0, 1, b"GET /" + b"a" * 1000)
    row = scoreboard.read(words, 0)
    assert row is not None
    assert len(row.running[0].path) == scoreboard.TEXT_MAX_BYTES - 4
    writer.begin(0, 2, b"GET /b")
    row = scoreboard.read(words, 0)
    assert row is not None
    assert row.running[0].path == "/b"


def test_the_time_that_a_request_asks_for_is_its_own_and_never_becomes_less(words: memoryview) -> None:
    writer = RowWriter(words, 0, 1, 1, 1)

    def until() -> int:
        row = scoreboard.read(words, 0)
        assert row is not None
        return row.running[0].until_ns

    writer.begin(0, 100, b"GET /" + b"a" * 1000)
    assert (writer.since_ns(0), until()) == (100, 0)
    writer.extend(0, 5000)
    writer.extend(0, 4000)
    assert until() == 5000
    writer.end(0, 200, 1, 0, 0)
    writer.begin(0, 200, b"GET /" + b"b" * 1000)
    assert until() == 0, "it has not asked"
    writer.extend(0, 300)
    assert until() == 300
    assert writer.since_ns(scoreboard.THREADS_MAX) == 0


def test_threads_beyond_the_rows_room_are_not_written(words: memoryview) -> None:
    writer = RowWriter(words, 0, 1, 1, threads=1000)
    writer.begin(scoreboard.THREADS_MAX, 1, b"GET /")
    writer.rest(scoreboard.THREADS_MAX)
    writer.end(scoreboard.THREADS_MAX, 200, 1, 0, 0)
    row = scoreboard.read(words, 0)
    assert row is not None
    assert (row.threads, row.running) == (scoreboard.THREADS_MAX, ())
    assert scoreboard.read(words, 1) is None


def test_buckets_are_narrow_and_in_order() -> None:
    for micros in (1, 50, 51, 60, 1000, 12_345, 3_000_000, 60_000_000):
        bucket = scoreboard.bucket_of(micros / 1e6)
        if bucket:
            assert abs(scoreboard.bucket_middle_s(bucket) - micros / 1e6) <= 0.0501 * micros / 1e6
    assert scoreboard.bucket_of(1e9) == scoreboard.HISTOGRAM_BUCKETS - 1


def test_only_what_failed_or_was_slow_is_worth_a_note(words: memoryview) -> None:
    writer = RowWriter(words, 0, 1, 1, 1)
    slow = scoreboard.NOTED_NS + 1
    worth = [
        writer.end(0, status, ns, 0, 0) for status in (200, 404, 499, 500, 599, 0) for ns in (10**6, slow)
    ]
    assert worth == [False, True] * 3 + [True, True] * 2 + [False, True]
    row = scoreboard.read(words, 0)
    assert row is not None
    assert (row.classes, row.noted) == ((0, 2, 0, 4, 4), 0)
    assert scoreboard.read_notes(words, 0, 0) == []


def test_the_last_notes_are_read_once_and_long_paths_are_cut(words: memoryview) -> None:
    writer = RowWriter(words, 1, 1, 1, 1)
    writer.note("POST /ä".encode(), 503, 7_000, 5_000)
    assert scoreboard.read_notes(words, 1, 0) == [scoreboard.Note(1, 7_000, 5_000, 503, "POST", "/ä")]
    for number in range(2, 12):
        writer.note(b"GET /" + b"a" * 20 * number, 200, number, number)
    row = scoreboard.read(words, 1)
    assert row is not None
    assert row.noted == 11
    notes = scoreboard.read_notes(words, 1, 9)
    assert [note.number for note in notes] == [10, 11]
    assert len(notes[0].path) == scoreboard.NOTE_TEXT_MAX_BYTES - 4
    assert [note.number for note in scoreboard.read_notes(words, 1, 0)] == [8, 9, 10, 11]
    assert scoreboard.read_notes(words, 1, 11) == []
    writer.note(b"GET /b", 500, 1, 1)
    assert scoreboard.read_notes(words, 1, 11)[0].path == "/b"


def test_notes_lie_between_the_histogram_and_the_threads() -> None:
    assert scoreboard.HISTOGRAM_AT + scoreboard.HISTOGRAM_BUCKETS == scoreboard.NOTES_START
    assert scoreboard.NOTES_START + scoreboard.NOTES * scoreboard.NOTE_WORDS == scoreboard.THREADS_START


def test_rubbish_for_notes_is_read_without_harm(words: memoryview) -> None:
    RowWriter(words, 0, 1, 1, 1)
    row = scoreboard.row_words(words, 0)
    for at in range(scoreboard.NOTES_START, scoreboard.THREADS_START):
        row[at] = 2**64 - 1
    for note in scoreboard.read_notes(words, 0, 0):
        assert note.status <= 999
        assert len(note.path) <= scoreboard.NOTE_TEXT_MAX_BYTES
