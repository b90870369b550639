"""Watches over the listeners of sites that sleep: told once when a connection waits, nothing is accepted.

Knows descriptors and the event loop. A listener stays readable until somebody accepts, so a watch ends with
the first connection; the core asks for another when the site sleeps again.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from djsup.core.model import Address


class Watches:
    """The listeners that are watched, by address. ``waits`` is called from the event loop."""

    def __init__(self, waits: Callable[[Address], None]) -> None:
        self._waits = waits
        self._watched: dict[Address, socket.socket] = {}

    def watch(self, address: Address, listener: socket.socket) -> None:
        """Watch a listener for one connection; one may wait already."""
        self.drop(address)
        self._watched[address] = listener
        asyncio.get_running_loop().add_reader(listener, self._readable, address)

    def drop(self, address: Address) -> None:
        """Watch it no longer, as before it is closed; not watched: nothing."""
        listener = self._watched.pop(address, None)
        if listener is not None:
            asyncio.get_running_loop().remove_reader(listener)

    def _readable(self, address: Address) -> None:
        self.drop(address)
        self._waits(address)
