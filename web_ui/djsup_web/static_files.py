"""The files of static/, read once at the start and served from memory.

They are small, and where the daemon is root they may lie in a folder that the dashboard's own user
cannot read. Nothing but these names can be asked for, so there is no path to escape from.
"""

from __future__ import annotations

import gzip
import hashlib
import re
from dataclasses import dataclass
from importlib.resources import files
from pathlib import PurePath

from aiohttp import hdrs, web

TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
"""Every kind of file that there is; another is left out."""


@dataclass(frozen=True, slots=True)
class StaticFile:
    """One file and how it is sent."""

    body: bytes
    packed: bytes
    """The same as gzip; nothing secret is in it that its length could tell."""
    media_type: str
    etag: str


class StaticFiles:
    """All of static/, by name."""

    def __init__(self) -> None:
        self._files: dict[str, StaticFile] = {}
        for each in files("djsup_web").joinpath("static").iterdir():
            media_type = TYPES.get(PurePath(each.name).suffix)
            if media_type is not None:
                body = each.read_bytes()
                self._files[each.name] = StaticFile(
                    body, gzip.compress(body, mtime=0), media_type, hashlib.sha256(body).hexdigest()[:16]
                )

    def text(self, name: str) -> str:
        """The text of a file that is known to be there."""
        return self._files[name].body.decode()

    async def serve(self, request: web.Request) -> web.Response:
        """Send one file; 304 when the browser has it."""
        file = self._files.get(request.match_info["name"])
        if file is None:
            raise web.HTTPNotFound
        shown = request.if_none_match or ()
        if any(each.value == file.etag for each in shown):
            response = web.Response(status=304)
        else:
            packed = _takes_gzip(request.headers.get(hdrs.ACCEPT_ENCODING, ""))
            response = web.Response(
                body=file.packed if packed else file.body, content_type=file.media_type, charset="utf-8"
            )
            if packed:
                response.headers[hdrs.CONTENT_ENCODING] = "gzip"
        response.headers[hdrs.VARY] = hdrs.ACCEPT_ENCODING
        response.etag = file.etag
        response.headers[hdrs.CACHE_CONTROL] = "no-cache"
        return response


def _takes_gzip(accepted: str) -> bool:
    """Whether a client has named gzip, and not with a weight of nothing (RFC 9110, 12.5.3)."""
    for each in accepted.lower().split(","):
        coding, _, weight = each.replace(" ", "").partition(";")
        if coding == "gzip":
            return not re.fullmatch(r"q=0(\.0*)?", weight)
    return False
