"""One mistake in a configuration, said so that its owner can mend it: place, key, found, allowed.

Warnings have the same form. Nothing here prints.
"""

from __future__ import annotations

import difflib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from djsup.config.places import KeyPath

FOUND_MAX = 60
"""Characters of a found value that are shown."""
_BARE = re.compile(r"[A-Za-z0-9_-]+\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One mistake (or warning). ``str()`` gives one line, a second where there is more to say."""

    file: str
    line: int | None = None
    column: int | None = None
    key: str = ""
    """The dotted key as TOML writes it; empty when the whole file is meant."""
    found: str | None = None
    """What stands there, as TOML writes it."""
    allowed: str | None = None
    """What may stand there."""
    hint: str | None = None
    """What is wrong, or what to do."""
    excerpt: str | None = None
    """The offending line, for an error of syntax."""

    def __str__(self) -> str:
        """``FILE:LINE: KEY: found ...; allowed: ...`` and the hint."""
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        if self.excerpt is not None and self.column is not None:
            place += f":{self.column}"
        parts = []
        if self.found is not None:
            parts.append(f"found {self.found}")
        if self.allowed is not None:
            parts.append(f"allowed: {self.allowed}")
        below = ""
        if self.hint is not None:
            if self.allowed is None:
                parts.append(self.hint)
            else:
                below = f"\n    {self.hint}"
        if self.excerpt is not None:
            caret = "" if self.column is None else "\n    " + " " * (self.column - 1) + "^"
            below += f"\n    {self.excerpt}{caret}"
        return ": ".join(filter(None, (place, self.key, "; ".join(parts)))) + below

    def to_json(self) -> dict[str, Any]:
        """For machines: every field, and the text for people."""
        return {**{name: getattr(self, name) for name in self.__slots__}, "text": str(self)}


class ConfigError(Exception):
    """The configuration can't be used; ``problems`` holds every mistake, ordered by place."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = in_order(problems)
        super().__init__("\n".join(map(str, self.problems)))


def in_order(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Each problem once, file by file in the order of their first mention, then by line."""
    unique = list(dict.fromkeys(problems))
    files = list(dict.fromkeys(problem.file for problem in unique))
    return tuple(sorted(unique, key=lambda each: (files.index(each.file), each.line or 0, each.column or 0)))


def dotted(path: KeyPath) -> str:
    """A key path as people write it: ``sites.blog.listen[1]``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
            continue
        bare = part if _BARE.match(part) else json.dumps(part, ensure_ascii=False)
        text += f".{bare}" if text else bare
    return text


def shown(value: object) -> str:
    """A value as TOML writes it, cut to FOUND_MAX characters."""
    match value:
        case bool():
            text = "true" if value else "false"
        case int() | float():
            text = str(value)
        case str():
            text = json.dumps(value, ensure_ascii=False)
        case list():
            text = "[" + ", ".join(map(shown, value)) + "]"
        case dict() if not value:
            text = "{}"
        case dict():
            text = "{ " + ", ".join(f"{key} = {shown(inner)}" for key, inner in value.items()) + " }"
        case _:
            text = f"{value} (a {type(value).__name__})"
    return text if len(text) <= FOUND_MAX else text[: FOUND_MAX - 4] + " ..."


def nearest(name: str, known: Sequence[str]) -> str | None:
    """The known name that somebody most likely meant."""
    close = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.6)
    return close[0] if close else None
