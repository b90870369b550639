"""The answers that the worker makes by itself: refusals, time-outs, and the page for a failed request."""

from __future__ import annotations

REASONS = {
    400: "Bad Request",
    405: "Method Not Allowed",
    408: "Request Timeout",
    413: "Content Too Large",
    414: "URI Too Long",
    417: "Expectation Failed",
    421: "Misdirected Request",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
    503: "Service Unavailable",
    505: "HTTP Version Not Supported",
}
TLS_ONLY = "this port speaks TLS only, so the address begins with https://"


class Refused(Exception):
    """A request that is not served: a fact about what a client sent, no error of ours. ``why`` is for the person who reads the answer."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__("%d %s" % (status, why))
        self.status = status
        self.why = why


def answer(status: int, why: str, date_line: bytes, *, body: bool = True) -> bytes:
    """The whole answer to a request that was not served, after which the connection is closed.

    ``date_line`` is a Date header with its line end; a HEAD request gets no ``body``.
    """
    reason = REASONS[status]
    text = ("%d %s%s\n" % (status, reason, ": " + why if why else "")).encode()
    head = (
        "HTTP/1.1 %d %s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\nConnection: close\r\n"
        % (status, reason, len(text))
    )
    return head.encode() + date_line + b"\r\n" + (text if body else b"")
