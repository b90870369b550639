"""The clock on the wall jumps under a real daemon and its workers, and nobody is hurt.

To set the machine's clock would do it to everybody. Instead what these processes ask of libc is answered with an
offset from a file: CLOCK_REALTIME, time(2) and gettimeofday(2); the monotonic clock is left alone, as the kernel
does (clock_settime(2)). Preloaded C, for the libfaketime of Debian also breaks sleeping until a time.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from system.daemon import DaemonUnderTest, Project, wait_for
from system.load import Load

SHIM = """
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long offset(void) {
    char text[32];
    const char *path = getenv("WALL_OFFSET");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return 0;
    ssize_t size = read(file, text, sizeof text - 1);
    close(file);
    if (size <= 0) return 0;
    text[size] = 0;
    return atol(text);
}
int clock_gettime(clockid_t clock, struct timespec *at) {
    int result = syscall(SYS_clock_gettime, clock, at);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) at->tv_sec += offset();
    return result;
}
int gettimeofday(struct timeval *restrict at, void *restrict zone) {
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return 0;
}
time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}
"""
YEAR_S = 366 * 86_400


class WallClock:
    """The offset that the processes see."""

    def __init__(self, folder: Path) -> None:
        self.file, self.shim = folder / "offset", folder / "wall_clock.so"
        source = folder / "wall_clock.c"
        source.write_text(SHIM)
        compiled = subprocess.run(
            ["cc", "-shared", "-fPIC", "-O1", "-o", self.shim, source],
            capture_output=True,
            text=True,
            check=False,
        )
        if compiled.returncode != 0:
            pytest.skip(f"the C compiler makes no shared library: {compiled.stderr[-300:]}")
        self.set(0)

    def set(self, offset_s: int) -> None:
        new = self.file.with_suffix(".new")
        new.write_text(str(offset_s))
        new.rename(self.file)


@pytest.fixture
def wall(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WallClock:
    if shutil.which("cc") is None:
        pytest.skip("no C compiler (Debian: gcc), with which a clock on the wall is made that can be set")
    clock = WallClock(tmp_path)
    monkeypatch.setenv("LD_PRELOAD", str(clock.shim))
    monkeypatch.setenv("WALL_OFFSET", str(clock.file))
    return clock


def pids(daemon: DaemonUnderTest) -> set[int]:
    return daemon.serving("blog")


def last_year(daemon: DaemonUnderTest) -> int:
    return int(daemon.events("blog")[-1]["at"][:4])


def test_a_jump_of_the_wall_clock_replaces_nobody_and_costs_no_request(
    daemon: DaemonUnderTest, blog: Project, wall: WallClock
) -> None:
    daemon.sites["blog"] += (
        f'env = {{ LD_PRELOAD = "{wall.shim}", WALL_OFFSET = "{wall.file}" }}\n'
        "[sites.blog.limits]\nrequest_timeout = 20\nmax_lifetime = 3600\n"
    )
    daemon.write()
    daemon.start()
    before, this_year = pids(daemon), last_year(daemon)
    with Load(daemon.ports["blog"], "/slow?s=0.01", connections=4) as load:
        for years in (10, -10, 0):
            wall.set(years * YEAR_S)
            load.wait_for_requests(150)
            assert pids(daemon) == before
    assert load.outcome.closed == 0, load.outcome.summary()
    wall.set(10 * YEAR_S)  # and what has to be done is done as soon as ever
    victim = min(before)
    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: len(pids(daemon)) == 2 and victim not in pids(daemon), "the replacement")
    wait_for(lambda: last_year(daemon) - this_year >= 9, "an event of that year: the clock did jump")
    assert "mistake" not in daemon.log
