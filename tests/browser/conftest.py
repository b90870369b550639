"""A real Chromium and dashboards for it to show.

``page`` is a new browser with no cookie; ``fleet`` a real dashboard process before a fake daemon whose
sites a test can turn. The flows of ``flows.py`` want a base URL and a token only, so that a test with a
real daemon can play them too.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Playwright, expect, sync_playwright

from browser.fleet import Fleet
from web_ui.dashboard_process import dashboard_process
from web_ui.fake_daemon import fake_daemon_thread

ARGUMENTS = [
    "--no-sandbox",  # tests may run as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WAIT_MS = 15_000


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


# Playwright's loop is the thread's running loop while it is open, and nothing else can use asyncio then:
# so it is ended with the module, not with the session.
@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    expect.set_options(timeout=WAIT_MS)
    with sync_playwright() as started:
        yield started


@pytest.fixture(scope="module")
def chromium(playwright: Playwright) -> Iterator[Browser]:
    """Debian's Chromium, without a window; each launch has a user data folder of its own."""
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("Chromium is missing: apt install chromium")
    browser = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
    yield browser
    browser.close()


@pytest.fixture
def context(chromium: Browser) -> Iterator[BrowserContext]:
    """A browser without cookies, in which a failed script or a foreign request fails the test."""
    context = chromium.new_context(viewport={"width": 1440, "height": 900}, reduced_motion="reduce")
    context.set_default_timeout(WAIT_MS)
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(f"script: {error}"))
    page.on(
        "console",
        lambda message: (
            errors.append(f"console: {message.text}") if "Content Security" in message.text else None
        ),
    )
    page.on("request", lambda request: errors.append(request.url) if _foreign(request.url) else None)
    yield page
    page.close()
    assert errors == []


def _foreign(url: str) -> bool:
    return not url.startswith(("http://127.0.0.1:", "http://localhost:", "data:", "about:"))


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    control = tmp_path / "control.sock"
    with fake_daemon_thread(control) as fake, dashboard_process(control) as dashboard:
        yield Fleet(dashboard, fake, control)
