"""Messages as hypothesis makes them: HTTP's grammar, and at one of its places what attackers put there."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import strategies as st

PLACES = (
    "method", "target", "version", "space", "colon", "line end", "host", "field", "length", "coding", "size", "extension",
    "chunk end", "last chunk", "trailer", "both", "before",
)  # fmt: skip
"""Where a message may be wrong."""

GOOD = {
    "method": [b"GET", b"POST", b"HEAD", b"PUT", b"OPTIONS", b"DELETE"],
    "target": [b"/", b"/a?b=c", b"/a%20b", b"http://h/x", b"//h/x", b"/a#b", b"/\xc3\xa9", b"/" + b"l" * 300],
    "version": [b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0"],
    "space": [b" "],
    "colon": [b": ", b":", b":\t "],
    "line end": [b"\r\n"],
    "host": [b"Host: a", b"host:a:80", b"Host: [::1]"],
    "field": [
        b"Connection: close", b"Connection: keep-alive", b"Expect: 100-continue", b"Upgrade: h2c", b"Connection: upgrade",
        b"X: \xff\x80", b"X: a\tb", b"X:", b"X_Y: z", b"Proxy: p", b"Trailer: X", b"TE: trailers", b"Content_Length: 3",
        b"X-Forwarded-For: 9.9.9.9", b"X-Forwarded-Proto: https", b"Forwarded: for=9.9.9.9", b"Cookie: a", b"Cookie: b",
    ],
    "length": [b"%d", b"%d", b"%d", b"0%d", b"%d \t"],
    "coding": [b"chunked", b"Chunked", b"chunked "],
    "size": [b"%x", b"%x", b"%X", b"0%x", b"000000000%x"],
    "extension": [b"", b"", b";a", b";a=b", b' ; a = "b;\\"c"', b';a=""'],
    "chunk end": [b"\r\n"],
    "last chunk": [b"0", b"00", b"0;x"],
    "trailer": [b"X-Sum: 1\r\n", b"X-T: \xff\r\n", b"A:\r\n"],
    "before": [b"", b"", b"", b"\r\n", b"\r\n\r\n"],
}  # fmt: skip
BAD = {
    "method": [b"CONNECT", b"get", b"BREW", b"G T", b"", b"PRI", b"\x16\x03"],
    "target": [b"*", b"https://u@h:1/", b"a:1", b"/a b", b"", b"/\x00", b"/\x7f", b"/a\tb", b"http://", b"?"],
    "version": [b"HTTP/0.9", b"HTTP/2.0", b"HTTP/1.2", b"http/1.1", b"HTTP/1.1 ", b""],
    "space": [b"  ", b"\t", b""],
    "colon": [b" : ", b"\t:", b"", b":\x0b", b":\x00", b"\x00:", b"\xa0:"],
    "line end": [b"\n", b"\r", b"\r\r\n", b"\n\r\n", b"\r\n\r\n", b""],
    "host": [b"Host: a b", b"Host:", b"Host: a\r\nHost: b", b"Host: u@a", b"X: no host"],
    "field": [
        b"X: \x01", b"X: a\rb", b"X: a\nb", b" folded", b"\tfolded", b"no colon", b": no name", b"X\r: y", b"Expect: x", b"X : y",
    ],
    "length": [b"+%d", b"-%d", b"%d, %d", b"0x%d", b"%d_0", b"%d\r", b"", b"9%d", b"1%d", b"\xb2"],
    "coding": [
        b"identity", b"gzip, chunked", b"chunked, chunked", b"xchunked", b"chunked;q=1", b"\x0bchunked", b"chunked\x00",
        b'"chunked"', b"chunked\xa0", b",chunked", b"chunked,", b"",
    ],
    "size": [b"%x ", b" %x", b"+%x", b"-%x", b"0x%x", b"%x_0", b"%xg", b"1%x", b"0000000000000000%x"],
    "extension": [b";", b";a=", b';a="', b";a\n", b";a\r", b";\x00", b" a", b';a="\n"'],
    "chunk end": [b"\n", b"", b"X\r\n", b"\r", b"\r\n\r\n", b"XX"],
    "last chunk": [b"-0", b"", b"0 ", b"0x0"],
    "trailer": [
        b"Host: evil\r\n", b"Content-Length: 5\r\n", b"A : b\r\n", b"A\r\n", b"A: b\n", b" A: b\r\n", b"Transfer-Encoding: chunked\r\n",
    ],
    "before": [b"\n", b" ", b"\r", b"\x00", b"\r\n" * 20],
}  # fmt: skip
CHUNK_DATA = [b"hello", b"x", b"0\r\n\r\n", b"GET /evil HTTP/1.1\r\nHost: a\r\n\r\n", b"\r\n", b"a" * 17]


class Drawing:
    """Draws the parts of one message; at the place of its fault sometimes what is wrong there."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.fault = draw(st.sampled_from([None, None, *PLACES]))

    def part(self, place: str) -> bytes:
        wrong = place == self.fault and self.draw(st.booleans())
        return self.draw(st.sampled_from((BAD if wrong else GOOD)[place]))

    def some(self, place: str, most: int) -> list[bytes]:
        return [self.part(place) for _ in range(self.draw(st.integers(0, most)))]

    def chunks(self) -> bytes:
        body = b""
        for _ in range(self.draw(st.integers(0, 3))):
            data = self.draw(st.sampled_from(CHUNK_DATA))
            size = self.part("size") % len(data)
            body += size + self.part("extension") + self.part("line end") + data + self.part("chunk end")
        last = self.part("last chunk") + self.part("line end")
        return body + last + b"".join(self.some("trailer", 1)) + self.part("line end")


@st.composite
def message(draw: st.DrawFn) -> bytes:
    """One request, right or with one thing wrong."""
    of = Drawing(draw)
    line = of.part("method") + of.part("space") + of.part("target") + of.part("space") + of.part("version")
    fields = [of.part("host"), *of.some("field", 2)]
    body = b""
    kind = "both" if of.fault == "both" else draw(st.sampled_from(["none", "sized", "chunked"]))
    if kind in ("chunked", "both"):
        body = of.chunks()
        fields.append(b"Transfer-Encoding" + of.part("colon") + of.part("coding"))
    if kind in ("sized", "both"):
        body = body or draw(st.sampled_from(CHUNK_DATA))
        length = of.part("length").replace(b"%d", b"%d" % len(body))
        fields.append(b"Content-Length" + of.part("colon") + length)
    head = b"".join(part + of.part("line end") for part in [line, *draw(st.permutations(fields))])
    return of.part("before") + head + of.part("line end") + body


@st.composite
def damage(draw: st.DrawFn, data: bytes) -> bytes:
    """The same bytes, sometimes with some of them changed, lost or put in."""
    for _ in range(draw(st.sampled_from([0] * 9 + [1, 1, 2]))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        put = draw(
            st.sampled_from([b"", b"\r", b"\n", b" ", b"\x00", b":", b";", b"0", b"\t", b"\xff", b"A"])
        )
        data = data[:at] + put + data[at + draw(st.integers(0, 1)) :]
    return data


CONNECTION = st.lists(message(), min_size=1, max_size=3).map(b"".join).flatmap(damage)
"""All that one client sends."""


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    """The data, cut at these places (modulo its length)."""
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[begin:end] for begin, end in pairwise(edges)]
