"""What the daemon and the router say to each other: one JSON object a datagram, descriptors beside it.

From the daemon:

    {"kind": "routing", "listeners": [ADDRESS, ...],     a memfd with the Routing as JSON, then those listeners;
     "tls": [ADDRESS, ...]}                              those of them that speak TLS
    {"kind": "worker", "site": NAME, "name": NUMBER}     the router's end of a line to a worker of that site
    {"kind": "alive", "names": [NUMBER, ...],            all workers that live, though some have no line yet; and those
     "drained": [NUMBER, ...]}                           that have ended of late, and had finished all that they had
    {"kind": "gone", "name": NUMBER, "drained": BOOL}    a worker has ended
    {"kind": "end"}                                      there will be no other router: end with what you have

From the router:

    {"kind": "waiting", "site": NAME}                    a request waits, and the site has no worker
    {"kind": "figures", "sites": {NAME: {...}}}          see ``Figures``; only what has changed
    {"kind": "vault"}                                    the line to the vault, for the next router

The two sides may be of different versions: djsup may have been installed anew since the daemon was started, and a router
outlives a daemon. So what is not known is passed over, be it a kind, a field, or descriptors behind those that are.
"""

from __future__ import annotations

import json
import os
import socket
from dataclasses import asdict, dataclass, fields
from typing import Any

from djsup import descriptors

MESSAGE_MAX_BYTES = 64 * 1024
ROUTING_MAX_BYTES = 64 * 1024 * 1024


@dataclass(slots=True)
class Figures:
    """What a site's queue does and has done since the router began."""

    queued: int = 0
    """Requests that wait for a worker now."""
    routed: int = 0
    """Requests that were passed to a worker."""
    waited: int = 0
    """Those of them that had to wait first."""
    waited_s: float = 0.0
    """How long, all together."""
    turned_away: int = 0
    """Requests that were answered 503: the queue was full, or its time over."""

    def plus(self, before: Figures) -> Figures:
        """With what was done before; what waits now, only ours do."""
        return Figures(
            self.queued,
            self.routed + before.routed,
            self.waited + before.waited,
            self.waited_s + before.waited_s,
            self.turned_away + before.turned_away,
        )


def as_json(figures: Figures) -> dict[str, Any]:
    """For the channel."""
    return asdict(figures)


def figures_in(raw: Any) -> Figures:
    """What ``as_json`` has given, of another version perhaps."""
    told: dict[str, Any] = raw if isinstance(raw, dict) else {}
    names = [each.name for each in fields(Figures)]
    return Figures(**{name: told[name] for name in names if isinstance(told.get(name), (int, float))})


def send(channel: socket.socket, message: dict[str, Any], fds: list[int] | None = None) -> None:
    """Send one message.

    Raises:
        OSError: the other side is gone, or takes nothing now.
    """
    data = json.dumps(message).encode()
    if fds:
        socket.send_fds(channel, [data], fds)
    else:
        channel.send(data)


def receive(channel: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """The next message, which has a kind, and its descriptors; None: the other side is gone.

    Raises:
        BlockingIOError: nothing there now.
        ValueError: it is no message; its descriptors are closed.
    """
    try:
        data, ancillary, _, _ = channel.recvmsg(MESSAGE_MAX_BYTES, descriptors.ROOM, socket.MSG_CMSG_CLOEXEC)
    except ConnectionError:
        return None
    if not data:
        return None
    fds = descriptors.in_message(ancillary)
    try:
        message = dict(json.loads(data))
        if "kind" not in message:
            raise ValueError("a message without a kind")
    except (ValueError, TypeError, RecursionError):
        descriptors.close_all(fds)
        raise ValueError(f"no message: {data[:200]!r}") from None
    return message, fds


def memory_of(value: Any) -> int:
    """A memfd that holds a value as JSON: no datagram is long enough for a thousand sites."""
    fd = os.memfd_create("djsup-routing")
    with os.fdopen(os.dup(fd), "wb") as file:
        file.write(json.dumps(value).encode())
    return fd


def value_in(fd: int) -> Any:
    """The value in such a memfd, which is closed."""
    try:
        return json.loads(os.pread(fd, ROUTING_MAX_BYTES, 0))
    finally:
        os.close(fd)
