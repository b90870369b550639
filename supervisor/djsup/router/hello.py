"""The name that a client asks for as it begins TLS: the Server Name Indication of its ClientHello (RFC 6066, 3).

Reads what it needs and judges nothing: OpenSSL does, in the worker that gets the connection.
"""

from __future__ import annotations

MOST_BYTES = 16 * 1024 + 5
"""A record and its head; a ClientHello that needs more is one of an attacker."""
RECORDS_MAX = 16
"""In so many records at most: each is a piece of work at each look."""
HANDSHAKE, CLIENT_HELLO, SERVER_NAME, HOST_NAME = 22, 1, 0, 0
NO_NAME = b""


def server_name(data: bytes) -> bytes | None:
    """The name in the beginning of a connection; empty: it asks for none, or speaks no TLS; None: there is more to come."""
    hello = b""
    at = 0
    for _ in range(RECORDS_MAX):
        if len(data) < at + 5:
            return None if not data or data[0] == HANDSHAKE else NO_NAME
        if data[at] != HANDSHAKE:
            return NO_NAME
        length = int.from_bytes(data[at + 3 : at + 5], "big")
        hello += data[at + 5 : at + 5 + length]
        at += 5 + length
        if len(hello) >= 4:  # noqa: PLR2004 -- type and length
            if hello[0] != CLIENT_HELLO:
                return NO_NAME
            if len(hello) >= 4 + int.from_bytes(hello[1:4], "big"):
                return _name(hello)
        if at >= len(data):
            return None
    return NO_NAME


def _name(hello: bytes) -> bytes:
    """The name in a whole ClientHello (RFC 8446, 4.1.2)."""
    reader = _Reader(hello, 4 + 2 + 32)
    reader.skip(1)  # session id
    reader.skip(2)  # cipher suites
    reader.skip(1)  # compression methods
    end = reader.number(2) + reader.at
    while reader.at + 4 <= min(end, len(hello)):
        kind, length = reader.number(2), reader.number(2)
        if kind != SERVER_NAME:
            reader.at += length
            continue
        reader.number(2)  # the length of the list
        if reader.number(1) != HOST_NAME:
            return NO_NAME
        size = reader.number(2)
        return hello[reader.at : reader.at + size]
    return NO_NAME


class _Reader:
    def __init__(self, data: bytes, at: int) -> None:
        self._data = data
        self.at = at

    def number(self, size: int) -> int:
        value = int.from_bytes(self._data[self.at : self.at + size], "big")
        self.at += size
        return value

    def skip(self, size: int) -> None:
        """Skip a field that begins with its length, a number of ``size`` bytes."""
        length = self.number(size)
        self.at += length
