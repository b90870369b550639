"""Messages as hypothesis makes them: HTTP's grammar, and at each of its places what attackers put there."""

from __future__ import annotations

from hypothesis import strategies as st

LINE_END = st.sampled_from([b"\r\n"] * 30 + [b"\n", b"\r", b"\r\r\n", b"\n\r\n", b"\r\n\r\n"])
METHOD = st.sampled_from(
    [b"GET"] * 4
    + [b"POST"] * 4
    + [b"HEAD", b"PUT", b"OPTIONS", b"DELETE", b"CONNECT", b"get", b"BREW", b"G T", b"", b"PRI", b"\x16\x03"]
)
TARGET = st.sampled_from(
    [b"/"] * 6
    + [b"/a?b=c", b"/a%20b", b"*", b"http://h/x", b"https://u@h:1/", b"//h/x", b"a:1", b"/a#b", b"/\xc3\xa9", b"/a b"]
    + [b"", b"/\x00", b"/\x7f", b"/a\tb", b"http://", b"?", b"/" + b"l" * 300]
)  # fmt: skip
VERSION = st.sampled_from(
    [b"HTTP/1.1"] * 12 + [b"HTTP/1.0"] * 2 + [b"HTTP/0.9", b"HTTP/2.0", b"HTTP/1.2", b"http/1.1", b"HTTP/1.1 ", b""]
)  # fmt: skip
SPACE = st.sampled_from([b" "] * 20 + [b"  ", b"\t", b""])
COLON = st.sampled_from([b": "] * 12 + [b":", b":\t ", b" : ", b"\t:", b"", b":\x0b", b":\x00"])
LENGTH_NAME = st.sampled_from([b"Content-Length"] * 6 + [b"content-length", b"Content_Length", b"Content-Length\x00"])
CODING_NAME = st.sampled_from(
    [b"Transfer-Encoding"] * 6 + [b"transfer-encoding", b"Transfer_Encoding", b"Transfer-Encoding\xa0"]
)  # fmt: skip
CODING = st.sampled_from(
    [b"chunked"] * 8
    + [b"Chunked", b"chunked ", b"identity", b"gzip, chunked", b"chunked, chunked", b"xchunked", b"chunked;q=1"]
    + [b"\x0bchunked", b"chunked\x00", b'"chunked"', b"chunked\xa0", b",chunked", b"chunked,", b""]
)  # fmt: skip
OTHER_FIELD = st.sampled_from(
    [
        b"Host: a", b"Host: b", b"Host: a b", b"Host:", b"Connection: close", b"Connection: keep-alive", b"Expect: 100-continue",
        b"Expect: x", b"Upgrade: h2c", b"Connection: upgrade", b"X: \xff\x80", b"X: a\tb", b"X: \x01", b"X: a\rb", b"X:",
        b" folded", b"\tfolded", b"no colon", b": no name", b"X\r: y", b"X_Y: z", b"Proxy: p", b"Trailer: X", b"TE: trailers",
        b"X-Forwarded-For: 9.9.9.9", b"X-Forwarded-Proto: https", b"Forwarded: for=9.9.9.9", b"Cookie: a", b"Cookie: b",
    ]
)  # fmt: skip
CHUNK_DATA = st.sampled_from(
    [b"hello", b"x", b"0\r\n\r\n", b"GET /evil HTTP/1.1\r\nHost: a\r\n\r\n", b"\r\n", b"a" * 17]
)
CHUNK_SIZE = st.sampled_from(
    [b"%x"] * 14
    + [b"%X", b"0%x", b"000000000000%x", b"%x ", b" %x", b"+%x", b"-%x", b"0x%x", b"%x_0", b"%xg"]
)
CHUNK_EXTENSION = st.sampled_from(
    [b""] * 8 + [b";a", b";a=b", b' ; a = "b;\\"c"', b";", b";a=", b';a="', b";a\n", b";a\r", b";\x00", b" a"]
)
CHUNK_END = st.sampled_from([b"\r\n"] * 20 + [b"\n", b"", b"X\r\n", b"\r", b"\r\n\r\n"])
TRAILER = st.sampled_from(
    [b"X-Sum: 1\r\n", b"Host: evil\r\n", b"Content-Length: 5\r\n", b"A : b\r\n", b"A\r\n", b"A: b\n"]
    + [b" A: b\r\n", b"Transfer-Encoding: chunked\r\n", b"X-T: \xff\r\n"]
)  # fmt: skip


@st.composite
def chunks(draw: st.DrawFn) -> bytes:
    body = b""
    for data in draw(st.lists(CHUNK_DATA, max_size=3)):
        size = draw(CHUNK_SIZE) % (len(data) + draw(st.sampled_from([0] * 12 + [1, -1])))
        body += size + draw(CHUNK_EXTENSION) + draw(LINE_END) + data + draw(CHUNK_END)
    last = draw(st.sampled_from([b"0"] * 12 + [b"00", b"-0", b"", b"0;x"]))
    return (
        body
        + last
        + draw(LINE_END)
        + b"".join(draw(st.lists(TRAILER, max_size=1 if draw(st.booleans()) else 0)))
        + draw(LINE_END)
    )


@st.composite
def message(draw: st.DrawFn) -> bytes:
    """One request, more or less."""
    line = draw(METHOD) + draw(SPACE) + draw(TARGET) + draw(SPACE) + draw(VERSION)
    fields = [b"Host: a"] if draw(st.integers(0, 9)) else []
    fields += draw(st.lists(OTHER_FIELD, max_size=2 if draw(st.booleans()) else 0))
    body = b""
    kind = draw(st.sampled_from(["none", "none", "sized", "sized", "chunked", "chunked", "both"]))
    if kind in ("chunked", "both"):
        body = draw(chunks())
        fields.append(draw(CODING_NAME) + draw(COLON) + draw(CODING))
    if kind in ("sized", "both"):
        body = body or draw(CHUNK_DATA)
        length = len(body) + draw(st.sampled_from([0] * 10 + [1, -1]))
        form = draw(
            st.sampled_from(
                [b"%d"] * 10 + [b"+%d", b"-%d", b"0%d", b"%d, %d", b"%d ", b"0x%d", b"%d_0", b"%d\r", b""]
            )
        )
        fields.append(draw(LENGTH_NAME) + draw(COLON) + form.replace(b"%d", b"%d" % length))
    fields = draw(st.permutations(fields))
    before = draw(st.sampled_from([b""] * 12 + [b"\r\n", b"\r\n\r\n", b"\n", b" ", b"\r"]))
    head = b"".join(part + draw(LINE_END) for part in [line, *fields])
    return before + head + draw(LINE_END) + body


@st.composite
def damage(draw: st.DrawFn, data: bytes) -> bytes:
    """The same bytes, with some of them changed, lost or put in."""
    for _ in range(draw(st.sampled_from([0] * 6 + [1, 1, 2]))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        put = draw(st.sampled_from([b"", b"\r", b"\n", b" ", b"\x00", b":", b";", b"0", b"\t", b"\xff", b"A"]))
        data = data[:at] + put + data[at + draw(st.integers(0, 1)) :]
    return data


CONNECTION = st.lists(message(), min_size=1, max_size=3).map(b"".join).flatmap(damage)
"""All that one client sends."""


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    """The data, cut at these places (modulo its length)."""
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[begin:end] for begin, end in zip(edges, edges[1:], strict=False)]
