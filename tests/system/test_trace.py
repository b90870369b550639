"""Where every thread of a site is: told while it is stuck, in C, in its import, or stopped."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psutil
import pytest

from djsup.client import ClientError
from system.daemon import WSGI, DaemonUnderTest, Project, wait_for

STUCK = """
import re, time
from django.http import HttpResponse
from django.urls import path

def healthz(request):
    return HttpResponse("well")

def sleeps(request, number):
    time.sleep(60)

def in_c(request):
    re.match("(a+)+$", "a" * 60 + "b")  # for ever in C, and no other thread of this process gets to run

def computes(request, number):
    until = time.monotonic() + 60
    while time.monotonic() < until:
        deeper(20)
        sorted(range(30), key=lambda each: -each)

def deeper(more):
    return deeper(more - 1) if more else list(counts(5))

def counts(more):
    if more:
        yield from counts(more - 1)
    yield more

urlpatterns = [
    path("healthz", healthz), path("sleeps/<int:number>", sleeps), path("in-c", in_c),
    path("computes/<int:number>", computes),
]
"""
DIES_OF_THE_SIGNAL = """
import os, signal
signal.signal(signal.SIGRTMIN + 4, lambda number, frame: os._exit(77))
"""
"""Instead of faulthandler's handler, which a process that computes survives for a while: 79 times, when it was tried."""


@contextmanager
def requests(daemon: DaemonUnderTest, *paths: str) -> Iterator[None]:
    """Requests that are being run by the site's workers while this lasts."""

    def ask(path: str) -> None:
        with suppress(OSError):  # the daemon is stopped under it
            daemon.get("blog", path, timeout_s=60)

    def running() -> set[str]:
        return {each["path"] for worker in daemon.workers("blog") for each in worker["current"]}

    threads = [threading.Thread(target=ask, args=(path,)) for path in paths]
    for thread in threads:
        thread.start()
    try:
        wait_for(lambda: set(paths) <= running(), "every request to run")
        yield
    finally:
        daemon.stop()
        for thread in threads:
            thread.join(30)


def places_of_requests(found: Any) -> list[Any]:
    return [place for place in found["places"] if any(each["request"] for each in place["threads"])]


def test_a_trace_tells_where_every_request_is_stuck_also_in_c(daemon: DaemonUnderTest, blog: Project) -> None:
    blog.deploy(urls=STUCK)
    daemon.start()
    # The worker that is stuck in C accepts nothing more, so the other one has both that sleep: in two threads.
    with requests(daemon, "/in-c"), requests(daemon, "/sleeps/1", "/sleeps/2"):
        found = daemon.done("trace", "blog", "--json").json
        assert {each["slot"]: each["error"] for each in found["processes"]} == {0: None, 1: None, None: None}
        in_c, asleep = sorted(places_of_requests(found), key=lambda place: len(place["threads"]))
        assert "in_c" in [frame["function"] for frame in in_c["frames"]]
        assert [each["request"]["path"] for each in in_c["threads"]] == ["/in-c"]
        assert asleep["frames"][0]["function"] == "sleeps"
        assert {each["request"]["path"] for each in asleep["threads"]} == {"/sleeps/1", "/sleeps/2"}
        assert {each["idle"] for each in found["places"]} >= {None, "template, waits to fork", "monitor"}
        printed = daemon.done("trace", "blog").stdout
        assert "2 of " in printed
        assert "time.sleep(60)" in printed
        assert "GET /in-c" in printed
        ways = {each["slot"]: each["asked_by"] for each in found["processes"]}
        assert ways == {
            in_c["threads"][0]["slot"]: "signal",
            asleep["threads"][0]["slot"]: "message",
            None: "message",
        }
        assert printed.count("was asked by a signal") == 1


@pytest.mark.parametrize("threads", [1, 3])
def test_a_worker_that_computes_is_asked_again_and_again_without_a_signal_and_profiled(
    daemon: DaemonUnderTest, blog: Project, threads: int
) -> None:
    blog.deploy(urls=STUCK, wsgi=DIES_OF_THE_SIGNAL + WSGI)
    daemon.config.write_text(
        daemon.config.read_text().replace("workers = 2", f"workers = 1\nthreads = {threads}")
    )
    daemon.start()
    (worker,) = daemon.workers("blog")
    paths = [f"/computes/{number}" for number in range(threads)]
    with requests(daemon, *paths):
        for _ in range(20):
            found = daemon.ask("trace", site="blog")
            assert [each["asked_by"] for each in found["processes"]] == ["message", "message"]
            assert sum(len(place["threads"]) for place in places_of_requests(found)) == threads
            for place in places_of_requests(found):
                functions = [frame["function"] for frame in place["frames"]]
                # Python 3.11 shows a generator that is just being resumed without its callers.
                assert "computes" in functions or functions == ["counts"]
        profile = daemon.ask("profile", site="blog", seconds=1)
        assert profile["processes"][0]["error"] is None
        assert "deeper" in {function for _file, _line, function in profile["frames"]}
        assert daemon.workers("blog")[0]["pid"] == worker["pid"]


def test_a_stopped_worker_is_said_to_be_stopped_and_answers_the_next_time(
    daemon: DaemonUnderTest, blog: Project
) -> None:
    daemon.start()
    pid = daemon.workers("blog")[0]["pid"]
    os.kill(pid, signal.SIGSTOP)
    wait_for(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED, "all its threads to stop")
    errors = {each["pid"]: each["error"] for each in daemon.ask("trace", site="blog")["processes"]}
    assert "stopped" in errors.pop(pid)
    assert set(errors.values()) == {None}
    os.kill(pid, signal.SIGCONT)
    again = daemon.ask("trace", site="blog")
    assert [each["error"] for each in again["processes"]] == [None, None, None]
    assert (
        len({(each["pid"], each["ident"]) for place in again["places"] for each in place["threads"]})
        == again["threads"]
    )


def test_a_site_that_hangs_in_its_import_is_traced(daemon: DaemonUnderTest, blog: Project) -> None:
    blog.deploy(wsgi="import time\ntime.sleep(60)\n" + WSGI)
    daemon.start(wait=False)

    def hangs() -> Any:
        try:
            places = daemon.ask("trace", site="blog")["places"]
        except ClientError:  # the daemon is not there yet
            return None
        return next((place for place in places if place["frames"][0]["file"].endswith("wsgi.py")), None)

    found = wait_for(hangs, "the import to hang")
    assert found["frames"][0]["line"] == 2
    assert found["threads"][0]["slot"] is None
    assert not any("died" in event["kind"] for event in daemon.events()), "asking too early has ended it"
