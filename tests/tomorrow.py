"""djsup of tomorrow: today's, but each side of each line says more than today's understands.

Before each message there is one of a kind that nobody knows, with a descriptor; each message has a field more,
and a descriptor behind its own.
"""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

STRANGE = "/dev/zero"
"""What comes as a descriptor that nobody knows."""
OPEN = f"""
import os as _os
def _strange():
    return _os.open({STRANGE!r}, _os.O_RDONLY)
"""
MORE = {
    "djsup_worker/messages.py": """
_encode, _send = encode, send
def encode(message):
    return json.dumps({**json.loads(_encode(message)), "tomorrow": [1]}).encode()
def send(channel, message, fds=()):
    strange = _strange()
    try:
        if not isinstance(message, Boot):  # whoever gets it has just been started, from the daemon's own files
            socket.send_fds(channel, [b'{"kind": "Tomorrow"}'], [strange])
        _send(channel, message, [*fds, strange] if type(message).__name__ in ("Fork", "Adopt") else fds)
    finally:
        os.close(strange)
""",
    "djsup/router/orders.py": """
_send, _as_json, _memory_of = send, as_json, memory_of
def as_json(figures):
    return {**_as_json(figures), "tomorrow": 1}
def memory_of(value):
    return _memory_of({**value, "tomorrow": 1, "sites": [{**each, "tomorrow": 1} for each in value["sites"]]})
def send(channel, message, fds=None):
    strange = _strange()
    try:
        _send(channel, {"kind": "tomorrow"}, [strange])
        _send(channel, {**message, "tomorrow": 1}, [*(fds or ()), strange])
    finally:
        os.close(strange)
""",
    "djsup/keeper/letters.py": """
_send = send
def send(channel, content, fds=None):
    strange = _strange()
    try:
        _send(channel, {"kind": "tomorrow"}, {"tomorrow": strange})
        _send(channel, {**content, "tomorrow": 1}, {**(fds or {}), "tomorrow": strange})
    finally:
        os.close(strange)
""",
    "djsup/router/clients.py": """
_describe = describe
def describe(local, peer):
    return json.dumps({**json.loads(_describe(local, peer)), "tomorrow": 1}).encode()
""",
    "djsup/router/sites.py": """
_flush = Worker.flush
def _flush_more(self):
    if self.outbox:
        strange = _strange()
        try:
            socket.send_fds(self.sock, [b"Z" + bytes(12)], [strange])
        finally:
            _os.close(strange)
        self.outbox.append(b"Z" + self.outbox[0][1:9] + bytes(4))
    _flush(self)
Worker.flush = _flush_more
""",
    "djsup_worker/link.py": """
_say = Link.say
def _say_more(self, kind, number):
    _say(self, b"Z", number)
    _say(self, kind, number)
Link.say = _say_more
""",
    "djsup/router/vault.py": """
_flush, _hand = Vault.flush, _hand_over
def _flush_more(self):
    _say_strange(self.line)
    _flush(self)
def _hand_over(line, *others):
    _say_strange(line)
    _hand(line, *others)
def _say_strange(line):
    strange = _strange()
    try:
        socket.send_fds(line, [b"Z tomorrow"], [strange])
    finally:
        os.close(strange)
Vault.flush = _flush_more
""",
    "djsup/shell/heirloom.py": """
_give, _say_last = give, say_last
def give(home, given):
    with socket.socket() as strange:
        return _give(home, [*given, ("(tomorrow)", strange)])
""",
}


def tomorrows(wheel: Path) -> dict[str, str]:
    """The contents of its files that are others than in today's wheel, by their paths in it."""
    with zipfile.ZipFile(wheel) as file:
        return {name: file.read(name).decode() + OPEN + more for name, more in MORE.items()}
