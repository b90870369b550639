"""The router finds the host and the path that the worker finds, of every head that the worker accepts.

What the worker refuses is refused by the router with the same status, where it is no worker's.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conformance.test_smuggling import REFUSED
from djsup.router import head
from djsup_worker.refusal import Refused
from djsup_worker.request import HeadReader

parts = st.sampled_from(
    [b"a", b"A.Example", b":80", b".", b" ", b"\t", b"[::1]", b"@", b"/", b"?", b"#", b"%2e", b"%61", b"..", b"*",
     b"http://", b"HTTPS://", b"x", b"\xe9", b"\\", b",", b";"]
)  # fmt: skip
texts = st.lists(parts, max_size=5).map(b"".join)
names = st.sampled_from([b"Host", b"host", b"HOST", b"Host ", b" Host", b"X", b"X-Host", b"Hos", b"Host\t"])
ends = st.sampled_from([b"\r\n"] * 8 + [b"\n", b"\r", b"\r\n ", b"\r\n\t"])
fields = st.lists(st.tuples(names, st.sampled_from([b":", b": ", b":  ", b" :"]), texts, ends), max_size=3)
targets = st.builds(
    lambda first, rest: first + rest, st.sampled_from([b"/", b"", b"*", b"http://b", b"HTTP://u@c/"]), texts
)


versions = st.sampled_from([b"HTTP/1.1"] * 8 + [b"HTTP/1.0", b"HTTP/2.0", b"HTTP/1", b"http/1.1"])
methods = st.sampled_from([b"GET", b"POST", b"OPTIONS", b"CONNECT", b"BREW", b"get", b"G(T"])


def refusal(ask: Callable[[bytes], object], data: bytes) -> tuple[int, str] | None:
    try:
        ask(data)
    except Refused as refused:
        return refused.status, refused.why
    return None


def check(data: bytes) -> bool:
    """Whether the worker accepts it; then the router must have found the same, and else must refuse it alike."""
    end = data.find(b"\r\n\r\n") + 4
    if end < 4:
        return False
    data = data[:end]
    try:
        environ, _line, _fields = HeadReader().read(data, {})
    except Refused as refused:
        expected = refused.status, refused.why
        assert refusal(head.check, data) == expected
        assert refusal(head.read, data) in (None, expected)
        return False
    assert refusal(head.check, data) is None
    host, path, _target = head.read(data)
    assert host.decode("latin-1") == environ.get("HTTP_HOST", "")
    assert path.decode("latin-1") == environ["PATH_INFO"]
    return True


@settings(max_examples=400, deadline=None)
@given(methods, targets, versions, fields)
def test_of_accepted_heads_router_and_worker_find_the_same_and_they_refuse_alike(
    method: bytes, target: bytes, version: bytes, lines: list[tuple[bytes, bytes, bytes, bytes]]
) -> None:
    check(b"%s %s %s\r\n" % (method, target, version) + b"".join(b"".join(each) for each in lines) + b"\r\n")


@pytest.mark.parametrize(
    "written",
    [
        b"GET http://b.example/x HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET HTTP://user@B.example:80?q HTTP/1.1\r\nHost: a\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /%2e%2E/shop%3fx?y HTTP/1.1\r\nX: host: b\r\nHOST:\ta:80 \r\n\r\n",
        b"GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
    ],
)
def test_odd_heads_that_are_accepted(written: bytes) -> None:
    assert check(written)


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_known_attacks_are_read_alike_or_refused(name: str) -> None:
    check(REFUSED[name])
