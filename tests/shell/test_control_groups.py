"""Control groups: what is written for a site's limits, and what is said where they cannot be had."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from djsup.core.model import ControlGroup, SiteName
from djsup.shell import control_groups
from djsup.shell.control_groups import MEMBERS, OWN, ControlGroups, NoControlGroup

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BLOG = SiteName("blog")
WANTED = ControlGroup(memory_max=2**30, cpu_max=1.5, pids_max=200)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """Files as the kernel shows them in a group that was delegated to us."""
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
    (tmp_path / "cgroup.subtree_control").write_text("")
    (tmp_path / MEMBERS).write_text(f"{os.getpid()}\n")
    return tmp_path


def test_the_limits_of_a_site_are_written_as_the_kernel_reads_them(base: Path) -> None:
    groups = ControlGroups(base)
    members = groups.of(BLOG, WANTED)
    site = base / "djsup-site-blog"
    assert members == str(site / MEMBERS)
    assert (site / "memory.max").read_text() == str(2**30)
    assert (site / "cpu.max").read_text() == "150000 100000"
    assert (site / "pids.max").read_text() == "200"
    assert not (site / "memory.high").exists(), "what has no limit is left alone"


def test_only_what_is_needed_is_switched_on_once_the_daemon_is_out_of_the_way(base: Path) -> None:
    ControlGroups(base).of(BLOG, ControlGroup(pids_max=10))
    assert (base / OWN / MEMBERS).read_text() == str(os.getpid())
    assert (base / "cgroup.subtree_control").read_text() == "+pids"


def test_a_daemon_that_is_in_its_own_group_already_makes_those_of_sites_beside_it(base: Path) -> None:
    (base / OWN).mkdir()
    assert ControlGroups(base / OWN).of(BLOG, WANTED) == str(base / "djsup-site-blog" / MEMBERS)


def test_a_limit_that_was_taken_back_is_lifted(base: Path) -> None:
    groups = ControlGroups(base)
    groups.of(BLOG, WANTED)
    groups.of(BLOG, ControlGroup(pids_max=200))
    assert (base / "djsup-site-blog" / "memory.max").read_text() == "max"


def test_a_controller_that_was_not_delegated_is_named(base: Path) -> None:
    (base / "cgroup.controllers").write_text("pids\n")
    with pytest.raises(
        NoControlGroup, match=r"has no cpu and no memory controller; under systemd, Delegate=yes"
    ):
        ControlGroups(base).of(BLOG, WANTED)
    assert not (base / OWN).exists(), "nothing is half done"


def test_a_group_that_may_not_be_changed_is_named(tmp_path: Path) -> None:
    with pytest.raises(NoControlGroup, match=r"No such file or directory \(.*cgroup.controllers\)"):
        ControlGroups(tmp_path / "gone").of(BLOG, WANTED)


@pytest.fixture
def real() -> Iterator[Path]:
    """A control group of our own, real."""
    mount = control_groups.mount_point()
    if mount is None or os.geteuid() != 0:
        pytest.skip("no control groups of version 2 here, or none that may be made")
    group = mount / f"djsup-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    yield group
    for inner in (*group.iterdir(), group):
        if inner.is_dir():
            inner.rmdir()


def test_a_process_that_writes_nought_joins_and_an_empty_group_goes_with_its_site(real: Path) -> None:
    groups = ControlGroups(real)
    members = groups.of(BLOG, ControlGroup())
    with subprocess.Popen(["/bin/sh", "-c", f"echo 0 > {members}; cat"], stdin=subprocess.PIPE) as shell:
        while str(shell.pid) not in (real / "djsup-site-blog" / MEMBERS).read_text().split():
            assert shell.poll() is None
        groups.forget(BLOG)
        assert (real / "djsup-site-blog").exists(), "it still has a process"
        groups.of(BLOG, ControlGroup())
    groups.forget_all()
    assert not (real / "djsup-site-blog").exists()


def test_the_limit_of_a_real_group_holds(real: Path) -> None:
    """Where the kernel has a controller for us; the number of processes is the one that can be shown at once."""
    if "pids" not in (real / "cgroup.controllers").read_text().split():
        pytest.skip("control groups of version 2 have no pids controller here")
    members = ControlGroups(real).of(BLOG, ControlGroup(pids_max=4))
    script = f"echo 0 > {members}; for n in 1 2 3 4 5 6; do sleep 5 & done; wait"
    done = subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert "fork" in done.stderr.lower()
