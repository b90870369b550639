"""Who may look and who may change: the token, the sessions made from it, and how fast one may guess.

Knows no HTTP: ``shield`` and ``pages`` ask it. The token itself is never kept, only its SHA-256,
and a session is not the token either: it is an expiry time and a random number, signed with a key
derived from that hash. So a session outlives a restart of the dashboard, ends with its token, and
needs no table; only those that were logged out are remembered.

Whoever can read the hash (root and the dashboard's own user) may speak to the control socket
anyway, so signing with it gives nothing away.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

SESSION_S = 24 * 3600
"""How long a login lasts, in seconds."""
LOGGED_OUT_MAX = 4096
"""How many ended sessions are remembered; more than can be made in a session's time by hand."""
COOKIE_MAX = 200
"""Longest cookie that is looked at, in characters."""
ATTEMPTS_BURST = 10
"""Wrong tokens that are answered at once."""
ATTEMPT_EVERY_S = 3.0
"""After that, one more attempt in so many seconds, for everybody together."""


class Token:
    """Compares what somebody shows with the hash of the token, in constant time."""

    def __init__(self, sha256: bytes) -> None:
        self._sha256 = sha256

    def matches(self, shown: str) -> bool:
        """Whether ``shown`` is the token. Hashing first makes the time independent of its length too."""
        digest = hashlib.sha256(shown.encode("utf-8", "surrogateescape")).digest()
        return hmac.compare_digest(digest, self._sha256)


class Sessions:
    """Makes and checks the values of the session cookie. ``wall_clock`` gives seconds since the epoch."""

    def __init__(self, token_sha256: bytes, wall_clock: Callable[[], float]) -> None:
        self._key = hmac.digest(token_sha256, b"djsup dashboard session", "sha256")
        self._clock = wall_clock
        self._logged_out: dict[str, int] = {}

    def open(self) -> str:
        """A new session: the value of its cookie."""
        expires = int(self._clock()) + SESSION_S
        body = f"{expires}.{secrets.token_urlsafe(18)}"
        return f"{body}.{self._sign(body)}"

    def valid(self, cookie: str) -> bool:
        """Whether the cookie is one of ours, has not expired, and was not logged out."""
        if len(cookie) > COOKIE_MAX or not cookie.isascii():
            return False
        body, _, signature = cookie.rpartition(".")
        if not hmac.compare_digest(signature, self._sign(body)):
            return False
        # What is signed is well formed: we wrote it.
        expires = int(body.partition(".")[0])
        return expires > self._clock() and cookie not in self._logged_out

    def close(self, cookie: str) -> None:
        """Log a session out, on every page that has it."""
        if not self.valid(cookie):
            return
        now = self._clock()
        self._logged_out = {known: until for known, until in self._logged_out.items() if until > now}
        while len(self._logged_out) >= LOGGED_OUT_MAX:
            del self._logged_out[next(iter(self._logged_out))]
        self._logged_out[cookie] = int(cookie.partition(".")[0])

    def _sign(self, body: str) -> str:
        return hmac.digest(self._key, body.encode(), "sha256").hex()


class Attempts:
    """A token bucket over wrong tokens, one for the process: guessing is slow however many guess.

    Only a wrong token takes from it, so whoever has the right one is slowed only while somebody
    else is guessing. ``clock`` is monotonic, in seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._left = float(ATTEMPTS_BURST)
        self._at = clock()

    def wait_s(self) -> float:
        """Seconds until an attempt is looked at; 0: now."""
        self._refill()
        return 0.0 if self._left >= 1 else (1 - self._left) * ATTEMPT_EVERY_S

    def failed(self) -> None:
        """A wrong token was shown."""
        self._refill()
        self._left = max(0.0, self._left - 1)

    def _refill(self) -> None:
        now = self._clock()
        self._left = min(float(ATTEMPTS_BURST), self._left + (now - self._at) / ATTEMPT_EVERY_S)
        self._at = now
