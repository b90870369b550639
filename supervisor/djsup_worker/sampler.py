"""The sampler: where the threads of this process are, looked at many times a second, for as long as the daemon wants.

It runs in a thread of its own and only while it is asked for. It looks while it holds the interpreter
(``sys._current_frames``), so that no frame changes or vanishes under its eyes. faulthandler's dumps look at
running frames without that, and a busy process does not survive many of them.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import sys
import threading
import time
from typing import TYPE_CHECKING, BinaryIO, Dict, List, Tuple

if TYPE_CHECKING:
    from types import CodeType

SECONDS_MAX, RATE_MAX = 300.0, 200.0
DEPTH_MAX = 128
"""Frames of one stack; the outermost are left out beyond that."""
STACKS_MAX = 4000
"""Different stacks; what comes beyond is counted, and not kept."""
BUSY_MAX = 0.05
"""The share of the time that looking may take; a process with many deep threads is looked at less often."""
SWITCH_S = 0.0005
"""How long a thread may keep the interpreter while this one wants to look (Python's own: 5 ms). Who runs for less is
seen only where it gives the interpreter away, so a short computation is seen less often than it should be."""
TEXT_MAX = 500


class Sampler:
    """Profiles this process, one time at once."""

    def __init__(self) -> None:
        self._running = False

    def begin(self, seconds: float, rate: float, fd: int) -> None:
        """Look for so long and so often, write what was seen to a pipe as JSON, and close it.

        It ends early when nobody reads the pipe any more.
        """
        if self._running:
            os.close(fd)
            return
        self._running = True
        seconds, rate = min(seconds, SECONDS_MAX), min(max(rate, 1.0), RATE_MAX)
        threading.Thread(
            target=self._run, args=(seconds, rate, fd), name="djsup-sampler", daemon=True
        ).start()

    def _run(self, seconds: float, rate: float, fd: int) -> None:
        try:
            pipe = open(fd, "wb")  # noqa: SIM115  # it is a descriptor
        except OSError:
            self._running = False
            return
        with contextlib.suppress(OSError), pipe:
            self._tell(seconds, rate, pipe)

    def _tell(self, seconds: float, rate: float, pipe: BinaryIO) -> None:
        before = sys.getswitchinterval()
        sys.setswitchinterval(min(before, SWITCH_S))
        try:
            found = _sample(seconds, rate, pipe.fileno())
            if found is not None:
                pipe.write(json.dumps(found.report()).encode("utf-8", "backslashreplace"))
        finally:
            # Before the pipe is closed: who reads its end may ask for the next profile at once.
            sys.setswitchinterval(before)
            self._running = False


class Seen:
    """Stacks and how often each was seen."""

    def __init__(self) -> None:
        self.rounds = 0
        self.lost = 0
        self._codes: Dict[int, CodeType] = {}
        """By their ids, which is why they are held here: to hash the code itself would be slow."""
        self._counts: Dict[Tuple[int, ...], int] = {}

    def look(self, own: int) -> None:
        """Count where every thread is, but the one of that ident."""
        self.rounds += 1
        for ident, innermost in sys._current_frames().items():  # noqa: SLF001  # the documented way to them
            if ident == own:
                continue
            stack: List[int] = []
            frame = innermost
            while frame is not None and len(stack) < DEPTH_MAX:
                code = frame.f_code
                self._codes.setdefault(id(code), code)
                stack.append(id(code))
                frame = frame.f_back  # type: ignore[assignment]  # typeshed: it is None at the end
            key = tuple(stack)
            if key in self._counts or len(self._counts) < STACKS_MAX:
                self._counts[key] = self._counts.get(key, 0) + 1
            else:
                self.lost += 1

    def report(self) -> Dict[str, object]:
        """What the daemon reads: ``frames`` as [file, line, function]; ``stacks`` as [count, [frame, ...]].

        In each stack the most recent call comes first.
        """
        places = {key: number for number, key in enumerate(self._codes)}
        return {
            "rounds": self.rounds,
            "lost": self.lost,
            "frames": [
                [code.co_filename[:TEXT_MAX], code.co_firstlineno, _name(code)[:TEXT_MAX]]
                for code in self._codes.values()
            ],
            "stacks": [[count, [places[each] for each in stack]] for stack, count in self._counts.items()],
        }


def _sample(seconds: float, rate: float, fd: int) -> Seen | None:
    seen, own = Seen(), threading.get_ident()
    reader = select.poll()
    reader.register(fd, 0)  # POLLERR alone: the other end was closed (poll(2))
    begun = time.monotonic()
    wait_s = 1 / rate  # first of all: whoever has begun this is still on its way back
    while time.monotonic() + wait_s < begun + seconds:
        if reader.poll(wait_s * 1000):
            return None
        before = time.thread_time()
        seen.look(own)
        wait_s = max(1 / rate, (time.thread_time() - before) / BUSY_MAX)
    return seen


def _name(code: CodeType) -> str:
    name: str = getattr(code, "co_qualname", code.co_name)  # Python 3.11
    return name
