"""What axe-core finds in every page, in both themes: nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, ViewportSize, expect

from browser import flows
from browser.fleet import Fleet
from djsup.core.model import Settings
from djsup.core.snapshot import CurrentRequest, WorkerState
from web_ui.fake_daemon import FakeDaemon

PHONE: ViewportSize = {"width": 390, "height": 844}
AXE = Path(__file__).parents[2] / ".cache/axe/axe.min.js"


def violations(page: Page) -> list[str]:
    found: dict[str, Any] = page.evaluate("() => axe.run()")
    return [
        f"{each['id']}: {node['target']} {node['failureSummary']}"
        for each in found["violations"]
        for node in each["nodes"]
    ]


def edit(running: Settings) -> Settings:
    return replace(running, sites=(running.sites[0], replace(running.sites[1], threads=8)))


def hang(daemon: FakeDaemon) -> None:
    daemon.lively = False
    worker = daemon.sites["shop"].workers[0]
    worker.state, worker.current = WorkerState.BUSY, (CurrentRequest("GET", "/stuck", 40.0),)


@pytest.mark.skipif(not AXE.is_file(), reason="axe-core is missing: make test fetches it with npm")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_on_any_page_in_any_of_its_states(
    chromium: Browser, fleet: Fleet, scheme: str
) -> None:
    context = chromium.new_context(
        color_scheme="dark" if scheme == "dark" else "light", reduced_motion="reduce"
    )
    try:
        page = context.new_page()
        page.add_init_script(path=AXE)
        page.goto(fleet.dashboard.url)
        assert violations(page) == []
        flows.log_in(page, fleet.dashboard.url, fleet.dashboard.token)
        fleet.fake.do(lambda daemon: setattr(daemon.sites["shop"], "broken", True))
        flows.row(page, "shop").get_by_role("button", name="Reload").click()
        expect(flows.row(page, "shop").locator(".problem")).to_be_visible(timeout=flows.ACTION_MS)
        assert violations(page) == []
        flows.row(page, "shop").get_by_role("button", name="Restart").click()
        expect(page.get_by_role("dialog")).to_be_visible()
        assert violations(page) == []
        page.keyboard.press("Escape")
        fleet.fake.do(hang)
        flows.open_site(page, "shop")
        page.get_by_role("button", name="Try first…").click()
        assert violations(page) == []
        page.keyboard.press("Escape")
        expect(page.get_by_role("img", name="Memory over 15 min")).to_be_visible()
        page.get_by_role("button", name="Stacks now").click()
        page.get_by_role("button", name="Profile").click()
        expect(page.locator(".flame .box").first).to_be_visible()
        expect(page.locator(".place").first).to_be_visible()
        expect(page.locator(".noted li").first).to_be_visible()
        assert violations(page) == []
        fleet.fake.do(lambda daemon: setattr(daemon, "edited", edit))
        page.get_by_role("link", name="Daemon").click()
        expect(page.get_by_role("table", name="Settings that differ")).to_be_visible()
        page.get_by_text("sites.blog", exact=True).click()
        assert violations(page) == []
        page.set_viewport_size(PHONE)
        assert violations(page) == []
        page.get_by_role("link", name="Sites", exact=True).click()
        expect(flows.row(page, "shop")).to_be_visible()
        assert violations(page) == []
        fleet.fake.do(lambda daemon: daemon.sites.clear())
        expect(page.get_by_text("The configuration names no site yet.")).to_be_visible()
        assert violations(page) == []
        fleet.fake.do(FakeDaemon.stop)
        expect(page.locator("#banner")).to_be_visible()
        assert violations(page) == []
        page.reload()
        expect(page.locator(".state-page")).to_be_visible()
        assert violations(page) == []
    finally:
        context.close()
