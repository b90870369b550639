"""Workers that have had enough: another is forked first, then they drain, and no request notices."""

from __future__ import annotations

from pathlib import Path

from system.daemon import DaemonUnderTest, Project, wait_for
from system.load import Load

LEAKY = """
import os
from django.http import HttpResponse
from django.urls import path

kept = []

def leak(request):
    kept.append(os.urandom(1 << 20) * 48)
    return HttpResponse(str(os.getpid()))

urlpatterns = [path("", lambda request: HttpResponse("one")), path("leak", leak)]
"""


def test_a_worker_is_recycled_by_requests_memory_and_age_by_fork_first_and_one_at_a_time(
    daemon: DaemonUnderTest, django: Path
) -> None:
    limits = {"blog": "max_requests = 300", "shop": "max_memory = '32MiB'", "wiki": "max_lifetime = 1.5"}
    reasons = {"blog": "requests", "shop": "private memory", "wiki": "has lived for 1.5 s"}
    for name, limit in limits.items():
        Project(daemon.folder / name).deploy(urls=LEAKY)
        daemon.site(name, django, more=f"workers = 2\n[sites.{name}.limits]\n{limit}")
    daemon.start()
    leaky = {each["pid"] for each in daemon.workers("shop")}
    leaking = int(daemon.get("shop", "/leak")[1])

    def kinds(name: str) -> list[str]:
        wanted = ("worker-ready", "worker-recycled", "worker-drained")
        return [event["kind"] for event in daemon.events(name) if event["kind"] in wanted]

    with Load(daemon.ports["blog"], connections=4) as load:
        for name in limits:
            wait_for(lambda name=name: "worker-recycled" in kinds(name), f"{name} to be recycled")  # type: ignore[misc]
        load.wait_for_requests(100)
    assert load.outcome.closed == 0, load.outcome.summary()
    assert not load.outcome.failures
    for name, reason in reasons.items():
        # Two at the start, and one more before each that goes.
        assert kinds(name)[:4] == ["worker-ready"] * 3 + ["worker-recycled"], (name, kinds(name))
        (first, *_) = [event for event in daemon.events(name) if event["kind"] == "worker-recycled"]
        assert reason in first["text"]
        ready = [event["pid"] for event in daemon.events(name) if event["kind"] == "worker-ready"]
        assert first["pid"] in ready[:2]
    assert leaking not in daemon.serving("shop")
    assert len(leaky & {each["pid"] for each in daemon.workers("shop")}) >= 1, "the other one stays"
