"""The tally: memory in which a worker writes which connections it has given back, so that this costs no message.

The router makes it for each line, and passes it to the worker before the first request. It looks into it when a client
has sent something on a connection that the worker was lent, and when it chooses a worker: so a connection that comes
back wakes nobody up. A router that waits for what comes back says so here, and gets a note then, too (``link.py``).

Native 64-bit words:

    0      DONE: how many connections were given back here, written by the worker before the connection's own word
    1      HEED: not 0 while the router wants a note, too, written by the router
    2..    a word for each of the router's descriptors: the number of the connection that was given back last
           there. The router empties it before it lends the connection again; no other connection has that number.

The two processes take no lock. Each word has one writer at a time, and is written whole. The worker writes a connection's
word and then reads HEED; the router writes HEED and then reads the word. So one of them sees what the other has
written, but for what is still on its way from one processor to the other: the router looks once more a moment later.
"""

from __future__ import annotations

import mmap

DONE, HEED, PLACES = 0, 1, 2
WORD_BYTES = 8


def size_bytes(descriptors: int) -> int:
    """How long it has to be for a router with so many descriptors."""
    return (PLACES + descriptors) * WORD_BYTES


def open_words(fd: int) -> memoryview:
    """The words behind a descriptor, which may be closed then.

    Raises:
        OSError, ValueError: it is no memory to be shared.
    """
    words = memoryview(mmap.mmap(fd, 0)).cast("Q")
    if len(words) < PLACES:
        raise ValueError("too short for a tally")
    return words


def open_alone(size: int) -> memoryview:
    """Words that nobody shares: the router's for a worker that has none, and tells everything by notes."""
    return memoryview(mmap.mmap(-1, size)).cast("Q")
