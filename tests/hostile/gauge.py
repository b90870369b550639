"""What a worker holds: memory, descriptors, temporary files, connections."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.harness import Process, Site

WAIT_S = 20.0
MIB = 1024 * 1024


class Gauge:
    """One worker, compared with what it held when this was made."""

    def __init__(self, site: Site, worker: Process, temporary: Path, slot: int = 0) -> None:
        self._site = site
        self._pid = worker.pid
        self._temporary = temporary
        self._slot = slot
        self._descriptors = self.descriptors()
        self._memory_bytes = self.memory_bytes()

    def memory_bytes(self) -> int:
        """Memory that is the process' alone (smaps_rollup: Pss_Anon)."""
        text = Path(f"/proc/{self._pid}/smaps_rollup").read_text()
        found = re.search(r"Pss_Anon: +(\d+) kB", text)
        assert found is not None
        return int(found[1]) * 1024

    def peak_bytes(self) -> int:
        """The most memory that it has ever had, shared pages included (VmHWM)."""
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{self._pid}/status").read_text())
        assert found is not None
        return int(found[1]) * 1024

    @property
    def grown_mib(self) -> float:
        """How much more memory it has now."""
        return (self.memory_bytes() - self._memory_bytes) / MIB

    def descriptors(self) -> list[str]:
        """What its descriptors are, but for the number of each socket."""
        folder = Path(f"/proc/{self._pid}/fd")
        found = []
        for name in os.listdir(folder):  # noqa: PTH208
            try:
                found.append(re.sub(r"\d+|/[^ ]*", "", os.readlink(folder / name)))  # noqa: PTH115
            except FileNotFoundError:
                continue
        return sorted(found)

    def temporary_files(self) -> list[str]:
        """Files in the folder for temporary files, and unlinked ones that it still has open."""
        held = []
        folder = Path(f"/proc/{self._pid}/fd")
        for name in os.listdir(folder):  # noqa: PTH208
            try:
                target = os.readlink(folder / name)  # noqa: PTH115
            except FileNotFoundError:
                continue
            if target.startswith(str(self._temporary)):
                held.append(target)
        return held + [str(each) for each in self._temporary.iterdir()]

    def nothing_is_left(self) -> None:
        """Wait until no connection, descriptor or temporary file is there that was not at the beginning."""
        self.wait_for(lambda: self._site.row(self._slot).connections == 0, "connections to end")
        self.wait_for(
            lambda: self.descriptors() == self._descriptors, "descriptors to be as before", self.descriptors
        )
        assert self.temporary_files() == []

    def wait_for(self, what: Callable[[], bool], text: str, say: Callable[[], object] = lambda: "") -> None:
        """Wait until it is so; there is nothing that tells when it changes."""
        deadline = time.monotonic() + WAIT_S
        while not what():
            assert time.monotonic() < deadline, f"waited {WAIT_S} s for {text}: {say()}"
            time.sleep(0.01)
