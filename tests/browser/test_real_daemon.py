"""The dashboard before a real daemon with a real Django site: what an operator does, in Chromium."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from browser import flows
from system.conftest import blog, daemon, django  # noqa: F401 - fixtures
from system.daemon import DaemonUnderTest, Project
from system.load import Load

pytestmark = pytest.mark.system


def test_an_operator_watches_reloads_scales_and_restarts(
    page: Page,
    daemon: DaemonUnderTest,  # noqa: F811
    blog: Project,  # noqa: F811
) -> None:
    port = daemon.dashboard()
    daemon.start()
    token = (daemon.folder / "token").read_text().strip()
    with Load(daemon.ports["blog"], connections=4, pause_s=0.02) as load:
        flows.log_in(page, f"http://127.0.0.1:{port}", token)
        flows.expect_state(page, "blog", "serving")
        flows.expect_requests_above(page, flows.requests_so_far(page))

        blog.deploy("two")
        flows.reload_site(page, "blog")
        blog.deploy("broken", wsgi="import no_such_module_anywhere\n")
        flows.reload_broken_site(page, "blog", "no_such_module_anywhere", "Traceback (most recent call last)")
        load.wait_for_requests(20)
        blog.deploy("three")
        flows.reload_site(page, "blog")
        flows.scale_site(page, "blog")
    assert load.outcome.closed == 0, load.outcome.summary()
    assert b"three" in load.outcome.bodies
    flows.restart_site(page, "blog")
    flows.log_out(page)


def test_a_request_that_runs_is_shown_with_its_path_and_age(
    page: Page,
    daemon: DaemonUnderTest,  # noqa: F811
    blog: Project,  # noqa: F811
    tmp_path: Path,
) -> None:
    port = daemon.dashboard()
    daemon.start()
    flows.log_in(page, f"http://127.0.0.1:{port}", (daemon.folder / "token").read_text().strip())
    flows.open_site(page, "blog")
    with Load(daemon.ports["blog"], path="/slow?s=2", connections=1):
        expect(page.get_by_role("table", name="Workers of blog")).to_contain_text("/slow")
        page.screenshot(path=tmp_path / "slow.png")
