"""The daemon's page, trials, failed requests, and a session that may only look, in a real browser."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace

from playwright.sync_api import Locator, Page, expect

from browser import flows
from browser.fleet import Fleet
from djsup.core.difference import Cost
from djsup.core.model import Settings, WorkerCount
from djsup.core.snapshot import ReloadReport, ReloadResult, SiteState
from djsup_web.static_files import StaticFiles
from web_ui.fake_daemon import FakeDaemon


def panel(page: Page, title: str) -> Locator:
    return page.locator("section", has=page.get_by_role("heading", name=title, exact=True))


def test_the_daemons_page_shows_what_runs_and_what_a_reload_would_change(page: Page, fleet: Fleet) -> None:
    def edit(running: Settings) -> Settings:
        blog, shop = running.sites
        return replace(
            running, sites=(replace(blog, workers=WorkerCount(7, 7)), replace(shop, directory="/<b>x"))
        )

    flows.log_in(page, fleet.dashboard.url, fleet.dashboard.token)
    page.get_by_role("link", name="Daemon").click()
    expect(page.get_by_role("heading", level=1, name="Daemon")).to_be_focused()
    expect(page).to_have_title("Daemon · djsup")
    expect(panel(page, "Process")).to_contain_text("4711", timeout=flows.LIVE_MS)
    expect(panel(page, "Versions")).to_contain_text("OpenSSL")
    expect(page.get_by_role("table", name="Listeners")).to_contain_text("127.0.0.1:8001")
    configuration = panel(page, "Configuration in force")
    configuration.get_by_text("sites.blog", exact=True).click()
    expect(configuration).to_contain_text("env.SECRET_KEY")
    expect(page.locator("main")).not_to_contain_text("hunter2")
    plan = panel(page, "What a reload would change")
    expect(plan).to_contain_text("no setting differs")

    fleet.fake.do(lambda daemon: setattr(daemon, "edited", edit))
    page.get_by_role("button", name="Look again").click()
    expect(plan).to_contain_text("2 settings in the file differ")
    rows = plan.get_by_role("table").get_by_role("row")
    expect(rows.filter(has_text="blog")).to_contain_text("workers are added or drained")
    expect(rows.filter(has_text="shop")).to_contain_text("/<b>x")
    expect(configuration.locator("details").nth(1)).to_have_attribute("open", "")

    page.get_by_role("button", name="Reload everything").click()
    page.get_by_role("dialog").get_by_role("button", name="Reload all").click()
    expect(page.get_by_role("status").filter(has_text="2 sites reloaded")).to_be_visible(
        timeout=flows.ACTION_MS
    )


def test_every_cost_of_a_change_has_words() -> None:
    script = StaticFiles().text("daemon.js")
    words = script[script.index("const COSTS") : script.index("};", script.index("const COSTS"))]
    for cost in Cost:
        assert re.search(rf'^  "?{cost.value}"?: "', words, re.MULTILINE), cost


def test_new_code_is_tried_for_the_seconds_that_were_asked_and_the_trial_is_seen(
    page: Page, fleet: Fleet
) -> None:
    def on_trial(daemon: FakeDaemon) -> None:
        site = daemon.sites["shop"]
        site.state = SiteState.RELOADING
        site.last_reload = ReloadReport(
            2, ReloadResult.RUNNING, 0.0, 13.0, "root (cli)",
            phase="trying", canary="12 of 30 s, 420 requests, 0 failed",
        )  # fmt: skip

    flows.log_in(page, fleet.dashboard.url, fleet.dashboard.token)
    flows.open_site(page, "shop")
    page.get_by_role("button", name="Try first…").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Seconds").fill("0")
    dialog.get_by_role("button", name="Load and try").click()
    expect(dialog).to_be_visible()
    dialog.get_by_label("Seconds").fill("90")
    dialog.get_by_role("button", name="Load and try").click()
    expect(page.get_by_role("status").filter(has_text="shop reloaded")).to_be_visible(timeout=flows.ACTION_MS)
    assert [each["canary_s"] for each in fleet.fake.daemon.calls if each["verb"] == "reload"] == [90]

    fleet.fake.do(on_trial)
    expect(page.locator(".phases [aria-current=step]")).to_have_text("Try")
    expect(page.locator(".trial")).to_have_text("12 of 30 s, 420 requests, 0 failed")
    expect(page.get_by_role("progressbar", name="How much of the trial is over")).to_have_attribute(
        "value", "12"
    )


def test_failed_and_slow_requests_are_listed_and_markup_in_their_paths_stays_text(
    page: Page, fleet: Fleet
) -> None:
    flows.log_in(page, fleet.dashboard.url, fleet.dashboard.token)
    flows.open_site(page, "shop")
    requests = panel(page, "Failed and slow requests")
    expect(requests.locator("li")).to_have_count(12)
    requests.get_by_role("button", name="Show all").click()
    expect(requests.get_by_text('/<img src=x onerror="alert(1)">').first).to_be_visible()
    expect(page.locator("main img")).to_have_count(0)


def test_a_session_that_may_only_look_says_so_and_offers_no_action(page: Page, fleet: Fleet) -> None:
    look = "a-token-that-may-only-look-77a0"

    def let_look(daemon: FakeDaemon) -> None:
        hashes = [hashlib.sha256(each.encode()).hexdigest() for each in (fleet.dashboard.token, look)]
        daemon.tokens = {"full": hashes[:1], "read": hashes[1:]}

    fleet.fake.do(let_look)
    flows.log_in(page, fleet.dashboard.url, look)
    expect(page.get_by_text("Read only")).to_be_visible()
    for place in ("", "#/sites/shop", "#/daemon"):
        page.goto(f"{fleet.dashboard.url}/{place}")
        expect(page.locator("main section:visible").first).to_be_visible()
        allowed = ("Log out", "Stacks now", "Look again", "15 min", "24 h", "Show all")
        offered = page.locator("button:visible").all_text_contents()
        assert [each for each in offered if each not in allowed] == []
