"""The access log of real sites under a real daemon."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from system.daemon import DaemonUnderTest, Project, wait_for
from system.load import Load


def files(daemon: DaemonUnderTest) -> list[Path]:
    return sorted((daemon.folder / "log").glob("blog.access.log*"))


def lines(daemon: DaemonUnderTest) -> list[str]:
    return [line for file in files(daemon) for line in file.read_text().splitlines()]


def log_to(daemon: DaemonUnderTest, folder: Path, more: str = "") -> None:
    folder.mkdir(exist_ok=True)
    daemon.top = f'[log]\ndirectory = "{folder}"\n{more}'
    daemon.write()


def start(daemon: DaemonUnderTest, more: str = "") -> None:
    log_to(daemon, daemon.folder / "log", more)
    daemon.start()


def access_events(daemon: DaemonUnderTest) -> list[str]:
    return [event["text"] for event in daemon.events("blog") if event["kind"] == "access-log"]


def test_no_line_is_lost_while_files_are_moved_and_code_is_reloaded(
    daemon: DaemonUnderTest, blog: Project
) -> None:
    start(daemon)
    with Load(daemon.ports["blog"]) as load:
        for number in range(5):
            load.wait_for_requests(100)
            files(daemon)[0].rename(daemon.folder / "log" / f"blog.access.log.moved-{number}")
            daemon.signal(signal.SIGUSR1)
            wait_for((daemon.folder / "log/blog.access.log").exists, "the file of that name")
            if number == 2:
                daemon.reload_well("blog")
    daemon.signal(signal.SIGTERM)
    assert daemon.wait_end() == 0
    found = lines(daemon)
    assert len(found) == load.outcome.requests, load.outcome.summary()
    form = r'127\.0\.0\.1 - - \[[^]]+ \+0000\] "GET / HTTP/1\.1" 200 3 "-" "-"'
    assert not [line for line in found if not re.fullmatch(form, line)]
    assert len(files(daemon)) == 6


def test_file_is_readable_for_no_stranger_and_a_link_is_not_followed(
    daemon: DaemonUnderTest, blog: Project
) -> None:
    elsewhere = daemon.folder / "elsewhere"
    elsewhere.write_text("precious")
    (daemon.folder / "log").mkdir()
    link = daemon.folder / "log/blog.access.log"
    link.symlink_to(elsewhere)
    start(daemon)
    assert daemon.get("blog") == (200, b"one")
    (event,) = access_events(daemon)
    assert "cannot open the access log" in event
    link.unlink()
    daemon.signal(signal.SIGUSR1)
    wait_for(link.exists, "the file")
    assert link.stat().st_mode & 0o777 == 0o640
    wait_for(lambda: len(access_events(daemon)) == 2, "the event of its end")
    daemon.get("blog", "/about")
    wait_for(lambda: "/about" in link.read_text(), "the line")
    assert elsewhere.read_text() == "precious"


def test_running_workers_take_over_another_format_and_a_site_has_its_own(
    daemon: DaemonUnderTest, blog: Project, django: Path
) -> None:
    daemon.site("shop", django, blog.directory)
    start(daemon, 'access = "json"\naccess_exclude = ["/healthz"]\n')
    before = {worker["pid"] for worker in daemon.workers("blog")}
    for path in ("/healthz", "/about"):
        daemon.get("blog", path)
    (line,) = wait_for(lambda: lines(daemon), "the line")
    assert json.loads(line)["target"] == "/about"
    assert json.loads(line)["pid"] in before
    assert daemon.done("logs", "blog", "--access").stdout == line + "\n"
    daemon.sites["blog"] += '\n[sites.blog.log]\naccess = "%m %U %v"\naccess_exclude = []\n'
    daemon.write()
    daemon.reload_well("shop")
    assert {worker["pid"] for worker in daemon.workers("blog")} == before
    daemon.get("blog", "/healthz")
    wait_for(lambda: lines(daemon)[-1] == "GET /healthz blog", "the line of the new format")
    daemon.get("shop", "/healthz")
    daemon.get("shop", "/about")
    shops = daemon.folder / "log/shop.access.log"
    wait_for(lambda: shops.read_text().count("\n") == 1, "the shop's line")
    assert json.loads(shops.read_text())["site"] == "shop"


def test_without_a_directory_there_is_no_access_log(daemon: DaemonUnderTest, blog: Project) -> None:
    daemon.start()
    assert daemon.get("blog") == (200, b"one")
    (worker, *_others) = daemon.workers("blog")
    opened = [
        str(each.readlink()) for each in Path(f"/proc/{worker['pid']}/fd").iterdir() if each.is_symlink()
    ]
    assert not [each for each in opened if "access" in each]
    assert "GET /" not in daemon.log
    refused = daemon.run("logs", "blog", "--access")
    assert refused.status == 1
    assert "writes no access log" in refused.stderr
    assert daemon.run("logs", "--access").status == 2


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_full_disk_harms_no_request_is_said_once_and_passes(
    daemon: DaemonUnderTest, blog: Project, small_disk: Path
) -> None:
    log_to(daemon, small_disk, 'access = "%m %U end"')
    daemon.start()
    (small_disk / "filler").write_bytes(b"x" * 60 * 1024)
    with Load(daemon.ports["blog"]) as load:
        load.wait_for_requests(1500)
        assert len(wait_for(lambda: access_events(daemon), "the event")) == 1
        load.wait_for_requests(500)
        assert len(access_events(daemon)) == 1
        (small_disk / "filler").unlink()
        events = wait_for(lambda: e if len(e := access_events(daemon)) > 1 else None, "the other event")
    assert "No space left" in events[0]
    assert re.search(r"written again; \d+ lines were lost", events[1])
    assert load.outcome.closed == 0, load.outcome.summary()
    found = (small_disk / "blog.access.log").read_text().splitlines()
    torn = [line for line in found if line != "GET / end"]
    assert len(torn) <= 8, torn  # a write that the disk took half of ends in the middle of a line
