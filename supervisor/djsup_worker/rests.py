"""What loads code, and what begins to serve, rests for a moment now and then, unless a processor is free besides.

What stands back (SCHED_IDLE) is as good as nothing to who wakes up. But who wakes up where somebody has the processor
already waits there, and the kernel moves nobody to a processor that has anything to do at all: two workers shared one
for up to 90 ms, and the other had their template. So it does nothing now and then: between two imports, from the first
on, and between the steps by which a worker is forked. It does not wait until somebody waits: then it is too late for
that one.
"""

import contextlib
import os
import sys
import time
from typing import Any

LOAD = "/proc/loadavg"
LOOK_S = 0.001
"""How long it works before it looks again whether it is in the way."""
REST_S = 0.001
ROW = 4
"""So many rests at a time, if it would be in the way still."""
ALL_S = 1.0
"""All rests together: on a machine that is always too busy code is to be loaded as well."""
BUSY = max(2, os.cpu_count() or 1)
"""With so many that run, this process among them, no processor is free besides; on a single one, somebody waits."""

# A site may have its own by then (gevent), which would let others run in the middle of an import.
_sleep = time.sleep


class Rests:
    """The rests of a process. Between ``begin`` and ``end_imports`` also a finder of modules, which finds none."""

    def __init__(self, load: str = LOAD) -> None:
        self._load = load
        self._looks_at = 0.0
        self._left_s = ALL_S
        self._imports = False

    def begin(self) -> None:
        """Rest before imports from now on, where that helps anybody."""
        self._imports = True
        sys.meta_path.insert(0, self)

    def end_imports(self) -> None:
        """Rest before no import any more, though the site may have kept this finder."""
        self._imports = False
        with contextlib.suppress(ValueError):  # the site may have taken it out
            sys.meta_path.remove(self)

    def find_spec(self, _name: str, _path: Any = None, _target: Any = None) -> None:
        """Something is going to be imported; some other finder is asked next."""
        if self._imports:
            self.look()

    def look(self) -> None:
        """Rest, if this process is in the way."""
        if self._left_s <= 0 or time.monotonic() < self._looks_at:
            return
        with contextlib.suppress(OSError, ValueError, IndexError):
            for _ in range(ROW):
                if not self._in_the_way():
                    break
                _sleep(REST_S)
                self._left_s -= REST_S
        self._looks_at = time.monotonic() + LOOK_S

    def _in_the_way(self) -> bool:
        """Whether we stand back while as many run as there are processors (proc(5))."""
        if os.sched_getscheduler(0) != os.SCHED_IDLE:
            return False
        with open(self._load, "rb", 0) as file:
            running = file.read(100).split()[3].partition(b"/")[0]
        return int(running) >= BUSY


own = Rests()
"""This process' own."""
