"""What a request for a file asks besides the file: its conditions, a part of it, its coding (RFC 9110, 12 to 14).

Pure: header values in, decisions out. A header that makes no sense is as good as none. Several parts in one
answer (``multipart/byteranges``) are not made: such a Range is ignored, as RFC 9110, 14.2 allows.
"""

from __future__ import annotations

import re
from email.utils import parsedate_to_datetime
from typing import Any, Dict, FrozenSet, Optional, Tuple

OK, NOT_MODIFIED, PRECONDITION_FAILED = 200, 304, 412

ACCEPTED_KEPT_MAX = 64
"""Values of Accept-Encoding that are remembered; browsers send few different ones."""

TAG = re.compile(r'(W/)?("[!#-~\x80-\xff]*")')
ONE_RANGE = re.compile(r"(?i:bytes)[ \t]*=[ \t]*([0-9]{0,18})-([0-9]{0,18})[ \t]*")
REFUSED = re.compile(r"[ \t]*q[ \t]*=[ \t]*0(?:\.0{0,3})?[ \t]*")

UNSATISFIABLE = (-1, 0)

_accepted: Dict[str, FrozenSet[str]] = {}


def judge(environ: Dict[str, Any], etag: str, last_modified: str, modified_s: int) -> int:
    """OK, NOT_MODIFIED or PRECONDITION_FAILED for a GET or HEAD, in the order of RFC 9110, 13.2.2.

    ``etag`` is a strong one, quotes included; ``last_modified`` the header, empty where the file has no time;
    ``modified_s`` the same as a time.
    """
    if_match = environ.get("HTTP_IF_MATCH")
    if if_match is not None:
        if not _names(if_match, etag, weakly=False):
            return PRECONDITION_FAILED
    elif "HTTP_IF_UNMODIFIED_SINCE" in environ:
        since_s = _time(environ["HTTP_IF_UNMODIFIED_SINCE"])
        if since_s is not None and modified_s > since_s:
            return PRECONDITION_FAILED
    if_none_match = environ.get("HTTP_IF_NONE_MATCH")
    if if_none_match is not None:
        return NOT_MODIFIED if _names(if_none_match, etag, weakly=True) else OK
    if_modified_since = environ.get("HTTP_IF_MODIFIED_SINCE")
    if if_modified_since:
        if if_modified_since == last_modified:
            return NOT_MODIFIED
        since_s = _time(if_modified_since)
        if since_s is not None and modified_s <= since_s:
            return NOT_MODIFIED
    return OK


def part(environ: Dict[str, Any], size: int, etag: str, last_modified: str) -> Optional[Tuple[int, int]]:
    """First byte and number of bytes of the part that a GET asks for; None: all; or UNSATISFIABLE."""
    wanted = environ.get("HTTP_RANGE")
    if wanted is None:
        return None
    only_if = environ.get("HTTP_IF_RANGE")
    if only_if is not None and only_if not in (etag, last_modified or etag):
        return None  # RFC 9110, 13.1.5: it has changed since the client got its first part
    found = ONE_RANGE.fullmatch(wanted)
    if found is None:
        return None
    first, last = found.groups()
    if not first:
        return _suffix(last, size)
    begin = int(first)
    if last and int(last) < begin:
        return None  # RFC 9110, 14.1.1: invalid
    if begin >= size:
        return UNSATISFIABLE
    end = min(int(last), size - 1) if last else size - 1
    return begin, end - begin + 1


def accepted(header: str) -> FrozenSet[str]:
    """The content codings that an Accept-Encoding names and does not refuse."""
    known = _accepted.get(header)
    if known is not None:
        return known
    found = set()
    for each in header.lower().split(","):
        coding, _, weight = each.partition(";")
        if not REFUSED.fullmatch(weight):
            found.add(coding.strip(" \t"))
    if "x-gzip" in found:  # RFC 9110, 8.4.1.3
        found.add("gzip")
    if len(_accepted) >= ACCEPTED_KEPT_MAX:
        _accepted.clear()
    _accepted[header] = frozenset(found)
    return _accepted[header]


def _suffix(last: str, size: int) -> Optional[Tuple[int, int]]:
    """The last so many bytes."""
    if not last or not size:
        return None  # malformed; or of nothing, which no Content-Range can say
    count = min(int(last), size)
    return (size - count, count) if count else UNSATISFIABLE


def _names(header: str, etag: str, *, weakly: bool) -> bool:
    """Whether a list of entity tags names this one (RFC 9110, 8.8.3.2)."""
    if header.strip(" \t") == "*":
        return True
    return any(tag == etag and (weakly or not weak) for weak, tag in TAG.findall(header))


def _time(header: str) -> Optional[int]:
    """The seconds since the epoch that an HTTP date means; None: it is none."""
    try:
        return int(parsedate_to_datetime(header).timestamp())
    except (TypeError, ValueError, IndexError, OverflowError, AttributeError):
        return None  # what the standard library raises for a malformed date differs by its version
