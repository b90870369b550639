"""Which request is stuck? Answered in the dashboard in two clicks, before a real daemon with a real site under traffic.

``make screenshots`` (DJSUP_SCREENSHOTS names the folder) keeps what is seen on the way for docs/images.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

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


PATHS = """() => {
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const node = texts.currentNode;
    const shown = node.data
      .replace(/\\/\\S*\\/run\\/worker\\//g, "/run/djsup/worker/")
      .replace(/\\/\\S*\\/djsup\\.toml/g, "/etc/djsup/djsup.toml")
      .replace(/\\/\\S*\\/blog\\/project\\//g, "/srv/blog/blog/")
      .replace(/\\/\\S*\\/(site-packages\\/)/g, "/srv/blog/.venv/lib/python3/$1")
      .replace(/\\/\\S*\\/(lib\\/python3\\.\\d+\\/)/g, (whole, end) => whole.startsWith("/srv") ? whole : `/usr/${end}`);
    if (shown !== node.data) node.data = shown;
  }
}"""
"""Paths of the machine that the test runs on, as those of a server."""


def keep(page: Page, name: str, scheme: str, part: Locator | None = None) -> None:
    if folder := os.environ.get("DJSUP_SCREENSHOTS"):
        page.mouse.move(0, 0)
        page.evaluate("scrollTo(0, 0)")
        page.evaluate(PATHS)
        (part or page).screenshot(path=Path(folder) / f"{name}-{scheme}.png")


def panel(page: Page, title: str) -> Locator:
    return page.locator("section", has=page.get_by_role("heading", name=title, exact=True))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_stuck_request_and_its_line_are_two_clicks_away(
    chromium: Browser,
    daemon: DaemonUnderTest,  # noqa: F811
    blog: Project,  # noqa: F811
    scheme: str,
) -> None:
    blog.deploy(urls=SITE)
    port = daemon.dashboard()
    daemon.start()

    def ask() -> None:
        with suppress(OSError):  # the daemon is stopped under it
            daemon.get("blog", "/reports/2026", timeout_s=90)

    stuck = threading.Thread(target=ask)
    context = chromium.new_context(
        viewport={"width": 1280, "height": 800}, color_scheme="dark" if scheme == "dark" else "light"
    )
    try:
        page = context.new_page()
        page.goto(f"http://127.0.0.1:{port}/")
        keep(page, "login", scheme)
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
            if "DJSUP_SCREENSHOTS" in os.environ:
                daemon.done("reload", "blog", "--no-wait")
                page.wait_for_timeout(12_000)  # for something to be seen on the charts
            keep(page, "overview", scheme)

            flows.open_site(page, "blog")  # the first click: which request, and since when
            expect(page.get_by_role("table", name="Workers of blog")).to_contain_text("/reports/2026")
            expect(page.get_by_role("img", name="Memory over 15 min")).to_be_visible()
            keep(page, "site", scheme)
            page.get_by_role("button", name="Stacks now").click()  # the second: where
            place = page.get_by_role("article").filter(has_text="/reports/2026")
            expect(place).to_contain_text("yearly_report")
            expect(place).to_contain_text("urls.py")
            keep(page, "stacks", scheme, panel(page, "Stacks"))

            page.get_by_label("How long").select_option("5")
            page.get_by_role("button", name="Profile", exact=True).click()
            expect(page.get_by_role("table", name="Functions that take the time")).to_contain_text(
                "price", timeout=flows.ACTION_MS
            )
            keep(page, "profile", scheme, panel(page, "Profile"))
        told = daemon.done("trace", "blog").stdout  # and by one command
        assert "/reports/2026" in told
        assert "yearly_report" in told
    finally:
        context.close()
        daemon.stop()
        if stuck.ident is not None:
            stuck.join(30)
