"""Private folders: what stands in for /tmp in a site that has one of its own."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from djsup.core.model import SiteName


class PrivateFolders:
    """The folders that stand in for /tmp, one a site: no other site's user gets into them."""

    def __init__(self) -> None:
        self._made: dict[SiteName, str] = {}

    def of(self, site: SiteName) -> str:
        """The folder of one site, for all its processes.

        Raises:
            OSError: it cannot be made.
        """
        if site not in self._made:
            outer = tempfile.mkdtemp(prefix=f"djsup-{site}-")  # mode 0700
            inner = Path(outer, "tmp")
            inner.mkdir()
            inner.chmod(0o1777)  # as /tmp itself; nobody else gets through the outer one
            self._made[site] = outer
        return str(Path(self._made[site], "tmp"))

    def made(self) -> dict[SiteName, str]:
        """Those that there are."""
        return dict(self._made)

    def take_over(self, made: dict[SiteName, str]) -> None:
        """Go on with those that another program of the daemon has made."""
        self._made |= made

    def forget(self, site: SiteName) -> None:
        """The site is gone: its folder too."""
        if (outer := self._made.pop(site, None)) is not None:
            shutil.rmtree(outer, ignore_errors=True)

    def forget_all(self) -> None:
        """The daemon ends with all its sites."""
        for site in list(self._made):
            self.forget(site)
