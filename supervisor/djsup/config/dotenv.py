r"""Files of environment variables: ``KEY=VALUE``, quotes, comments, ``export``.

    # a comment
    export NAME=plain value     # a comment after a blank
    QUOTED="a # b\n${kept as it is}"
    LITERAL='no escapes, more
    than one line'

Values are never evaluated and never filled in.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_NAME = re.compile(r"(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_]*)[ \t]*=[ \t]*")
_DOUBLE = re.compile(r'"((?:[^"\\]|\\.)*)"[ \t]*(?:#[^\n]*)?(?=\n|\Z)', re.DOTALL)
_SINGLE = re.compile(r"'([^']*)'[ \t]*(?:#[^\n]*)?(?=\n|\Z)")
_PLAIN = re.compile(r"[^\n]*")
_COMMENT = re.compile(r"(?:^|[ \t]+)#.*\Z")
_SKIPPED = re.compile(r"(?:[ \t]*(?:#[^\n]*)?(?:\n|\Z))*[ \t]*")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "\n": ""}


@dataclass(frozen=True, slots=True)
class Mistake:
    """A line that says nothing. Its text is not kept: it may hold a secret."""

    line: int
    error: str


def parse(text: str) -> tuple[dict[str, str], list[Mistake]]:
    """The variables of a file, a later one over an earlier, and the lines that are wrong."""
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    variables: dict[str, str] = {}
    mistakes: list[Mistake] = []
    at = 0
    while True:
        skipped = _SKIPPED.match(text, at)
        at = skipped.end() if skipped else at
        if at >= len(text):
            return variables, mistakes
        line = text.count("\n", 0, at) + 1
        name = _NAME.match(text, at)
        if name is None:
            mistakes.append(Mistake(line, "no line of the form KEY=VALUE"))
            at = _end_of_line(text, at)
            continue
        at = name.end()
        value, error, at = _value(text, at)
        if error is not None:
            mistakes.append(Mistake(line, f"{name[1]}: {error}"))
        else:
            variables[name[1]] = value


def _value(text: str, at: int) -> tuple[str, str | None, int]:
    """A value, what is wrong with it, and the offset behind it."""
    quote = text[at : at + 1]
    if quote in ('"', "'"):
        match = (_DOUBLE if quote == '"' else _SINGLE).match(text, at)
        if match is None:
            return "", f"the value begins with {quote} and does not end with it", _end_of_line(text, at)
        value = _ESCAPE.sub(_unescape, match[1]) if quote == '"' else match[1]
    else:
        match = _PLAIN.match(text, at)
        assert match is not None
        value = _COMMENT.sub("", match[0]).rstrip()
    error = "a zero byte can't be in an environment" if "\0" in value else None
    return value, error, match.end()


def _unescape(match: re.Match[str]) -> str:
    return _ESCAPES.get(match[1], match[1])


def _end_of_line(text: str, at: int) -> int:
    end = text.find("\n", at)
    return len(text) if end < 0 else end
