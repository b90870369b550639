"""The locator: every key, table and element of a TOML text is found where it stands."""

from __future__ import annotations

import json
from typing import Any

import pytest
import tomli
from hypothesis import given, settings
from hypothesis import strategies as st

from djsup.config.places import KeyPath, Place, locate

TEXT = '''\
# a comment with [brackets] and "quotes"
listen = ["0.0.0.0:8000"]   # and = signs
runtime_dir = '/run/djsup'
"quoted key" = 1
dotted.key.path = true

[dashboard]
  listen = "127.0.0.1:9000"

[sites.blog]
text = """
[not.a.table]
key = "no key" \\""" still in it"""
literal = \'\'\'
[neither]
a = \'\'\'
hosts = [
    "a",  # one, two
    "b]", [ "c" ],

    { name = "d", deep = { x = 1 } },
]
env = { DEBUG = "0", "with.dot" = "}" }
when = 1979-05-27 07:32:00
[sites.blog.limits]
max_body = "1\\"]MiB"

[sites."my site".health]
path = "/"

[[many]]
a = 1
[many.sub]
b = 2
[[many]]
a = 3
  [[many.inner]]
  c = 4
'''


@pytest.mark.parametrize(
    ("path", "line", "column"),
    [
        (("listen",), 2, 1),
        (("listen", 0), 2, 11),
        (("runtime_dir",), 3, 1),
        (("quoted key",), 4, 1),
        (("dotted",), 5, 1),
        (("dotted", "key", "path"), 5, 12),
        (("dashboard",), 7, 2),
        (("dashboard", "listen"), 8, 3),
        (("sites",), 10, 2),
        (("sites", "blog"), 10, 8),
        (("sites", "blog", "text"), 11, 1),
        (("sites", "blog", "literal"), 14, 1),
        (("sites", "blog", "hosts"), 17, 1),
        (("sites", "blog", "hosts", 1), 19, 5),
        (("sites", "blog", "hosts", 2, 0), 19, 13),
        (("sites", "blog", "hosts", 3, "deep", "x"), 21, 28),
        (("sites", "blog", "env", "DEBUG"), 23, 9),
        (("sites", "blog", "env", "with.dot"), 23, 22),
        (("sites", "blog", "when"), 24, 1),
        (("sites", "blog", "limits"), 25, 13),
        (("sites", "blog", "limits", "max_body"), 26, 1),
        (("sites", "my site", "health", "path"), 29, 1),
        (("many", 0, "a"), 32, 1),
        (("many", 0, "sub", "b"), 34, 1),
        (("many", 1, "a"), 36, 1),
        (("many", 1, "inner", 0, "c"), 38, 3),
    ],
)
def test_key_is_found_where_it_stands(path: KeyPath, line: int, column: int) -> None:
    assert locate(TEXT)[path] == Place(line, column)


def test_nothing_is_found_that_is_not_there() -> None:
    assert set(locate(TEXT)) == set(_paths(tomli.loads(TEXT)))


def test_escapes_in_quoted_keys_are_read() -> None:
    text = '"a\\u0062\\t\\"" = 1\n\'c\\n\' = 2\n'
    assert set(locate(text)) == {('ab\t"',), ("c\\n",)} == set(_paths(tomli.loads(text)))


def test_table_with_a_header_of_its_own_stands_there() -> None:
    places = locate("[a.b]\nx = 1\n[a]\ny = 2\n")
    assert places["a",] == Place(3, 2)


def test_text_without_line_end_is_read_to_its_end() -> None:
    assert locate("a = 1")["a",] == Place(1, 1)
    assert locate("[t] # c")["t",] == Place(1, 2)
    assert locate("") == {}


keys = st.one_of(st.from_regex(r"[A-Za-z0-9_-]{1,6}", fullmatch=True), st.text(max_size=6))
scalars = st.one_of(
    st.booleans(),
    st.integers(-1000, 1000),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=12),
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=12,
)


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(keys, values, max_size=4), st.randoms(use_true_random=False))
def test_every_path_of_any_document_is_found_on_its_line(data: dict[str, Any], random: Any) -> None:
    written = _Written(random)
    written.table((), data)
    text = "".join(written.parts)
    assert tomli.loads(text) == data
    places = locate(text)
    assert set(places) == set(_paths(data))
    assert {path: places[path].line for path in written.lines} == written.lines


class _Written:
    """A document in one of the many ways in which it can be written, with the line of each path."""

    def __init__(self, random: Any) -> None:
        self.random = random
        self.parts: list[str] = []
        self.lines: dict[KeyPath, int] = {}

    def put(self, text: str) -> None:
        self.parts.append(text)

    def here(self, path: KeyPath) -> None:
        self.lines[path] = "".join(self.parts).count("\n") + 1

    def noise(self) -> None:
        self.put(self.random.choice(["", "\n", "  # a [b] = 'c\n", "\n\n"]))

    def key(self, key: str) -> None:
        bare = key.isascii() and key.replace("_", "").replace("-", "").isalnum()
        self.put(key if bare and self.random.random() < 0.8 else _quoted(key))

    def table(self, path: KeyPath, data: dict[str, Any]) -> None:
        tables = {
            key: value
            for key, value in data.items()
            if isinstance(value, dict) and self.random.random() < 0.7
        }
        for key, value in data.items():
            if key not in tables:
                self.noise()
                self.here((*path, key))
                self.key(key)
                self.put(" = ")
                self.value((*path, key), value)
                self.put(self.random.choice(["\n", "  # end\n"]))
        for key, value in tables.items():
            self.noise()
            inner = (*path, key)
            self.here(inner)
            self.put("[")
            for number, part in enumerate(inner):
                self.put(" . " if number else "")
                self.key(str(part))
            self.put("]\n")
            self.table(inner, value)

    def value(self, path: KeyPath, value: Any) -> None:
        match value:
            case str():
                self.put(self.text(value))
            case list():
                self.put("[")
                for index, each in enumerate(value):
                    self.noise()
                    self.here((*path, index))
                    self.value((*path, index), each)
                    self.put(",")
                self.noise()
                self.put("]")
            case dict():
                self.put("{")
                for number, (key, each) in enumerate(value.items()):
                    self.put(", " if number else " ")
                    self.here((*path, key))
                    self.key(key)
                    self.put("=")
                    self.value((*path, key), each)
                self.put(" }")
            case bool():
                self.put("true" if value else "false")
            case _:
                self.put(repr(value))

    def text(self, value: str) -> str:
        plain = all(" " <= each < "\x7f" or each == "\n" for each in value)
        if plain and "'" not in value and self.random.random() < 0.5:
            return f"'''{value}'''" if "\n" in value or value == "" else f"'{value}'"
        if plain and "\\" not in value and '"""' not in value and self.random.random() < 0.5:
            return f'"""\n{value[:-1]}{_quoted(value[-1:])[1:-1]}"""'
        return _quoted(value)


def _quoted(value: str) -> str:
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _paths(data: Any, path: KeyPath = ()) -> list[KeyPath]:
    inner = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [found for key, value in inner for found in [(*path, key), *_paths(value, (*path, key))]]
