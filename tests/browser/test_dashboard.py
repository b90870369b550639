"""The dashboard in a real browser, before a fake daemon."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Request, expect

from browser import flows
from browser.fleet import Fleet
from djsup.core.snapshot import CurrentRequest, QueueSnapshot, SiteState, WorkerState
from web_ui.dashboard_process import dashboard_process
from web_ui.fake_daemon import FakeDaemon, fake_daemon_thread

NASTY = "<img src=x onerror=\"document.title='hacked'\"><script>document.title='hacked'</script>"


def open_dashboard(page: Page, fleet: Fleet) -> None:
    flows.log_in(page, fleet.dashboard.url, fleet.dashboard.token)


def test_operator_logs_in_and_sees_every_site_serve(page: Page, fleet: Fleet) -> None:
    open_dashboard(page, fleet)
    for site in ("blog", "shop"):
        flows.expect_state(page, site, "serving")
    expect(page.locator("#daemon")).to_contain_text("4711")
    expect(page.locator("#daemon")).to_contain_text("/etc/djsup/djsup.toml")
    expect(page).to_have_title("djsup")


def test_wrong_token_is_told_and_asked_for_again(page: Page, fleet: Fleet) -> None:
    page.goto(fleet.dashboard.url)
    page.get_by_label("Token").fill("wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("That is not the token.")
    expect(page.get_by_label("Token")).to_be_focused()


def test_figures_move_by_themselves(page: Page, fleet: Fleet) -> None:
    open_dashboard(page, fleet)
    flows.expect_requests_above(page, flows.requests_so_far(page))
    expect(flows.row(page, "blog").locator(".spark-line")).to_have_attribute(
        "d", re.compile(r"^M.*L"), timeout=flows.LIVE_MS
    )


def test_reload_shows_its_progress_and_its_result(page: Page, fleet: Fleet) -> None:
    open_dashboard(page, fleet)
    fleet.fake.do(lambda daemon: setattr(daemon.sites["blog"], "reload_s", 1.0))
    row = flows.row(page, "blog")
    row.get_by_role("button", name="Reload").click()
    expect(row.get_by_role("button", name="Reload")).to_be_disabled()
    expect(row.get_by_role("button", name="Restart")).to_be_disabled()
    expect(row.locator(".last-reload")).to_contain_text("Loading generation 4")
    flows.expect_state(page, "blog", "reloading")
    expect(flows.row(page, "shop").get_by_role("button", name="Reload")).to_be_enabled()
    expect(page.get_by_role("status").filter(has_text="blog reloaded")).to_contain_text("Generation 4 serves")
    flows.expect_state(page, "blog", "serving")
    flows.reload_site(page, "shop")


def test_broken_deploy_shows_its_traceback_until_a_reload_succeeds(page: Page, fleet: Fleet) -> None:
    open_dashboard(page, fleet)
    fleet.fake.do(lambda daemon: setattr(daemon.sites["shop"], "broken", True))
    flows.reload_broken_site(
        page, "shop", "SyntaxError: invalid syntax", "from payments.gateway import <Gateway>"
    )
    expect(page.locator(".tile").first).to_contain_text("shop needs a look")
    fleet.fake.do(lambda daemon: setattr(daemon.sites["shop"], "broken", False))
    flows.reload_site(page, "shop")
    expect(flows.row(page, "shop").locator(".problem")).to_be_hidden()


def test_restart_asks_back_first(page: Page, fleet: Fleet) -> None:
    open_dashboard(page, fleet)
    flows.restart_site(page, "blog")
    assert [call["site"] for call in fleet.fake.daemon.calls if call["verb"] == "restart"] == ["blog"]


def test_a_site_is_stopped_after_asking_back_and_started_from_its_row(page: Page, fleet: Fleet) -> None:
    open_dashboard(page, fleet)
    flows.stop_and_start_site(page, "blog")
    told = [call for call in fleet.fake.daemon.calls if call["verb"] in ("stop_sites", "start_sites")]
    assert [(call["verb"], call["sites"]) for call in told] == [
        ("stop_sites", ["blog"]),
        ("start_sites", ["blog"]),
    ]
    assert page.title() == "djsup", "what somebody has stopped needs no look"


def test_requests_that_wait_for_a_worker_are_seen_where_a_site_is_routed(page: Page, fleet: Fleet) -> None:
    open_dashboard(page, fleet)

    def wait(waiting: int, turned_away: int) -> None:
        def change(daemon: FakeDaemon) -> None:
            daemon.sites["shop"].shared = True
            daemon.sites["shop"].queue = QueueSnapshot(waiting, 40, 1.0, turned_away)

        fleet.fake.do(change)

    wait(0, 0)
    wait(7, 0)
    expect(flows.row(page, "shop").locator(".workers")).to_contain_text("7 wait")
    wait(0, 3)
    expect(flows.row(page, "shop").locator(".workers")).to_contain_text("3 turned away")
    flows.open_site(page, "shop")
    tile = page.locator(".tile.queue")
    expect(tile).to_contain_text("3 turned away")
    expect(tile).to_contain_text("40 waited, 25 ms each")
    page.get_by_role("navigation", name="Breadcrumb").get_by_role("link", name="Sites").click()
    flows.open_site(page, "blog")
    expect(page.locator(".tile.queue")).to_be_hidden()


def test_scaling_is_seen_in_the_row_and_on_the_sites_page(page: Page, fleet: Fleet) -> None:
    open_dashboard(page, fleet)
    flows.scale_site(page, "shop")


def test_number_of_workers_can_be_typed(page: Page, fleet: Fleet) -> None:
    open_dashboard(page, fleet)
    flows.open_site(page, "shop")
    number = page.get_by_role("spinbutton", name="Workers of shop")
    number.fill("5")
    number.press("Enter")
    expect(page.get_by_role("table", name="Workers of shop").locator("tbody tr")).to_have_count(5)
    number.fill("500")
    number.press("Enter")
    number.blur()
    expect(number).to_have_value("5")


def test_last_worker_cannot_be_taken_away(page: Page, fleet: Fleet) -> None:
    fleet.fake.do(lambda daemon: setattr(daemon.sites["shop"], "asked", 1))
    open_dashboard(page, fleet)
    expect(page.get_by_role("button", name="One worker fewer for shop")).to_be_disabled()


def test_site_page_shows_what_each_worker_does_and_for_how_long(page: Page, fleet: Fleet) -> None:
    def be_busy(daemon: FakeDaemon) -> None:
        daemon.lively = False
        daemon.interval_s = 3600
        worker = daemon.sites["blog"].workers[1]
        worker.state = WorkerState.BUSY
        worker.current = (CurrentRequest("POST", "/slow/report?year=2026", 12.0),)

    fleet.fake.do(be_busy)
    open_dashboard(page, fleet)
    flows.open_site(page, "blog")
    row = page.get_by_role("row").filter(has_text="/slow/report?year=2026")
    expect(row).to_contain_text("POST")
    expect(row).to_contain_text("busy")
    expect(row.locator(".age")).to_have_text(re.compile(r"^1[2-9]\.\d s$"))
    first = row.locator(".age").text_content()
    expect(row.locator(".age")).not_to_have_text(first or "")


def test_site_page_shows_the_programs_and_a_site_without_any_has_no_table_of_them(
    page: Page, fleet: Fleet
) -> None:
    open_dashboard(page, fleet)
    flows.open_site(page, "blog")
    programs = page.get_by_role("table", name="Programs of blog")
    expect(programs.get_by_role("row").filter(has_text="celery/0")).to_contain_text("12 tasks")
    expect(programs.get_by_role("row").filter(has_text="beat/0")).to_contain_text("next try in")
    expect(programs.get_by_role("row").filter(has_text="clearsessions")).to_contain_text(
        "last: exited with status 1"
    )
    page.go_back()
    flows.open_site(page, "shop")
    expect(page.get_by_role("table", name="Programs of shop")).to_be_hidden()


def test_a_request_that_is_stuck_is_found_in_two_clicks(page: Page, fleet: Fleet) -> None:
    def be_stuck(daemon: FakeDaemon) -> None:
        daemon.lively = False
        for worker in daemon.sites["blog"].workers:
            worker.state = WorkerState.BUSY
            worker.current = (CurrentRequest("GET", f"/report/{worker.slot}/<b>", 42.0 + worker.slot),)

    fleet.fake.do(be_stuck)
    open_dashboard(page, fleet)
    flows.open_site(page, "blog")
    expect(page.locator(".age[data-long]")).to_have_count(2)
    page.get_by_role("button", name="Stacks now").click()
    place = page.get_by_role("article")
    expect(place.get_by_role("heading")).to_have_text("2 of 4 threads are here")
    expect(place.locator("li").first).to_have_text(re.compile(r"4\d\.0 s.*GET.*/report/1/<b>.*worker 1"))
    expect(place).to_contain_text("<report>")
    expect(place).to_contain_text("… 9 calls in django")
    expect(page.locator("section", has=page.get_by_role("heading", name="Stacks"))).to_contain_text(
        "2 threads: monitor"
    )
    assert page.evaluate(CONTRASTS) == []


def test_site_page_shows_events_and_follows_the_log(page: Page, fleet: Fleet) -> None:
    fleet.fake.do(lambda daemon: daemon.say("blog", "said before"))
    open_dashboard(page, fleet)
    flows.open_site(page, "blog")
    log = page.get_by_role("log")
    expect(log).to_contain_text("said before")
    fleet.fake.do(lambda daemon: daemon.say("blog", "said just now", "stderr"))
    fleet.fake.do(lambda daemon: daemon.say("shop", "said elsewhere"))
    fleet.fake.do(
        lambda daemon: daemon.happen("worker-died", "blog", "worker 1 died", "error", "Segmentation fault")
    )
    expect(log).to_contain_text("said just now")
    event = page.get_by_role("listitem").filter(has_text="worker 1 died")
    expect(event).to_be_visible()
    event.get_by_text("Details").click()
    expect(event.locator("pre")).to_have_text("Segmentation fault")
    expect(log).not_to_contain_text("said elsewhere")


def test_markup_from_sites_is_shown_as_text(page: Page, fleet: Fleet) -> None:
    def be_nasty(daemon: FakeDaemon) -> None:
        daemon.lively = False
        site = daemon.sites["blog"]
        site.error = NASTY
        site.notes = (NASTY,)
        site.state = SiteState.DEGRADED
        site.workers[0].state = WorkerState.BUSY
        site.workers[0].current = (CurrentRequest(NASTY, NASTY, 1.0),)
        daemon.happen(NASTY, "blog", NASTY, NASTY, NASTY, NASTY)
        daemon.say("blog", NASTY)

    fleet.fake.do(be_nasty)
    open_dashboard(page, fleet)
    expect(flows.row(page, "blog").locator(".problem")).to_contain_text(NASTY)
    flows.open_site(page, "blog")
    expect(page.get_by_role("log")).to_contain_text(NASTY)
    expect(page.locator(".current .path")).to_have_text(NASTY)
    expect(page.locator("main img, main script")).to_have_count(0)
    expect(page).to_have_title("blog · djsup")


def test_lost_daemon_is_said_and_the_page_recovers_by_itself(page: Page, fleet: Fleet) -> None:
    open_dashboard(page, fleet)
    fleet.fake.do(FakeDaemon.stop)
    expect(page.get_by_role("alert")).to_contain_text("Disconnected from the daemon.")
    expect(flows.row(page, "blog").get_by_role("button", name="Reload")).to_be_disabled()
    expect(flows.row(page, "blog")).to_contain_text("serving")
    fleet.fake.do(FakeDaemon.start)
    flows.expect_live(page)
    flows.reload_site(page, "blog")


def test_page_opened_while_the_daemon_is_away_fills_when_it_comes(page: Page, fleet: Fleet) -> None:
    open_dashboard(page, fleet)
    fleet.fake.do(FakeDaemon.stop)
    page.reload()
    expect(page.get_by_role("alert")).to_contain_text("Disconnected from the daemon.")
    expect(page.get_by_role("main")).to_contain_text("nothing to show until the daemon answers")
    fleet.fake.do(FakeDaemon.start)
    flows.expect_state(page, "blog", "serving")


def test_killed_dashboard_is_said_and_its_successor_needs_no_new_login(page: Page, fleet: Fleet) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with dashboard_process(fleet.control, listener=listener) as first:
            flows.log_in(page, first.url, first.token)
            first.process.kill()
            first.process.wait()
            expect(page.get_by_role("alert")).to_contain_text(
                "the dashboard does not answer", timeout=flows.LIVE_MS
            )
        with dashboard_process(fleet.control, listener=listener):
            flows.expect_live(page)
            expect(page).to_have_title("djsup")


def test_failed_action_says_why(page: Page, fleet: Fleet) -> None:
    open_dashboard(page, fleet)
    refusal = {
        "ok": False,
        "error": "the configuration is wrong",
        "problems": ["djsup.toml:3: workers: found -1"],
        "exit": 2,
    }
    fleet.fake.do(lambda daemon: setattr(daemon, "refusal", refusal))
    page.get_by_role("button", name="Reload all").click()
    page.get_by_role("dialog").get_by_role("button", name="Reload all").click()
    message = page.get_by_role("alert")
    expect(message).to_contain_text("the configuration is wrong")
    message.get_by_text("Show details").click()
    expect(message.locator("pre")).to_contain_text("djsup.toml:3")


def test_logout_leads_to_the_login_and_the_way_back_is_closed(page: Page, fleet: Fleet) -> None:
    open_dashboard(page, fleet)
    flows.log_out(page)


def test_address_of_a_site_can_be_opened_directly_and_one_that_is_none_says_so(
    page: Page, fleet: Fleet
) -> None:
    open_dashboard(page, fleet)
    page.goto(f"{fleet.dashboard.url}/#/sites/shop")
    expect(page.get_by_role("heading", level=1, name="shop")).to_be_visible()
    page.goto(f"{fleet.dashboard.url}/#/sites/none")
    expect(page.get_by_role("main")).to_contain_text("There is no site “none” now.")


def test_changes_of_state_are_told_to_a_screen_reader(page: Page, fleet: Fleet) -> None:
    open_dashboard(page, fleet)
    fleet.fake.do(lambda daemon: setattr(daemon.sites["shop"], "state", SiteState.DEGRADED))
    expect(page.locator("#announcer")).to_have_text("shop is degraded.")
    expect(page.locator("#announcer")).to_have_attribute("aria-live", "polite")


def test_keyboard_alone_reaches_and_does_everything(page: Page, fleet: Fleet) -> None:
    open_dashboard(page, fleet)
    reached: list[str] = []
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.append(
            str(
                page.evaluate(
                    "(document.activeElement.ariaLabel ?? document.activeElement.textContent).trim()"
                )
            )
        )
        if reached[-1] == "Restart shop":
            break
    assert reached[0] == "Skip to content"
    for control in (
        "Log out",
        "Reload all",
        "blog",
        "One worker more for blog",
        "Reload blog",
        "Restart blog",
        "Restart shop",
    ):
        assert control in reached, reached
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="Restart shop?")
    expect(dialog.get_by_role("button", name="Cancel")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Restart shop")).to_be_focused()


def test_nothing_is_wider_than_the_screen(page: Page, fleet: Fleet) -> None:
    open_dashboard(page, fleet)
    fleet.fake.do(lambda daemon: setattr(daemon.sites["shop"], "error", "a_long_word_" * 40))
    expect(flows.row(page, "shop").locator(".problem")).to_contain_text("a_long_word_")
    for address in ("#/", "#/sites/shop"):
        page.goto(f"{fleet.dashboard.url}/{address}")
        expect(page.locator(".problem").filter(has_text="a_long_word_")).to_be_visible()
        for width in (320, 390, 760, 900, 1239, 1240, 1440):
            page.set_viewport_size({"width": width, "height": 800})
            overflow = page.evaluate(
                "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            )
            assert overflow <= 0, (address, width)
    page.goto(f"{fleet.dashboard.url}/#/daemon")
    page.get_by_text("sites.blog", exact=True).click()
    expect(page.get_by_text("limits.keepalive_s").first).to_be_visible()
    for width in (320, 760, 1440):
        page.set_viewport_size({"width": width, "height": 800})
        overflow = page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        assert overflow <= 0, ("#/daemon", width)


CONTRASTS = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgb = (colour) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = (c) => { const [r, g, b] = c.map((v) => { v /= 255; return v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; });
    return .2126 * r + .7152 * g + .0722 * b; };
  const below = (node) => { for (; node; node = node.parentElement) { const c = rgb(getComputedStyle(node).backgroundColor); if (c[3] === 255) return c; }
    return [255, 255, 255]; };
  const poor = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const node = texts.currentNode.parentElement;
    if (!texts.currentNode.textContent.trim() || !node.checkVisibility() || node.closest("noscript, :disabled, .unseen, .skip")) continue;
    const [one, other] = [light(rgb(getComputedStyle(node).color)), light(below(node))];
    const ratio = (Math.max(one, other) + .05) / (Math.min(one, other) + .05);
    if (ratio < 4.5) poor.push(`${ratio.toFixed(2)} ${node.className || node.tagName}: ${texts.currentNode.textContent.trim()}`);
  }
  return poor;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_the_contrast_that_wcag_aa_asks_for(chromium: Browser, fleet: Fleet, scheme: str) -> None:
    def one_site_in_each_state(daemon: FakeDaemon) -> None:
        daemon.sites["blog"].state, daemon.sites["blog"].error = SiteState.FAILED, "cannot be imported"
        daemon.sites["shop"].state, daemon.sites["shop"].broken = SiteState.DEGRADED, True
        for level in ("info", "warning", "error"):
            daemon.happen("worker-died", "blog", f"an event of level {level}", level, "details", "root (cli)")
        daemon.say("blog", "printed", "stdout")
        daemon.say("blog", "printed", "stderr")

    fleet.fake.do(one_site_in_each_state)
    context = chromium.new_context(
        color_scheme="dark" if scheme == "dark" else "light", reduced_motion="reduce"
    )
    try:
        page = context.new_page()
        page.goto(fleet.dashboard.url)
        assert page.evaluate(CONTRASTS) == []
        open_dashboard(page, fleet)
        flows.row(page, "shop").get_by_role("button", name="Reload").click()
        expect(page.get_by_role("alert")).to_be_visible()
        assert page.evaluate(CONTRASTS) == []
        flows.open_site(page, "blog")
        expect(page.get_by_role("log")).to_contain_text("printed")
        assert page.evaluate(CONTRASTS) == []
        fleet.fake.do(FakeDaemon.stop)
        expect(page.locator("#banner")).to_be_visible()
        assert page.evaluate(CONTRASTS) == []
    finally:
        context.close()


def test_page_is_small_and_stays_so_with_a_hundred_sites(page: Page, tmp_path: Path) -> None:
    sent: list[Request] = []
    page.on("requestfinished", lambda request: sent.append(request) if "/api/" not in request.url else None)
    control = tmp_path / "control.sock"
    with fake_daemon_thread(control, 100) as fake, dashboard_process(control) as dashboard:
        for site in fake.daemon.sites.values():
            fake.do(lambda daemon, name=site.name: daemon._scale(daemon.sites[name], 5))
        flows.log_in(page, dashboard.url, dashboard.token)
        expect(page.locator("tbody[data-site]")).to_have_count(100)
        page.evaluate(LONG_TASKS)
        flows.expect_requests_above(page, flows.requests_so_far(page))
        flows.expect_requests_above(page, flows.requests_so_far(page))
        nodes, longest_ms = page.evaluate("[document.querySelectorAll('*').length, window.longestTask]")
    size = sum(each.sizes()["responseBodySize"] for each in sent)
    print(f"{size} bytes in {len(sent)} answers, {nodes} nodes, longest task {longest_ms:.0f} ms")
    assert 0 < size < 100 * 1024
    assert nodes < 120 * 100


LONG_TASKS = """() => { window.longestTask = 0; new PerformanceObserver((list) => {
  for (const each of list.getEntries()) window.longestTask = Math.max(window.longestTask, each.duration);
}).observe({ type: "longtask" }); }"""
