"""A template and a worker under a daemon of another version: they pass over what they do not know, and do the rest."""

from __future__ import annotations

import json
import os
import select
import socket
import time
from typing import TYPE_CHECKING

from djsup_worker import messages
from djsup_worker.messages import (
    Adopt,
    Drain,
    Drained,
    Fork,
    ForkFailed,
    Hello,
    NewLimits,
    Orphan,
    Ready,
    Welcome,
)
from worker.applications import HELLO
from worker.harness import WAIT_S, Channel, Process, client

if TYPE_CHECKING:
    from pathlib import Path

    from worker.conftest import MakeSite

UNKNOWN = b'{"kind": "Tomorrow", "slot": 1}'


def more(message: messages.Message) -> bytes:
    """A message as a version says it that has more to say."""
    return json.dumps({**json.loads(messages.encode(message)), "tomorrow": [1]}).encode()


def say(channel: socket.socket, message: bytes, *fds: int) -> None:
    socket.send_fds(channel, [message], list(fds))


def test_a_template_forks_and_a_worker_serves_for_a_daemon_that_says_more_or_less(
    make_site: MakeSite,
) -> None:
    site = make_site(HELLO)
    template = site.start_template()
    reading, odd = os.pipe()
    to_template = template.channel.sock
    say(to_template, UNKNOWN, odd)
    say(to_template, b'{"kind": "Fork", "proc": 7}', odd)
    say(to_template, more(Welcome()), odd)

    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    channel = Channel(ours)  # before anybody can say anything, as in Site.fork
    (out, out_into), (err, err_into) = os.pipe(), os.pipe()
    fork = more(Fork(proc=7, slot=0))
    say(to_template, fork, theirs.fileno(), out_into, err_into, out, err, odd)
    for fd in (theirs.detach(), out_into, err_into):
        os.close(fd)
    channel.receive(Hello)
    worker = Process(channel, channel.pid, {"stdout": out, "stderr": err})
    site.processes.append(worker)
    say(ours, UNKNOWN, odd)
    say(ours, more(NewLimits(limits={})), odd)
    say(ours, more(Welcome()), odd)
    channel.receive(Ready)
    say(ours, UNKNOWN, odd)
    say(ours, b'{"kind": "Drain"}', odd)
    os.close(odd)
    assert select.select([reading], [], [], WAIT_S)[0], "somebody has it yet"
    os.close(reading)
    with client(site) as user:
        assert user.get().status == 200
    say(ours, more(Drain(timeout_s=WAIT_S)))
    channel.receive(Drained)
    assert worker.exit_status() == 0
    assert "does not know" in worker.read()
    to_template.settimeout(0)
    assert not select.select([to_template], [], [], 0)[0], ForkFailed.__name__


def adopt(home: socket.socket, process: Process) -> Channel:
    """Adopt an orphan as a daemon does that has more to say."""
    channel = Channel(home.accept()[0])
    assert channel.receive(Orphan).revision == messages.REVISION
    (out, out_into), (err, err_into), (reading, odd) = os.pipe(), os.pipe(), os.pipe()
    say(channel.sock, UNKNOWN, odd)
    time.sleep(0.1)  # it hears this by itself
    say(channel.sock, more(Adopt()), out_into, err_into, out, err, odd)
    for fd in (out_into, err_into, odd):
        os.close(fd)
    assert select.select([reading], [], [], WAIT_S)[0], "it has it yet"
    os.close(reading)
    process.output = {"stdout": out, "stderr": err}
    return channel


def abandon(process: Process) -> None:
    process.channel.close()
    for fd in process.output.values():
        os.close(fd)
    process.output = {}


def test_orphans_are_adopted_by_a_daemon_that_says_more(make_site: MakeSite, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as home:
        site = make_site(HELLO, home=str(tmp_path / "home.sock"), orphan_grace_s=WAIT_S)
        site.start_template()
        worker = site.fork_worker()
        assert site.template is not None
        home.bind(str(tmp_path / "home.sock"))
        home.settimeout(WAIT_S)
        home.listen()
        abandon(worker)
        worker.channel = adopt(home, worker)
        worker.channel.receive(Ready)
        abandon(site.template)
        site.template.channel = adopt(home, site.template)
        other = site.fork_worker(1)
        for each in (worker, other):
            site.drain(each, to=None)
            each.channel.receive(Drained)
