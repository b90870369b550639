"""What h11, an independent and careful reader of HTTP/1.1, makes of the bytes of one connection.

It judges djsup's framing: where both take a message, both must have read the same one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import h11

WHOLE, WAITS, REFUSES, CLOSES = "whole", "waits", "refuses", "closes"


@dataclass
class Opinion:
    """The requests that h11 reads, and how it ended."""

    requests: list[tuple[str, str, bytes]] = field(default_factory=list)
    """Method, target and body."""
    starts: list[int] = field(default_factory=list)
    """Where each of them begins, and where the one begins that it did not finish."""
    end: str = WAITS


def opinion(data: bytes) -> Opinion:
    """Read one connection to its end."""
    found = Opinion(starts=[0])
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    try:
        connection.receive_data(data)
        while True:
            request, body = None, b""
            while True:
                event = connection.next_event()
                if event is h11.NEED_DATA:
                    return found
                if event is h11.PAUSED:
                    found.end = CLOSES
                    return found
                if isinstance(event, h11.Request):
                    request = event
                elif isinstance(event, h11.Data):
                    body += bytes(event.data)
                elif isinstance(event, h11.EndOfMessage):
                    break
            assert request is not None
            found.requests.append((request.method.decode(), request.target.decode("latin-1"), body))
            found.starts.append(len(data) - len(connection.trailing_data[0]))
            if request.method == b"CONNECT":
                found.end = CLOSES
                return found
            connection.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
            connection.send(h11.EndOfMessage())
            if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                found.end = CLOSES
                return found
            connection.start_next_cycle()
    except h11.RemoteProtocolError:
        found.end = REFUSES
    return found


def argued_difference(rest: bytes) -> str | None:
    """Why djsup takes a message, which begins with these bytes, that h11 refuses; None: no reason is known."""
    head = rest.partition(b"\r\n\r\n")[0]
    line = head.partition(b"\r\n")[0]
    if rest.startswith(b"\r\n"):
        return "an empty line before a request, which RFC 9112, 2.2 has servers ignore"
    if not re.search(rb"\r\n(?i:host):", head):
        return "no Host: let pass, for it opens no second reading"
    if not line.isascii():
        return "bytes above ASCII in a target, which browsers of old send: read as percent-encoded"
    if re.search(rb"\n[0-9A-Fa-f]+[ \t]+;", rest):
        return "white space before a chunk extension, which RFC 9110, 5.6.3 has recipients remove"
    return None
