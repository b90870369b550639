from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from djsup.core.model import AccessSettings, LogSettings, ProcId, Settings, SiteName, SiteSettings
from djsup.shell import access_logs
from djsup.shell.access_logs import AccessLogs

BLOG, SHOP = SiteName("blog"), SiteName("shop")
ONE, TWO = ProcId(1), ProcId(2)
TEXT = AccessSettings("%m", ("", "m", ""))


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def logs(said: list[str]) -> Iterator[AccessLogs]:
    made = AccessLogs(lambda _site, text, _well: said.append(text))
    yield made
    for site in (BLOG, SHOP):
        made.forget(site)


def settings(folder: Path | None, **sites: AccessSettings) -> Settings:
    tables = tuple(SiteSettings(SiteName(name), "", "", (), access=access) for name, access in sites.items())
    log = LogSettings(directory=None if folder is None else str(folder))
    return Settings("", "", tables, log=log)


def write(logs: AccessLogs, site: SiteName, text: str) -> None:
    """As a worker of the site would that is told now."""
    _told, (fd,) = logs.news(site)
    os.write(fd, text.encode())


def test_worker_gets_the_file_of_its_site(tmp_path: Path, logs: AccessLogs) -> None:
    changed = logs.adopt(settings(tmp_path, blog=TEXT, shop=AccessSettings("json", request_id="on")))
    assert changed == [BLOG, SHOP]
    write(logs, BLOG, "GET\n")
    assert (tmp_path / "blog.access.log").read_text() == "GET\n"
    assert (tmp_path / "shop.access.log").stat().st_mode & 0o777 == 0o640
    told, fds = logs.news(SHOP)
    assert (told.style, told.request_id, len(fds)) == ("json", "on", 1)


def test_descriptor_can_only_append(tmp_path: Path, logs: AccessLogs) -> None:
    (tmp_path / "blog.access.log").write_text("old\n")
    logs.adopt(settings(tmp_path, blog=TEXT))
    write(logs, BLOG, "new\n")
    _told, (fd,) = logs.news(BLOG)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.read(fd, 1)
    assert (tmp_path / "blog.access.log").read_text() == "old\nnew\n"


def test_new_worker_is_told_nothing_when_nothing_is_wanted(tmp_path: Path, logs: AccessLogs) -> None:
    logs.adopt(settings(tmp_path, blog=AccessSettings(), shop=AccessSettings(request_id="on")))
    assert logs.message(BLOG) is None
    assert logs.news(BLOG)[1] == []
    found = logs.message(SHOP)
    assert found is not None
    assert found[1] == []


def test_only_sites_that_changed_are_told(tmp_path: Path, logs: AccessLogs) -> None:
    logs.adopt(settings(tmp_path, blog=TEXT, shop=TEXT))
    assert logs.adopt(settings(tmp_path, blog=TEXT, shop=TEXT)) == []
    assert logs.adopt(settings(tmp_path, blog=TEXT, shop=AccessSettings())) == [SHOP]
    (tmp_path / "other").mkdir()
    assert logs.adopt(settings(tmp_path / "other", blog=TEXT, shop=AccessSettings())) == [BLOG, SHOP]
    write(logs, BLOG, "x\n")
    assert (tmp_path / "other/blog.access.log").read_text() == "x\n"


def test_file_is_opened_again_by_its_name(tmp_path: Path, logs: AccessLogs) -> None:
    logs.adopt(settings(tmp_path, blog=TEXT))
    write(logs, BLOG, "1\n")
    (tmp_path / "blog.access.log").rename(tmp_path / "moved")
    assert logs.reopen() == [BLOG]
    write(logs, BLOG, "2\n")
    assert (tmp_path / "moved").read_text() == "1\n"
    assert (tmp_path / "blog.access.log").read_text() == "2\n"


def test_large_file_is_moved_on_and_the_oldest_goes(
    tmp_path: Path, logs: AccessLogs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access_logs, "FILE_MAX_BYTES", 10)
    logs.adopt(settings(tmp_path, blog=TEXT, shop=TEXT))
    for number in range(8):
        write(logs, BLOG, f"{number}: long enough\n")
        assert logs.rotate() == [BLOG]
    assert logs.rotate() == []
    found = {each.name: each.read_text()[:1] for each in tmp_path.glob("blog*")}
    assert found == {"blog.access.log": ""} | {f"blog.access.log.{n}": str(8 - n) for n in range(1, 6)}


def test_large_file_that_cannot_be_moved_is_left_in_peace(
    tmp_path: Path, logs: AccessLogs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access_logs, "FILE_MAX_BYTES", 10)
    (tmp_path / "blog.access.log.4").touch()
    (tmp_path / "blog.access.log.5").mkdir()
    logs.adopt(settings(tmp_path, blog=TEXT))
    write(logs, BLOG, "long enough\n")
    assert logs.rotate() == []
    assert (tmp_path / "blog.access.log").read_text() == "long enough\n"


@pytest.mark.parametrize("kind", ["link", "pipe", "folder", "no folder"])
def test_what_is_no_file_is_not_opened_and_said_once(
    tmp_path: Path, logs: AccessLogs, said: list[str], kind: str
) -> None:
    path = tmp_path / "blog.access.log"
    elsewhere = tmp_path / "elsewhere"
    match kind:
        case "link":
            path.symlink_to(elsewhere)
        case "pipe":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
    folder = tmp_path / "none" if kind == "no folder" else tmp_path
    logs.adopt(settings(folder, blog=TEXT))
    logs.reopen()
    assert logs.news(BLOG)[1] == []
    assert len(said) == 1
    assert str(folder) in said[0]
    assert not elsewhere.exists()


def test_file_that_can_be_opened_later_is(tmp_path: Path, logs: AccessLogs, said: list[str]) -> None:
    logs.adopt(settings(tmp_path / "later", blog=TEXT))
    (tmp_path / "later").mkdir()
    write(logs, BLOG, "x\n")
    assert len(said) == 2
    assert "is open now" in said[1]


def test_trouble_of_many_workers_is_said_once_with_its_end(logs: AccessLogs, said: list[str]) -> None:
    for worker in (ONE, TWO, ONE):
        logs.trouble(BLOG, worker, "No space left on device", 3)
    assert said == [
        'site "blog": cannot write the access log: No space left on device; lines are lost, requests are not'
    ]
    logs.trouble(BLOG, ONE, "", 5)
    logs.trouble(BLOG, ONE, "", 0)
    assert len(said) == 1
    logs.trouble(BLOG, TWO, "", 1)
    assert said[1:] == ['site "blog": the access log is written again; 15 lines were lost']
    logs.trouble(BLOG, TWO, "No space left on device", 1)
    assert len(said) == 3


def test_worker_that_ended_in_trouble_is_not_waited_for(logs: AccessLogs, said: list[str]) -> None:
    logs.trouble(BLOG, ONE, "No space left on device", 3)
    logs.trouble(BLOG, TWO, "No space left on device", 1)
    logs.gone(BLOG, ONE)
    logs.trouble(BLOG, TWO, "", 0)
    assert said[-1] == 'site "blog": the access log is written again; 4 lines were lost'
