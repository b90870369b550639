from __future__ import annotations

from typing import Any

import pytest

from djsup_worker.refusal import Refused
from djsup_worker.request import HEADS_KEPT, SECTIONS_KEPT, HeadReader, keeps

BASE: dict[str, Any] = {"SERVER_PROTOCOL": "HTTP/1.1", "SERVER_NAME": "here"}
GET = b"GET / HTTP/1.1\r\n"


def read(data: bytes, reader: HeadReader | None = None) -> dict[str, Any]:
    return (reader or HeadReader()).read(data, BASE)[0]


def section(*lines: bytes, first: bytes = b"GET / HTTP/1.1") -> bytes:
    return b"\r\n".join([first, *lines, b"", b""])


def refusal(data: bytes, reader: HeadReader | None = None) -> int:
    with pytest.raises(Refused) as caught:
        (reader or HeadReader()).read(data, BASE)
    return caught.value.status


def test_a_head_becomes_an_environ() -> None:
    environ, line, fields = HeadReader().read(
        section(
            b"Host: a.example:81",
            b"X-One:  1 ",
            b"Content-Type: t/p",
            first=b"PATCH /a%20b/%C3%A9?x=%20&y HTTP/1.1",
        ),
        BASE,
    )
    assert environ == {
        "SERVER_PROTOCOL": "HTTP/1.1", "SERVER_NAME": "here", "REQUEST_METHOD": "PATCH",
        "PATH_INFO": "/a b/\xc3\xa9", "QUERY_STRING": "x=%20&y", "RAW_URI": "/a%20b/%C3%A9?x=%20&y",
        "REQUEST_URI": "/a%20b/%C3%A9?x=%20&y", "HTTP_HOST": "a.example:81", "HTTP_X_ONE": "1", "CONTENT_TYPE": "t/p",
    }  # fmt: skip
    assert line.what == b"PATCH /a%20b/%C3%A9"
    assert keeps(line, fields)
    assert (fields.length, fields.chunked, fields.expect) == (0, False, False)


