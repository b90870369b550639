"""What the daemon and a template or worker say to each other over their channel.

A channel is a ``SOCK_SEQPACKET`` socketpair: one message is one datagram, one JSON object
``{"kind": NAME, ...fields}``, with file descriptors beside it (``SCM_RIGHTS``) in the order that
the message's docstring names. The daemon takes the sender's pid from the kernel
(``SCM_CREDENTIALS``), never from a message.

The two sides may be of different versions: workers outlive an upgrade of the daemon. So what is not known is passed over, be
it a kind, a field, or descriptors behind those that are; and a field that is added has a default.

This module is imported by both sides and runs on the oldest Python that a site may have.
"""

from __future__ import annotations

import json
import os
import socket
from array import array
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Dict, List, Optional, Sequence, Tuple, Type, Union

REVISION = 2
"""Grows when a message comes to mean something else with the same fields, or when a router and a worker speak otherwise
(``link.py``): workers of before are replaced then, and no router is given to them."""
MESSAGE_MAX_BYTES = 128 * 1024
"""The longest message; texts in it are cut to TEXT_MAX by their sender."""
TEXT_MAX = 16 * 1024
"""The longest error or traceback in characters; the end is kept, for it says what went wrong."""
FDS_MAX = 64
"""The most file descriptors with one message."""
_FD = array("i")


class BadMessage(ValueError):
    """The other side sent what is no message of ours."""


# --- from the daemon ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Boot:
    """First message to a process that was run with exec: what it is to be.

    File descriptors: the scoreboard (a memfd), the receiving and the sending end of the generation's
    handover socket, the file that stacks are written to (a memfd, one for all processes of the site), the
    ends from which the daemon reads standard output and error (kept open, so that writing does not fail
    in the moment in which the daemon is gone), then one listening socket for each of ``listeners``.
    """

    role: str
    """``template`` or ``worker`` (one that loads the application by itself)."""
    site: str
    generation: int
    slot: int
    """The worker's row; -1 for a template."""
    directory: str
    wsgi: Optional[str]
    settings: Optional[str]
    threads: int
    limits: Dict[str, Any]
    """The fields of the daemon's Limits, by name."""
    health_path: Optional[str]
    health_expect: int
    health_host: str
    listeners: List[str] = field(default_factory=list)
    """Addresses as the configuration writes them, in the order of their descriptors."""
    orphan_grace_s: float = 60.0
    home: str = ""
    """The path of the socket on which a daemon that is started again adopts orphans."""
    trusted_proxies: List[str] = field(default_factory=list)
    """Networks, and ``unix`` for peers on a Unix socket."""
    proxy_protocol: bool = False
    """Whether those begin their connections with a PROXY header."""
    static: Dict[str, Any] = field(default_factory=dict)
    """Folders of files by the prefix of their URLs: ``{"path": str, "changes": bool}`` each."""
    tls_listeners: List[str] = field(default_factory=list)
    """Those of ``listeners`` that speak TLS; the certificates come by NewCertificates, to workers only."""
    hosts: List[str] = field(default_factory=list)
    """The site's own, in small letters, for TLS on an address that it shares."""
    mount: str = ""
    """What the paths of its requests begin with, for SCRIPT_NAME; empty: the site is all there is."""


@dataclass(frozen=True)
class Fork:
    """To a template: fork one worker for this row.

    File descriptors: the worker's channel, then the ends of its standard output and standard
    error that it writes to, then the ends that the daemon reads from (kept open by the worker so
    that writing does not fail in the moment in which the daemon is gone).
    """

    proc: int
    """The daemon's name for the worker, repeated in ForkFailed."""
    slot: int


@dataclass(frozen=True)
class Welcome:
    """To a forked worker: your Hello was read, your pid is known, go on."""


@dataclass(frozen=True)
class Drain:
    """To a worker: stop accepting, finish, hand over, exit 0.

    Once more to one that drains: hand over to these others from now on; its time stays as it was.

    File descriptors: the sending end of a handover socket, or none.
    """

    timeout_s: float


@dataclass(frozen=True)
class NewLimits:
    """To a worker: these limits from now on."""

    limits: Dict[str, Any]


