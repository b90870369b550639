"""What an operator does in the dashboard, step by step.

Every step takes a page and names of sites, nothing of what is behind: the same steps are played before
a fake daemon and before a real one.
"""

from __future__ import annotations

import re

from playwright.sync_api import Locator, Page, expect

LIVE_MS = 20_000
ACTION_MS = 60_000
"""A real reload loads Django; a slow machine is no reason to fail."""


def log_in(page: Page, url: str, token: str) -> None:
    """From the address to the live overview."""
    page.goto(f"{url}/")
    expect(page).to_have_title("Log in · djsup")
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Log in").click()
    expect_live(page)


def expect_live(page: Page) -> None:
    """The page is connected to the daemon and shows it."""
    expect(page.locator("#link-text")).to_have_text("Live", timeout=LIVE_MS)
    expect(page.get_by_role("alert")).to_have_count(0)


def row(page: Page, site: str) -> Locator:
    """A site's part of the overview's table."""
    return page.locator(f'tbody[data-site="{site}"]')


def expect_state(page: Page, site: str, state: str) -> None:
    """The overview says that a site is in this state, in words."""
    expect(row(page, site).locator(".state .pill")).to_have_text(state, timeout=ACTION_MS)


def generation(page: Page, site: str) -> int:
    """The generation that the overview shows."""
    shown = row(page, site).get_by_text(re.compile(r"^generation \d+$"))
    return int((shown.text_content() or "").split()[-1])


def requests_so_far(page: Page) -> int:
    """All requests of all sites, as the overview's tile shows them (exact below 100,000)."""
    tile = page.locator(".tile", has=page.get_by_role("heading", name="Requests/s")).locator(".tile-sub")
    expect(tile).to_have_text(re.compile(r"^[\d,]+ so far$"))
    return int((tile.text_content() or "").split()[0].replace(",", ""))


def expect_requests_above(page: Page, number: int) -> None:
    """The overview comes to show more requests than this, by itself."""
    page.wait_for_function(
        "least => [...document.querySelectorAll('.tile-sub')].some(sub =>"
        " / so far$/.test(sub.textContent) && Number(sub.textContent.replace(/[^0-9]/g, '')) > least)",
        arg=number,
        timeout=LIVE_MS,
    )


def reload_site(page: Page, site: str) -> None:
    """Press Reload and see that a newer generation serves (a number that was rolled back is not used again)."""
    before = generation(page, site)
    button = row(page, site).get_by_role("button", name="Reload")
    button.click()
    expect(page.get_by_role("status").filter(has_text=f"{site} reloaded")).to_be_visible(timeout=ACTION_MS)
    expect(row(page, site).get_by_text(f"generation {before}", exact=True)).to_have_count(0, timeout=LIVE_MS)
    assert generation(page, site) > before
    expect(row(page, site).locator(".last-reload")).to_contain_text("Done in")
    expect(row(page, site).locator(".last-reload")).to_contain_text("(dashboard)")
    expect(button).to_be_enabled()


def reload_broken_site(page: Page, site: str, error: str, traceback: str) -> None:
    """Press Reload after a broken deploy; the row and the message show why it was rolled back."""
    before = generation(page, site)
    row(page, site).get_by_role("button", name="Reload").click()
    message = page.get_by_role("alert").filter(has_text=f"{site}: reload rolled back")
    expect(message).to_contain_text(error, timeout=ACTION_MS)
    expect(row(page, site).locator(".last-reload")).to_contain_text("Rolled back")
    problem = row(page, site).locator(".problem")
    expect(problem).to_contain_text(error)
    expect(problem).to_contain_text(f"generation {before} goes on serving")
    expect(problem.locator("pre")).to_be_hidden()
    problem.get_by_text("Show traceback").click()
    expect(problem.locator("pre")).to_be_visible()
    expect(problem.locator("pre")).to_contain_text(traceback)
    assert generation(page, site) == before
    message.get_by_role("button", name="Dismiss").click()
    expect(message).to_have_count(0)


def restart_site(page: Page, site: str) -> None:
    """Press Restart, say no, press it again, say yes."""
    button = row(page, site).get_by_role("button", name="Restart")
    dialog = page.get_by_role("dialog", name=f"Restart {site}?")
    button.click()
    dialog.get_by_role("button", name="Cancel").click()
    expect(dialog).to_be_hidden()
    expect(button).to_be_enabled()
    button.click()
    dialog.get_by_role("button", name="Restart").click()
    expect(page.get_by_role("status").filter(has_text=f"{site} restarted")).to_be_visible(timeout=ACTION_MS)
    expect_state(page, site, "serving")


def stop_and_start_site(page: Page, site: str) -> None:
    """Press Stop on the site's page, say no, then yes; see who it was there and in the overview, and start it there."""
    open_site(page, site)
    actions = page.locator(".site-actions")
    dialog = page.get_by_role("dialog", name=f"Stop {site}?")
    actions.get_by_role("button", name=f"Stop {site}").click()
    dialog.get_by_role("button", name="Cancel").click()
    expect(dialog).to_be_hidden()
    actions.get_by_role("button", name=f"Stop {site}").click()
    dialog.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("status").filter(has_text=f"{site} is stopped")).to_be_visible(timeout=ACTION_MS)
    expect(page.locator(".site-page .problem")).to_contain_text("Stopped by ")
    expect(actions.get_by_role("button", name=f"Reload {site}")).to_be_hidden()
    page.get_by_role("navigation", name="Breadcrumb").get_by_role("link", name="Sites").click()
    expect_state(page, site, "stopped")
    expect(row(page, site)).to_contain_text("refuses requests until somebody starts it")
    expect(row(page, site).get_by_role("button", name=f"Restart {site}")).to_be_hidden()
    row(page, site).get_by_role("button", name=f"Start {site}").click()
    expect(page.get_by_role("status").filter(has_text=f"{site} serves")).to_be_visible(timeout=ACTION_MS)
    expect_state(page, site, "serving")
    expect(row(page, site).locator(".problem")).to_be_hidden()


def workers_asked(page: Page, site: str) -> int:
    """The number between - and + in the overview."""
    return int(row(page, site).locator(".stepper output").text_content() or "0")


def scale_site(page: Page, site: str) -> None:
    """One worker more, seen on the site's page too, and one fewer."""
    before = workers_asked(page, site)
    output = row(page, site).locator(".stepper output")
    row(page, site).get_by_role("button", name=f"One worker more for {site}").click()
    expect(output).to_have_text(str(before + 1), timeout=ACTION_MS)
    open_site(page, site)
    expect(page.get_by_role("table", name=f"Workers of {site}").locator("tbody tr")).to_have_count(
        before + 1, timeout=ACTION_MS
    )
    page.get_by_role("link", name="djsup, overview").click()
    row(page, site).get_by_role("button", name=f"One worker fewer for {site}").click()
    expect(output).to_have_text(str(before), timeout=ACTION_MS)


def open_site(page: Page, site: str) -> None:
    """Follow the site's name to its page."""
    row(page, site).get_by_role("link", name=site, exact=True).click()
    expect(page.get_by_role("heading", level=1, name=site)).to_be_focused()


def log_out(page: Page) -> None:
    """Leave; the way back is closed."""
    page.get_by_role("button", name="Log out").click()
    expect(page).to_have_title("Log in · djsup")
    page.go_back()
    expect(page).to_have_title("Log in · djsup")
