"""Jails: how a site's interpreter is run, and what ``jail.py``, the stage before an isolated one, is told.

What the stage does with it stands there.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from djsup.core.model import ControlGroup
from djsup.jail import STATUS
from djsup.shell.control_groups import ControlGroups, NoControlGroup
from djsup.shell.private_folders import PrivateFolders
from djsup.shell.processes import CannotRun, Command, Identity, environment
from djsup.shell.shipment import JAIL

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from djsup.core.model import Isolation, SiteName, SiteSettings

FAILED = STATUS
"""Exit status of a stage that could not do what it had to; the last line on standard error says why."""


class Surroundings(Protocol):
    """What all processes of a site share, made when the first of them needs it."""

    def private_tmp(self, site: SiteName) -> str:
        """The folder that its processes see as /tmp.

        Raises:
            CannotRun: it cannot be made.
        """

    def control_group(self, site: SiteSettings) -> str | None:
        """The file by which a process joins its control group; None: it is to stay where it is.

        Raises:
            CannotRun: the site's limits cannot be had.
        """


class OwnSurroundings:
    """The surroundings of the sites that a daemon runs."""

    def __init__(self) -> None:
        self._folders = PrivateFolders()
        self._groups = ControlGroups()

    def private_tmp(self, site: SiteName) -> str:
        """The folder that its processes see as /tmp.

        Raises:
            CannotRun: it cannot be made.
        """
        try:
            return self._folders.of(site)
        except OSError as error:
            raise CannotRun(f"cannot make a private /tmp: {error}") from error

    def control_group(self, site: SiteSettings) -> str:
        """The file by which a process joins its control group.

        Raises:
            CannotRun: the site's limits cannot be had.
        """
        try:
            return self._groups.of(site.name, site.isolation.cgroup)
        except NoControlGroup as error:
            raise CannotRun(str(error)) from error

    def made(self) -> dict[SiteName, str]:
        """The private folders that there are; control groups are found again by their names."""
        return self._folders.made()

    def take_over(self, folders: dict[SiteName, str]) -> None:
        """Go on with those that another program of the daemon has made."""
        self._folders.take_over(folders)

    def forget(self, site: SiteName) -> None:
        """The site is gone."""
        self._folders.forget(site)
        self._groups.forget(site)

    def forget_all(self) -> None:
        """The daemon ends with all its sites."""
        self._folders.forget_all()
        self._groups.forget_all()


@dataclass(frozen=True, slots=True)
class Jail:
    """How a process is to be isolated, beyond whom it runs as."""

    stage: Path
    """``jail.py``, in a folder that only the daemon writes."""
    isolation: Isolation
    private_tmp: str | None = None
    """The folder that it sees as /tmp; None: the machine's."""
    control_group: str | None = None
    """The file by which it joins its site's control group; None: it stays in the daemon's."""
    orphan_signal: int | None = None
    """The signal that the kernel sends it when the daemon dies; to be asked for again when rights have changed."""

    @staticmethod
    def wanted(isolation: Isolation) -> bool:
        """Whether the stage has anything to do: user, groups and umask need none."""
        return bool(
            isolation.nice
            or isolation.cpu_affinity
            or isolation.rlimits
            or isolation.no_new_privs
            or isolation.private_tmp
            or isolation.read_only
            or isolation.cgroup != ControlGroup()
        )

    @contextmanager
    def command(
        self, arguments: Sequence[str], directory: str, environment: Mapping[str, str], identity: Identity
    ) -> Iterator[tuple[list[str], int]]:
        """The command that runs the stage, and the descriptor that it needs, for the time of its start.

        The environment travels in the descriptor: as arguments every user could read it.
        """
        isolation = self.isolation
        mounts = None
        if isolation.private_tmp or isolation.read_only:
            mounts = {"read_only": isolation.read_only, "private_tmp": self.private_tmp}
        spec = {
            "arguments": list(arguments),
            "directory": directory,
            "environment": dict(environment),
            "cgroup": self.control_group,
            "uid": identity.uid,
            "gid": identity.gid,
            "groups": identity.groups,
            "umask": isolation.umask,
            "nice": isolation.nice or None,
            "cpu_affinity": isolation.cpu_affinity or None,
            "mounts": mounts,
            "rlimits": dict(isolation.rlimits) or None,
            "no_new_privs": isolation.no_new_privs,
            "orphan_signal": self.orphan_signal,
        }
        memory = os.memfd_create("djsup-jail", os.MFD_CLOEXEC)
        try:
            with os.fdopen(os.dup(memory), "wb") as file:
                file.write(json.dumps(spec).encode())
            os.lseek(memory, 0, os.SEEK_SET)
            yield [sys.executable, "-I", "-S", str(self.stage), str(memory)], memory
        finally:
            os.close(memory)


def command_of(
    site: SiteSettings,
    worker: Path,
    channel: int,
    generation: int,
    out: int,
    err: int,
    surroundings: Surroundings,
) -> Command:
    """What runs a site's interpreter on the worker's folder: as its user, in its directory, isolated as it is to be.

    Raises:
        CannotRun: there is no such user or group, no folder for its private /tmp, or no control group.
    """
    identity = Identity.of(site.user, site.group, site.isolation.groups)
    command = Command(
        (site.python, "-u", str(worker), site.name, str(generation), str(channel)),
        site.directory,
        environment(identity, dict(site.env)),
        identity,
        out,
        err,
        (channel,),
    )
    return isolated(command, site, worker, surroundings)


def isolated(command: Command, site: SiteSettings, worker: Path, surroundings: Surroundings) -> Command:
    """The same command, run as the processes of a site are to be isolated.

    Raises:
        CannotRun: there is no folder for its private /tmp, or no control group.
    """
    jail = None
    if Jail.wanted(site.isolation):
        name = command.orphan_signal
        jail = Jail(
            worker / JAIL,
            site.isolation,
            surroundings.private_tmp(site.name) if site.isolation.private_tmp else None,
            surroundings.control_group(site) if site.isolation.cgroup != ControlGroup() else None,
            None if name is None else int(signal.Signals[name]),
        )
    return replace(command, umask=site.isolation.umask, jail=jail)
