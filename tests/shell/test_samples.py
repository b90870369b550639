from __future__ import annotations

import fcntl
import math
import mmap
import os
import subprocess
import sys

import pytest

from djsup.core.model import Pid
from djsup.shell.samples import Meter, Scoreboard, SiteSamples, Totals, percentile_ms
from djsup_worker import scoreboard


def writer(board: Scoreboard, slot: int, pid: int) -> scoreboard.RowWriter:
    return scoreboard.RowWriter(scoreboard.open_words(board.fd), slot, pid, 1, 4)


def test_a_scoreboard_cannot_be_shortened_under_its_reader() -> None:
    board = Scoreboard("blog")
    with pytest.raises(PermissionError):
        os.ftruncate(board.fd, 0)
    with pytest.raises(PermissionError):
        fcntl.fcntl(board.fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
    board.close()


def test_a_row_of_another_pid_is_not_believed() -> None:
    board = Scoreboard("blog")
    writer(board, 3, 1234)
    assert board.row(3, Pid(1234)) is not None
    assert board.row(3, Pid(99)) is None
    assert board.row(4, Pid(1234)) is None


def test_rubbish_in_a_scoreboard_is_read_without_harm() -> None:
    board = Scoreboard("blog")
    pid = 0xFFFFFFFFFFFFFFFF
    with mmap.mmap(board.fd, scoreboard.SIZE_BYTES) as memory:
        memory[:] = b"\xff" * scoreboard.SIZE_BYTES
        memory[0:8] = scoreboard.MAGIC.to_bytes(8, "little")
    row = board.row(0, Pid(pid))
    assert row is not None
    assert row.threads == scoreboard.THREADS_MAX
    SiteSamples().add(1.0, [row])


def test_answers_of_a_worker_that_is_gone_are_counted_on() -> None:
    board = Scoreboard("blog")
    site = SiteSamples()
    first = writer(board, 0, 1)
    for _ in range(10):
        first.begin(0, 1, b"GET /")
        first.end(0, 200, 1_000_000, 0, 100)
    row = board.row(0, Pid(1))
    assert row is not None
    site.retire(row)
    second = writer(board, 0, 2)
    second.begin(0, 1, b"GET /")
    second.end(0, 500, 1_000_000, 0, 100)
    row = board.row(0, Pid(2))
    assert row is not None
    totals = site.totals([row])
    assert totals.requests == 11
    assert totals.classes == (0, 10, 0, 0, 1)


def test_requests_per_second_is_a_mean_over_some_seconds() -> None:
    board = Scoreboard("blog")
    site = SiteSamples()
    row_writer = writer(board, 0, 1)
    for second in range(10):
        row = board.row(0, Pid(1))
        assert row is not None
        site.add(float(second), [row])
        for _ in range(20):
            row_writer.begin(0, 1, b"GET /")
            row_writer.end(0, 200, 1_000_000, 0, 0)
    assert site.requests_per_s() == pytest.approx(20)


def test_percentiles_are_exact_to_five_percent() -> None:
    counts = [0] * scoreboard.HISTOGRAM_BUCKETS
    latencies = [0.0001 * 1.07**number for number in range(150)]
    for latency in latencies:
        counts[scoreboard.bucket_of(latency)] += 1
    for share in (0.5, 0.95, 0.99):
        exact = sorted(latencies)[math.ceil(share * len(latencies)) - 1] * 1000
        assert percentile_ms(counts, len(latencies), share) == pytest.approx(exact, rel=0.051)
    for latency in latencies:
        middle = scoreboard.bucket_middle_s(scoreboard.bucket_of(latency))
        assert middle == pytest.approx(latency, rel=0.051)


def test_no_answers_have_no_percentiles() -> None:
    site = SiteSamples()
    site.add(1.0, [])
    assert site.latency().p50 is None
    assert site.totals([]) == Totals()


def test_a_process_that_is_gone_measures_nothing() -> None:
    meter = Meter()
    assert meter.measure(Pid(os.getpid())).pss_bytes > 0
    assert meter.measure(Pid(2**22 - 1)).pss_bytes == 0


SHARING = """
import os, sys
shared = bytearray(os.urandom(1)) * (40 << 20)
ours, theirs = os.pipe()
pids = []
for work in (lambda: None, lambda: shared.__setitem__(slice(None), bytes(len(shared)))):
    pid = os.fork()
    if not pid:
        work()
        os.write(theirs, b"x")
        sys.stdin.read()
        os._exit(0)
    pids.append(pid)
    os.read(ours, 1)
print(*pids, flush=True)
sys.stdin.read()
"""


def test_what_a_process_shares_with_its_template_is_not_its_private_memory() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SHARING], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        assert process.stdin is not None
        sharing, writing = (Pid(int(pid)) for pid in process.stdout.readline().split())
        meter = Meter()
        shares, writes = meter.measure(sharing), meter.measure(writing)
        process.stdin.close()
    assert shares.rss_bytes > 40 << 20
    assert shares.private_bytes < 20 << 20
    assert writes.private_bytes > 40 << 20
