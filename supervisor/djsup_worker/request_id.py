"""Request ids: one text by which a request is found again in every log that it left a line in.

A client's own is taken only from a peer that is trusted: anybody else could write the id of another's
request, or a megabyte. All others get one made here: 64 random bits of this worker's and a number.
"""

from __future__ import annotations

import os
import re
from itertools import count
from typing import Any, Callable, Dict

HEADER = "HTTP_X_REQUEST_ID"
KEY = "djsup.request_id"
WELL_FORMED = re.compile(r"[A-Za-z0-9._~+/=@:-]{1,128}")


def nobody(_peer_host: str) -> bool:
    """Trust no peer."""
    return False


class RequestIds:
    """Gives each request its id."""

    def __init__(self, trusts: Callable[[str], bool] = nobody) -> None:
        """``trusts`` tells whether a peer, by its address, may say the id of what it sends."""
        self.trusts = trusts
        self._made = (os.urandom(8).hex() + "%08x").__mod__
        self._next = count().__next__

    def mark(self, environ: Dict[str, Any], peer_host: str) -> str:
        """Write the id of a request into its environ, and give it."""
        told: str = environ.get(HEADER, "")
        if not (told and self.trusts(peer_host) and WELL_FORMED.fullmatch(told)):
            told = self._made(self._next())
        environ[HEADER] = environ[KEY] = told
        return told
