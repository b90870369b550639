"""The whole story, from the browser to Django: the same steps before a real daemon with real sites."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from browser import flows
from system.daemon import DaemonUnderTest, Project
from system.environments import DJANGO, environment

pytestmark = pytest.mark.system


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[DaemonUnderTest]:
    """A daemon with the sites blog and shop and a dashboard; ended with everything below it."""
    under_test = DaemonUnderTest(tmp_path)
    python = environment(DJANGO)
    for site in ("blog", "shop"):
        Project(tmp_path / site).deploy("one")
        under_test.site(site, python, more='workers = 2\nhealth.path = "/healthz"')
    under_test.dashboard()
    try:
        under_test.start()
        yield under_test
    finally:
        under_test.stop()
        print(f"--- the daemon's log ---\n{under_test.log}")


def test_operator_runs_two_sites_from_the_browser(page: Page, daemon: DaemonUnderTest) -> None:
    token = (daemon.folder / "token").read_text().strip()
    flows.log_in(page, f"http://127.0.0.1:{daemon.dashboard_port}", token)
    for site in ("blog", "shop"):
        flows.expect_state(page, site, "serving")

    before = flows.requests_so_far(page)
    for _ in range(20):
        assert daemon.get("blog") == (200, b"one")
    flows.expect_requests_above(page, before + 19)

    Project(daemon.folder / "blog").deploy("two")
    flows.reload_site(page, "blog")
    assert daemon.get("blog") == (200, b"two")

    flows.scale_site(page, "shop")
    flows.restart_site(page, "shop")
    assert daemon.get("shop") == (200, b"one")

    Project(daemon.folder / "shop").deploy("three", wsgi="import nothing_of_that_name\n")
    flows.reload_broken_site(page, "shop", "nothing_of_that_name", "ModuleNotFoundError")
    assert daemon.get("shop") == (200, b"one")
    Project(daemon.folder / "shop").deploy("four")
    flows.reload_site(page, "shop")
    assert daemon.get("shop") == (200, b"four")

    flows.open_site(page, "blog")
    daemon.get("blog", "/loud")
    expect(page.get_by_role("log")).to_contain_text("printed to stderr")
    expect(page.get_by_role("listitem").filter(has_text="generation 2").first).to_be_visible()
    flows.log_out(page)
