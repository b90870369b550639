"""RFC 9110, 12 to 14, as far as a file needs them."""

from __future__ import annotations

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from djsup_worker import conditions
from djsup_worker.conditions import (
    NOT_MODIFIED,
    OK,
    PRECONDITION_FAILED,
    UNSATISFIABLE,
    accepted,
    judge,
    part,
)

ETAG = '"5-a"'
MODIFIED_S = 1_700_000_000
MODIFIED = formatdate(MODIFIED_S, usegmt=True)
BEFORE = formatdate(MODIFIED_S - 1, usegmt=True)
AFTER = formatdate(MODIFIED_S + 1, usegmt=True)


def judged(**fields: str) -> int:
    environ = {"HTTP_" + name.upper(): value for name, value in fields.items()}
    return judge(environ, ETAG, MODIFIED, MODIFIED_S)


@pytest.mark.parametrize(
    "value",
    [ETAG, "*", " * ", 'W/"5-a"', '"x", "5-a"', '"x","5-a" , W/"y"', 'W/"x", W/"5-a"', '"a, b", "5-a"'],
)
def test_a_client_that_names_the_tag_has_the_file(value: str) -> None:
    assert judged(if_none_match=value) == NOT_MODIFIED


@pytest.mark.parametrize("value", ['"5-b"', "5-a", '"5-a', '"x, 5-a"', "", '"5-A"'])
def test_another_tag_is_another_file_whatever_the_date_says(value: str) -> None:
    assert judged(if_none_match=value, if_modified_since=AFTER) == OK


def test_a_date_counts_where_there_is_no_tag() -> None:
    assert judged(if_modified_since=MODIFIED) == NOT_MODIFIED
    assert judged(if_modified_since=AFTER) == NOT_MODIFIED
    assert judged(if_modified_since=BEFORE) == OK
    assert judged(if_modified_since=MODIFIED.replace("GMT", "+0000")) == NOT_MODIFIED


def test_a_file_without_a_time_is_told_by_its_tag_alone() -> None:
    assert judge({"HTTP_IF_MODIFIED_SINCE": ""}, ETAG, "", 0) == OK
    assert part({"HTTP_RANGE": "bytes=0-1", "HTTP_IF_RANGE": ""}, 9, ETAG, "") is None
    assert part({"HTTP_RANGE": "bytes=0-1", "HTTP_IF_RANGE": ETAG}, 9, ETAG, "") == (0, 2)


def test_a_precondition_that_fails_is_told() -> None:
    assert judged(if_match='"x"') == PRECONDITION_FAILED
    assert judged(if_match='W/"5-a"') == PRECONDITION_FAILED, "a weak tag matches nothing strongly"
    assert judged(if_match=ETAG, if_unmodified_since=BEFORE) == OK, "the date is ignored beside a tag"
    assert judged(if_match="*") == OK
    assert judged(if_unmodified_since=BEFORE) == PRECONDITION_FAILED
    assert judged(if_unmodified_since=MODIFIED) == OK
    assert judged(if_match=ETAG, if_none_match=ETAG) == NOT_MODIFIED


@given(st.text(alphabet=st.characters(max_codepoint=255)))
def test_a_date_that_makes_no_sense_is_none(text: str) -> None:
    # Some texts are dates after all; the rule is that none of them is a mistake of ours.
    assert judged(if_modified_since=text) in (OK, NOT_MODIFIED)
    assert judged(if_unmodified_since=text) in (OK, PRECONDITION_FAILED)


def asked(value: str, size: int = 1000, if_range: str | None = None) -> tuple[int, int] | None:
    environ = {"HTTP_RANGE": value}
    if if_range is not None:
        environ["HTTP_IF_RANGE"] = if_range
    return part(environ, size, ETAG, MODIFIED)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("bytes=0-0", (0, 1)),
        ("bytes=0-499", (0, 500)),
        ("bytes=500-", (500, 500)),
        ("bytes=500-5000", (500, 500)),
        ("bytes=-1", (999, 1)),
        ("bytes=-5000", (0, 1000)),
        ("Bytes=999-999", (999, 1)),
        ("bytes=1000-", UNSATISFIABLE),
        ("bytes=1000-2000", UNSATISFIABLE),
        ("bytes=-0", UNSATISFIABLE),
    ],
)
def test_a_part_is_what_the_range_says(value: str, found: tuple[int, int]) -> None:
    assert asked(value) == found


@pytest.mark.parametrize(
    "value",
    ["", "bytes", "bytes=", "bytes=-", "bytes=5-2", "bytes=0-1,3-4", "bytes=a-b", "bytes=--5", "bytes=+1-2",
     "bytes=1_0-20", "lines=1-2", "bytes=1-2x", "bytes=" + "9" * 400 + "-"],
)  # fmt: skip
def test_a_range_that_makes_no_sense_is_ignored(value: str) -> None:
    assert asked(value) is None


def test_of_an_empty_file_there_is_no_part() -> None:
    assert asked("bytes=0-", size=0) == UNSATISFIABLE
    assert asked("bytes=-5", size=0) is None


def test_a_part_of_a_file_that_has_changed_since_is_all_of_it() -> None:
    assert asked("bytes=0-1", if_range=ETAG) == (0, 2)
    assert asked("bytes=0-1", if_range=MODIFIED) == (0, 2)
    for other in ('"x"', 'W/"5-a"', BEFORE, AFTER, ""):
        assert asked("bytes=0-1", if_range=other) is None


@given(st.integers(0, 50), st.one_of(st.none(), st.integers(0, 60)), st.one_of(st.none(), st.integers(0, 60)))
def test_a_part_lies_within_the_file_and_is_not_empty(size: int, first: int | None, last: int | None) -> None:
    written = ["" if each is None else str(each) for each in (first, last)]
    found = asked("bytes={}-{}".format(*written), size=size)
    if found is not None and found != UNSATISFIABLE:
        begin, count = found
        assert begin >= 0
        assert count > 0
        assert begin + count <= size
        assert begin == (first if first is not None else size - count)


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("gzip, br", {"gzip", "br"}),
        ("GZIP;q=1.0,br;q=0.5", {"gzip", "br"}),
        ("gzip;q=0, br; q=0.000", set()),
        ("gzip ; q = 0.001", {"gzip"}),
        ("x-gzip", {"gzip", "x-gzip"}),
        ("*", {"*"}),
        ("xbr, brx", {"xbr", "brx"}),
    ],
)
def test_codings_are_accepted_unless_refused(header: str, found: set[str]) -> None:
    assert accepted(header) == found


def test_what_is_remembered_has_a_limit() -> None:
    for number in range(conditions.ACCEPTED_KEPT_MAX * 2):
        accepted(f"x{number}")
    assert len(conditions._accepted) <= conditions.ACCEPTED_KEPT_MAX
