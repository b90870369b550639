"""The series of all sites as they are handed to the program that replaces the daemon's.

A head of JSON, which ends with the line, then the chunks of the rings one behind the other, as they lie in memory: a hundred
sites have 40 MB of them. What another version has written is not read: what it measured may mean something else, and
then a series has a gap. Nothing depends on it, so nothing that stands in it is an error.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from djsup import series

if TYPE_CHECKING:
    from collections.abc import Iterable

FORMAT = 1
MOST_BYTES = 128 * 1024 * 1024
"""What comes first is handed over as far as there is room: of many sites the day in steps of ten seconds is left out."""


@dataclass(frozen=True, slots=True)
class RingLeft:
    """One ring of a site."""

    site: str
    name: str
    """``seconds`` or ``tens`` of the site, or the number of a slot."""
    ring: series.Ring


def pack(sites: dict[str, Any], rings: Iterable[RingLeft]) -> bytes:
    """What is handed over. ``sites`` is JSON; the rings come in the order of what is missed most."""
    kept: list[RingLeft] = []
    size = 0
    for each in rings:
        size += each.ring.size_bytes
        if size > MOST_BYTES:
            break
        kept.append(each)
    head = {
        "format": FORMAT,
        "columns": _columns(),
        "sites": sites,
        "rings": [(each.site, each.name, list(each.ring.chunks)) for each in kept],
    }
    chunks = (chunk for each in kept for chunk in each.ring.chunks.values())
    return b"".join((json.dumps(head).encode(), b"\n", *chunks))


def unpack(content: bytes) -> tuple[dict[str, Any], dict[tuple[str, str], dict[int, bytes]]]:
    """What ``pack`` was given: the sites, and the chunks of each of their rings. Nothing, where it was another version.

    Raises:
        ValueError, KeyError, TypeError: it is no such thing.
    """
    line, _, rest = content.partition(b"\n")
    head = json.loads(line)
    if head["format"] != FORMAT or head["columns"] != _columns():
        return {}, {}
    rings: dict[tuple[str, str], dict[int, bytes]] = {}
    at = 0
    for site, name, numbers in head["rings"]:
        size = _chunk_bytes(name)
        rings[site, name] = {}
        for number in numbers:
            rings[site, name][int(number)] = rest[at : at + size]
            at += size
    if at != len(rest):
        raise ValueError(f"{len(rest)} bytes of chunks, {at} are named")
    return dict(head["sites"]), rings


def _columns() -> list[list[str | float]]:
    """What a record holds, and in which units."""
    return [[each.name, each.unit] for each in (*series.SITE, *series.WORKER)]


def _chunk_bytes(name: str) -> int:
    rings = {"seconds": series.seconds_ring, "tens": series.tens_ring}
    return rings.get(name, series.worker_ring)().chunk_bytes
