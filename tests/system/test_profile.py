"""A profile of a real site: the function that takes the time comes first, and nobody is hurt by the looking."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from djsup.client import Refused
from system.daemon import DaemonUnderTest, Project, wait_for
from system.load import Load

HOT = """
import hashlib
from django.http import HttpResponse
from django.urls import path

def healthz(request):
    return HttpResponse("well")

def burns_the_time():
    number = 0
    for each in range(60_000):
        number = (number * 31 + each) % 1_000_003
    return number

def hot(request):
    return HttpResponse(str(burns_the_time()))

urlpatterns = [path("healthz", healthz), path("hot", hot)]
"""


def test_the_hot_function_is_first_in_the_profile_and_no_request_fails(
    daemon: DaemonUnderTest, blog: Project, tmp_path: Path
) -> None:
    blog.deploy(urls=HOT)
    daemon.start()
    page = tmp_path / "blog.html"
    with Load(daemon.ports["blog"], path="/hot", connections=3) as load:
        load.wait_for_requests(3)
        printed = daemon.done("profile", "blog", "--seconds", "2", "-o", str(page)).stdout
        found = daemon.ask("profile", site="blog", seconds=1)
    assert load.outcome.closed == 0, load.outcome.summary()
    first = next(line for line in printed.splitlines() if " %" in line)
    assert "burns_the_time" in first, printed
    assert "djsup_worker/loop.py" not in printed
    assert [each["error"] for each in found["processes"]] == [None, None]
    text = page.read_text()
    assert "burns_the_time" in text
    assert "<script" not in text
    ET.fromstring(text[text.index("<svg") : text.index("</svg>") + 6])
    assert [event["by"].split()[-1] for event in daemon.events() if event["kind"] == "profiled"] == [
        "(cli)"
    ] * 2


def test_a_site_without_requests_is_seen_as_idle_and_is_profiled_once_at_a_time(
    daemon: DaemonUnderTest, blog: Project
) -> None:
    daemon.start()
    refused: list[str] = []

    def second() -> bool:
        with suppress(Refused):
            daemon.ask("profile", site="blog", seconds=1)
            return False
        refused.append("refused")
        return True

    found: list[dict[str, Any]] = []
    thread = threading.Thread(
        target=lambda: found.append(daemon.ask("profile", site="blog", seconds=3, rate=20))
    )
    thread.start()
    wait_for(lambda: any(event["kind"] == "profiled" for event in daemon.events()), "the profile to begin")
    assert second()
    thread.join(30)
    assert found[0]["idle"] > 20 * found[0]["samples"], found[0]