def test_the_base_is_not_changed() -> None:
    before = dict(BASE)
    read(section(b"Host: a", first=b"GET / HTTP/1.0"))
    assert before == BASE


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /\r\n\r\n", 400),
        (b"GET  / HTTP/1.1\r\n\r\n", 400),
        (b"GET /  HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1 \r\n\r\n", 400),
        (b"GET\t/ HTTP/1.1\r\n\r\n", 400),
        (b" GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / http/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.10\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\n\r\n", 505),
        (b"GET / HTTP/0.9\r\n\r\n", 505),
        (b"PRI * HTTP/2.0\r\n\r\n", 505),
        (b"get / HTTP/1.1\r\n\r\n", 501),
        (b"G(T / HTTP/1.1\r\n\r\n", 400),
        (b"BREW / HTTP/1.1\r\n\r\n", 501),
        (b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", 501),
        (b"GET a:443 HTTP/1.1\r\n\r\n", 400),
        (b"GET * HTTP/1.1\r\n\r\n", 400),
        (b"GET /a\x7fb HTTP/1.1\r\n\r\n", 400),
        (b"GET /a\x00b HTTP/1.1\r\n\r\n", 400),
        (b"GET /a\tb HTTP/1.1\r\n\r\n", 400),
        (b"GET /a\nb:c HTTP/1.1\r\n\r\n", 400),
        (b"GET /a\r\rb:c HTTP/1.1\r\n\r\n", 400),
        (b"GET /\xff\nb HTTP/1.1\r\n\r\n", 400),
        (b"GET /\xff\rb HTTP/1.1\r\n\r\n", 400),
        (b"GET /\xff\x00 HTTP/1.1\r\n\r\n", 400),
        (b"GET /\xff\x7f HTTP/1.1\r\n\r\n", 400),
        (b"GET http:///x HTTP/1.1\r\n\r\n", 400),
        (b"GET http://user@/x HTTP/1.1\r\n\r\n", 400),
        (b"GET ftp://a/x HTTP/1.1\r\n\r\n", 400),
        (b"GET /" + b"a" * 8192 + b" HTTP/1.1\r\n\r\n", 414),
        (section(b"Host: a", b"Host: a"), 400),
        (section(b"Host: a b"), 400),
        (section(b"Host: a/b"), 400),
        (section(b"Host: a:80:80"), 400),
        (section(b"Host: user@a"), 400),
        (section(b"A : b"), 400),
        (section(b"A b: c"), 400),
        (section(b": b"), 400),
        (section(b"b"), 400),
        (section(b"A\x00: b"), 400),
        (section(b"A: b\x00c"), 400),
        (section(b"A: b\x0bc"), 400),
        (section(b"A: b\x7fc"), 400),
        (section(b"A: b\rc"), 400),
        (section(b"A: b\nB: c"), 400),
        (section(b"A: b\n c"), 400),
        (section(b"A: b", b" c"), 400),
        (section(b"A: b", b"\tc"), 400),
        (section(b" A: b"), 400),
        (section(b"Content-Length: 1", b"Content-Length: 1"), 400),
        (section(b"Content-Length: 1, 1"), 400),
        (section(b"Content-Length: +1"), 400),
        (section(b"Content-Length: -1"), 400),
        (section(b"Content-Length: 0x1"), 400),
        (section(b"Content-Length: 1_0"), 400),
        (section(b"Content-Length: \xb2"), 400),
        (section(b"Content-Length: "), 400),
        (section(b"Content-Length: 99999999999999999999999"), 400),
        (section(b"Content-Length: 3", b"Transfer-Encoding: chunked"), 400),
        (section(b"Transfer-Encoding: chunked", b"Content-Length: 3"), 400),
        (section(b"Transfer-Encoding: chunked", b"Content-Length: 0"), 400),
        (section(b"Transfer-Encoding: chunked", first=b"POST / HTTP/1.0"), 400),
        (section(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"), 400),
        (section(b"Transfer-Encoding: chunked, gzip"), 400),
        (section(b"Transfer-Encoding: chunked;q=1"), 400),
        (section(b"Transfer-Encoding: chunked,"), 400),
        (section(b"Transfer-Encoding: \x0bchunked"), 400),
        (section(b"Transfer-Encoding: xchunked"), 501),
        (section(b"Transfer-Encoding: gzip, chunked"), 501),
        (section(b"Transfer-Encoding: "), 400),
        (section(b"Expect: 200-ok"), 417),
        (section(*(b"A%d: b" % number for number in range(101))), 431),
        (section(b"A: " + b"b" * 8192), 431),
    ],
)
def test_what_is_malformed_or_ambiguous_is_refused(head: bytes, status: int) -> None:
    reader = HeadReader()
    assert refusal(head, reader) == status
    assert refusal(head, reader) == status, "and again, whatever the reader remembers"
    assert read(GET + b"Host: a\r\n\r\n", reader)["HTTP_HOST"] == "a", "and harms no request after it"


@pytest.mark.parametrize(
    "host",
    ["", "a", "a.example:80", "127.0.0.1", "[::1]:80", "[v1.a:b]", "a_b", "xn--a", "0.0.0.0=5000", "a:"],
)
def test_every_host_of_the_rfc_is_taken(host: str) -> None:
    assert read(section(b"Host: " + host.encode()))["HTTP_HOST"] == host


def test_a_header_with_an_underscore_cannot_shadow_another() -> None:
    environ = read(section(b"Remote_User: evil", b"X-User: 1", b"X_User: 2", b"Content_Length: 9"))
    assert environ["HTTP_X_USER"] == "1"
    assert "HTTP_REMOTE_USER" not in environ
    assert "CONTENT_LENGTH" not in environ
    assert "" not in environ


def test_a_proxy_header_cannot_configure_an_http_client() -> None:
    assert "HTTP_PROXY" not in read(section(b"Proxy: http://evil"))


def test_repeated_headers_are_joined_as_their_kind_wants() -> None:
    environ = read(section(b"Cookie: a=1", b"Accept: x", b"cookie: b=2", b"ACCEPT: y"))
    assert environ["HTTP_COOKIE"] == "a=1; b=2"
    assert environ["HTTP_ACCEPT"] == "x,y"


@pytest.mark.parametrize(
    ("first", "connection", "keep"),
    [
        (b"GET / HTTP/1.1", b"", True),
        (b"GET / HTTP/1.1", b"close", False),
        (b"GET / HTTP/1.1", b"Foo, CLOSE", False),
        (b"GET / HTTP/1.1", b"not-close", True),
        (b"GET / HTTP/1.1", b"keep-alive", True),
        (b"GET / HTTP/1.0", b"", False),
        (b"GET / HTTP/1.0", b"Keep-Alive", True),
        (b"GET / HTTP/1.0", b"keep-alive, close", False),
    ],
)
def test_a_connection_is_kept_when_the_client_means_to(first: bytes, connection: bytes, keep: bool) -> None:
    reader = HeadReader()
    for _ in range(2):
        _environ, line, fields = reader.read(section(b"Connection: " + connection, first=first), BASE)
        assert keeps(line, fields) is keep


def test_a_remembered_section_serves_another_request_line() -> None:
    reader = HeadReader()
    lines = (b"Host: a", b"Cookie: s=1", b"Connection: keep-alive")
    first = read(section(*lines), reader)
    first["HTTP_COOKIE"] = "changed by the application"
    again = reader.read(section(*lines, first=b"DELETE /x?y HTTP/1.1"), BASE)
    assert again[0]["HTTP_COOKIE"] == "s=1"
    assert again[0]["REQUEST_METHOD"] == "DELETE"
    assert again[1].what == b"DELETE /x"
    old = reader.read(section(*lines[:2], first=b"GET / HTTP/1.0"), BASE)
    assert old[0]["SERVER_PROTOCOL"] == "HTTP/1.0"
    assert not keeps(old[1], old[2])


def test_what_is_remembered_has_a_limit() -> None:
    reader = HeadReader()
    for number in range(3 * SECTIONS_KEPT):
        read(section(b"X-%d: %d" % (number, number)), reader)
    assert len(reader._sections) <= SECTIONS_KEPT
    for number in range(3 * HEADS_KEPT):
        read(section(b"Host: a", first=b"GET /%d HTTP/1.1" % number), reader)
    assert len(reader._heads) <= HEADS_KEPT
    assert len(reader._keys) <= 1024


def test_an_absolute_target_overrides_host() -> None:
    environ = read(section(b"Host: other", first=b"GET http://user:pw@a.example:8080/x?q HTTP/1.1"))
    assert (environ["HTTP_HOST"], environ["PATH_INFO"], environ["QUERY_STRING"]) == (
        "a.example:8080",
        "/x",
        "q",
    )
    assert read(section(first=b"GET http://a?q HTTP/1.1"))["PATH_INFO"] == "/"


def test_an_asterisk_is_for_options_only() -> None:
    environ = read(section(b"Host: a", first=b"OPTIONS * HTTP/1.1"))
    assert (environ["PATH_INFO"], environ["REQUEST_URI"]) == ("/", "*")


def test_an_offer_to_upgrade_is_not_taken_up() -> None:
    reader = HeadReader()
    data = section(
        b"Host: a", b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMA"
    )
    for _ in range(2):
        environ, line, fields = reader.read(data, BASE)
        assert keeps(line, fields)
        assert environ["HTTP_UPGRADE"] == "h2c"


def test_bodies_are_announced() -> None:
    reader = HeadReader()
    assert reader.read(section(b"Content-Length: 12"), BASE)[2].length == 12
    chunked = reader.read(
        section(b"Transfer-Encoding: Chunked", b"Expect: 100-Continue", first=b"PUT / HTTP/1.1"), BASE
    )
    assert chunked[2].chunked
    assert chunked[2].expect
    assert "HTTP_TRANSFER_ENCODING" not in chunked[0]
    assert not reader.read(
        section(b"Content-Length: 1", b"Expect: 100-continue", first=b"PUT / HTTP/1.0"), BASE
    )[2].expect


def test_a_fragment_is_no_part_of_the_target() -> None:
    environ = read(section(first=b"GET /a?b#c?d HTTP/1.1"))
    assert (environ["PATH_INFO"], environ["QUERY_STRING"]) == ("/a", "b")
