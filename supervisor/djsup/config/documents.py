"""The files of a configuration: read, filled in with variables, merged, each key with its origin.

A key stands in one file only: a file that another includes may hold any table, but none, and no
site, that has been set already. Knows nothing of what the keys mean.
"""

from __future__ import annotations

import glob
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomli

from djsup.config.places import locate
from djsup.config.problem import Problem, dotted, shown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from djsup.config.places import KeyPath, Place

FILE_MAX_BYTES = 4 * 1024 * 1024
FILES_MAX = 1000

_VARIABLE = re.compile(r"\$\$\{|\$\{([^}\n]*)(\}?)")
_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


@dataclass(frozen=True, slots=True)
class Document:
    """One file."""

    file: str
    """Absolute path."""
    raw: dict[str, Any]
    """What it says, as written."""
    places: Mapping[KeyPath, Place]


@dataclass(slots=True)
class Documents:
    """All files of a configuration as one."""

    file: str
    """Absolute path of the first one."""
    environ: Mapping[str, str]
    data: dict[str, Any] = field(default_factory=dict)
    """Everything merged, variables filled in."""
    problems: list[Problem] = field(default_factory=list)
    broken: set[KeyPath] = field(default_factory=set)
    """Keys whose problem is told already, so that no other is deduced from them."""
    _origins: dict[KeyPath, Document] = field(default_factory=dict)
    _files: set[str] = field(default_factory=set)

    @property
    def is_read(self) -> bool:
        """Whether the first file could be read."""
        return () in self._origins

    def problem(self, path: KeyPath, **words: str | None) -> Problem:
        """A problem at a key: file, line and column are those of the key or its nearest parent."""
        document = self._document(path)
        place = None
        for length in range(len(path), 0, -1):
            place = document.places.get(path[:length]) if document else None
            if place is not None:
                break
        return Problem(
            file=document.file if document else self.file,
            line=place.line if place else None,
            column=place.column if place else None,
            key=dotted(path),
            **words,
        )

    def report(self, path: KeyPath, **words: str | None) -> None:
        """Record a problem at a key, and drop the key (the whole list, for an element of one)."""
        self.problems.append(self.problem(path, **words))
        self.drop(path)

    def drop(self, path: KeyPath) -> None:
        """Take a key, or the list that it is an element of, for broken."""
        numbers = [index for index, part in enumerate(path) if isinstance(part, int)]
        path = path[: numbers[0]] if numbers else path
        self.broken.add(path)
        table: Any = self.data
        for part in path[:-1]:
            table = table.get(part) if isinstance(table, dict) else None
        if isinstance(table, dict):
            table.pop(path[-1], None)

    def stand_in(self, path: KeyPath, value: Any) -> None:
        """Put a value in the place of a key that is missing or broken, so that the rest can be checked."""
        self.broken.add(path)
        table: Any = self.data
        for part in path[:-1]:
            table = table[part]
        table[path[-1]] = value

    def is_broken(self, path: KeyPath) -> bool:
        """Whether a problem is told already of this key, of one above it or of one in it."""
        return any(path[: len(each)] == each or each[: len(path)] == path for each in self.broken)

    def raw(self, path: KeyPath) -> Any:
        """What is written at a key, before variables are filled in; None when nothing is."""
        document = self._document(path)
        value: Any = document.raw if document else None
        for part in path:
            try:
                value = value[part]
            except (KeyError, IndexError, TypeError):
                return None
        return value

    def where(self, path: KeyPath) -> str:
        """``FILE:LINE`` of a key, for a sentence."""
        problem = self.problem(path)
        return problem.file if problem.line is None else f"{problem.file}:{problem.line}"

    def absolute(self, path: KeyPath, value: str) -> str:
        """A path that stands at a key: ``~`` expanded, relative to the file that names it."""
        if value == "~" or value.startswith("~/"):
            value = self.environ.get("HOME", os.path.expanduser("~")) + value[1:]  # noqa: PTH111 -- a text
        elif value.startswith("~"):
            value = os.path.expanduser(value)  # noqa: PTH111 -- leaves an unknown user as written
        document = self._document(path)
        folder = os.path.dirname(document.file if document else self.file)  # noqa: PTH120 -- a text
        return os.path.normpath(os.path.join(folder, value))  # noqa: PTH118 -- Path.resolve follows links

    def _document(self, path: KeyPath) -> Document | None:
        return self._origins.get(path[:2]) or self._origins.get(path[:1]) or self._origins.get(())

    # --- reading -------------------------------------------------------------------------------

    def read(self, file: str, including: tuple[str, ...] = ()) -> None:
        """Read one file and those that it includes, and merge them in."""
        real = os.path.realpath(file)
        if real in self._files:
            return
        self._files.add(real)
        document = self._parse(file)
        if document is None:
            return
        self._origins.setdefault((), document)
        self._merge(document)
        self._include(document, (*including, real))

    def _parse(self, file: str) -> Document | None:
        try:
            with Path(file).open("rb") as stream:
                content = stream.read(FILE_MAX_BYTES + 1)
            if len(content) > FILE_MAX_BYTES:
                self._unreadable(file, f"it is longer than {FILE_MAX_BYTES} bytes")
                return None
            # As tomli does it, so that offsets in the text are tomli's.
            text = content.decode().replace("\r\n", "\n")
            return Document(file, tomli.loads(text), locate(text))
        except tomli.TOMLDecodeError as error:
            lines = error.doc.split("\n")
            self.problems.append(
                Problem(
                    file=file,
                    line=error.lineno,
                    column=error.colno,
                    hint=f"this is no TOML: {error.msg[:1].lower()}{error.msg[1:]}",
                    excerpt=lines[error.lineno - 1].replace("\t", " ") if error.lineno <= len(lines) else "",
                )
            )
        except UnicodeDecodeError as error:
            self._unreadable(file, f"it is no UTF-8 (byte {error.start})")
        except RecursionError:
            self._unreadable(file, "its values are nested too deeply")
        except OSError as error:
            self._unreadable(file, f"cannot be read: {error.strerror}")
        return None

    def _unreadable(self, file: str, why: str) -> None:
        self.problems.append(Problem(file=file, hint=why))

    def _merge(self, document: Document) -> None:
        for key, value in document.raw.items():
            if key == "include":
                continue
            if key == "sites" and isinstance(value, dict):
                merged = self.data.setdefault("sites", {})
                for name, site in value.items():
                    if isinstance(merged, dict):
                        self._set(merged, ("sites", name), site, document)
                self._origins.setdefault((key,), document)
            else:
                self._set(self.data, (key,), value, document)

    def _set(self, table: dict[str, Any], path: KeyPath, value: Any, document: Document) -> None:
        before = self._origins.get(path)
        if before is not None:
            place = document.places.get(path)
            self.problems.append(
                Problem(
                    file=document.file,
                    line=place.line if place else None,
                    column=place.column if place else None,
                    key=dotted(path),
                    hint=f"is set already at {self.where(path)}; keep one of them",
                )
            )
            return
        self._origins[path] = document
        table[str(path[-1])] = self._filled_in(path, value)

    def _filled_in(self, path: KeyPath, value: Any) -> Any:
        """A value with its variables replaced; a text that can't be filled in stays, and is broken."""
        match value:
            case str():
                return self._substitute(path, value)
            case list():
                return [self._filled_in((*path, index), inner) for index, inner in enumerate(value)]
            case dict():
                return {key: self._filled_in((*path, key), inner) for key, inner in value.items()}
            case _:
                return value

    def _substitute(self, path: KeyPath, text: str) -> str:
        def replace(match: re.Match[str]) -> str:
            name, closing = match.group(1), match.group(2)
            if name is None:
                return "${"
            if not closing or not _VARIABLE_NAME.match(name):
                hint = '"${" begins a variable, as "${HOME}"; write "$${" for these characters themselves'
            elif name not in self.environ:
                hint = f'the environment variable {name} is not set; write "$${{{name}}}" for the text itself'
            else:
                return self.environ[name]
            self.problems.append(self.problem(path, found=shown(text), hint=hint))
            self.broken.add(path)
            return match[0]

        return _VARIABLE.sub(replace, text)

    def _include(self, document: Document, including: tuple[str, ...]) -> None:
        patterns = document.raw.get("include", [])
        if not isinstance(patterns, list) or not all(isinstance(each, str) for each in patterns):
            self._bad_include(
                document, ("include",), found=shown(patterns), allowed="a list of paths in quotes"
            )
            return
        for index, pattern in enumerate(patterns):
            self._include_pattern(document, ("include", index), pattern, including)

    def _include_pattern(
        self, document: Document, path: KeyPath, pattern: str, including: tuple[str, ...]
    ) -> None:
        pattern = self._substitute(path, pattern)
        if path[:1] in self.broken:
            return
        folder = Path(document.file).parent
        files = sorted(glob.glob(str(folder / Path(pattern).expanduser()), recursive=True))  # noqa: PTH207 -- absolute patterns
        if not files and not glob.has_magic(pattern):
            self._bad_include(
                document, path, found=shown(pattern), hint=f"there is no file {folder / pattern}"
            )
        for file in files:
            if os.path.realpath(file) in including:
                chain = " includes ".join([*including[including.index(os.path.realpath(file)) :], file])
                self._bad_include(document, path, found=shown(pattern), hint=f"a circle: {chain}")
            elif len(self._files) >= FILES_MAX:
                self._bad_include(document, path, hint=f"more than {FILES_MAX} files belong to this")
                return
            else:
                self.read(os.path.normpath(file), including)

    def _bad_include(self, document: Document, path: KeyPath, **words: str | None) -> None:
        place = document.places.get(path) or document.places.get(path[:1])
        self.problems.append(
            Problem(
                file=document.file,
                line=place.line if place else None,
                column=place.column if place else None,
                key=dotted(path),
                **words,
            )
        )


def read(file: str, environ: Mapping[str, str]) -> Documents:
    """Read a configuration file and all that it includes. Problems are in the result, none is raised."""
    documents = Documents(os.path.abspath(file), environ)  # noqa: PTH100 -- Path.absolute keeps ".."
    documents.read(documents.file)
    return documents
