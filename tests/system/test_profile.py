"""A profile of a real site: the function that takes the time comes first, and nobody is hurt by the looking."""

from __future__ import annotations

import os
import shutil
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from djsup.client import Refused
from system.daemon import DaemonUnderTest, Project, wait_for
from system.load import Load

PY_SPY = shutil.which("py-spy", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
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

def in_c(request):
    hashlib.pbkdf2_hmac("sha256", b"password", b"salt", 400_000)
    return HttpResponse("well")

urlpatterns = [path("healthz", healthz), path("hot", hot), path("in-c", in_c)]
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


@pytest.mark.skipif(PY_SPY is None, reason="py-spy is not installed")
def test_py_spy_sees_what_is_computed_in_c(
    daemon: DaemonUnderTest, blog: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert PY_SPY is not None
    monkeypatch.setenv("PATH", f"{Path(PY_SPY).parent}{os.pathsep}{os.environ['PATH']}")
    blog.deploy(urls=HOT)
    daemon.start()
    with Load(daemon.ports["blog"], path="/in-c", connections=2) as load:
        load.wait_for_requests(2)
        found = daemon.done("profile", "blog", "--seconds", "2", "--native", "--json").json
    assert load.outcome.closed == 0, load.outcome.summary()
    errors = {each["error"] for each in found["processes"]}
    if any("ermission" in str(error) for error in errors):
        pytest.skip("no right to trace processes here")
    assert errors == {None}
    view = next(each for each, (_file, _line, name) in enumerate(found["frames"]) if name == "in_c")
    seen = [(count, calls) for count, calls in found["stacks"] if view in calls]
    assert any(calls[-1] != view and ".py" not in found["frames"][calls[-1]][0] for _count, calls in seen)


def test_without_py_spy_a_native_profile_is_refused_and_says_what_to_do(
    daemon: DaemonUnderTest, blog: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    del blog
    daemon.start()
    refused = daemon.run("profile", "blog", "--native")
    assert refused.status == 1
    assert "pip install py-spy" in refused.stderr
