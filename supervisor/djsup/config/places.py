"""Where each key of a TOML text stands: key path to line and column.

tomli gives values without their places. The scan below walks a text that tomli has accepted
already, so it never judges and never fails: it only finds its way past values
(https://toml.io/en/v1.0.0) and notes where keys and elements begin.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

KeyPath = tuple[str | int, ...]
"""Keys of tables (str) and indices of arrays (int, from 0), outermost first."""

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_BLANK = re.compile(r"[ \t]*")
_FILLING = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SCALAR = re.compile(r"[^,\]}#\n]*")
_ESCAPES = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r", "e": "\x1b", '"': '"', "\\": "\\"}
_ESCAPE = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|x([0-9A-Fa-f]{2})|(.))")


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a text; both numbers count from 1."""

    line: int
    column: int


def locate(text: str) -> Mapping[KeyPath, Place]:
    """The place of every table, key and array element of a valid TOML text.

    A key stands where its last part is written; a table at its own header, or where it is first
    mentioned when it has none; an array element where its value begins.
    """
    scan = _Scan(text)
    scan.document()
    return scan.places


class _Scan:
    """One walk over one text. ``at`` is the offset of the next character."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.places: dict[KeyPath, Place] = {}
        self._line_starts = [0, *(match.end() for match in re.finditer("\n", text))]
        self._lengths: dict[KeyPath, int] = {}  # of the arrays of tables

    def document(self) -> None:
        table: KeyPath = ()
        while True:
            self._skip(_FILLING)
            if self.at >= len(self.text):
                return
            if self.text[self.at] == "[":
                table = self._header()
            else:
                self._pair(table)

    def _header(self) -> KeyPath:
        many = self.text.startswith("[[", self.at)
        self.at += 2 if many else 1
        keys = self._keys()
        self.at += 2 if many else 1
        path: KeyPath = ()
        for number, (key, start) in enumerate(keys, start=1):
            path = (*path, key)
            last = number == len(keys)
            if last and not many:
                self.places[path] = self._place(start)
                break
            self._note(path, start)
            if last:
                self._lengths[path] = self._lengths.get(path, 0) + 1
            if path in self._lengths:
                path = (*path, self._lengths[path] - 1)
                self._note(path, start)
        return path

    def _pair(self, table: KeyPath) -> None:
        """``key = value``, the key relative to a table."""
        path = table
        for key, start in self._keys():
            path = (*path, key)
            self._note(path, start)
        self.at += 1  # the equals sign
        self._skip(_BLANK)
        self._value(path)

    def _keys(self) -> list[tuple[str, int]]:
        """The parts of a dotted key, each with its offset; stops behind the blanks that follow."""
        parts = []
        while True:
            self._skip(_BLANK)
            start = self.at
            parts.append((self._key(), start))
            self._skip(_BLANK)
            if not self.text.startswith(".", self.at):
                return parts
            self.at += 1

    def _key(self) -> str:
        if self.text[self.at] in "\"'":
            start = self.at
            self._string()
            inner = self.text[start + 1 : self.at - 1]
            return _ESCAPE.sub(_unescape, inner) if self.text[start] == '"' else inner
        match = _BARE.match(self.text, self.at)
        assert match is not None, f"no key at offset {self.at}"
        self.at = match.end()
        return match.group()

    def _value(self, path: KeyPath) -> None:
        match self.text[self.at]:
            case '"' | "'":
                self._string()
            case "[":
                self._array(path)
            case "{":
                self._inline_table(path)
            case _:
                self._skip(_SCALAR)

    def _array(self, path: KeyPath) -> None:
        self.at += 1
        index = 0
        while True:
            self._skip(_FILLING)
            if self.text[self.at] == "]":
                self.at += 1
                return
            element = (*path, index)
            self._note(element, self.at)
            self._value(element)
            self._skip(_FILLING)
            if self.text[self.at] == ",":
                self.at += 1
            index += 1

    def _inline_table(self, path: KeyPath) -> None:
        self.at += 1
        while True:
            self._skip(_FILLING)  # TOML 1.1 allows line ends here
            if self.text[self.at] == "}":
                self.at += 1
                return
            self._pair(path)
            self._skip(_FILLING)
            if self.text[self.at] == ",":
                self.at += 1

    def _string(self) -> None:
        """Go behind a string of any of the four kinds."""
        quote = self.text[self.at]
        if not self.text.startswith(quote * 3, self.at):
            end = self._end_of_string(quote, self.at + 1)
            self.at = end + 1
            return
        end = self._end_of_string(quote * 3, self.at + 3)
        # Up to two quotes may stand directly before the three that close.
        while self.text.startswith(quote, end + 3):
            end += 1
        self.at = end + 3

    def _end_of_string(self, closing: str, start: int) -> int:
        at = start
        while not self.text.startswith(closing, at):
            at += 2 if closing[0] == '"' and self.text[at] == "\\" else 1
        return at

    def _skip(self, pattern: re.Pattern[str]) -> None:
        match = pattern.match(self.text, self.at)
        if match is not None:
            self.at = match.end()

    def _note(self, path: KeyPath, start: int) -> None:
        self.places.setdefault(path, self._place(start))

    def _place(self, offset: int) -> Place:
        line = bisect_right(self._line_starts, offset)
        return Place(line, offset - self._line_starts[line - 1] + 1)


def _unescape(match: re.Match[str]) -> str:
    digits = match.group(1) or match.group(2) or match.group(3)
    return chr(int(digits, 16)) if digits else _ESCAPES.get(match.group(4), match.group(4))
