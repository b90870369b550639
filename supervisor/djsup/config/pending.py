"""Settings that are understood and have no effect yet: each gives a warning.

A list to be emptied: whoever makes a setting work takes its line out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from djsup.config.documents import Documents
    from djsup.config.places import KeyPath
    from djsup.config.problem import Problem


@dataclass(frozen=True, slots=True)
class Pending:
    """A setting without effect."""

    path: KeyPath
    """Its key path; ``*`` stands for any key or element."""
    sentence: str
    applies: Callable[[Any], bool] = lambda _value: True
    """Whether this value asks for what is not there yet."""


PENDING = (
    Pending(("sites", "*", "reload", "canary"), "has no effect yet: new code takes over without a trial"),
)


def warnings(documents: Documents) -> list[Problem]:
    """A warning for each setting in a configuration that has no effect yet."""
    return [
        documents.problem(path, hint=pending.sentence)
        for pending in PENDING
        for path, value in _found(documents.data, pending.path)
        if pending.applies(value)
    ]


def _found(data: Any, pattern: KeyPath, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    if not pattern:
        yield path, data
        return
    pairs: list[tuple[str | int, Any]] = []
    if isinstance(data, dict):
        pairs = list(data.items())
    elif isinstance(data, list):
        pairs = list(enumerate(data))
    for key, inner in pairs:
        if pattern[0] in ("*", key):
            yield from _found(inner, pattern[1:], (*path, key))
