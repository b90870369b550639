"""Who may look and who may change: the tokens, the sessions made from them, and how fast one may guess.

Knows no HTTP: ``shield`` and ``pages`` ask it. A token itself is never kept, only its SHA-256,
and a session is not the token either: it is an expiry time and a random number, signed with a key
derived from that hash. So a session outlives a restart of the dashboard, may what its token may, ends
with its token, and needs no table; only those that were logged out are remembered.

Whoever can read the hash (root and the dashboard's own user) may speak to the control socket
anyway, so signing with it gives nothing away.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

SESSION_S = 24 * 3600
"""How long a login lasts, in seconds."""
LOGGED_OUT_MAX = 4096
"""How many ended sessions are remembered; more than can be made in a session's time by hand."""
COOKIE_MAX = 200
"""Longest cookie that is looked at, in characters."""
ATTEMPTS_BURST = 10
"""Wrong tokens that are answered at once."""
ATTEMPT_EVERY_S = 3.0
"""After that, one more attempt in so many seconds from the same network."""
NETWORKS_MAX = 1000
"""Networks that are remembered; all others share one count."""


class Right(Enum):
    """What somebody may do."""

    CHANGE = "change"
    """Everything."""
    LOOK = "look"
    """See everything and change nothing."""


class Tokens:
    """The hashes of the tokens that are valid now, and what each gives. Compares in constant time."""

    def __init__(self, full: Iterable[bytes], read_only: Iterable[bytes] = ()) -> None:
        self._rights: dict[bytes, Right] = {}
        self.replace(full, read_only)

    def replace(self, full: Iterable[bytes], read_only: Iterable[bytes]) -> None:
        """Other tokens are valid from now on."""
        self._rights = dict.fromkeys(read_only, Right.LOOK) | dict.fromkeys(full, Right.CHANGE)

    def find(self, shown: str) -> bytes | None:
        """The hash of a token, None when it is none. Hashing first makes the time independent of its length too."""
        digest = hashlib.sha256(shown.encode("utf-8", "surrogateescape")).digest()
        found = None
        for known in self._rights:
            if hmac.compare_digest(digest, known):
                found = known
        return found

    def right(self, sha256: bytes) -> Right | None:
        """What a token gives; None: it is not valid any more."""
        return self._rights.get(sha256)

    def __iter__(self) -> Iterator[bytes]:
        """The hashes of all."""
        return iter(self._rights)


class Sessions:
    """Makes and checks the values of the session cookie. ``wall_clock`` gives seconds since the epoch."""

    def __init__(self, tokens: Tokens, wall_clock: Callable[[], float]) -> None:
        self._tokens = tokens
        self._clock = wall_clock
        self._logged_out: dict[str, int] = {}

    def open(self, token_sha256: bytes) -> str:
        """A new session of whoever has shown this token: the value of its cookie."""
        expires = int(self._clock()) + SESSION_S
        body = f"{expires}.{secrets.token_urlsafe(18)}"
        return f"{body}.{_sign(body, token_sha256)}"

    def right(self, cookie: str) -> Right | None:
        """What a cookie gives; None: it is none of ours, has expired, was logged out, or its token is gone."""
        if len(cookie) > COOKIE_MAX or not cookie.isascii():
            return None
        body, _, signature = cookie.rpartition(".")
        right = None
        for token in self._tokens:
            if hmac.compare_digest(signature, _sign(body, token)):
                right = self._tokens.right(token)
        # What is signed is well formed: we wrote it.
        if right is None or int(body.partition(".")[0]) <= self._clock() or cookie in self._logged_out:
            return None
        return right

    def close(self, cookie: str) -> None:
        """Log a session out, on every page that has it."""
        if self.right(cookie) is None:
            return
        now = self._clock()
        self._logged_out = {known: until for known, until in self._logged_out.items() if until > now}
        while len(self._logged_out) >= LOGGED_OUT_MAX:
            del self._logged_out[next(iter(self._logged_out))]
        self._logged_out[cookie] = int(cookie.partition(".")[0])


def _sign(body: str, token_sha256: bytes) -> str:
    key = hmac.digest(token_sha256, b"djsup dashboard session", "sha256")
    return hmac.digest(key, body.encode(), "sha256").hex()


class Attempts:
    """A token bucket over the wrong tokens of each network: guessing is slow, and slows nobody elsewhere.

    Only a wrong token takes from it. ``clock`` is monotonic, in seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._spent: dict[str, tuple[float, float]] = {}
        """Attempts that a network has not got back yet, and when that was so; none when it has them all."""

    def wait_s(self, address: str) -> float:
        """Seconds until an attempt from this address is looked at; 0: now."""
        over = self._now_spent(self._bucket(network_of(address))) - ATTEMPTS_BURST + 1
        return over * ATTEMPT_EVERY_S if over > 0 else 0.0

    def failed(self, address: str) -> None:
        """A wrong token was shown."""
        network = network_of(address)
        if network not in self._spent and len(self._spent) >= NETWORKS_MAX:
            self._spent = {each: spent for each, spent in self._spent.items() if self._now_spent(each) > 0}
        bucket = self._bucket(network)
        self._spent[bucket] = (min(float(ATTEMPTS_BURST), self._now_spent(bucket) + 1), self._clock())

    def _bucket(self, network: str) -> str:
        """Its own, while there is room."""
        return network if network in self._spent or len(self._spent) < NETWORKS_MAX else ""

    def _now_spent(self, bucket: str) -> float:
        spent, at = self._spent.get(bucket, (0.0, 0.0))
        return max(0.0, spent - (self._clock() - at) / ATTEMPT_EVERY_S)


def network_of(address: str) -> str:
    """Whom an address belongs to: of IPv6, anybody has the 2**64 addresses of a network. Not an address: itself."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        mapped = parsed.ipv4_mapped
        return str(mapped or ipaddress.IPv6Network((int(parsed) >> 64 << 64, 64)))
    return address
