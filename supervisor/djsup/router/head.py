"""What the router has to know of a request's head: its host and its path; or why it is refused.

It need not find every mistake, for the worker reads the head again and refuses what is wrong; only a head that goes to
no worker is checked here as a worker would (``check``). The rule that binds here: of every head that the worker accepts, the
host and the path are the ones that the worker finds, so that no request reaches a site that it does not name. So the host
is that of the target, if it has one (RFC 9112, 3.2.2), and of the only Host field otherwise.
"""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from djsup_worker.refusal import Refused
from djsup_worker.request import TARGET_MAX_BYTES, HeadReader, quoted

END = b"\r\n\r\n"
HOST = b"\r\nhost:"
ABSOLUTE = re.compile(rb"(?i:https?)://([^/?#]*)([^#]*)")
EMPTY_LINES = re.compile(rb"(?:\r\n)+")
LINE_PARTS = 3
LINE_MAX_BYTES = TARGET_MAX_BYTES + 64


def read(head: bytes) -> tuple[bytes, bytes, bytes]:
    """Host (empty: it names none), path (decoded) and target of a whole head, its last empty line included.

    Raises:
        Refused: it cannot be told what it asks for. Why is said as the worker would.
    """
    try:
        return _found(head)
    except Refused:
        check(head)
        raise


def check(head: bytes) -> None:
    """Read a whole head as a worker does. Takes longer than ``read``, so it is for heads that no worker is to get.

    Raises:
        Refused: as the worker would.
    """
    HeadReader().read(head, {})


def _found(head: bytes) -> tuple[bytes, bytes, bytes]:
    line, _, _ = head.partition(b"\r\n")
    parts = line.split(b" ")
    if len(parts) != LINE_PARTS:
        raise Refused(400, "malformed request line")
    target = parts[1]
    lowered = head.lower()
    at = lowered.find(HOST)
    host = b""
    if at >= 0:
        begins = at + len(HOST)
        if lowered.find(HOST, begins) >= 0:
            raise Refused(400, "two Host fields")
        host = head[begins : head.find(b"\r\n", begins)].strip(b" \t")
    if not target.isascii():
        target = quoted(target)
    path = target
    if not target.startswith(b"/"):
        found = ABSOLUTE.match(target)
        if found is not None:
            host = found.group(1).rpartition(b"@")[2]
            path = found.group(2)
        elif target == b"*":
            path = b"/"
        else:
            raise Refused(400, "malformed target")
    path = path.partition(b"#")[0].partition(b"?")[0]
    if b"%" in path:
        path = unquote_to_bytes(path)
    return host, path if path.startswith(b"/") else b"/" + path, target


def look_at_part(data: bytes, most: int) -> None:
    """Refuse the beginning of a head as soon as it can be known that it will not be right.

    Raises:
        Refused: as the worker would.
    """
    line_end = data.find(b"\r\n")
    if (line_end < 0 and len(data) > LINE_MAX_BYTES) or line_end > LINE_MAX_BYTES:
        raise Refused(414, f"the target is longer than {TARGET_MAX_BYTES} bytes")
    if len(data) > most:
        raise Refused(431, f"a header section of more than {most} bytes")
    if data.count(b"\n") != data.count(b"\r\n"):
        raise Refused(400, "a bare line feed")
