from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from djsup.core.estate import Estate, GenerationLeft, Stage, TemplateLeft, WorkerLeft
from djsup.core.model import (
    Address,
    AddressKind,
    Generation,
    Limits,
    Pid,
    ProcId,
    SiteName,
    SiteSettings,
    Slot,
)
from djsup.shell.estates import Estates, born

BLOG = SiteName("blog")
ONE = Generation(1)
SETTINGS = SiteSettings(
    BLOG, "/srv/blog", "/usr/bin/python3", (Address(AddressKind.TCP, "::1", 8000),), env=(("KEY", "secret"),)
)


def estate(pid: int) -> Estate:
    return Estate(
        SETTINGS,
        ONE,
        1,
        (GenerationLeft(ONE, SETTINGS, forks=True),),
        (TemplateLeft(ProcId(1), Pid(pid), ONE, loaded=True),),
        (WorkerLeft(ProcId(2), Pid(pid), ONE, Slot(0), Stage.SERVING, Limits(), 10.5, None),),
    )


def test_what_is_written_is_read_and_readable_by_us_only(tmp_path: Path) -> None:
    mine = estate(os.getpid())
    Estates(tmp_path / "estates", "1.0").write(BLOG, mine)
    (found,) = Estates(tmp_path / "estates", "2.0").read()
    assert found.estate == mine
    assert found.version == "1.0"
    assert found.born == {os.getpid(): born(Pid(os.getpid()))}
    assert (tmp_path / "estates").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "estates" / "blog.json").stat().st_mode & 0o777 == 0o600


def test_nothing_new_is_not_written_again(tmp_path: Path) -> None:
    estates = Estates(tmp_path / "estates", "1.0")
    estates.write(BLOG, estate(os.getpid()))
    file = tmp_path / "estates" / "blog.json"
    before = file.stat().st_ino
    estates.write(BLOG, estate(os.getpid()))
    assert file.stat().st_ino == before
    estates.write(BLOG, replace(estate(os.getpid()), by_hand=3))
    assert file.stat().st_ino != before
    estates.write(BLOG, None)
    assert not file.exists()


def test_what_is_broken_or_of_another_boot_counts_for_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "estates"
    Estates(folder, "1.0").write(BLOG, estate(os.getpid()))
    raw = json.loads((folder / "blog.json").read_text())
    (folder / "other.json").write_text(json.dumps({**raw, "boot": "another"}))
    (folder / "cut.json").write_text((folder / "blog.json").read_text()[:-40])
    (folder / "wrong.json").write_text(json.dumps({**raw, "estate": {"settings": 7}}))
    assert [found.estate.settings.name for found in Estates(folder, "1.0").read()] == [BLOG]
    again = Estates(folder, "1.0")
    again.forget_others()
    assert list(folder.iterdir()) == []


def test_a_process_that_has_ended_was_never_born() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert born(Pid(child.pid)) is None, "a zombie"
    child.wait()
    assert born(Pid(child.pid)) is None
