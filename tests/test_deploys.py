"""A deploy is a reload or rollback that is over: how long it took, what became of it, and who wanted it."""

from __future__ import annotations

from typing import Any

from djsup import deploys
from djsup.core.model import Generation
from djsup.core.snapshot import ReloadReport, ReloadResult
from djsup.deploys import Deploys
from djsup.shell.history import Entry

REPORTS: dict[str, ReloadReport] = {}


def entry(second: int, kind: str, generation: int = 2, site: str | None = "blog", **more: Any) -> Entry:
    return Entry(second, f"2026-01-01T00:00:{second:02}.000Z", kind, "info", kind, site, generation, **more)


def test_a_reload_is_a_deploy_once_it_is_over() -> None:
    kept: list[dict[str, Any]] = []
    seen = Deploys(lambda _site: None)
    seen.keep = lambda deploy: kept.append(deploy.to_json())
    seen.see(entry(1, "reload-started", by="root (cli)"))
    assert seen.last("blog", 10) == []
    seen.see(entry(3, "worker-ready"))
    seen.see(entry(4, "reload-done"))
    (deploy,) = seen.last("blog", 10)
    assert (deploy.result, deploy.duration_s, deploy.by, deploy.error) == ("done", 3.0, "root (cli)", None)
    assert kept == [deploy.to_json()]
    assert seen.last("shop", 10) == []


def test_one_that_was_rolled_back_has_its_reason_and_the_end_of_its_traceback() -> None:
    report = ReloadReport(Generation(2), ReloadResult.ROLLED_BACK, 0.0, 2.5, "root", "cannot import", "")
    seen = Deploys(lambda _site: report)
    seen.see(entry(1, "reload-started"))
    seen.see(entry(4, "reload-rolled-back", details="x" * 100_000 + "SyntaxError"))
    (deploy,) = seen.last("blog", 1)
    assert (deploy.result, deploy.error, deploy.duration_s) == ("rolled-back", "cannot import", 2.5)
    assert len(deploy.traceback) == deploys.TRACEBACK_MAX
    assert deploy.traceback.endswith("SyntaxError")


def test_one_that_gave_way_to_a_newer_is_told_from_it() -> None:
    newer = ReloadReport(Generation(3), ReloadResult.RUNNING, 0.0, 0.0, "root")
    seen = Deploys(lambda _site: newer)
    seen.see(entry(1, "reload-started", 2))
    seen.see(entry(2, "reload-superseded", 2))
    seen.see(entry(2, "reload-started", 3))
    seen.see(entry(9, "reload-done", 3))
    assert [(each.generation, each.result) for each in seen.last("blog", 9)] == [
        (3, "done"),
        (2, "superseded"),
    ]


def test_pages_go_back_from_the_newest_and_times_are_bounds() -> None:
    seen = Deploys(lambda _site: None)
    for second in range(20):
        seen.see(entry(second, "reload-started", second))
        seen.see(entry(second, "reload-done", second))
    first = seen.last("blog", 8)
    second_page = seen.last("blog", 8, first[-1].id)
    assert [each.generation for each in (*first, *second_page)] == list(range(19, 3, -1))
    within = seen.last("blog", 100, None, "2026-01-01T00:00:05.000Z", "2026-01-01T00:00:07.000Z")
    assert [each.generation for each in within] == [6, 5]


def test_what_an_earlier_daemon_kept_comes_first_and_numbers_go_on() -> None:
    seen = Deploys(lambda _site: None)
    for second in range(3):
        seen.see(entry(second, "reload-done", second))
    kept = [each.to_json() for each in reversed(seen.last("blog", 9))]
    again = Deploys(lambda _site: None)
    again.recall([*kept, {"of": "another version"}])
    again.see(entry(9, "reload-done", 9))
    assert [each.id for each in again.last("blog", 9)] == [4, 3, 2, 1]


def test_a_site_that_is_deployed_all_the_time_takes_no_more_room() -> None:
    seen = Deploys(lambda _site: None)
    for number in range(3 * deploys.KEPT):
        seen.see(entry(1, "reload-done", number))
    assert len(seen.last("blog", 10**6)) == deploys.KEPT
    seen.see(entry(1, "reload-done", site=None))
