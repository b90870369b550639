"""Stacks: what a process writes of its threads, read; what of it is djsup's own; threads at the same place put together.

Knows texts and threads. Where they come from is ``djsup.tracer``'s affair. The texts are written by a site's
process, so they are read as input: with bounds, and never with trust.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

THREADS_MAX = 256
FRAMES_MAX = 200
TEXT_MAX = 1000
"""Characters of a path or a name; faulthandler itself cuts at 500."""
OWN_FOLDER = "/djsup_worker/"
IDLE = {
    ("crew.py", "_watch"): "monitor",
    ("loop.py", "poll"): "polls for connections",
    ("ear.py", "_run"): "hears the daemon",
    ("crew.py", "_live"): "parked",
    ("crew.py", "_begin"): "parked",
    ("template.py", "run"): "template, waits to fork",
    ("template.py", "_welcomed"): "just forked",
    ("__main__.py", "_run"): "is starting",
}
"""What a thread does that is in djsup's code and in no request, by its innermost frame that says so."""

_THREAD = re.compile(r"(Current thread|Thread) 0x([0-9a-f]{1,16})(?: \[(.*)\])? \(most recent call first\):")
_FRAME = re.compile(r'  File (?:"(.*)"|\?\?\?), line (\d{1,9}|\?\?\?) in (.*)')


@dataclass(frozen=True, slots=True)
class Frame:
    """One call."""

    file: str
    line: int
    """0: the interpreter could not tell."""
    function: str

    @property
    def own(self) -> bool:
        """Whether it is of djsup's worker, not of the site."""
        return OWN_FOLDER in self.file


@dataclass(frozen=True, slots=True)
class Stack:
    """What one thread does, the most recent call first."""

    ident: int
    current: bool
    """Whether it was the one that held the interpreter."""
    frames: tuple[Frame, ...]

    @property
    def of_site(self) -> tuple[Frame, ...]:
        """The site's calls: without djsup's below the application, and what is below these."""
        frames = list(self.frames)
        if not any(frame.own for frame in frames):
            return self.frames
        while not frames[-1].own:
            frames.pop()
        while frames and frames[-1].own:
            frames.pop()
        return tuple(frames)

    @property
    def idle(self) -> str | None:
        """What a thread of djsup's own does while it runs no code of the site; None: it runs some."""
        if not self.frames or self.of_site:
            return None
        for frame in self.frames:
            if frame.own and (told := IDLE.get((frame.file.rpartition("/")[2], frame.function))):
                return told
        return None


def parse(text: str) -> list[Stack]:
    """The stacks in a text of faulthandler's; lines that are none of it are passed over."""
    stacks: list[Stack] = []
    ident, current, frames = 0, False, list[Frame]()
    for line in text.splitlines():
        if thread := _THREAD.fullmatch(line):
            if len(stacks) >= THREADS_MAX:
                break
            ident, current, frames = int(thread[2], 16), thread[1].startswith("C"), []
            stacks.append(Stack(ident, current, ()))
        elif stacks and (call := _FRAME.fullmatch(line)) and len(frames) < FRAMES_MAX:
            number = 0 if call[2] == "???" else int(call[2])
            frames.append(Frame((call[1] or "???")[:TEXT_MAX], number, call[3][:TEXT_MAX]))
            stacks[-1] = Stack(ident, current, tuple(frames))
    return stacks


@dataclass(frozen=True, slots=True)
class Request:
    """A request that a thread runs."""

    method: str
    path: str
    age_s: float


@dataclass(frozen=True, slots=True)
class Thread:
    """A thread of one of a site's processes."""

    slot: int | None
    """Its worker's; None for a template."""
    pid: int
    ident: int
    request: Request | None = None


@dataclass(slots=True)
class Place:
    """Where some threads are."""

    frames: tuple[Frame, ...]
    idle: str | None
    threads: list[Thread] = field(default_factory=list)

    @property
    def age_s(self) -> float:
        """The age of the oldest request here; below zero when there is none."""
        return max((each.request.age_s for each in self.threads if each.request), default=-1.0)


def together(found: list[tuple[Thread, Stack]]) -> list[Place]:
    """Threads put together where their stacks are equal: the oldest request first, what is idle last."""
    places: dict[object, Place] = {}
    for thread, stack in found:
        idle = None if thread.request is not None else stack.idle
        frames = stack.of_site or stack.frames
        place = places.setdefault(idle or frames, Place(frames, idle))
        place.threads.append(thread)
    for place in places.values():
        place.threads.sort(
            key=lambda each: -1.0 if each.request is None else each.request.age_s, reverse=True
        )
    return sorted(places.values(), key=lambda each: (each.idle is not None, -each.age_s, -len(each.threads)))
