"""``make screenshots``: every page of the dashboard for docs/images, before a real daemon with real sites and traffic.

DJSUP_SCREENSHOTS names the folder, DJSUP_SCREENSHOTS_S for how long the sites serve before (charts should show
something). Meanwhile they are deployed, one deploy is broken, requests fail and are slow, and a worker is killed.
"""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from browser import flows
from system.conftest import daemon, django  # noqa: F401 - fixtures
from system.daemon import DaemonUnderTest, Project, wait_for
from system.load import Load

FOLDER = os.environ.get("DJSUP_SCREENSHOTS", "")
SERVED_S = float(os.environ.get("DJSUP_SCREENSHOTS_S", "420"))
LARGEST_BYTES = 150 * 1024
pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not FOLDER, reason="make screenshots sets DJSUP_SCREENSHOTS"),
    pytest.mark.timeout(SERVED_S + 600),
]
URLS = """
import math, random, re, threading, time
from django.http import HttpResponse
from django.urls import path

def healthz(request):
    return HttpResponse("well")

def price(number):
    return sum(each * 31 % 97 for each in range(number))

def article(request):
    time.sleep(random.random() / 50 * (1.2 + math.sin(time.time() / 40)))
    return HttpResponse(str(price(20_000)))

def search(request):
    time.sleep(random.choice((0.02, 0.04, 0.05, 0.7)))
    return HttpResponse("found")

def checkout(request):
    if random.random() < 0.3:
        return HttpResponse("the payment service does not answer", status=503)
    return HttpResponse("ordered")

def yearly_report(request):
    threading.Event().wait(600)

urlpatterns = [
    path("healthz", healthz), path("article", article), path("search", search), path("checkout", checkout),
    path("reports/2026", yearly_report),
]
"""
SITES = {"blog": 3, "intranet": 1, "shop": 2}
"""And how many workers each has."""
PATHS = """() => {
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const node = texts.currentNode;
    const shown = node.data
      .replace(/\\/\\S*\\/run\\/worker\\//g, "/run/djsup/worker/")
      .replace(/\\/\\S*\\/djsup\\.toml/g, "/etc/djsup/djsup.toml")
      .replace(/\\/\\S*\\/token/g, "/etc/djsup/token")
      .replace(/\\/tmp\\/\\S*\\/(blog|shop|intranet)(?=[\\/"\\s]|$)/g, "/srv/$1")
      .replace(/\\/tmp\\/\\S*\\/run$/g, "/run/djsup")
      .replace(/\\/\\S*\\/(site-packages\\/)/g, "/srv/blog/.venv/lib/python3/$1")
      .replace(/\\/\\S*\\/(lib\\/python3\\.\\d+\\/)/g, (whole, end) => whole.startsWith("/srv") ? whole : `/usr/${end}`)
      .replace(/\\/\\S*\\/bin\\/python\\S*/g, (whole) => whole.startsWith("/srv") ? whole : "/srv/.venv/bin/python");
    if (shown !== node.data) node.data = shown;
  }
}"""
"""Paths of the machine that this runs on, as those of a server."""


def keep(page: Page, name: str, scheme: str, part: Locator | None = None) -> None:
    page.mouse.move(0, 0)
    if part is None:
        page.evaluate("scrollTo(0, 0)")
    page.evaluate(PATHS)
    path = Path(FOLDER) / f"{name}-{scheme}.png"
    (part or page).screenshot(path=path, animations="disabled")
    assert path.stat().st_size <= LARGEST_BYTES, f"{path}: {path.stat().st_size} bytes"


def panel(page: Page, title: str) -> Locator:
    return page.locator("section", has=page.get_by_role("heading", name=title, exact=True))


@contextmanager
def traffic(daemon: DaemonUnderTest) -> Iterator[None]:  # noqa: F811
    paths = (
        ("blog", "/article", 3, 0.06), ("blog", "/search", 1, 0.4), ("shop", "/article", 2, 0.08),
        ("shop", "/checkout", 1, 3.0), ("shop", "/search", 1, 2.0), ("intranet", "/article", 1, 0.5),
    )  # fmt: skip
    with ExitStack() as stack:
        for site, path, connections, pause_s in paths:
            stack.enter_context(Load(daemon.ports[site], path, connections, pause_s, may_fail=True))
        yield


