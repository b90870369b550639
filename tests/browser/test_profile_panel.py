"""The profile of a site in a real browser: looked at, zoomed by click and by key, and by no inline style or script."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect

from browser import flows
from browser.fleet import Fleet


def test_a_profile_shows_its_progress_and_a_flame_graph_that_zooms_by_click_and_key(
    page: Page, fleet: Fleet
) -> None:
    flows.log_in(page, fleet.dashboard.url, fleet.dashboard.token)
    flows.open_site(page, "shop")
    panel = page.locator("section", has=page.get_by_role("heading", name="Profile"))
    fleet.fake.do(lambda daemon: setattr(daemon.sites["shop"], "reload_s", 1.0))
    panel.get_by_label("How long").select_option("5")
    panel.get_by_role("button", name="Profile").click()
    expect(panel.get_by_role("progressbar")).to_be_visible()
    graph = panel.get_by_role("group", name=re.compile("^Flame graph"))
    waits = graph.get_by_role("button", name="wait, 62.0 %")
    prices = graph.get_by_role("button", name="round_up, 24.0 %")
    expect(waits).to_be_visible()
    expect(panel.get_by_role("table", name="Functions that take the time")).to_contain_text("<report>")
    waits.click()
    expect(prices).to_have_count(0)
    expect(waits).to_be_focused()
    page.keyboard.press("Escape")
    expect(prices).to_be_visible()
    expect(graph.get_by_role("button", name="all, 100.0 %")).to_be_focused()
    for key in ("ArrowUp", "ArrowUp", "ArrowUp", "ArrowRight", "Enter"):
        page.keyboard.press(key)
    expect(prices).to_be_focused()
    expect(waits).to_have_count(0)
    panel.get_by_role("button", name="Show all").click()
    expect(waits).to_be_visible()
