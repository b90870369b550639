"""Requests that do not end: the real things that hang, and what becomes of them."""

from __future__ import annotations

import threading
from contextlib import suppress

from system.daemon import DaemonUnderTest, Project, wait_for

URLS = """
import os, socket, threading, time
from django.db import connection, transaction
from django.http import HttpResponse
from django.urls import path

def prepare(request):
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE IF NOT EXISTS orders (name TEXT)")
    return HttpResponse(str(os.getpid()))

def count(request):
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM orders")
        return HttpResponse(f"{cursor.fetchone()[0]} {os.getpid()}")

def loop():
    while True:
        try:
            1 / 0
        except Exception:
            pass

def lock():
    held = threading.Lock()
    held.acquire()
    held.acquire()

def database():
    server = socket.create_server(("127.0.0.1", 0))
    socket.create_connection(server.getsockname()).recv(1)  # connected, and no answer ever

def compute():
    sum(range(10**13))  # in C, with the interpreter, and no look at signals

def hang(request, how):
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("INSERT INTO orders VALUES ('half')")
        globals()[how]()
    return HttpResponse("never")

def long(request):
    request.environ["djsup.extend_timeout"](60)
    time.sleep(2.5)
    return HttpResponse("done")

urlpatterns = [
    path("prepare", prepare), path("count", count), path("hang/<how>", hang), path("long", long),
    path("healthz", lambda request: HttpResponse()),
]
"""


def hanging(
    daemon: DaemonUnderTest, blog: Project, limits: str, *, workers: int = 1, threads: int = 1
) -> int:
    """Start the site; the pid of a worker."""
    blog.deploy(urls=URLS)
    daemon.sites["blog"] = daemon.sites["blog"].replace(
        "workers = 2", f"workers = {workers}\nthreads = {threads}"
    )
    daemon.sites["blog"] += f"\n[sites.blog.limits]\n{limits}\n"
    daemon.write()
    daemon.start()
    return int(daemon.get("blog", "/prepare")[1])


def events(daemon: DaemonUnderTest, kind: str) -> list[dict[str, str]]:
    return [event for event in daemon.events("blog") if event["kind"] == kind]


def test_soft_timeout_answers_503_rolls_back_and_the_worker_lives_on(
    daemon: DaemonUnderTest, blog: Project
) -> None:
    worker = hanging(daemon, blog, "soft_timeout = 0.3\nrequest_timeout = 20")
    for how in ("loop", "lock", "database"):
        assert daemon.get("blog", f"/hang/{how}")[0] == 503
    assert daemon.get("blog", "/count") == (200, f"0 {worker}".encode())
    told = wait_for(
        lambda: found if len(found := events(daemon, "request-timeout")) == 3 else None, "the events"
    )
    for event, how in zip(told, ("loop", "lock", "database"), strict=True):
        assert f"GET /hang/{how}" in event["text"]
        assert f"in {how}" in event["details"]
    assert not events(daemon, "request-overdue")


def test_what_no_exception_reaches_is_replaced_and_the_event_says_which_line_it_hangs_in(
    daemon: DaemonUnderTest, blog: Project
) -> None:
    worker = hanging(daemon, blog, "soft_timeout = 0.3\nrequest_timeout = 1\ndrain_timeout = 0.5", threads=2)
    asking = threading.Thread(target=_ask, args=(daemon, "/hang/compute"))
    asking.start()
    told = wait_for(
        lambda: [event for event in events(daemon, "request-overdue") if event["details"]], "the event"
    )
    wait_for(lambda: worker not in {each["pid"] for each in daemon.workers("blog")}, "the worker to go")
    daemon.wait_state("blog", "serving")
    lines = URLS.splitlines()
    line = next(number for number, text in enumerate(lines, 1) if "10**13" in text)
    assert "most recent call first" in told[0]["details"]
    assert f"line {line} in compute" in told[0]["details"]
    assert daemon.get("blog", "/count")[1].startswith(b"0 ")
    asking.join(20)
    assert not asking.is_alive()


def test_a_request_that_asks_for_more_time_gets_it(daemon: DaemonUnderTest, blog: Project) -> None:
    worker = hanging(daemon, blog, "request_timeout = 0.5\nsoft_timeout = 0.2")
    assert daemon.get("blog", "/long") == (200, b"done")
    assert daemon.get("blog", "/prepare") == (200, str(worker).encode())
    assert not events(daemon, "request-overdue")


def _ask(daemon: DaemonUnderTest, path: str) -> None:
    with suppress(OSError):
        daemon.get("blog", path)
