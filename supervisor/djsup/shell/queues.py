"""The kernel's queue of a listener: how many connections no worker has accepted yet.

For TCP by ``TCP_INFO`` (tcp(7)): of a listening socket tcpi_unacked is the length of its queue. For Unix
sockets by sock_diag(7), whose ``UNIX_DIAG_RQLEN`` gives the same; /proc/net/unix does not.
"""

from __future__ import annotations

import os
import socket
import struct

_TCP_INFO_UNACKED = struct.Struct("=24xI")
"""``struct tcp_info`` of linux/tcp.h: eight bytes, four words, then tcpi_unacked."""
_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLM_F_REQUEST = 1
_HEADER = struct.Struct("=IHHII")
"""``struct nlmsghdr``: length, type, flags, sequence, pid."""
_REQUEST = struct.Struct("=BBHIIIII")
"""``struct unix_diag_req``: family, protocol, padding, states, inode, what to show, cookie (two words)."""
_ANSWER_BYTES = 16
"""``struct unix_diag_msg``."""
_ATTRIBUTE = struct.Struct("=HH")
_UDIAG_SHOW_RQLEN = 0x10
_UNIX_DIAG_RQLEN = 4
_ANY = 0xFFFFFFFF
_ANSWER_MAX_BYTES = 4096
_TIMEOUT_S = 0.1
"""The kernel answers at once; a kernel that does not is asked in vain."""


def waiting(listener: socket.socket) -> int:
    """How many connections wait on a listening socket; 0 where the kernel does not tell."""
    try:
        if listener.family == socket.AF_UNIX:
            return _waiting_unix(os.fstat(listener.fileno()).st_ino)
        info = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_UNACKED.size)
        return int(_TCP_INFO_UNACKED.unpack(info)[0])
    except (OSError, struct.error):
        return 0


def _waiting_unix(inode: int) -> int:
    request = _REQUEST.pack(socket.AF_UNIX, 0, 0, _ANY, inode, _UDIAG_SHOW_RQLEN, _ANY, _ANY)
    header = _HEADER.pack(_HEADER.size + len(request), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as netlink:
        netlink.settimeout(_TIMEOUT_S)
        netlink.send(header + request)
        answer = netlink.recv(_ANSWER_MAX_BYTES)
    length, kind, *_ = _HEADER.unpack_from(answer)
    at, end = _HEADER.size + _ANSWER_BYTES, min(length, len(answer))
    while kind == _SOCK_DIAG_BY_FAMILY and at + _ATTRIBUTE.size < end:
        size, attribute = _ATTRIBUTE.unpack_from(answer, at)
        if attribute == _UNIX_DIAG_RQLEN:
            return int(struct.unpack_from("=I", answer, at + _ATTRIBUTE.size)[0])
        at += max(_ATTRIBUTE.size, (size + 3) & ~3)
    return 0
