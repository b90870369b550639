"""Control groups (cgroups v2): limits for all processes of a site together.

Each site that has such limits gets a group beside the daemon's, below the one in which the daemon was started. The
kernel allows limits only below a group that holds no process itself, so the daemon moves into a group of its own
first. (Linux, Documentation/admin-guide/cgroup-v2.rst)
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from djsup.core.model import ControlGroup, SiteName

PREFIX = "djsup-site-"
OWN = "djsup-daemon"
"""The group into which the daemon moves."""
CPU_PERIOD_US = 100_000
MEMBERS, ENABLED, AVAILABLE = "cgroup.procs", "cgroup.subtree_control", "cgroup.controllers"


class NoControlGroup(Exception):
    """A site's limits cannot be had; the text says which and why."""


class ControlGroups:
    """The groups of all sites that have limits of their own."""

    def __init__(self, start: Path | None = None) -> None:
        """``start`` is the folder of the group in which we are; None: as the kernel says."""
        self._start = start
        self._base: Path | None = None

    def of(self, site: SiteName, limits: ControlGroup) -> str:
        """The file into which a process of the site has to write "0" to be in its group; the limits hold from now on.

        Raises:
            NoControlGroup: they cannot be had.
        """
        files = written(limits)
        try:
            base = self._prepare({name.partition(".")[0] for name, text in files.items() if text is not None})
            group = base / f"{PREFIX}{site}"
            group.mkdir(exist_ok=True)
            for name, text in files.items():
                if text is not None or (group / name).exists():
                    (group / name).write_text("max" if text is None else text)
        except OSError as error:
            raise NoControlGroup(
                f"isolation.cgroup cannot be had: {error.strerror} ({error.filename})"
            ) from error
        return str(group / MEMBERS)

    def forget(self, site: SiteName) -> None:
        """The site is gone: its group too. One that still has processes stays, and is taken over by the next of that name."""
        with suppress(NoControlGroup, OSError):
            (self._find() / f"{PREFIX}{site}").rmdir()

    def forget_all(self) -> None:
        """The daemon ends with all its sites."""
        with suppress(NoControlGroup, OSError):
            for group in self._find().glob(f"{PREFIX}*"):
                with suppress(OSError):
                    group.rmdir()

    def _prepare(self, controllers: set[str]) -> Path:
        """The group below which the sites' are, with these controllers switched on for them.

        Raises:
            NoControlGroup: it cannot be had.
            OSError: the kernel refuses something else.
        """
        base = self._find()
        missing = sorted(controllers - set((base / AVAILABLE).read_text().split()))
        if missing:
            raise NoControlGroup(
                f"isolation.cgroup cannot be had: the control group {base} has no {' and no '.join(missing)} controller; "
                "under systemd, Delegate=yes gives it"
            )
        absent = controllers - set((base / ENABLED).read_text().split())
        if absent:
            _move_into(base / OWN, os.getpid())
            try:
                (base / ENABLED).write_text(" ".join(f"+{name}" for name in sorted(absent)))
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise
                others = " ".join((base / MEMBERS).read_text().split())
                raise NoControlGroup(
                    f"isolation.cgroup cannot be had: other processes are in the control group {base} ({others}); "
                    "start djsup in one of its own, as systemd does with Delegate=yes"
                ) from error
        return base

    def _find(self) -> Path:
        if self._base is None:
            start = self._start if self._start is not None else own_group()
            if start is None:
                raise NoControlGroup(
                    "isolation.cgroup cannot be had: this machine has no control groups of version 2"
                )
            self._base = start.parent if start.name == OWN else start
        return self._base


def written(limits: ControlGroup) -> Mapping[str, str | None]:
    """What the kernel's files are to hold; None: no limit."""
    cpu = limits.cpu_max
    return {
        "memory.max": None if limits.memory_max is None else str(limits.memory_max),
        "memory.high": None if limits.memory_high is None else str(limits.memory_high),
        "cpu.max": None if cpu is None else f"{max(1000, round(cpu * CPU_PERIOD_US))} {CPU_PERIOD_US}",
        "pids.max": None if limits.pids_max is None else str(limits.pids_max),
    }


def own_group() -> Path | None:
    """The folder of the control group that we are in; None: there are none of version 2."""
    mount = mount_point()
    if mount is None:
        return None
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            if line.startswith("0::"):
                return mount / line[3:].lstrip("/")
    return None


def mount_point() -> Path | None:
    """Where control groups of version 2 are mounted (proc(5), mountinfo); None: nowhere."""
    with suppress(OSError):
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            fields, _, kind = line.partition(" - ")
            if kind.startswith("cgroup2 "):
                return Path(fields.split(" ")[4])
    return None


def _move_into(group: Path, pid: int) -> None:
    group.mkdir(exist_ok=True)
    (group / MEMBERS).write_text(str(pid))
