"""Which request is stuck? Answered in the dashboard in two clicks, before a real daemon with a real site under traffic."""

from __future__ import annotations

import threading
from contextlib import suppress

import pytest
from playwright.sync_api import Page, expect

from browser import flows
from system.conftest import blog, daemon, django  # noqa: F401 - fixtures
from system.daemon import DaemonUnderTest, Project, wait_for
from system.load import Load

pytestmark = pytest.mark.system

SITE = """
import random, re, threading, time
from django.http import HttpResponse
from django.urls import path

def healthz(request):
    return HttpResponse("well")

def price(number):
    return sum(each * 31 % 97 for each in range(number))

def article(request):
    time.sleep(random.random() / 50)
    return HttpResponse(str(price(60_000)))

def yearly_report(request):
    threading.Event().wait(120)

urlpatterns = [path("healthz", healthz), path("article", article), path("reports/2026", yearly_report)]
"""


def test_the_stuck_request_and_its_line_are_two_clicks_away(
    page: Page,
    daemon: DaemonUnderTest,  # noqa: F811
    blog: Project,  # noqa: F811
) -> None:
    blog.deploy(urls=SITE)
    port = daemon.dashboard()
    daemon.start()

    def ask() -> None:
        with suppress(OSError):  # the daemon is stopped under it
            daemon.get("blog", "/reports/2026", timeout_s=90)

    stuck = threading.Thread(target=ask)
    try:
        with Load(daemon.ports["blog"], path="/article", connections=3) as load:
            load.wait_for_requests(20)
            stuck.start()
            wait_for(
                lambda: any(
                    each["path"] == "/reports/2026"
                    for worker in daemon.workers("blog")
                    for each in worker["current"]
                ),
                "the report to run",
            )
            flows.log_in(page, f"http://127.0.0.1:{port}", (daemon.folder / "token").read_text().strip())

            flows.open_site(page, "blog")  # the first click: which request, and since when
            expect(page.get_by_role("table", name="Workers of blog")).to_contain_text("/reports/2026")
            expect(page.get_by_role("img", name="Memory over 15 min")).to_be_visible()
            page.get_by_role("button", name="Stacks now").click()  # the second: where
            place = page.get_by_role("article").filter(has_text="/reports/2026")
            expect(place).to_contain_text("yearly_report")
            expect(place).to_contain_text("urls.py")

            page.get_by_label("How long").select_option("5")
            page.get_by_role("button", name="Profile", exact=True).click()
            expect(page.get_by_role("table", name="Functions that take the time")).to_contain_text(
                "price", timeout=flows.ACTION_MS
            )
        told = daemon.done("trace", "blog").stdout  # and by one command
        assert "/reports/2026" in told
        assert "yearly_report" in told
    finally:
        daemon.stop()
        if stuck.ident is not None:
            stuck.join(30)
