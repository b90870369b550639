"""Known ways to have two readers see two requests in the same bytes: each is refused, or read in exactly one way.

Sources: RFC 9112, 11.2; "HTTP Desync Attacks" (Kettle, 2019), "HTTP Request Smuggling in 2020" (Klein), "Browser-Powered
Desync Attacks" (2022), "Funky chunks" (2025), "HTTP/1.1 must die" (2025), and the advisories named below.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from conformance.readings import check_framing, check_one_reading
from worker.inprocess import InProcess, byte_by_byte, in_process

EVIL = b"GET /evil HTTP/1.1\r\nHost: a\r\n\r\n"
CHUNKED_EVIL = b"0\r\n\r\n" + EVIL
NEXT = b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"


def post(*fields: bytes, body: bytes = b"", version: bytes = b"HTTP/1.1", first: bytes = b"") -> bytes:
    return b"\r\n".join([b"POST / " + version, *([first] if first else []), b"Host: a", *fields, b"", body])


LENGTH = b"Content-Length: %d" % len(CHUNKED_EVIL)
CODING = b"Transfer-Encoding: chunked"

REFUSED = {
    "CL.TE": post(LENGTH, CODING, body=CHUNKED_EVIL),
    "TE.CL": post(CODING, b"Content-Length: 4", body=b"5c\r\n" + EVIL),
    "TE.CL with a length of nothing": post(b"Content-Length: 0", CODING, body=CHUNKED_EVIL),
    "TE.TE, the second unknown": post(CODING, b"Transfer-Encoding: cow", body=CHUNKED_EVIL),
    "TE.TE, twice": post(CODING, CODING, body=CHUNKED_EVIL),
    "TE, white space before the colon": post(b"Transfer-Encoding : chunked", body=CHUNKED_EVIL),
    "TE, a tab before the colon": post(b"Transfer-Encoding\t: chunked", body=CHUNKED_EVIL),
    "TE, a vertical tab in its value": post(b"Transfer-Encoding: \x0bchunked", body=CHUNKED_EVIL),
    "TE, a form feed in its value": post(b"Transfer-Encoding: chunked\x0c", body=CHUNKED_EVIL),
    "TE, a no-break space in its value": post(b"Transfer-Encoding: chunked\xa0", body=CHUNKED_EVIL),
    "TE, NUL in its value": post(b"Transfer-Encoding: chunked\0", body=CHUNKED_EVIL),
    "TE, NUL in its name": post(b"Transfer-Encoding\0: chunked", body=CHUNKED_EVIL),
    "TE, quoted": post(b'Transfer-Encoding: "chunked"', body=CHUNKED_EVIL),
    "TE, xchunked": post(b"Transfer-Encoding: xchunked", body=CHUNKED_EVIL),
    "TE, chunked first": post(b"Transfer-Encoding: chunked, identity", body=CHUNKED_EVIL),
    "TE, an empty list element": post(b"Transfer-Encoding: ,chunked", body=CHUNKED_EVIL),
    "TE, a parameter": post(b"Transfer-Encoding: chunked;a=b", body=CHUNKED_EVIL),
    "TE, empty": post(b"Transfer-Encoding:", body=CHUNKED_EVIL),
    "TE, in a folded line": post(b"X: y", b" Transfer-Encoding: chunked", body=CHUNKED_EVIL),
    "TE, its value folded": post(b"Transfer-Encoding:", b" chunked", body=CHUNKED_EVIL),
    "TE, behind a bare line feed": post(b"X: y\nTransfer-Encoding: chunked", body=CHUNKED_EVIL),
    "TE, behind a bare carriage return": post(b"X: y\rTransfer-Encoding: chunked", body=CHUNKED_EVIL),
    "TE in HTTP/1.0": post(CODING, version=b"HTTP/1.0", body=CHUNKED_EVIL),
    "TE, in the first field with a space before it": post(first=b" " + CODING, body=CHUNKED_EVIL),
    "CL, two that differ": post(b"Content-Length: 0", LENGTH, body=CHUNKED_EVIL),
    "CL, two that are equal": post(LENGTH, LENGTH, body=CHUNKED_EVIL),
    "CL, a list": post(b"Content-Length: 5, 5", body=b"hello"),
    "CL, a list that differs": post(b"Content-Length: 0, 5", body=b"hello"),
    "CL, negative": post(b"Content-Length: -5", body=b"hello"),
    "CL, with a plus": post(b"Content-Length: +5", body=b"hello"),
    "CL, in hexadecimal": post(b"Content-Length: 0x5", body=b"hello"),
    "CL, an underscore between digits": post(b"Content-Length: 0_5", body=b"hello"),
    "CL, a space between digits": post(b"Content-Length: 0 5", body=b"hello"),
    "CL, digits of another alphabet": post(b"Content-Length: \xd9\xa5", body=b"hello"),
    "CL, above 64 bits": post(b"Content-Length: 18446744073709551621", body=b"hello"),
    "CL, empty": post(b"Content-Length:", body=b"hello"),
    "CL, white space before the colon": post(b"Content-Length : 5", body=b"hello"),
    "CL, folded": post(b"Content-Length:", b" 5", body=b"hello"),
    "CL, behind a bare carriage return": post(b"X: y\rContent-Length: 5", body=b"hello"),
    "a field without a colon": post(b"Content-Length 5", body=b"hello"),
    "a field without a name": post(b": 5", body=b"hello"),
    "a first field that begins with a space": post(first=b" Host: b", body=EVIL),
    "a first field that begins with a tab": post(first=b"\tX: y", body=EVIL),
    "two Host fields": post(b"Host: b", body=EVIL),
    "a bare line feed ends the request line": b"GET / HTTP/1.1\nHost: a\r\n\r\n" + EVIL,
    "a bare line feed ends the fields": b"GET / HTTP/1.1\r\nHost: a\n\r\n" + EVIL,
    "bare line feeds end the head": b"GET / HTTP/1.1\r\nHost: a\r\n\n" + EVIL,
    "carriage returns end the head": b"GET / HTTP/1.1\r\nHost: a\r\n\r\r\n" + EVIL,
    "a carriage return before the line's end": b"GET / HTTP/1.1\r\nHost: a\r\r\n\r\n" + EVIL,
    "a line feed in the target": b"GET /\nX: y HTTP/1.1\r\nHost: a\r\n\r\n",
    "a line feed in the target, and a field behind it": b"GET /\nX:y HTTP/1.1\r\nHost: a\r\n\r\n",
    "a line feed in a target with bytes above ASCII": b"GET /\xff\nX: y HTTP/1.1\r\nHost: a\r\n\r\n",
    "a carriage return in a target with bytes above ASCII": b"GET /\xff\rX HTTP/1.1\r\nHost: a\r\n\r\n",
    "HTTP/0.9": b"GET /\r\n" + EVIL,
    "HTTP/2's preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + EVIL,
    "a version in lower case": b"GET / http/1.1\r\nHost: a\r\n\r\n" + EVIL,
    "two spaces in the request line": b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n" + EVIL,
    "a space in the target": b"GET / /evil HTTP/1.1\r\nHost: a\r\n\r\n" + EVIL,
    "0.CL, an unknown expectation": post(b"Expect: 100-continu", b"Content-Length: 5", body=b"hello"),
    "0.CL, expectations in a list": post(b"Expect: y, 100-continue", b"Content-Length: 5", body=b"hello"),
}

CHUNKS_REFUSED = {
    "a size above 64 bits": b"10000000000000005\r\nhello\r\n0\r\n\r\n",
    "a size of many zeros": b"0" * 16 + b"5\r\nhello\r\n0\r\n\r\n",
    "a size with a plus": b"+5\r\nhello\r\n0\r\n\r\n",
    "a size with a minus": b"-5\r\nhello\r\n0\r\n\r\n",
    "a size with 0x": b"0x5\r\nhello\r\n0\r\n\r\n",
    "a size with an underscore": b"0_5\r\nhello\r\n0\r\n\r\n",
    "a size that is none": b"\r\nhello\r\n0\r\n\r\n",
    "a space before the size": b" 5\r\nhello\r\n0\r\n\r\n",
    "a space after the size": b"5 \r\nhello\r\n0\r\n\r\n",
    "a size that is too small": b"4\r\nhello\r\n0\r\n\r\n",
    "a size that is too great": b"6\r\nhello\r\n0\r\n\r\n",
    "a bare line feed after the size": b"5\nhello\r\n0\r\n\r\n",
    "a bare carriage return after the size": b"5\rhello\r\n0\r\n\r\n",
    "TERM.EXT: a bare line feed in an extension": b"5;a\nhello\r\n0\r\n\r\n",
    "a bare carriage return in an extension": b"5;a\rb\r\nhello\r\n0\r\n\r\n",
    "a line feed in a quoted extension": b'5;a="\n"\r\nhello\r\n0\r\n\r\n',
    "a line's end in a quoted extension": b'5;a="\r\n"\r\nhello\r\n0\r\n\r\n',
    "an empty extension": b"5;\r\nhello\r\n0\r\n\r\n",
    "NUL in an extension": b"5;\0\r\nhello\r\n0\r\n\r\n",
    "a bare line feed after the data": b"5\r\nhello\n0\r\n\r\n",
    "SPILL: two bytes that are no line's end after the data": b"5\r\nhelloXX0\r\n\r\n",
    "nothing after the data": b"5\r\nhello0\r\n\r\n",
    "a bare line feed after the last chunk": b"5\r\nhello\r\n0\n\r\n",
    "a bare line feed after the trailers": b"5\r\nhello\r\n0\r\n\n",
    "ONE.TWO: a bare line feed in the trailers": b"5\r\nhello\r\n0\r\nX: y\n\r\n\r\n",
    "a trailer without a colon": b"5\r\nhello\r\n0\r\nX\r\n\r\n",
    "a trailer that begins with a space": b"5\r\nhello\r\n0\r\n X: y\r\n\r\n",
    "a trailer with a space before the colon": b"5\r\nhello\r\n0\r\nX : y\r\n\r\n",
    "a Content-Length among the trailers": b"5\r\nhello\r\n0\r\nContent-Length: 5\r\n\r\n",
    "a Transfer-Encoding among the trailers": b"5\r\nhello\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n",
    "a Host among the trailers": b"5\r\nhello\r\n0\r\nHost: evil\r\n\r\n",
    "a request where the trailers are": b"5\r\nhello\r\n0\r\nGET /evil HTTP/1.1\r\nX: y\r\n\r\n",
}

READ_ONCE = {
    # CVE-like shapes that are right by the RFC: their only reading, as paths and bodies.
    "CL.0: a body that looks like a request": (
        post(b"Content-Length: %d" % len(EVIL), body=EVIL) + NEXT,
        [("/", EVIL), ("/next", b"")],
    ),
    "a GET with a body": (
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(EVIL) + EVIL + NEXT,
        [("/", EVIL), ("/next", b"")],
    ),
    "a HEAD with a body": (
        b"HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(EVIL) + EVIL + NEXT,
        [("/", EVIL), ("/next", b"")],
    ),
    "an OPTIONS for the server with a body": (
        b"OPTIONS * HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(EVIL) + EVIL + NEXT,
        [("*", EVIL), ("/next", b"")],
    ),
    "a chunk that looks like the last one": (
        post(CODING, body=b"5\r\n0\r\n\r\n\r\n0\r\n\r\n") + NEXT,
        [("/", b"0\r\n\r\n"), ("/next", b"")],
    ),
    "0.CL: an expectation with its body": (
        post(b"Expect: 100-continue", b"Content-Length: %d" % len(EVIL), body=EVIL) + NEXT,
        [("/", EVIL), ("/next", b"")],
    ),
    "an expectation without a body": (
        post(b"Expect: 100-continue") + NEXT,
        [("/", b""), ("/next", b"")],
    ),
    "an upgrade with a body": (
        post(b"Connection: Upgrade", b"Upgrade: websocket", b"Content-Length: %d" % len(EVIL), body=EVIL)
        + NEXT,
        [("/", EVIL), ("/next", b"")],
    ),
    "an upgrade to HTTP/2": (
        post(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAA") + NEXT,
        [("/", b""), ("/next", b"")],
    ),
    "a length under a name with an underscore": (
        post(b"Content_Length: 5") + NEXT,
        [("/", b""), ("/next", b"")],
    ),
    "a coding under a name with an underscore": (
        post(b"Transfer_Encoding: chunked", b"Content-Length: 5", body=b"0\r\n\r\n") + NEXT,
        [("/", b"0\r\n\r\n"), ("/next", b"")],
    ),
    "lengths that a connection option names": (
        post(b"Connection: Content-Length", b"Content-Length: %d" % len(EVIL), body=EVIL) + NEXT,
        [("/", EVIL), ("/next", b"")],
    ),
    "a length with leading zeros": (
        post(b"Content-Length: 0005", body=b"hello") + NEXT,
        [("/", b"hello"), ("/next", b"")],
    ),
    "extensions and trailers that are right": (
        post(CODING, body=b'5;a="\\";\t"\r\nhello\r\n0;b\r\nX-Sum: 1\r\n\r\n') + NEXT,
        [("/", b"hello"), ("/next", b"")],
    ),
    "empty lines between requests": (
        post(b"Content-Length: 5", body=b"hello") + b"\r\n\r\n" + NEXT,
        [("/", b"hello"), ("/next", b"")],
    ),
    "a request behind a close": (post(b"Connection: close") + EVIL, [("/", b"")]),
}


@pytest.fixture(scope="module")
def worker() -> Iterator[InProcess]:
    with in_process() as made:
        yield made


@pytest.mark.parametrize("vector", REFUSED)
def test_an_ambiguous_request_is_refused(worker: InProcess, vector: str) -> None:
    data = NEXT + REFUSED[vector] + NEXT
    reading = check_one_reading(worker, data, [byte_by_byte(data)])
    assert [each["RAW_URI"] for each in reading.requests] == ["/next"], "and nothing after it is served"
    assert reading.refusal() >= 400
    assert reading.closed
    check_framing(data, reading)


@pytest.mark.parametrize("vector", CHUNKS_REFUSED)
def test_an_ambiguous_chunk_is_refused(worker: InProcess, vector: str) -> None:
    data = NEXT + post(CODING, body=CHUNKS_REFUSED[vector]) + NEXT
    reading = check_one_reading(worker, data, [byte_by_byte(data)])
    assert [each["RAW_URI"] for each in reading.requests] == ["/next"]
    assert reading.refusal() >= 400
    assert reading.closed
    check_framing(data, reading)


@pytest.mark.parametrize("vector", READ_ONCE)
def test_what_the_rfc_allows_is_read_in_exactly_one_way(worker: InProcess, vector: str) -> None:
    data, expected = READ_ONCE[vector]
    reading = check_one_reading(worker, data, [byte_by_byte(data)])
    assert [(each["RAW_URI"], each["body"]) for each in reading.requests] == expected
    check_framing(data, reading)