@dataclass(frozen=True)
class Route:
    """To a worker that is ready: take requests from a router, too.

    File descriptors: its end of a line to the router (``link.py``).
    """

    alone: bool = True
    """Whether all routers before this one are gone, so that what the worker has of theirs is this one's."""


@dataclass(frozen=True)
class NewCertificates:
    """To a worker: these certificates, this redirect and this HSTS from now on.

    A worker that has listeners with TLS is not ready before the first of these. File descriptors: one a certificate,
    a memfd that holds its chain and then its key as PEM, sealed against every change.
    """

    names: List[str]
    """For each certificate its names, parted by spaces; the first certificate is the default."""
    redirect: str
    """The origin that plain http is sent on to, ``{host}`` in it being the host asked for; empty: it is not."""
    hsts: str
    """The value of Strict-Transport-Security; empty: none is sent."""


@dataclass(frozen=True)
class AccessLog:
    """To a worker: how it logs its requests, from now on. A forked one may get it before its Welcome.

    File descriptors: the site's access log, open for appending; none: no log is written.
    """

    style: str
    """``text`` or ``json``."""
    pieces: List[str]
    """For ``text``: texts and directives in turn, as ``access_format`` has them."""
    exclude: List[str]
    """Paths that are not logged; with a star at the end, all that begin so."""
    request_id: str
    """``off``: only when the log has it; ``on``; ``respond``: it is sent back, too."""


@dataclass(frozen=True)
class Profile:
    """To a worker: look where your threads are for so long and so often, and tell through the pipe.

    File descriptors: the writing end of a pipe (``djsup_worker.sampler``).
    """

    seconds: float
    rate: float
    """Looks a second."""


@dataclass(frozen=True)
class Leaving:
    """To a worker that accepts: the daemon is going to stop; the health path says so for this time at most."""

    for_s: float


@dataclass(frozen=True)
class Stacks:
    """To a worker or template: write where each of your threads is, now.

    File descriptors: the writing end of a pipe; none: they are written to standard error.
    """

    until_ns: int
    """A reading of the monotonic clock from which on it is not to be answered: the daemon has asked otherwise."""


@dataclass(frozen=True)
class Adopt:
    """To an orphan that has called: this connection is your channel from now on.

    File descriptors: the ends of standard output and standard error that it writes to, then the ends that
    the daemon reads from.
    """


# --- to the daemon -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Hello:
    """First message of a forked worker; it waits for Welcome before it does anything else."""


@dataclass(frozen=True)
class Orphan:
    """First message of a process whose daemon is gone, to a new one; it waits for Adopt, or for Drain.

    File descriptors: as Boot's, without those of standard output and error; none when it holds them no more.
    """

    ready: bool
    """It accepts: it is a worker, has said Ready, and was not told to go."""
    revision: int = 0
    """Its REVISION."""


@dataclass(frozen=True)
class Loaded:
    """The application is imported (template, and worker that boots by itself)."""

    python: str
    django: str
    """Django's version, empty when the application is not Django's."""
    wsgi: str
    settings: str
    boot_s: float
    unsafe: List[str] = field(default_factory=list)
    """What makes forking unsafe, one sentence each."""


@dataclass(frozen=True)
class LoadFailed:
    """The application could not be imported; the sender exits with status 3."""

    error: str
    traceback: str


@dataclass(frozen=True)
class ForkFailed:
    """The template could not fork the worker asked for."""

    proc: int
    error: str


@dataclass(frozen=True)
class Ready:
    """The worker is healthy and accepts."""


@dataclass(frozen=True)
class Unhealthy:
    """The worker's health question was not answered as expected; it exits with status 4."""

    error: str
    traceback: str


@dataclass(frozen=True)
class Drained:
    """Last message of a worker that drained: what became of its connections."""

    handed_over: int
    closed: int
    cut: int
    """Requests still running at the drain's deadline, dropped with the process."""


@dataclass(frozen=True)
class TimedOut:
    """A request has run longer than ``soft_timeout``, and an exception was raised in it."""

    request: str
    """Its method, a space and its path."""
    age_s: float
    outcome: str
    """What became of it, as ``ended with 503``."""
    traceback: str
    """Where it was; empty when the application kept that to itself."""


@dataclass(frozen=True)
class AccessLogTrouble:
    """The worker cannot write its access log, or can again."""

    error: str
    """Why not, once for each new reason; empty: it can again."""
    dropped: int
    """Lines lost since the last such message."""


