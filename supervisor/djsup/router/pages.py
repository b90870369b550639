"""The answers that the router gives by itself. None tells a site's name, nor that djsup is here."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from djsup_worker.https import ACME
from djsup_worker.refusal import TLS_ONLY, answer

if TYPE_CHECKING:
    from collections.abc import Mapping

ACME_PATH = ACME.encode()
TOKEN = re.compile(rb"[A-Za-z0-9_-]{1,255}")
"""RFC 8555, 8.3: a token is of the base64url alphabet, so it is one file's name and nothing else."""
TOKEN_MAX_BYTES = 8 * 1024
REASONS = {
    200: "OK",
    301: "Moved Permanently",
    308: "Permanent Redirect",
    404: "Not Found",
    503: "Service Unavailable",
}
SAFE_METHODS = (b"GET", b"HEAD")
UNRECOGNIZED_NAME = b"\x15\x03\x01\x00\x02\x02\x70"
"""RFC 6066, 3: this alert (112), fatal, in a record of the version that every client reads."""
PLAIN_HTTP = (b"GET ", b"HEAD ", b"POST ", b"PUT ")
"""What OpenSSL takes for it, too."""


def page(
    status: int, text: bytes, date: bytes, *, is_head: bool, fields: Mapping[str, str] | None = None
) -> bytes:
    """One answer, after which the connection is closed; ``date`` is a Date field with its line's end."""
    more = "".join(f"{name}: {value}\r\n" for name, value in (fields or {}).items())
    head = (
        f"HTTP/1.1 {status} {REASONS[status]}\r\nContent-Type: text/plain; charset=utf-8\r\n"
        f"Content-Length: {len(text)}\r\nConnection: close\r\n{more}"
    )
    return head.encode("latin-1") + date + b"\r\n" + (b"" if is_head else text)


def not_found(date: bytes, *, is_head: bool) -> bytes:
    """For a request that is for no site."""
    return page(404, b"404 Not Found\n", date, is_head=is_head)


def unavailable(date: bytes, retry_after_s: int, *, is_head: bool) -> bytes:
    """For a request that has waited in vain."""
    fields = {"Retry-After": str(retry_after_s)}
    return page(503, b"503 Service Unavailable\n", date, is_head=is_head, fields=fields)


def moved(date: bytes, origin: str, target: bytes, method: bytes) -> bytes:
    """For a host that is sent on to another. 308 keeps method and body (RFC 9110, 15.4.9); for the rest 301 is older.

    ``target`` is path and query as they were asked, or ``*``. An absolute target may have no path (RFC 9112, 3.2.2).
    """
    path = target if target.startswith(b"/") else b"/" + target.removeprefix(b"*")
    quoted = "".join(chr(each) if 0x20 < each < 0x7F else f"%{each:02X}" for each in path.partition(b"#")[0])  # noqa: PLR2004 -- visible ASCII
    status = 301 if method in SAFE_METHODS else 308
    is_head = method == b"HEAD"
    return page(status, b"Moved\n", date, is_head=is_head, fields={"Location": origin + quoted})


def no_name(data: bytes, date: bytes) -> bytes:
    """For a client that has begun so where TLS is spoken, and asks for the name of no site."""
    return answer(400, TLS_ONLY, date) if data.startswith(PLAIN_HTTP) else UNRECOGNIZED_NAME


def challenge(date: bytes, folder: str, path: bytes, *, is_head: bool) -> bytes | None:
    """The answer to a certificate authority's question, as certbot's webroot mode has laid it down; None: there is none.

    ``folder`` is the webroot. A token's name is checked, so nothing else in the folder can be asked for.
    """
    token = path[len(ACME_PATH) :]
    if not TOKEN.fullmatch(token):
        return None
    file = f"{folder}{ACME}{token.decode()}"
    try:
        fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        content = os.read(fd, TOKEN_MAX_BYTES)
    except OSError:
        return None
    finally:
        os.close(fd)
    return page(200, content, date, is_head=is_head)
