"""What requests and connections may take, as the daemon told this worker; can change while it runs."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Dict

SECOND_NS = 1_000_000_000
RATE_MIN_BYTES_S = 240
"""The slowest that a client may send a body or take an answer in, in the long run: Kestrel's rate (its
MinRequestBodyDataRate and MinResponseDataRate) and IIS's (minBytesPerSecond)."""
BYTE_NS = SECOND_NS // RATE_MIN_BYTES_S


@dataclass(frozen=True)
class Limits:
    """The part of the daemon's limits that a worker keeps by itself. Seconds and bytes."""

    request_timeout_s: float = 30.0
    soft_timeout_s: float = 0.0
    max_timeout_s: float = 3600.0
    drain_timeout_s: float = 30.0
    max_body_bytes: int = 100 * 1024 * 1024
    max_header_bytes: int = 32 * 1024
    keepalive_s: float = 15.0
    header_timeout_s: float = 10.0
    body_timeout_s: float = 30.0
    write_timeout_s: float = 60.0

    @classmethod
    def from_message(cls, told: Dict[str, Any]) -> Limits:
        """The limits in a message; what it does not name, or not as a number, has its default."""
        known = {each.name for each in fields(cls)}
        taken: Dict[str, Any] = {
            name: value
            for name, value in told.items()
            if name in known and isinstance(value, (int, float)) and not isinstance(value, bool)
        }
        return cls(**taken)