Message = Union[
    Boot, Fork, Welcome, Drain, NewLimits, Route, NewCertificates, AccessLog, Profile, Leaving, Stacks, Adopt,
    Hello, Orphan, Loaded, LoadFailed, ForkFailed, Ready, Unhealthy, Drained, AccessLogTrouble, TimedOut,
]  # fmt: skip

KINDS: Dict[str, Type[Any]] = {
    kind.__name__: kind
    for kind in (
        Boot,
        Fork,
        Welcome,
        Drain,
        NewLimits,
        Route,
        NewCertificates,
        AccessLog,
        Profile,
        Leaving,
        Stacks,
        Adopt,
        Hello,
        Orphan,
        Loaded,
        LoadFailed,
        ForkFailed,
        Ready,
        Unhealthy,
        Drained,
        AccessLogTrouble,
        TimedOut,
    )
}


def encode(message: Message) -> bytes:
    """The bytes of one message.

    Raises:
        BadMessage: it is longer than MESSAGE_MAX_BYTES.
    """
    data = json.dumps({"kind": type(message).__name__, **asdict(message)}).encode()
    if len(data) > MESSAGE_MAX_BYTES:
        raise BadMessage("a %s of %d bytes is too long" % (type(message).__name__, len(data)))
    return data


_TYPES: Dict[str, Tuple[type, ...]] = {
    "str": (str,),
    "bool": (bool,),
    "int": (int,),
    "float": (int, float),
    "Optional[str]": (str, type(None)),
    "List[str]": (list,),
    "Dict[str, Any]": (dict,),
}


def decode(data: bytes) -> Message:
    """The message in one datagram. Checks the kind, every field's presence and its type; passes over others than ours.

    Raises:
        BadMessage: not JSON, an unknown kind, a field missing, or of another type.
    """
    try:
        raw = json.loads(data)
        kind = KINDS[raw.pop("kind")]
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise BadMessage("no message: %r" % (data[:200],)) from error
    known = {each.name: str(each.type) for each in fields(kind)}
    values = {name: value for name, value in raw.items() if name in known}
    for name, value in values.items():
        allowed = _TYPES[known[name]]
        if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
            raise BadMessage("%s.%s is %r" % (kind.__name__, name, value))
        if isinstance(value, list) and not all(isinstance(item, str) for item in value):
            raise BadMessage("%s.%s is %r" % (kind.__name__, name, value))
    try:
        message: Message = kind(**values)
    except TypeError as error:
        raise BadMessage("%s: %s" % (kind.__name__, error)) from error
    return message


def shorten(text: str) -> str:
    """At most TEXT_MAX characters of a text, its end kept."""
    return text if len(text) <= TEXT_MAX else "[cut] ..." + text[-TEXT_MAX:]


def send(channel: socket.socket, message: Message, fds: Sequence[int] = ()) -> None:
    """Send one message whole, with its descriptors.

    Raises:
        OSError: the other side is gone (EPIPE, ECONNRESET), or its buffer is full (EAGAIN,
            on a channel that does not block).
    """
    data = encode(message)
    if fds:
        socket.send_fds(channel, [data], list(fds))
    else:
        channel.send(data)


def receive(channel: socket.socket) -> Optional[Tuple[Message, List[int]]]:
    """Receive one message with its descriptors; None when the other side is gone.

    Raises:
        BadMessage: the datagram is no message (its descriptors are closed).
        OSError: as ``recvmsg(2)``; BlockingIOError on a channel that does not block.
    """
    # Not socket.recv_fds: it drops its flags, and a program that the site runs at this very moment would inherit
    # the descriptors, a private key among them.
    data, ancillary, _flags, _address = channel.recvmsg(
        MESSAGE_MAX_BYTES, socket.CMSG_SPACE(FDS_MAX * _FD.itemsize), socket.MSG_CMSG_CLOEXEC
    )
    if not data:
        return None
    fds = array("i")
    for level, what, value in ancillary:
        if (level, what) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(value[: len(value) - len(value) % _FD.itemsize])
    try:
        return decode(data), list(fds)
    except BadMessage:
        for fd in fds:
            os.close(fd)
        raise
