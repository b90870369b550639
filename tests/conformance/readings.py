"""The rules that every connection keeps, whatever its client sends; shared by the tests and ``make fuzz``."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote_from_bytes

from conformance.oracle import REFUSES, WAITS, argued_difference, opinion
from djsup_worker.scoreboard import CONNECTIONS_AT
from djsup_worker.trust import Trust
from worker.inprocess import PEER, InProcess, Reading, byte_by_byte

BYTEWISE_SHARE = 0.1
"""The fuzzer gives all inputs in a few pieces, and for the sake of its speed so many of them byte by byte."""
SAFE = "!\"#$%&'()*+,/:;<=>?@[\\]^`{|}~"


def essence(reading: Reading) -> tuple[list[dict[str, Any]], bool]:
    """What may not depend on how the bytes arrived: what the application was told, and whether it ended in a refusal.

    Not the refusal's status: a message with two faults is refused for the one that is seen first.
    """
    told = [
        {key: value for key, value in each.items() if not key.startswith("wsgi.") or key == "wsgi.url_scheme"}
        for each in reading.requests
    ]
    return told, bool(reading.refusal())


def check_one_reading(
    worker: InProcess,
    data: bytes,
    cuts: Sequence[Sequence[bytes]],
    *,
    peer: tuple[str, str] = PEER,
    preface: bool = False,
) -> Reading:
    """However the bytes arrive, they mean the same, and nothing of the connection is left afterwards."""
    open_before = _open_descriptors()
    first = worker.read([data], peer=peer, preface=preface)
    for pieces in cuts:
        other = worker.read(pieces, peer=peer, preface=preface)
        assert essence(other) == essence(first), (data, pieces)
    assert not worker.loop.connections
    assert worker.loop.row._row[CONNECTIONS_AT] == 0
    # Fewer are no wonder: what an earlier test has left is collected at any time.
    assert _open_descriptors() <= open_before, "descriptors are left open"
    for each in first.requests:
        names = [key for key in each if key.startswith("HTTP_")]
        assert "HTTP_TRANSFER_ENCODING" not in names
        assert not any("\r" in each[name] or "\n" in each[name] or "\0" in each[name] for name in names)
        assert each["RAW_URI"].isascii()
        assert each["RAW_URI"].isprintable()
        assert int(each.get("CONTENT_LENGTH", "0")) == len(each["body"])
    return first


def _open_descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def check_framing(data: bytes, reading: Reading) -> None:
    """Where djsup and h11 both take a message, it is the same one."""
    judged = opinion(data)
    mine = reading.framing()
    for at, (method, target, body) in enumerate(mine):
        if at == len(judged.requests):
            if judged.end == REFUSES:
                reason = argued_difference(data[judged.starts[at] :])
                assert reason is not None, (data, at)
                return  # what follows is read by one of the two only
            assert judged.end != WAITS, (data, at)
            return  # h11 closes after HTTP/1.0
        theirs = judged.requests[at]
        quoted = quote_from_bytes(theirs[1].encode("latin-1"), safe=SAFE)
        assert (method, target, body) == (theirs[0], quoted, theirs[2]), (data, at)
    if len(mine) < len(judged.requests):
        assert reading.refusal() or reading.closed, (data, "h11 has it whole, and djsup waits")


TRUSTED, PREFACED = 1, 2
"""Flags of an input: its peer is a trusted proxy; it has to begin with a PROXY header."""


def check_input(data: bytes, workers: dict[int, InProcess], randomness: random.Random) -> None:
    """One input of the fuzzer, whose first byte says from whom the rest comes; ``workers`` are made as needed."""
    flags = data[0] & (TRUSTED | PREFACED) if data else 0
    if flags not in workers:
        names = ["10.0.0.0/8"] if flags else []
        workers[flags] = InProcess(trust=Trust("site", names, proxy_protocol=bool(flags & PREFACED)))
    sent = data[1:]
    if not sent:
        return
    randomness.seed(data)
    cuts = sorted({randomness.randrange(len(sent) + 1) for _ in range(3)})
    edges = [0, *cuts, len(sent)]
    ways = [[sent[begin:end] for begin, end in pairwise(edges) if begin < end]]
    if randomness.random() < BYTEWISE_SHARE:
        ways.append(byte_by_byte(sent))
    peer = ("10.0.0.1", "5") if flags else PEER
    reading = check_one_reading(workers[flags], sent, ways, peer=peer, preface=bool(flags & PREFACED))
    if not flags & PREFACED:
        check_framing(sent, reading)
