"""The rules of ``[sites.NAME.isolation]`` that need to know the machine: what can be had of it, and what cannot.

What protects others from a site is a mistake of the configuration where it cannot be had: the site must not run
without. What only makes for comfort (``nice``, ``cpu_affinity``) is a warning.
"""

from __future__ import annotations

import grp
import os
import resource
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from djsup.core.model import ControlGroup, Isolation

if TYPE_CHECKING:
    from collections.abc import Mapping

    from djsup.config.documents import Documents
    from djsup.config.places import KeyPath
    from djsup.config.problem import Problem
    from djsup.config.schema import ControlGroupTable, IsolationTable
    from djsup.config.tls import Report

CAP_SETGID, CAP_SYS_ADMIN, CAP_SYS_NICE, CAP_SYS_RESOURCE = 6, 21, 23, 24
"""Numbers of capabilities (linux/capability.h)."""
SHARED_TMP = ("/tmp", "/var/tmp")  # noqa: S108 -- what is to be hidden


class IsolationRules:
    """The rules for one site's table, which stands at ``path``."""

    def __init__(self, documents: Documents, wrong: Report, warnings: list[Problem], path: KeyPath) -> None:
        self._documents = documents
        self._wrong = wrong
        self._warnings = warnings
        self._path = path
        self._rights = _capabilities()

    def settle(self, table: IsolationTable, user: str | None, needed: Mapping[str, str]) -> Isolation:
        """The settings. ``needed`` are the paths without which the site cannot run, by what they are."""
        self._groups(table, user)
        self._nice(table.nice)
        self._affinity(table.cpu_affinity)
        self._rlimits(table.rlimits)
        if table.private_tmp:
            self._private_tmp(needed)
        return Isolation(
            groups=tuple(table.groups),
            umask=int(table.umask, 8),
            nice=table.nice,
            cpu_affinity=tuple(sorted(set(table.cpu_affinity))),
            rlimits=tuple(sorted(table.rlimits.items())),
            no_new_privs=table.no_new_privs,
            private_tmp=table.private_tmp,
            read_only=tuple(self._read_only(index, path) for index, path in enumerate(table.read_only)),
            cgroup=self._control_group(table.cgroup) if table.cgroup else ControlGroup(),
        )

    def _control_group(self, table: ControlGroupTable) -> ControlGroup:
        limits = ControlGroup(table.memory_max, table.memory_high, table.cpu_max, table.pids_max)
        elsewhere = _controllers_elsewhere()
        for key, value in table:
            controller = key.partition("_")[0]
            if value is not None and controller in elsewhere:
                hint = (
                    f"needs control groups of version 2, and this machine has its {controller} controller in those "
                    "of version 1: boot it with systemd.unified_cgroup_hierarchy=1, or leave it out"
                )
                self._wrong((*self._path, "cgroup", key), hint=hint)
        return limits

    def _may(self, capability: int) -> bool:
        return bool(self._rights >> capability & 1)

    def _warn(self, key: str, hint: str) -> None:
        self._warnings.append(self._documents.problem((*self._path, key), hint=hint))

    def _groups(self, table: IsolationTable, user: str | None) -> None:
        for index, name in enumerate(table.groups):
            path = (*self._path, "groups", index)
            try:
                grp.getgrnam(name)
            except KeyError:
                self._wrong(path, hint=f"there is no group {name} on this machine")
                return
        if table.groups and user is None:
            self._wrong((*self._path, "groups"), hint="needs user: they are groups beside those of a user")
        elif table.groups and not self._may(CAP_SETGID):
            self._wrong((*self._path, "groups"), hint="only root can give a process other groups")

    def _nice(self, level: int) -> None:
        if level and level < os.getpriority(os.PRIO_PROCESS, 0) and not self._may(CAP_SYS_NICE):
            self._warn(
                "nice", f"{level} cannot be had without CAP_SYS_NICE; the site runs at the usual priority"
            )

    def _affinity(self, cpus: list[int]) -> None:
        missing = sorted(set(cpus) - os.sched_getaffinity(0))
        if missing and set(missing) == set(cpus):
            self._warn("cpu_affinity", f"djsup may use none of {cpus}; the site runs on every processor")
        elif missing:
            self._warn("cpu_affinity", f"djsup may not use {missing}; the site runs on the others")

    def _rlimits(self, limits: Mapping[str, int]) -> None:
        for name, most in limits.items():
            hard = resource.getrlimit(getattr(resource, f"RLIMIT_{name.upper()}"))[1]
            above = hard != resource.RLIM_INFINITY and (most == resource.RLIM_INFINITY or most > hard)
            if above and not self._may(CAP_SYS_RESOURCE):
                self._wrong(
                    (*self._path, "rlimits", name),
                    hint=f"is above what djsup itself may have ({hard}), and only root can raise that",
                )

    def _private_tmp(self, needed: Mapping[str, str]) -> None:
        key = (*self._path, "private_tmp")
        if not self._may(CAP_SYS_ADMIN):
            self._wrong(key, hint="needs CAP_SYS_ADMIN: start djsup as root, or leave it out")
        for what, path in needed.items():
            hidden = next((each for each in SHARED_TMP if Path(path).is_relative_to(each)), None)
            if hidden is not None:
                self._wrong(key, hint=f"would hide {what} from the site: {path} is in {hidden}")

    def _read_only(self, index: int, written: str) -> str:
        key = (*self._path, "read_only", index)
        path = self._documents.absolute(key, written)
        if not Path(path).exists():
            self._wrong(key, hint=f"{path} does not exist")
        elif not self._may(CAP_SYS_ADMIN):
            self._wrong(key, hint="needs CAP_SYS_ADMIN: start djsup as root, or leave it out")
        return path


def _controllers_elsewhere() -> frozenset[str]:
    """The controllers of this machine that control groups of version 2 cannot have (cgroups(7), /proc/cgroups)."""
    try:
        lines = Path("/proc/cgroups").read_text().splitlines()
    except OSError:
        return frozenset()
    rows = [line.split() for line in lines if not line.startswith("#")]
    return frozenset(name for name, hierarchy, _groups, enabled in rows if hierarchy != "0" or enabled == "0")


def _capabilities() -> int:
    """What this process may do beside an ordinary user, a bit for each (proc(5), CapEff)."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("CapEff:"):
                return int(line.split()[1], 16)
    return 0