def live_a_little(daemon: DaemonUnderTest, shop: Project) -> None:  # noqa: F811
    """What happens to the sites in SERVED_S."""
    pause_s = SERVED_S / 5
    time.sleep(pause_s)
    daemon.done("reload", "blog")
    time.sleep(pause_s)
    shop.deploy(urls=URLS, wsgi="import payments.gateway\n")
    assert daemon.run("reload", "shop").status == 1
    time.sleep(pause_s)
    os.kill(daemon.workers("shop")[0]["pid"], signal.SIGKILL)
    shop.deploy(urls=URLS)
    time.sleep(pause_s)
    daemon.done("reload", "shop", "--canary", "4s")
    daemon.done("reload", "intranet")
    time.sleep(pause_s)


def test_every_page_is_kept_for_the_docs(
    chromium: Browser,
    daemon: DaemonUnderTest,  # noqa: F811
    django: Path,  # noqa: F811
) -> None:
    projects = {name: Project(daemon.folder / name) for name in SITES}
    for name, workers in SITES.items():
        projects[name].deploy(urls=URLS)
        more = f'workers = {workers}\nhealth.path = "/healthz"\nlimits.request_timeout = 600'
        daemon.site(name, django, more=more)
    url = f"http://127.0.0.1:{daemon.dashboard()}"
    daemon.start()

    def ask() -> None:
        with suppress(OSError):  # the daemon is stopped under it
            daemon.get("blog", "/reports/2026", timeout_s=300)

    stuck = threading.Thread(target=ask)
    try:
        with traffic(daemon):
            live_a_little(daemon, projects["shop"])
            stuck.start()
            wait_for(
                lambda: any(
                    each["path"] == "/reports/2026"
                    for worker in daemon.workers("blog")
                    for each in worker["current"]
                ),
                "the report to run",
            )
            time.sleep(20)
            daemon.sites["shop"] = daemon.sites["shop"].replace("workers = 2", "workers = 4\nthreads = 8")
            daemon.write()
            for scheme in ("light", "dark"):
                look_at_all(chromium, url, (daemon.folder / "token").read_text().strip(), scheme)
    finally:
        daemon.stop()
        if stuck.ident is not None:
            stuck.join(30)


def look_at_all(chromium: Browser, url: str, token: str, scheme: str) -> None:
    context = chromium.new_context(
        viewport={"width": 1280, "height": 800},
        color_scheme="dark" if scheme == "dark" else "light",
        reduced_motion="reduce",
    )
    try:
        page = context.new_page()
        page.goto(f"{url}/")
        keep(page, "login", scheme)
        flows.log_in(page, url, token)
        expect(flows.row(page, "blog").locator(".spark-line")).to_have_attribute("d", re.compile("L"))
        page.wait_for_timeout(3_000)
        page.set_viewport_size({"width": 1280, "height": 760})
        keep(page, "overview", scheme)
        page.get_by_role("link", name="Daemon").click()
        expect(panel(page, "What a reload would change").get_by_role("table")).to_be_visible()
        page.set_viewport_size({"width": 1280, "height": 1000})
        keep(page, "daemon", scheme)

        page.get_by_role("link", name="Sites").click()
        page.set_viewport_size({"width": 1280, "height": 800})
        flows.open_site(page, "blog")
        expect(page.get_by_role("table", name="Workers of blog")).to_contain_text("/reports/2026")
        expect(page.get_by_role("img", name="Memory over 15 min")).to_be_visible()
        keep(page, "site", scheme)
        page.get_by_role("button", name="Stacks now").click()
        expect(page.get_by_role("article").filter(has_text="/reports/2026")).to_contain_text("yearly_report")
        keep(page, "stacks", scheme, panel(page, "Stacks"))
        page.get_by_label("How long").select_option("5")
        page.get_by_role("button", name="Profile", exact=True).click()
        expect(page.get_by_role("table", name="Functions that take the time")).to_contain_text(
            "price", timeout=flows.ACTION_MS
        )
        keep(page, "profile", scheme, panel(page, "Profile"))

        page.get_by_role("link", name="Sites", exact=True).first.click()
        flows.open_site(page, "shop")
        requests = panel(page, "Failed and slow requests")
        expect(requests.locator("li").first).to_be_visible()
        panel(page, "The last").evaluate("panel => scrollTo(0, panel.offsetTop - 12)")
        page.wait_for_timeout(500)
        keep(page, "past", scheme, page.locator("main > .site-page > .site-page"))
        keep(page, "requests", scheme, requests)

        page.set_viewport_size({"width": 390, "height": 844})
        keep(page, "phone-site", scheme)
        page.get_by_role("link", name="djsup, overview").click()
        expect(flows.row(page, "blog")).to_be_visible()
        keep(page, "phone-overview", scheme)
    finally:
        context.close()
