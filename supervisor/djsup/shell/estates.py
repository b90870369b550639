"""Estates: what is left of each site if the daemon is killed now, one file a site, in the runtime directory.

Written whole and in one rename at every change, so that a reader finds either the old or the new; not synced to the
disk, for it means nothing after the machine has gone down. Only the daemon's user may read them: a site's
settings hold its environment.
"""

from __future__ import annotations

import json
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from djsup.core.estate import Estate
from djsup.core.model import Pid

if TYPE_CHECKING:
    from djsup.core.model import ProcId, SiteName

FILE_MAX_BYTES = 8 * 1024 * 1024
_ADAPTER = TypeAdapter(Estate)


@dataclass(frozen=True, slots=True)
class Found:
    """One site's estate as it was read."""

    estate: Estate
    version: str
    """Of the djsup that has written it."""
    born: dict[Pid, int]
    """When each process was started, as ``born`` gives it: a number used again is no process of ours."""


class Estates:
    """The folder of estates; ``version`` is our own."""

    def __init__(self, folder: Path, version: str) -> None:
        self._folder = folder
        self._version = version
        self._written: dict[SiteName, Estate] = {}
        self._born: dict[SiteName, dict[ProcId, int | None]] = {}
        """Looked up once a process, by its name: a pid is used again."""

    def read(self) -> list[Found]:
        """What an earlier daemon has left; a file that can't be read or is of another boot counts for nothing."""
        if not self._folder.is_dir():
            return []
        found = []
        for path in sorted(self._folder.glob("*.json")):
            with suppress(OSError, ValueError, KeyError, TypeError, ValidationError):
                if path.stat().st_size > FILE_MAX_BYTES:
                    continue
                raw = json.loads(path.read_bytes())
                if raw["boot"] != boot_id():
                    continue
                estate = _ADAPTER.validate_python(raw["estate"], strict=False)
                born_at = {Pid(int(pid)): int(ticks) for pid, ticks in raw["born"].items()}
                found.append(Found(estate, str(raw["version"]), born_at))
        return found

    def write(self, site: SiteName, estate: Estate | None) -> None:
        """Write what is left of a site; None: nothing is. Nothing new: nothing is written.

        Raises:
            OSError: it can't be written; the file of before, which is not true any more, is gone if possible.
        """
        if self._written.get(site) == estate:
            return
        path = self._folder / f"{site}.json"
        if estate is None:
            self._written.pop(site, None)
            self._born.pop(site, None)
            path.unlink(missing_ok=True)
            return
        self._written[site] = estate
        known = self._born.get(site, {})
        at = {proc: known[proc] if proc in known else born(pid) for proc, pid in estate.pids}
        self._born[site] = at
        content = {
            "version": self._version,
            "boot": boot_id(),
            "born": {str(pid): at[proc] for proc, pid in estate.pids if at[proc] is not None},
            "estate": _ADAPTER.dump_python(estate, mode="json"),
        }
        new = path.with_suffix(".new")
        try:
            self._write(new, json.dumps(content))  # json.dump would do it in Python, several times as slowly
            new.replace(path)
        except OSError:
            self._written.pop(site, None)
            with suppress(OSError):
                path.unlink()
            raise

    def _write(self, path: Path, content: str) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            fd = os.open(path, flags, 0o600)
        except FileNotFoundError:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            fd = os.open(path, flags, 0o600)
        with os.fdopen(fd, "w") as file:
            file.write(content)

    def forget_others(self) -> None:
        """Remove what was written by an earlier daemon and not by us."""
        with suppress(OSError):
            for path in self._folder.iterdir():
                if path.name not in {f"{site}.json" for site in self._written}:
                    path.unlink()

    def clear(self) -> None:
        """Nothing is left."""
        self._written.clear()
        shutil.rmtree(self._folder, ignore_errors=True)


def pin(pid: Pid, born_at: int | None) -> int | None:
    """The pidfd of a process, if it is the one that was started then; None: that one is gone."""
    try:
        pidfd = os.pidfd_open(pid)
    except (OSError, ValueError):
        return None
    # In this order: the pidfd pins the number, then its holder is looked at.
    if born_at is None or born(pid) != born_at:
        os.close(pidfd)
        return None
    return pidfd


@cache
def boot_id() -> str:
    """This boot of the machine: process ids and the monotonic clock mean nothing in another."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def born(pid: Pid) -> int | None:
    """When a process was started, in clock ticks since the boot (proc(5), stat, 22nd field); None: it is gone."""
    try:
        # The second field is the program's name, in parentheses, with whatever is in it.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if fields[0] in ("Z", "X") else int(fields[19])
    except (OSError, ValueError, IndexError):
        return None
