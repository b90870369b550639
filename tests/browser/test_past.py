"""A site's past in a real browser: charts over a quarter of an hour or a day, deploys in a list and on the charts."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect

from browser import flows
from browser.fleet import Fleet


def test_charts_show_a_quarter_of_an_hour_or_a_day_with_a_gap_where_nothing_was_measured(
    page: Page, fleet: Fleet
) -> None:
    flows.log_in(page, fleet.dashboard.url, fleet.dashboard.token)
    flows.open_site(page, "blog")
    rate = page.get_by_role("img", name=re.compile(r"^Requests.s over 15 min, at most \d"))
    expect(rate.locator("path.l0")).to_have_attribute("d", re.compile(r"^M[^M]*L[^M]*$"))
    page.get_by_role("button", name="24 h").click()
    day = page.get_by_role("img", name=re.compile(r"^Requests.s over 24 h, at most \d"))
    expect(day.locator("path.l0")).to_have_attribute("d", re.compile(r"^M.*L.*M.*L"))
    expect(page.get_by_role("img", name=re.compile("^Latency over 24 h"))).to_be_visible()
    figure = page.locator("figure", has=day)
    now = figure.locator("dd").first
    expect(now).to_have_text(re.compile(r"^\d"))
    expect(figure.locator(".cross")).to_have_attribute("d", "")
    day.hover(position={"x": 5, "y": 20})
    expect(figure.locator(".cross")).to_have_attribute("d", re.compile(r"^M\d"))
    page.mouse.move(0, 0)
    expect(figure.locator(".cross")).to_have_attribute("d", "")


def test_a_rolled_back_deploy_is_listed_with_its_traceback_and_marked_on_every_chart(
    page: Page, fleet: Fleet
) -> None:
    flows.log_in(page, fleet.dashboard.url, fleet.dashboard.token)
    flows.open_site(page, "shop")
    panel = page.locator("section", has=page.get_by_role("heading", name="Deploys"))
    fleet.fake.do(lambda daemon: setattr(daemon.sites["shop"], "broken", True))
    page.get_by_role("button", name="Reload shop").click()
    expect(panel.get_by_role("listitem")).to_contain_text("rolled back", timeout=flows.ACTION_MS)
    panel.get_by_text("Traceback", exact=True).click()
    expect(panel.locator("pre")).to_contain_text("SyntaxError: invalid syntax")
    expect(page.locator(".chart .mark.rolled-back")).to_have_count(3, timeout=flows.LIVE_MS)
    expect(page.get_by_text("Marked: 1 deploy, 0 crashes")).to_be_visible()
