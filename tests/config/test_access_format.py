from __future__ import annotations

import re

import pytest

from djsup.config.access_format import COMBINED, parse


@pytest.mark.parametrize(
    ("written", "pieces"),
    [
        ("%h", ("", "h", "")),
        ('%h "%r" %>s', ("", "h", ' "', "r", '" ', ">s", "")),
        ("a%%b%m%%", ("a%b", "m", "%")),
        ("%{User-Agent}i|%{wsgi.url_scheme}e", ("", "{User-Agent}i", "|", "{wsgi.url_scheme}e", "")),
        ("%{msec}t%{us}T", ("", "{msec}t", "", "{us}T", "")),
        ("ä %s", ("ä ", "s", "")),
    ],
)
def test_format_is_taken_apart(written: str, pieces: tuple[str, ...]) -> None:
    assert parse(written) == pieces


def test_combined_is_a_format() -> None:
    assert len(parse(COMBINED)) == 19


@pytest.mark.parametrize(
    ("written", "hint"),
    [
        ("combind", "did you mean combined?"),
        ("$remote_addr $status", "a format without a single % says nothing"),
        ("%(h)s %({User-Agent}i)s", "written without parentheses here: %h %{User-Agent}i"),
        ("%d", "%d is no directive; did you mean %D?"),
        ("%Z", "%Z is no directive; there are %h"),
        ("%", "% is no directive"),
        ("%h %", "% is no directive"),
        ("%>b", "%>b is no directive"),
        ("%{mesc}t", "%{mesc}t is no directive; did you mean %{msec}t?"),
        ("%{m}T", "%{m}T is no directive; did you mean %{ms}T? there are %{s}T %{ms}T %{us}T"),
        ("%{Referer}j", "%{Referer}j is no directive; there are %{Name}i"),
        ("%{User Agent}i", "%{User Agent}i names no header"),
        ("%{}e", "%{}e names no header"),
        ("%{unclosed", "%{ is no directive"),
        ("%h\n%m", "no control characters"),
        ("%h" * 600, "at most 1024 characters"),
    ],
)
def test_mistake_in_a_format_is_explained(written: str, hint: str) -> None:
    with pytest.raises(ValueError, match=re.escape(hint)):
        parse(written)
