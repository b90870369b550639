from __future__ import annotations

import struct
from socket import AF_INET6, inet_aton, inet_pton

import pytest

from djsup_worker.proxy_header import SIGNATURE, Announced, Malformed, needed, read

NOBODY = Announced(None, None, by_proxy=False)


def version_2(command: int, family: int, rest: bytes, length: int | None = None) -> bytes:
    size = len(rest) if length is None else length
    return SIGNATURE + bytes((command, family)) + struct.pack("!H", size) + rest


FOUR = inet_aton("203.0.113.7") + inet_aton("198.51.100.2") + struct.pack("!HH", 4711, 443)
SIX = inet_pton(AF_INET6, "2001:db8::7") + inet_pton(AF_INET6, "2001:db8::1") + struct.pack("!HH", 4711, 443)
TLV = b"\x04\x00\x03abc"

V4 = Announced(("203.0.113.7", "4711"), ("198.51.100.2", "443"), by_proxy=False)
V6 = Announced(("2001:db8::7", "4711"), ("2001:db8::1", "443"), by_proxy=False)

GOOD = [
    (b"PROXY TCP4 203.0.113.7 198.51.100.2 4711 443\r\n", V4),
    (b"PROXY TCP6 2001:db8::7 2001:DB8:0::1 4711 443\r\n", V6),
    (b"PROXY UNKNOWN\r\n", NOBODY),
    (b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", NOBODY),
    (version_2(0x21, 0x11, FOUR), V4),
    (version_2(0x21, 0x11, FOUR + TLV * 20), V4),
    (version_2(0x21, 0x21, SIX + TLV), V6),
    (version_2(0x20, 0x00, b""), Announced(None, None, by_proxy=True)),
    (version_2(0x20, 0x11, FOUR), Announced(None, None, by_proxy=True)),
    (version_2(0x21, 0x00, TLV), NOBODY),
    (version_2(0x21, 0x31, bytes(216)), NOBODY),
]

BAD = [
    b"GET / HTTP/1.1\r\n",
    b"proxy TCP4 203.0.113.7 198.51.100.2 4711 443\r\n",
    b"PROXY  TCP4 203.0.113.7 198.51.100.2 4711 443\r\n",
    b"PROXY TCP4 203.0.113.7 198.51.100.2 4711 443\n",
    b"PROXY TCP4 203.0.113.7 198.51.100.2 4711\r\n",
    b"PROXY TCP4 203.0.113.7 198.51.100.2 4711 443 1\r\n",
    b"PROXY TCP4 203.0.113.7 198.51.100.2 4711 65536\r\n",
    b"PROXY TCP4 203.0.113.7 198.51.100.2 4711 0443\r\n",
    b"PROXY TCP4 203.0.113.7 198.51.100.2 4711 -1\r\n",
    b"PROXY TCP4 203.0.113.7 198.51.100.2 4711 \xc2\xb2\r\n",
    b"PROXY TCP4 203.0.113.700 198.51.100.2 4711 443\r\n",
    b"PROXY TCP4 2001:db8::7 2001:db8::1 4711 443\r\n",
    b"PROXY TCP6 203.0.113.7 198.51.100.2 4711 443\r\n",
    b"PROXY TCP5 203.0.113.7 198.51.100.2 4711 443\r\n",
    b"PROXY \r\n",
    b"PROXY " + b"a" * 200 + b"\r\n",
    version_2(0x31, 0x11, FOUR),
    version_2(0x22, 0x11, FOUR),
    version_2(0x21, 0x12, FOUR),
    version_2(0x21, 0x41, FOUR),
    version_2(0x21, 0x11, FOUR[:-1]),
    version_2(0x21, 0x21, FOUR),
    version_2(0x21, 0x11, FOUR, length=60_000),
    SIGNATURE[:-1] + b"X" + bytes(20),
]


def taken(data: bytes) -> tuple[Announced, int]:
    """What is announced when the bytes come one by one, and where what follows begins."""
    for end in range(1, len(data) + 1):
        whole = needed(data[:end])
        if whole <= end:
            assert whole == end, "a byte that follows was needed to know"
            return read(data[:end]), end
    raise AssertionError("it does not end")


@pytest.mark.parametrize(("header", "expected"), GOOD)
def test_a_header_says_what_its_document_says(header: bytes, expected: Announced) -> None:
    assert taken(header + b"GET / HTTP/1.1\r\n\r\n") == (expected, len(header))
    assert needed(header + b"GET /") == len(header)


@pytest.mark.parametrize("header", BAD)
def test_a_header_that_is_malformed_is_found_out(header: bytes) -> None:
    with pytest.raises(Malformed):
        taken(header)
