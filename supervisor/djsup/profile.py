"""A profile: how often which calls were seen, over all workers of a site.

Pure: reads what the workers' samplers or py-spy have written, as input with bounds, and counts. The stacks go from the
outermost call to the most recent one, and hold the site's calls only, without djsup's below them.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from djsup.stacks import FRAMES_MAX, TEXT_MAX, Frame, Stack

STACKS_MAX = 20_000
"""Different stacks of one worker that are read."""
CODES_MAX = 20_000
WAITS = {
    ("threading.py", "wait"), ("threading.py", "_wait_for_tstate_lock"), ("selectors.py", "select"),
    ("socketserver.py", "serve_forever"), ("thread.py", "_worker"), ("connection.py", "wait"),
}  # fmt: skip
"""Where a thread of the site's own that runs no request waits for something to do."""


class BadProfile(ValueError):
    """A worker has written what is no profile."""


@dataclass(slots=True)
class Profile:
    """What was seen."""

    stacks: Counter[tuple[Frame, ...]] = field(default_factory=Counter)
    """Where threads had something to do."""
    idle: Counter[tuple[Frame, ...]] = field(default_factory=Counter)
    """Where threads waited for something to do."""
    rounds: int = 0
    """How often workers were looked at."""
    lost: int = 0
    """Stacks that were seen and had no room."""

    def add(self, text: bytes) -> int:
        """Take in what one worker has written; gives how often it was looked at.

        Raises:
            BadProfile: it is none.
        """
        try:
            told = json.loads(text)
            rounds, lost = int(told["rounds"]), int(told["lost"])
            frames = [
                Frame(str(file)[:TEXT_MAX], int(line), str(function)[:TEXT_MAX])
                for file, line, function in told["frames"][:CODES_MAX]
            ]
            stacks = [
                (int(count), tuple(frames[int(each)] for each in places[:FRAMES_MAX]))
                for count, places in told["stacks"][:STACKS_MAX]
            ]
        except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
            raise BadProfile(f"it has written no profile ({type(error).__name__})") from error
        for count, calls in stacks:
            self._count(calls, max(0, count))
        self.rounds += max(0, rounds)
        self.lost += max(0, lost)
        return rounds

    def add_folded(self, text: bytes) -> int:
        """Take in what py-spy has written of one worker; gives how many stacks it has seen."""
        total = 0
        for line in text.decode("utf-8", "replace").splitlines()[:STACKS_MAX]:
            stack, _, number = line.rpartition(" ")
            if not stack or not number.isdecimal():
                continue
            calls = tuple(_frame(each) for each in stack.split(";")[:FRAMES_MAX])
            below = next((at for at, each in enumerate(calls) if each.own), -1) + 1
            while 0 < below < len(calls) and (calls[below].own or _native(calls[below])):
                below += 1
            count = int(number[:9])
            (self.stacks if calls[below:] else self.idle)[calls[below:] or calls] += count
            total += count
        return total

    def _count(self, calls: tuple[Frame, ...], count: int) -> None:
        short = tuple(Frame(each.file, each.line, each.function.rpartition(".")[2]) for each in calls)
        own = any(each.own for each in short)
        shown = calls[: len(Stack(0, False, short).of_site)] if own else calls
        waits = not own and bool(short) and (short[0].file.rpartition("/")[2], short[0].function) in WAITS
        if waits or (own and not shown):
            self.idle[calls[::-1]] += count
        else:
            self.stacks[shown[::-1]] += count

    def to_json(self, *, idle: bool = False) -> dict[str, Any]:
        """As the control socket shows it; ``idle``: with what waits for something to do."""
        stacks = self.stacks + self.idle if idle else self.stacks
        places: dict[Frame, int] = {}
        told = [
            [count, [places.setdefault(frame, len(places)) for frame in calls]]
            for calls, count in stacks.most_common()
        ]
        return {
            "rounds": self.rounds,
            "samples": stacks.total(),
            "idle": self.idle.total(),
            "lost": self.lost,
            "frames": [[each.file, each.line, each.function] for each in places],
            "stacks": told,
        }


_CALL = re.compile(r"(.*) \(([^()]*?)(?::(\d{1,9}))?\)")
"""A call as py-spy writes it, of Python or of C: ``name (file:line)``, or ``name (library)``."""


def _frame(told: str) -> Frame:
    found = _CALL.fullmatch(told)
    if found is None:
        return Frame("", 0, told[:TEXT_MAX])
    return Frame(found[2][:TEXT_MAX], int(found[3] or 0), found[1][:TEXT_MAX])


def _native(frame: Frame) -> bool:
    return not frame.file.endswith(".py") and not frame.file.startswith("<")


Counted = Counter[tuple[Frame, ...]]


def from_json(told: dict[str, Any]) -> Counted:
    """The stacks of ``to_json``."""
    frames = [Frame(file, line, function) for file, line, function in told["frames"]]
    return Counter({tuple(frames[each] for each in calls): count for count, calls in told["stacks"]})


def label(frame: Frame) -> str:
    """A call in few words: the function, and its file with the folder that it is in."""
    return f"{frame.function} ({'/'.join(frame.file.split('/')[-2:])}:{frame.line})"


def folded(stacks: Counted) -> str:
    """One stack a line, the calls parted by semicolons, then the count: what flame graph programs read."""
    lines = []
    for calls, count in stacks.most_common():
        names = [label(each).replace(";", ",").replace("\n", " ").replace("\r", " ") for each in calls]
        lines.append(f"{';'.join(names) or 'no Python code'} {count}")
    return "\n".join([*lines, ""])


@dataclass(frozen=True, slots=True)
class Top:
    """One function's share."""

    frame: Frame
    own: int
    """How often it was the most recent call."""
    total: int
    """How often it was anywhere in the stack; once a stack, however often it calls itself."""


def tops(stacks: Counted) -> list[Top]:
    """Functions, those first that take most themselves."""
    own, total = Counter[Frame](), Counter[Frame]()
    for calls, count in stacks.items():
        if calls:
            own[calls[-1]] += count
        for frame in set(calls):
            total[frame] += count
    found = [Top(frame, own[frame], total[frame]) for frame in total]
    return sorted(found, key=lambda each: (-each.own, -each.total, each.frame.file, each.frame.line))
