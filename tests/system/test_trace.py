"""Where every thread of a site is: told while it is stuck, in C, in its import, or stopped."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

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

urlpatterns = [path("healthz", healthz), path("sleeps/<int:number>", sleeps), path("in-c", in_c)]
"""


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


def test_a_stopped_worker_is_said_to_be_stopped_and_answers_the_next_time(
    daemon: DaemonUnderTest, blog: Project
) -> None:
    daemon.start()
    pid = daemon.workers("blog")[0]["pid"]
    os.kill(pid, signal.SIGSTOP)
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
