"""Documents against the schema: pydantic's errors become problems, and what is wrong is taken out.

What remains is valid, so that the rules of ``settle.py`` can report their problems in the same go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from djsup.config.problem import nearest, shown
from djsup.config.schema import Configuration, Table, table_at

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from djsup.config.documents import Documents
    from djsup.config.places import KeyPath

ROUNDS_MAX = 8
"""A round takes out what is wrong; a key that must be there is then missed in the next."""

STAND_IN = "?"
"""Passes for every key that must be there: they are all texts."""


def check(documents: Documents) -> Configuration:
    """The valid part of the configuration; every problem goes to ``documents``."""
    for _ in range(ROUNDS_MAX):
        try:
            return Configuration.model_validate(documents.data)
        except ValidationError as error:
            for each in error.errors(include_url=False, include_input=False):
                _report(documents, each)
    raise AssertionError("taking out what is wrong has no end")


def _report(documents: Documents, error: ErrorDetails) -> None:
    path = tuple(part for part in error["loc"] if part != "[key]")
    raw = documents.raw(path)
    match error["type"]:
        case "missing":
            if not documents.is_broken(path):
                table = table_at(path[:-1])
                description = table.model_fields[str(path[-1])].description if table else None
                documents.problems.append(
                    documents.problem(path, hint=f"is missing: {_uncapitalized(description or '')}")
                )
            documents.stand_in(path, STAND_IN)
        case _ if documents.is_broken(path):
            documents.drop(path)
        case "extra_forbidden":
            documents.report(path, hint=_unknown(path))
        case "form" if error["loc"][-1] == "[key]":
            documents.report(path, found=shown(path[-1]), allowed=error["ctx"]["allowed"])
        case "form":
            context = error["ctx"]
            documents.report(
                path,
                found=_kind(raw) if "env" in path[2:] else shown(raw),
                allowed=context["allowed"],
                hint=context["hint"] or None,
            )
        case "list_type":
            hint = f"write [{shown(raw)}]" if isinstance(raw, str) else None
            documents.report(path, found=shown(raw), allowed="a list", hint=hint)
        case _:
            documents.report(path, found=shown(raw), allowed=_table_words(path))


def _table_words(path: KeyPath) -> str:
    table = table_at(path)
    if table is None:
        return "a table"
    return f"a table with the keys {', '.join(table.model_fields)}"


def _unknown(path: KeyPath) -> str:
    """What to say of a key that the schema does not know: where it belongs, or what is near."""
    name, table = str(path[-1]), table_at(path[:-1])
    assert table is not None, path
    for inner in table.model_fields:
        below = table_at((*path[:-1], inner))
        if below is not None and name in below.model_fields:
            return f"unknown key here; it belongs in [{_header((*path[:-1], inner))}]"
    near = nearest(name, list(table.model_fields))
    if near is not None:
        return f'unknown key; did you mean "{near}"?'
    for length in range(len(path) - 2, -1, -1):
        above: type[Table] | None = table_at(path[:length])
        if above is not None and name in above.model_fields:
            where = f"in [{_header(path[:length])}]" if length else "at the top of the file"
            return f"unknown key here; it belongs {where}"
    return f"unknown key; known here: {', '.join(table.model_fields)}"


def _header(path: KeyPath) -> str:
    return ".".join(map(str, path))


def _kind(value: Any) -> str:
    """What a value is, without showing it: an environment may hold secrets."""
    match value:
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "a text that can't be a value"
        case list():
            return "a list"
        case dict():
            return "a table"
        case _:
            return "a date or time"


def _uncapitalized(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:].rstrip(".")
