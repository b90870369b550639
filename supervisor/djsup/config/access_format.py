"""The value of ``access``: a format of Apache's letters, taken apart, or one of a few names.

Knows which directives there are; what each gives is known to the worker (``djsup_worker.access_format``), and a
test holds the two together.
"""

from __future__ import annotations

import re

from djsup.config.forms import Form
from djsup.config.problem import nearest

COMBINED = '%h %l %u %t "%r" %>s %b "%{Referer}i" "%{User-Agent}i"'
"""Apache's and nginx' combined format."""
NAMES = ("combined", "json", "off")
FORMAT_MAX = 1024

LETTERS = "hlutrmUqHsbBODTpXLaPv"
"""Directives of one letter; ``s`` may be written ``>s``, too."""
TIMES = ("sec", "msec", "usec", "iso")
UNITS = ("s", "ms", "us")
_DIRECTIVE = re.compile(r"%(>?)(?:\{([^{}]*)\})?(.?)", re.DOTALL)
_OF_GUNICORN = re.compile(r"%\((\{[^{}]*\})?(\w+)\)s")
_FIELD = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def parse(text: str) -> tuple[str, ...]:
    """Texts and directives of a format, in turn, beginning and ending with a text.

    Raises:
        ValueError: a directive is not known, or none is there; the message is a hint for the owner.
    """
    if len(text) > FORMAT_MAX:
        raise ValueError(f"a format has at most {FORMAT_MAX} characters")
    if any(not char.isprintable() and char != "\t" for char in text):
        raise ValueError("a line of the log is one line: no control characters")
    if _OF_GUNICORN.search(text):
        instead = _OF_GUNICORN.sub(r"%\1\2", text)
        raise ValueError(f"gunicorn's letters are written without parentheses here: {instead}")
    pieces = [""]
    at = 0
    for found in _DIRECTIVE.finditer(text):
        pieces[-1] += text[at : found.start()]
        at = found.end()
        if found.group() == "%%":
            pieces[-1] += "%"
        else:
            pieces += [_directive(found), ""]
    pieces[-1] += text[at:]
    if len(pieces) == 1:
        near = nearest(text, NAMES)
        raise ValueError(f"did you mean {near}?" if near else "a format without a single % says nothing")
    return tuple(pieces)


def _directive(found: re.Match[str]) -> str:
    """One directive, without its percent sign."""
    written, name, letter = found.group(), found[2], found[3]
    if name is None:
        if letter and letter in LETTERS and (not found[1] or letter == "s"):
            return found[1] + letter
        raise ValueError(_unknown(written, [f"%{each}" for each in LETTERS], letter))
    if letter in ("i", "e"):
        if (_FIELD.fullmatch(name) if letter == "i" else name) and not found[1]:
            return f"{{{name}}}{letter}"
        raise ValueError(f"{written} names no header or variable")
    known = {"t": TIMES, "T": UNITS}.get(letter, ())
    if name in known and not found[1]:
        return f"{{{name}}}{letter}"
    if not known:
        raise ValueError(_unknown(written, ["%{Name}i", "%{NAME}e", "%{iso}t", "%{ms}T"], letter))
    raise ValueError(_unknown(written, [f"%{{{each}}}{letter}" for each in known], letter))


def _unknown(written: str, known: list[str], letter: str) -> str:
    near = nearest(written, known)
    other_case = letter.swapcase()
    if near is None and letter and f"%{other_case}" in known:
        near = f"%{other_case}"
    there = f"there are {' '.join(known)}"
    return f"{written} is no directive; " + (f"did you mean {near}? {there}" if near else there)


def access_format() -> Form:
    """One of NAMES, or a format."""

    def read(value: object) -> str:
        if not isinstance(value, str) or not value:
            raise ValueError
        if value not in NAMES:
            parse(value)
        return value

    allowed = '"combined", "json", "off" or a format as "%h %t %m %U %s %D"'
    return Form(read, allowed, {"type": "string", "minLength": 1, "maxLength": FORMAT_MAX})
