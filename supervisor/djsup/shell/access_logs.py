"""Access logs: the file of each site, opened here because a site's user may not be able to, written by its workers.

Holds a descriptor for every site, to hand to workers that start. Opens the files again when they were moved,
and moves them itself when they have grown large. Never writes a line.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from djsup_worker.messages import AccessLog

if TYPE_CHECKING:
    from collections.abc import Callable

    from djsup.core.model import AccessSettings, ProcId, Settings, SiteName

FILE_MAX_BYTES = 50 * 1024 * 1024
FILES_KEPT = 5
"""As the logs of what sites print."""
MODE = 0o640
"""Who visited a site is not everybody's business."""


@dataclass(slots=True)
class _File:
    path: Path
    fd: int | None
    """None: it could not be opened."""


class AccessLogs:
    """The access logs of all sites. ``say(site, text, well)`` tells people what goes wrong, and when it ends."""

    def __init__(self, say: Callable[[SiteName, str, bool], None]) -> None:
        self._say = say
        self._directory: str | None = None
        self._settings: dict[SiteName, AccessSettings] = {}
        self._files: dict[SiteName, _File] = {}
        self._unopened: dict[SiteName, str] = {}
        """Why a file can't be opened."""
        self._troubled: dict[SiteName, set[ProcId]] = {}
        """Workers that can't write."""
        self._lost: dict[SiteName, int] = {}

    # --- settings and files -------------------------------------------------------------------

    def adopt(self, settings: Settings) -> list[SiteName]:
        """Keep these settings from now on. Gives the sites whose workers have to be told."""
        moved = settings.log.directory != self._directory
        self._directory = settings.log.directory
        changed = []
        for site in settings.sites:
            before = self._settings.get(site.name)
            self._settings[site.name] = site.access
            if moved or before != site.access:
                self._open(site.name)
                changed.append(site.name)
        return changed

    def reopen(self) -> list[SiteName]:
        """Open every file again by its name. Gives the sites whose workers have to be told."""
        for site in self._settings:
            self._open(site)
        return list(self._files)

    def rotate(self) -> list[SiteName]:
        """Move the files that have grown too large. Gives the sites whose workers have to be told."""
        moved = [
            site
            for site, file in self._files.items()
            if file.fd is not None and os.fstat(file.fd).st_size > FILE_MAX_BYTES and _move_on(file.path)
        ]
        for site in moved:
            self._open(site)
        return moved

    def forget(self, site: SiteName) -> None:
        """The site is gone."""
        self._close(site)
        for each in (self._settings, self._unopened, self._troubled, self._lost):
            each.pop(site, None)

    def message(self, site: SiteName) -> tuple[AccessLog, list[int]] | None:
        """What to tell a worker, and the descriptor to send along; None: a new worker need not be told."""
        settings = self._settings.get(site)
        if settings is None:
            return None
        file = self._files.get(site)
        if file is not None and file.fd is None:
            self._open(site)  # perhaps it works by now
            file = self._files.get(site)
        fds = [] if file is None or file.fd is None else [file.fd]
        if not fds and settings.request_id == "off":
            return None
        return self._told(settings), fds

    def news(self, site: SiteName) -> tuple[AccessLog, list[int]]:
        """What to tell a worker that may have been told something else before.

        Raises:
            KeyError: no settings name the site.
        """
        return self.message(site) or (self._told(self._settings[site]), [])

    @staticmethod
    def _told(settings: AccessSettings) -> AccessLog:
        return AccessLog(
            style="json" if settings.format == "json" else "text",
            pieces=list(settings.pieces),
            exclude=list(settings.exclude),
            request_id=settings.request_id,
        )

    def path(self, site: SiteName) -> Path | None:
        """Where a site's access log is; None: none is written."""
        file = self._files.get(site)
        return None if file is None else file.path

    def _open(self, site: SiteName) -> None:
        """Open a site's file as the settings want it; trouble is said once."""
        self._close(site)
        if self._directory is None or self._settings[site].format == "off":
            return
        path = Path(self._directory) / f"{site}.access.log"
        file = self._files[site] = _File(path, None)
        try:
            file.fd = _open_file(path)
        except OSError as error:
            reason = f"cannot open the access log {path}: {error.strerror}"
            if self._unopened.get(site) != reason:
                self._unopened[site] = reason
                self._say(site, f'site "{site}": {reason}; requests are not logged', False)
        else:
            if self._unopened.pop(site, None):
                self._say(site, f'site "{site}": the access log {path} is open now', True)

    def _close(self, site: SiteName) -> None:
        file = self._files.pop(site, None)
        if file is not None and file.fd is not None:
            os.close(file.fd)

    # --- what workers say ---------------------------------------------------------------------

    def trouble(self, site: SiteName, proc: ProcId, error: str, dropped: int) -> None:
        """A worker can't write, or can again (no error). Said once a site, not once a worker."""
        troubled = self._troubled.setdefault(site, set())
        self._lost[site] = self._lost.get(site, 0) + max(0, dropped)
        if error:
            if not troubled:
                text = f"cannot write the access log: {error[:200]}; lines are lost, requests are not"
                self._say(site, f'site "{site}": {text}', False)
            troubled.add(proc)
        elif proc in troubled:
            troubled.remove(proc)
            if not troubled:
                text = f"the access log is written again; {self._lost.pop(site)} lines were lost"
                self._say(site, f'site "{site}": {text}', True)

    def gone(self, site: SiteName, proc: ProcId) -> None:
        """A worker has ended."""
        self._troubled.get(site, set()).discard(proc)


def _open_file(path: Path) -> int:
    """Open a log for appending; made when it is missing.

    A link is not followed, and what is no file is not opened: whoever may write to the folder could have root
    write anywhere, or wait for ever at a pipe (as CVE-2016-1247).

    Raises:
        OSError: it can't be opened.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    fd = os.open(path, flags, MODE)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(0, "it is no regular file")
    return fd


def _move_on(path: Path) -> bool:
    """blog.access.log becomes blog.access.log.1, that .2, and so on; the oldest goes. Whether that worked."""
    names = [path, *(path.with_name(f"{path.name}.{number}") for number in range(1, FILES_KEPT + 1))]
    for older, newer in reversed(list(pairwise(names))):
        try:
            older.replace(newer)
        except FileNotFoundError:
            pass
        except OSError:
            return False
    return True
