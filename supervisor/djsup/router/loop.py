"""The router's loop: one thread, one epoll, and every connection that waits for its client.

Rule 1: nothing of a request may be here alone, for a router that is killed is to lose none. So what clients send is looked
at (MSG_PEEK) and stays in the kernel, for the worker or for the next router; and the vault has each connection too.
The exception is a head that comes in pieces through a Unix socket: the kernel holds a few dozen pieces there, and nobody
could send more before the first were read.

Descriptors of clients are watched edge-triggered, so that a request costs no call of epoll_ctl(2), and an incomplete
head none until there is more of it. What comes while a worker has the connection is none of our business: the first
such event is remembered, the second mutes the descriptor, and both have it looked at when the connection is back.
"""

from __future__ import annotations

import errno
import resource
import select
import socket
import sys
import time
from contextlib import suppress
from email.utils import formatdate
from functools import partial
from traceback import format_exc
from typing import TYPE_CHECKING

from djsup.core.routes import Routing, SiteRoute, Table, bare
from djsup.descriptors import close
from djsup.router import head, hello, pages
from djsup.router.clients import Client, State, describe, noted
from djsup.router.sites import Site, Worker
from djsup.router.vault import NOBODY
from djsup_worker.link import (
    CLOSED,
    DATA_AT,
    DROP,
    GIVEN,
    HAS,
    HEAD_LENGTH,
    IDLE_GONE,
    IDLE_PARKED,
    LEAVES,
    NEW,
    NUMBER,
    SAID,
    SIZE,
    SIZE_AT,
    WAITS,
    WHOLE,
)  # fmt: skip
from djsup_worker.link import (
    NOTHING as NO_DATA,
)
from djsup_worker.refusal import Refused, answer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from djsup.core.model import SiteName
    from djsup.router.vault import Kept, Vault

READ_BYTES = 8 * 1024
HEAD_MAX_BYTES = 128 * 1024
"""The longest head that fits into a message; a site's ``max_header`` may be more on an address of its own."""
LOOKS_AT_ONCE = 16
"""How often an incomplete head is looked at as soon as there is more of it. A look begins at the head's beginning."""
LOOK_AGAIN_S = 0.01
"""How often it is after that: a head in tiny pieces costs its sender's time, and not ours."""
LATE_LOOKS_S = 0.005
"""How long such looks may take together before others have their turn."""
ROOM_WANTED_BYTES = 16 * 1024
"""The kernel lets as much in unread as a socket holds at first, some 64 KiB. A longer head that is to stay there needs more."""
EVENTS_MAX = 128
ACCEPT_MAX = 64
"""Connections that one listener lets in at a time."""
ACCEPT_PAUSE_S = 0.1
DESCRIPTORS_KEPT = 256
"""Left for listeners, lines to workers with their tallies, and files, when clients have taken the others."""
EVICT_AGE_S = 1.0
EVICT_SHARE = 32
"""Where there is no room for new connections, this part of the idle ones makes it."""
LINGER_S = 2.0
LEAVE_S = 1.0
"""How long the vault may take to hear the last of it."""
SWEEP_S = 0.5
QUEUE_TICK_S = 0.05
"""How often deadlines are looked at while requests wait for a worker."""
CALL_S = 1.0
"""How often the daemon is told that requests wait for a site without workers."""
RETRY_AFTER_S = 5

WATCH = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET
MUTE = select.EPOLLET
BROKEN = select.EPOLLHUP | select.EPOLLERR
ENDED = BROKEN | select.EPOLLRDHUP
NEW_BYTE, WHOLE_BYTE, DROP_BYTE = (bytes((each,)) for each in (NEW, WHOLE, DROP))
pack_size, size_of = SIZE.pack, SIZE.unpack_from
pack_length, HEAD_BYTES = HEAD_LENGTH.pack, SIZE.pack(HEAD_LENGTH.size)
AT_ONCE = socket.MSG_DONTWAIT
"""For each call on a client's socket: O_NONBLOCK is shared with the workers that have had it, and any of them can clear it."""
PEEK = socket.MSG_PEEK | AT_ONCE
HEADS_KEPT = 1024
HEAD_KEPT_MAX_BYTES = 2 * 1024
IDLE_KIND, GONE_KIND, WAITS_KIND, CLOSED_KIND, LEAVES_KIND, HAS_KIND, SAID_KIND, GIVEN_KIND = (
    each[0] for each in (IDLE_PARKED, IDLE_GONE, WAITS, CLOSED, LEAVES, HAS, SAID, GIVEN)
)
RETURNS = (IDLE_KIND, GONE_KIND, CLOSED_KIND)
ANY_HOST = ("0.0.0.0", "::")  # noqa: S104 -- compared with, not bound to
_monotonic = time.monotonic


class Loop:
    """All that one router does. ``call`` is told the name of a site that is to wake."""

    def __init__(self, call: Callable[[SiteName], None]) -> None:
        self._call = call
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._clients: dict[int, Client] = {}
        self._lines: dict[int, Worker] = {}
        self.sites: dict[SiteName, Site] = {}
        self._table = Table(())
        self._tls_table = Table(())
        self._redirects: dict[str, str] = {}
        self._acme_dir: str | None = None
        self._listeners: list[tuple[socket.socket, bool]] = []
        self._listening = False
        self._listen_at = 0.0
        self._knocked: list[Callable[[], None]] = []
        """Doors at which somebody waits: let in when the events at hand are done, so that no descriptor means two of them."""
        self._numbers = 0
        self._queued: set[Site] = set()
        self._talkative: set[Worker] = set()
        self._known: dict[bytes, tuple[Site, bytes]] = {}
        """Heads that were read lately, whose they are, and the end of a note: clients send the same again and again."""
        self._now = _monotonic()
        self._sweep_at = 0.0
        self._date = b""
        self._date_until = 0.0
        self._header_timeout_s = 10.0
        self._head_max_bytes = HEAD_MAX_BYTES
        soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._descriptors_max = soft
        self.clients_max = max(16, soft - DESCRIPTORS_KEPT)
        self.every_second: Callable[[], None] = lambda: None
        self._second_at = 0.0
        self._vault: Vault | None = None
        self._owners = memoryview(b"")
        """The vault's table: by slot, whose a connection is."""
        self.vault_lost: Callable[[], None] = lambda: None
        """Called when the vault is gone."""
        self._unclaimed: dict[int, dict[bytes, Client]] = {}
        """Connections that a router before had noted for workers that have not called yet, by the workers' names."""
        self._late: dict[Client, None] = {}
        """There is more of their heads, and they are to be looked at in a moment."""
        self._late_at = 0.0
        self._doubted: list[Client | Site] = []
        """Who waits for a worker that was told so a moment ago: to be looked at again (``tally``)."""
        self._doubted_still: list[Client | Site] = []
        self._doubted_until = 0.0
        self._longest_keepalive_s = 0.0
        self._restless = False
        """Whether a request came since figures were told."""
        self.ended = False

    # --- running ------------------------------------------------------------------------------

    def run(self) -> None:
        """Poll until ``ended``."""
        poll = self._epoll.poll
        clients, lines, handlers = self._clients, self._lines, self._handlers
        while not self.ended:
            events = poll(self._patience_s(), EVENTS_MAX)
            self._now = _monotonic()
            for fd, mask in events:
                try:
                    client = clients.get(fd)
                    if client is not None:
                        self._client_ready(client, mask)
                        continue
                    worker = lines.get(fd)
                    if worker is not None:
                        self._worker_ready(worker, mask)
                    elif fd in handlers:
                        handlers[fd](mask)
                except Exception:  # noqa: BLE001 -- one connection's trouble, or one site's, is not the others'
                    self._trouble(fd)
            if self._talkative:
                self._talk()
            if self._doubted:
                self._look_again()
            if self._knocked:
                try:
                    self._let_in()
                except Exception:  # noqa: BLE001 -- as above
                    self._trouble(-1)
            if self._vault is not None and self._vault.is_behind:
                self._tell_vault()
            self._look_at_the_clock()
            if self._talkative:  # what was found only now
                self._talk()

    def _trouble(self, fd: int) -> None:
        """A mistake of ours, or a worker that says what it cannot have to say: end what it came from."""
        sys.stderr.write(f"a mistake in the router; the connection was closed\n{format_exc()}")
        client, worker = self._clients.get(fd), self._lines.get(fd)
        if client is not None:
            self._drop(client)
        elif worker is not None:
            self._worker_gone(worker)

    def close(self) -> None:
        """The end, once ``run`` has returned: nobody comes after us. What workers have they end."""
        self._collect(list(self._clients.values()))
        for client in list(self._clients.values()):
            if client.state is State.TOLD:
                self._discard(client)  # what is unread would reset the answer
            self._drop(client, shut=client.state is not State.LENT)
        self.leave()

    def leave(self) -> None:
        """Stop at once, once ``run`` has returned: whoever comes after us finds everything in the vault."""
        for worker in self._lines.values():
            worker.close()
        self._lines.clear()
        for sock, _tls in self._listeners:
            sock.close()
        for client in self._clients.values():
            close(client.sock)
        self._clients.clear()
        self._epoll.close()
        if self._vault is not None:
            self._vault.line.settimeout(LEAVE_S)
            with suppress(OSError):
                self._vault.flush()
            self._vault.close()

    def _talk(self) -> None:
        """Say to workers what has come together while these events were handled."""
        for worker in self._talkative:
            try:
                worker.flush()
            except BlockingIOError:
                self._is_full(worker)
            except OSError:
                worker.outbox.clear()  # it is gone: its line's end tells
                worker.open = False
        self._talkative.clear()

    def _is_full(self, worker: Worker) -> None:
        worker.open = False
        self._epoll.modify(worker.fd, select.EPOLLIN | select.EPOLLOUT)

    def watch(self, fd: int, handler: Callable[[int], None]) -> None:
        """Call ``handler(mask)`` whenever something can be read."""
        self._handlers[fd] = handler
        self._epoll.register(fd, select.EPOLLIN)

    def unwatch(self, fd: int) -> None:
        """Watch no more."""
        if self._handlers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def _patience_s(self) -> float | None:
        if self._late:
            return LOOK_AGAIN_S
        if self._queued or self._doubted_still:
            return QUEUE_TICK_S
        if self._listeners and not self._listening:
            return ACCEPT_PAUSE_S
        return SWEEP_S if self._clients or self._restless else None

    def _look_at_the_clock(self) -> None:
        now = self._now
        if self._late and now >= self._late_at:
            self._late_at = now + LOOK_AGAIN_S
            self._look_at_late_ones()
        if self._doubted_still and now >= self._doubted_until:
            doubted, self._doubted_still = self._doubted_still, []
            self._resolve(doubted)
        if self._queued:
            self._end_waits(now)
        if now >= self._sweep_at:
            self._sweep_at = now + SWEEP_S
            self._sweep(now)
        if not self._listening and self._listeners and now >= self._listen_at:
            self._open_doors()
        if now >= self._second_at:
            self._second_at = now + 1.0
            self._restless = bool(self._queued)
            self.every_second()

    # --- what the daemon says -----------------------------------------------------------------

    def adopt(self, routing: Routing) -> None:
        """Route by this from now on."""
        before, self.sites = self.sites, {}
        self._known.clear()
        for route in routing.sites:
            site = before.pop(route.site, None)
            if site is None:
                site = Site(route)
            site.route = route
            self.sites[route.site] = site
            while len(site.queue) > route.queue:
                self._turn_away(site.queue[-1], site)
        self._table = Table(each for each in routing.sites if each.plain)
        self._tls_table = Table(each for each in routing.sites if each.tls)
        self._redirects = dict(routing.redirects)
        self._acme_dir = routing.acme_dir
        self._header_timeout_s = max((each.header_timeout_s for each in routing.sites), default=10.0)
        self._longest_keepalive_s = max((each.keepalive_s for each in routing.sites), default=0.0)
        longest = max((each.max_header_bytes for each in routing.sites), default=HEAD_MAX_BYTES)
        self._head_max_bytes = min(HEAD_MAX_BYTES, longest)
        for site in before.values():
            for client in list(site.queue):
                self._tell(client, pages.not_found(self._date_line(), is_head=False))
            for worker in list(site.workers):
                self._let_go(worker)

    def listen(self, listeners: list[tuple[socket.socket, bool]]) -> None:
        """Accept from these from now on, and from no others; with each, whether it speaks TLS."""
        self.close_doors()
        for sock, _tls in self._listeners:
            sock.close()
        for sock, _tls in listeners:
            if sock.family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # connections inherit it
            sock.setblocking(False)
        self._listeners = listeners
        self._open_doors()

    def add_worker(self, name: SiteName, sock: socket.socket, worker_name: int = 0) -> None:
        """Pass requests of a site to this worker, too, once it has said what it has."""
        site = self.sites.get(name)
        if site is None and worker_name not in self._unclaimed:
            sock.close()
            return
        of = site or Site(SiteRoute(name, keepalive_s=self._longest_keepalive_s))
        worker = Worker(sock, of, worker_name, self._descriptors_max)
        worker.unclaimed = self._unclaimed.pop(worker_name, {})
        self._lines[worker.fd] = worker
        self._epoll.register(worker.fd, select.EPOLLIN)
        if site is not None:
            site.workers.append(worker)

    def keep_only(self, alive: set[int], drained: set[int]) -> None:
        """Of the workers of before only these live, and those have left nothing undone."""
        for name in self._unclaimed.keys() - alive:
            self.forget_worker(name, drained=name in drained)

    def forget_worker(self, name: int, *, drained: bool) -> None:
        """A worker is gone that a router before us knew. What it had is ours again, or ends with it."""
        for client in self._unclaimed.pop(name, {}).values():
            if drained:
                self._is_ours(client)
            else:
                self._drop(client)

    def stay_awake(self) -> None:
        """Have ``every_second`` called in a moment, whatever comes."""
        self._restless = True

    def turn_all_away(self) -> None:
        """The end: answer whoever waits."""
        for site in self.sites.values():
            for client in list(site.queue):
                self._turn_away(client, site)

    # --- the vault ----------------------------------------------------------------------------

    def keep_in(self, vault: Vault, kept: list[Kept]) -> None:
        """Have all connections in this vault, and go on with those that a router before has left there."""
        self._vault = vault
        self._owners = vault.owners
        vault.counted = self._numbers = max(self._numbers, vault.counted)
        for client in self._clients.values():
            self._put(client)
            if client.state is State.LENT:
                self._owners[client.slot] = self._holder_of(client)
        for each in kept:
            self._go_on_with(each, vault)
        self.watch(vault.line.fileno(), self._vault_ready)
        self._tell_vault()

    def _put(self, client: Client) -> None:
        if self._vault is not None:
            number = NUMBER.unpack(client.number)[0]
            client.slot = self._vault.put(client.fd, number, client.note, tls=client.tls)

    def _holder_of(self, client: Client) -> int:
        for worker in self._lines.values():
            if client.number in worker.lent or client.number in worker.unclaimed:
                return worker.name
        return next((name for name, some in self._unclaimed.items() if client.number in some), NOBODY)

    def _go_on_with(self, kept: Kept, vault: Vault) -> None:
        sock = socket.socket(fileno=kept.fd)
        sock.setblocking(False)
        is_told = False
        try:
            sock.send(b"", AT_ONCE)
        except OSError:  # it was shut down: it has got its last answer
            is_told = True
        if kept.owner and (kept.tls or is_told):
            vault.drop(kept.slot)  # a worker has it for good
            close(sock)
            return
        client = Client(sock, kept.number, kept.note, self._now, tls=kept.tls)
        client.slot = kept.slot
        self._clients[client.fd] = client
        if kept.owner:
            client.state = State.LENT
            client.hinted = True
            self._unclaimed.setdefault(kept.owner, {})[client.number] = client
        elif is_told:
            client.state = State.TOLD
        elif not kept.tls:
            client.state = State.IDLE
        self._epoll.register(client.fd, WATCH)  # tells of what is there already

    def _tell_vault(self) -> None:
        vault = self._vault
        if vault is None:
            return
        try:
            vault.flush()
        except BlockingIOError:
            self._epoll.modify(vault.line.fileno(), select.EPOLLIN | select.EPOLLOUT)
        except OSError as error:
            if error.errno not in (errno.ETOOMANYREFS, errno.ENOBUFS, errno.ENOMEM):
                self._lose_vault()  # else it is said when these events and the next are done

    def _vault_ready(self, mask: int) -> None:
        if self._vault is None:
            return
        if mask & ~select.EPOLLOUT:  # it says nothing unasked
            self._lose_vault()
            return
        self._epoll.modify(self._vault.line.fileno(), select.EPOLLIN)

    def _lose_vault(self) -> None:
        vault, self._vault = self._vault, None
        if vault is not None:
            self.unwatch(vault.line.fileno())
            vault.close()
            for client in self._clients.values():
                client.slot = 0
            self.vault_lost()

    # --- doors --------------------------------------------------------------------------------

    def _open_doors(self) -> None:
        if len(self._clients) >= self.clients_max or self._listening:
            return
        self._listening = True
        for sock, tls in self._listeners:
            local = None
            if sock.family == socket.AF_UNIX:
                local = ("", "")
            elif sock.getsockname()[0] not in ANY_HOST:
                host, port = sock.getsockname()[:2]
                local = (host, str(port))
            self.watch(sock.fileno(), partial(self._knock, partial(self._let_some_in, sock, local, tls)))

    def _knock(self, let_in: Callable[[], None], _mask: int) -> None:
        self._knocked.append(let_in)

    def close_doors(self, for_s: float = 0.0) -> None:
        """Accept nothing for so long."""
        self._listen_at = self._now + for_s
        self._knocked.clear()
        if self._listening:
            self._listening = False
            for sock, _tls in self._listeners:
                self.unwatch(sock.fileno())

    def _let_in(self) -> None:
        knocked, self._knocked = self._knocked, []
        self._tell_vault()  # a slot that is dropped is to be had again when that is said
        for let_in in knocked:
            let_in()

    def _let_some_in(self, listener: socket.socket, local: tuple[str, str] | None, tls: bool) -> None:
        for _ in range(ACCEPT_MAX):
            try:
                sock, peer = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    self._make_room()
                    self.close_doors(ACCEPT_PAUSE_S)
                    return
                continue  # accept(2): the network's error of a connection that is gone already
            ends = local
            if ends is None:
                try:
                    name = sock.getsockname()
                except OSError:
                    sock.close()
                    continue
                ends = (name[0], str(name[1]))
            sock.setblocking(False)
            self._numbers += 1
            peer_ends = (peer[0], str(peer[1])) if sock.family != socket.AF_UNIX else ("", "")
            client = Client(sock, self._numbers, describe(ends, peer_ends), self._now, tls=tls)
            self._clients[client.fd] = client
            if self._vault is not None:
                self._vault.counted = self._numbers
                self._put(client)
                self._tell_vault()  # at once: until then it is ours alone
            self._epoll.register(client.fd, WATCH)
            if len(self._clients) >= self.clients_max:
                self._make_room()
                self.close_doors(ACCEPT_PAUSE_S)
                return

    def _make_room(self) -> None:
        """Close some connections that have said nothing for longest."""
        self._collect(list(self._clients.values()))
        before = self._now - EVICT_AGE_S
        silent = [
            each
            for each in self._clients.values()
            if each.state in (State.FRESH, State.IDLE) and each.since < before
        ]
        silent.sort(key=lambda each: each.since)
        for client in silent[: max(1, len(self._clients) // EVICT_SHARE)]:
            self._drop(client)

    # --- clients ------------------------------------------------------------------------------

    def _client_ready(self, client: Client, mask: int) -> None:
        if mask & ENDED:
            client.ended = True
        seen = b""
        worker = client.giver
        if worker is not None:
            if mask == select.EPOLLIN and not client.awaited:
                try:
                    seen = client.recv(READ_BYTES, PEEK)
                except OSError:
                    seen = b""  # the long way finds out what that means
                if self._lend_again(client, worker, seen):
                    return
            self._take_back(client, worker)
            self._rests(client)
            client.hinted = False  # it is looked at now
        state = client.state
        if state is State.LENT or state is State.QUEUED:
            if state is State.QUEUED and mask & BROKEN:
                self._drop(client)  # what it asked for is for nobody
            elif not client.hinted:
                client.hinted = True
                if state is State.LENT and client.at is not None and not client.awaited:
                    self._await(client, client.at)
            elif not client.muted:
                client.muted = True
                self._epoll.modify(client.fd, MUTE)
        elif state is State.TOLD:
            self._discard(client)
        elif mask & select.EPOLLHUP:
            self._drop(client)
        elif client.looks >= LOOKS_AT_ONCE:
            self._late[client] = None
        elif client.tls:
            self._look_for_name(client)
        else:
            self._look(client, seen)

    def _look_at_late_ones(self) -> None:
        late, self._late = self._late, {}
        until = _monotonic() + LATE_LOOKS_S
        while late and _monotonic() < until:
            client = next(iter(late))
            del late[client]
            if client.state not in (State.FRESH, State.IDLE, State.HEAD):
                continue
            if client.tls:
                self._look_for_name(client)
            else:
                self._look(client)
        late.update(self._late)  # those that have waited go first
        self._late = late

    def _look(self, client: Client, seen: bytes = b"") -> None:
        """Look at what a client has sent, from the beginning of a request on; ``seen`` is the first look, if there was one."""
        for _ in range(LOOKS_AT_ONCE):
            try:
                data, seen = seen or client.recv(READ_BYTES, PEEK), b""
                known = self._known.get(data)
                if known is not None and not client.early:
                    site = client.site = known[0]
                    client.length = len(data)
                    client.is_head = data.startswith(b"HEAD ")
                    self._pass(client, site)
                    return
                if len(data) == READ_BYTES and head.END not in data:
                    data = client.recv(self._head_max_bytes + READ_BYTES, PEEK)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._drop(client)
                return
            if data.startswith(b"\r\n") and not client.early:
                # RFC 9112, 2.2: before a request empty lines are ignored. They are none of it, so they may be read.
                empty = head.EMPTY_LINES.match(data)
                client.recv(empty.end() if empty is not None else 0, AT_ONCE)
                continue
            if self._took(client, data):
                return
        self._late[client] = None  # empty lines without end, or a head in many pieces: others have their turn

    def _took(self, client: Client, seen: bytes) -> bool:
        """A client has sent this, and what was read early before it; whether there is nothing more to look at now."""
        data = client.early + seen if client.early else seen
        client.is_head = data.startswith(b"HEAD ")
        end = data.find(head.END)
        try:
            if end < 0:
                head.look_at_part(data, self._head_max_bytes)
                return self._await_more(client, data, seen)
            if end > self._head_max_bytes:
                raise Refused(431, f"a header section of more than {self._head_max_bytes} bytes")
            found = self._whose(client, data, *head.read(data[: end + 4]))
            if isinstance(found, bytes):
                head.check(data[: end + 4])
        except Refused as refused:
            found = answer(refused.status, refused.why, self._date_line(), body=not client.is_head)
        if isinstance(found, bytes):
            self._tell(client, found)
            return True
        client.length = end + 4 - len(client.early)
        client.hinted = client.length < len(seen) or len(seen) == READ_BYTES  # no more was looked at
        client.site = found
        if end + 4 == len(data) <= HEAD_KEPT_MAX_BYTES:
            if len(self._known) >= HEADS_KEPT:
                self._known.clear()
            self._known[data] = (found, HEAD_BYTES + pack_length(len(data)))
        self._pass(client, found)
        return True

    def _whose(self, client: Client, data: bytes, host: bytes, path: bytes, target: bytes) -> Site | bytes:
        """The site that a request is for; or what it is answered here, if nothing is wrong with it."""
        if self._acme_dir is not None and path.startswith(pages.ACME_PATH):
            found = pages.challenge(self._date_line(), self._acme_dir, path, is_head=client.is_head)
            if found is not None:
                return found
        if self._redirects:
            origin = self._redirects.get(bare(host.decode("latin-1")))
            if origin is not None:
                absolute = head.ABSOLUTE.match(target)
                below = target if absolute is None else absolute.group(2)
                return pages.moved(self._date_line(), origin, below, data.partition(b" ")[0])
        name = self._table.find(host, path)
        site = None if name is None else self.sites.get(name)
        return pages.not_found(self._date_line(), is_head=client.is_head) if site is None else site

    def _await_more(self, client: Client, data: bytes, seen: bytes) -> bool:
        """A head is not whole; whether there is nothing more to look at now."""
        if client.ended:
            self._discard(client)  # not dropped with something unread: that would be a reset
            return True
        if data == b"\r":  # of an empty line, perhaps: no request has begun
            return True
        if client.state is not State.HEAD:
            client.state = State.HEAD
            client.since = self._now
        if client.sock.family == socket.AF_UNIX:
            client.early = data
            client.recv(len(seen), AT_ONCE)
            return False
        client.looks += 1
        if len(data) >= ROOM_WANTED_BYTES:
            self._make_room_for(client)
        return True

    def _make_room_for(self, client: Client) -> None:
        """Have the kernel hold a long head until it is whole: it holds as much as it is asked to wait for (tcp(7))."""
        with suppress(OSError):
            wanted = self._head_max_bytes + READ_BYTES
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, wanted)
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)

    def _look_for_name(self, client: Client) -> None:
        """Look at what a client says before it is inside TLS."""
        try:
            data = client.recv(hello.MOST_BYTES, PEEK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        name = hello.server_name(data)
        if name is None:
            client.looks += 1
            if not data or client.ended or len(data) >= hello.MOST_BYTES:
                self._drop(client)
            return
        found = self._tls_table.find(name, b"/") if name.isascii() else None
        site = None if found is None else self.sites.get(found)
        if site is None:
            self._tell(client, pages.no_name(data, self._date_line()))
            return
        client.site = site
        client.server_name = bare(name.decode())
        self._pass(client, site)

    def _discard(self, client: Client) -> None:
        """What a client sends on that has got its last answer is read and forgotten."""
        for _ in range(ACCEPT_MAX):
            try:
                if not client.recv(READ_BYTES * 8, AT_ONCE):
                    break
            except BlockingIOError:
                return
            except OSError:
                break
        self._drop(client)

    def _tell(self, client: Client, said: bytes) -> None:
        """Give a client its last answer, and let it read it (RFC 9112, 9.6)."""
        if client.state is State.QUEUED and client.site is not None:
            self._unqueue(client, client.site)
        client.state = State.TOLD
        client.since = self._now
        client.early = b""
        try:
            client.sock.send(said, AT_ONCE)
            client.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._drop(client)
            return
        self._epoll.modify(client.fd, WATCH)  # and hear of what is there already

    def _drop(self, client: Client, *, shut: bool = True) -> None:
        """A connection ends here; for all who have it, if it is ``shut``."""
        if client.state is State.GONE:
            return
        if client.state is State.QUEUED and client.site is not None:
            self._unqueue(client, client.site)
        if client.state is State.LENT and client.at is not None:
            self._await_no_more(client, client.at)
            if client.giver is not None:
                client.at.lent.pop(client.number, None)
        client.state = State.GONE
        del self._clients[client.fd]
        self._epoll.unregister(client.fd)  # while others have copies, the kernel would not forget it
        if shut and (client.holders or client.slot):
            with suppress(OSError):
                client.sock.shutdown(socket.SHUT_RDWR)  # not only when the others close their copies
        for holder in client.holders:
            holder.outbox.append(DROP_BYTE + client.number + NO_DATA)
            self._talkative.add(holder)
        client.holders.clear()
        self._close(client)

    def _close(self, client: Client) -> None:
        if client.slot and self._vault is not None:
            self._vault.drop(client.slot)
        client.slot = 0
        close(client.sock)

    # --- passing on ---------------------------------------------------------------------------

    def _pass(self, client: Client, site: Site) -> None:
        """Give a request to a worker, or let it wait for one."""
        self._restless = True
        client.looks = 0
        if not site.queue and self._lend(client, site):
            return
        if len(site.queue) >= site.route.queue:
            self._turn_away(client, site)
            return
        client.state = State.QUEUED
        client.since = self._now
        self._heed(site)
        site.queue.append(client)
        site.figures.queued = len(site.queue)
        self._queued.add(site)
        self._call_if_empty(site)

    def _lend(self, client: Client, site: Site) -> bool:
        """Give a request to the least busy worker; False: none has room."""
        while True:
            worker = site.choose(client.holders)
            if worker is None:
                return False
            worker.tally[client.place] = 0
            if client.slot:
                self._owners[client.slot] = worker.name
            try:
                self._send(client, worker)
            except OSError as error:
                if client.slot:
                    self._owners[client.slot] = NOBODY
                if error.errno == errno.EMSGSIZE:
                    why = "a header section that is longer than this machine's sockets take at once"
                    self._tell(client, answer(431, why, self._date_line()))
                    return True
                # Full, or gone: then its line's end tells. Either way it takes nothing now.
                worker.open = False
                if error.errno in (errno.EAGAIN, errno.ETOOMANYREFS, errno.ENOBUFS):
                    self._is_full(worker)
                continue
            site.figures.routed += 1
            if client.tls:
                self._part_with(client)
                return True
            if worker not in client.holders:
                client.holders.append(worker)
            client.at = worker
            client.state = State.LENT
            client.waits = False
            client.early = b""
            worker.busy += 1
            worker.lent[client.number] = client
            if client.hinted or not site.route.keepalive_s:
                self._await(client, worker)
            return True

    def _send(self, client: Client, worker: Worker) -> None:
        early = client.early
        if worker in client.holders:
            data = pack_length(client.length) + early
            worker.outbox.append(client.resume + pack_size(len(data)) + data)
            self._talkative.add(worker)
            return
        if worker.outbox:
            worker.flush()  # what it is to forget goes first
        kind, data = NEW_BYTE, noted(client)
        if client.tls:
            kind = WHOLE_BYTE
        else:
            data += pack_length(client.length) + early
        message = (kind, client.number, pack_size(len(data)), data)
        socket.send_fds(worker.sock, [b"".join(message)], [client.fd])

    def _part_with(self, client: Client) -> None:
        """A worker has it for good."""
        client.state = State.GONE
        del self._clients[client.fd]
        self._epoll.unregister(client.fd)
        self._close(client)

    def _turn_away(self, client: Client, site: Site) -> None:
        site.figures.turned_away += 1
        if client.tls:
            self._drop(client)
        else:
            said = pages.unavailable(self._date_line(), RETRY_AFTER_S, is_head=client.is_head)
            self._tell(client, said)

    def _unqueue(self, client: Client, site: Site) -> None:
        with suppress(ValueError):
            site.queue.remove(client)
        self._shortened(site)

    def _shortened(self, site: Site) -> None:
        """Its queue has become shorter, or may have."""
        site.figures.queued = len(site.queue)
        if not site.queue:
            self._queued.discard(site)
            for worker in site.workers:
                worker.heed_no_more()

    def _serve_queue(self, site: Site) -> None:
        """Let those pass that have waited longest, as many as there is room for."""
        queue = site.queue
        while queue:
            client = queue[0]
            if not self._lend(client, site):
                break
            if not queue or queue[0] is not client:
                continue  # it was refused
            queue.popleft()
            site.figures.waited += 1
            site.figures.waited_s += self._now - client.since
        self._shortened(site)

    def _call_if_empty(self, site: Site) -> None:
        if not site.workers and self._now - site.called_at >= CALL_S:
            site.called_at = self._now
            self._call(site.route.site)

    def _end_waits(self, now: float) -> None:
        for site in list(self._queued):
            before = now - site.route.queue_timeout_s
            while site.queue and site.queue[0].since <= before:
                self._turn_away(site.queue[0], site)
            if site.queue:
                self._call_if_empty(site)

    # --- workers ------------------------------------------------------------------------------

    def _worker_ready(self, worker: Worker, mask: int) -> None:
        if mask & select.EPOLLOUT:
            self._has_room(worker)
        if not mask & ~select.EPOLLOUT:
            return
        try:
            data = worker.hear()
        except (BlockingIOError, ConnectionResetError):
            return  # reset: what it has said before is still to be read (unix(7))
        except OSError:
            data = b""
        if not data:
            self._worker_gone(worker)
            return
        at = 0
        while at < len(data):
            begins = at + DATA_AT
            ends = begins + size_of(data, at + SIZE_AT)[0]
            self._told(worker, data[at], data[at + 1 : at + SIZE_AT])
            at = ends
        site = worker.site
        if site.queue:
            self._serve_queue(site)

    def _told(self, worker: Worker, kind: int, number: bytes) -> None:
        """A worker says something of a connection that it has."""
        if kind == GIVEN_KIND:
            client = worker.lent.get(number)
            if client is not None:  # else it was found in the tally meanwhile
                self._collect((client,))
            return
        if kind == LEAVES_KIND:
            if not worker.leaves:
                worker.leaves = True
                self._let_go(worker)
            return
        if kind == WAITS_KIND:
            client = worker.lent.get(number)
            if client is not None and not client.waits:
                client.waits = True
                worker.busy -= 1
            return
        if kind == HAS_KIND:
            self._claimed(worker, number)
            return
        if kind == SAID_KIND:
            self._said(worker)
            return
        if kind not in RETURNS:
            return  # of another version
        client = worker.lent.pop(number, None)
        if client is None:
            client = worker.unclaimed.pop(number, None)
            if client is not None and kind == CLOSED_KIND:
                self._drop(client, shut=False)
            return
        if not client.waits:
            worker.busy -= 1
        self._await_no_more(client, worker)
        if kind == CLOSED_KIND:
            client.holders.remove(worker)
            self._drop(client, shut=False)  # it may still be read from, for what was said to be read
        else:
            self._came_back(client, worker, parked=kind == IDLE_KIND)

    def _claimed(self, worker: Worker, number: bytes) -> None:
        """A worker has this from a router before us."""
        if worker.said or len(worker.outbox) > self._descriptors_max:
            raise ValueError(f"{worker.site.route.site}: a worker claims what it cannot have")
        client = worker.unclaimed.pop(number, None)
        if client is None:  # the vault had it not
            worker.outbox.append(DROP_BYTE + number + NO_DATA)
            self._talkative.add(worker)
            return
        client.site = worker.site
        client.at = worker
        client.holders = [worker]
        client.waits = False
        worker.busy += 1
        worker.lent[number] = client

    def _said(self, worker: Worker) -> None:
        """What it has not claimed is ours again."""
        unclaimed, worker.unclaimed = worker.unclaimed, {}
        if not worker.said:
            worker.said = True
            worker.open = worker in worker.site.workers
        for client in unclaimed.values():
            client.site = worker.site
            self._is_ours(client)
        if worker.open and worker.site.queue:
            self._heed(worker.site)
            self._serve_queue(worker.site)

    # --- what comes back without a word -------------------------------------------------------

    def _lend_again(self, client: Client, worker: Worker, seen: bytes) -> bool:
        """What most requests are: the next of a client, like one before, for the worker that has had that.

        The short way: nothing is done but what changes. False: the long one is to be gone.
        """
        known = self._known.get(seen)
        if known is None:
            return False
        site, end = known
        if site is not worker.site or site.queue or not site.is_least_busy(worker):
            return False
        worker.tally[client.place] = 0
        worker.busy += 1
        worker.outbox.append(client.resume + end)
        self._talkative.add(worker)
        self._restless = True
        site.figures.routed += 1
        return True

    def _take_back(self, client: Client, worker: Worker) -> None:
        """A worker has written in its tally that it has given this back."""
        del worker.lent[client.number]
        self._await_no_more(client, worker)
        if worker not in worker.site.workers:  # it goes, and keeps no copy
            client.holders.remove(worker)

    def _collect(self, clients: Iterable[Client]) -> None:
        """Take back what was given back of these."""
        for client in clients:
            worker = client.giver
            if worker is not None:
                self._take_back(client, worker)
                self._is_ours(client)

    def _await(self, client: Client, worker: Worker) -> None:
        """Have a worker say when it gives a connection back: there is something to do with it then."""
        client.awaited = True
        worker.awaited += 1
        worker.heed()
        self._doubted.append(client)

    @staticmethod
    def _await_no_more(client: Client, worker: Worker) -> None:
        if client.awaited:
            client.awaited = False
            worker.awaited -= 1
            worker.heed_no_more()

    def _heed(self, site: Site) -> None:
        """Requests wait: workers are to say when they have room."""
        for worker in site.workers:
            if worker.heed():
                self._doubted.append(site)

    def _look_again(self) -> None:
        """Look whether workers have given back in the very moment when they were told to say so."""
        doubted, self._doubted = self._doubted, []
        self._resolve(doubted)
        if not self._doubted_still:
            self._doubted_until = self._now + QUEUE_TICK_S
        self._doubted_still += doubted  # and once more, when nobody can say that it was a matter of moments

    def _resolve(self, doubted: list[Client | Site]) -> None:
        for each in doubted:
            if isinstance(each, Client):
                self._collect((each,))
            elif each.queue:
                self._serve_queue(each)

    def _came_back(self, client: Client, worker: Worker, *, parked: bool) -> None:
        if not parked:
            client.holders.remove(worker)
        site = worker.site
        if site.queue:
            self._serve_queue(site)  # they have waited for longer than what follows on this connection
        self._is_ours(client)
        if not site.route.keepalive_s and client.state is State.IDLE:
            self._drop(client)

    def _is_ours(self, client: Client) -> None:
        """A connection has no request under way. There may be another already."""
        self._rests(client)
        if client.hinted or client.ended:
            client.hinted = False
            self._look(client)

    def _rests(self, client: Client) -> None:
        client.state = State.IDLE
        client.since = self._now
        if client.slot:
            self._owners[client.slot] = NOBODY
        if client.muted:
            client.muted = False
            self._epoll.modify(client.fd, WATCH)
            client.hinted = True

    def _has_room(self, worker: Worker) -> None:
        """A line that was full takes more."""
        try:
            worker.flush()
        except OSError:
            return  # full, or gone: then its line's end tells
        self._epoll.modify(worker.fd, select.EPOLLIN)
        if worker.ends:
            self._say_no_more(worker)
        if worker in worker.site.workers and worker.said:
            worker.open = True
            self._serve_queue(worker.site)

    def _let_go(self, worker: Worker) -> None:
        """It leaves, or is not needed: it gets nothing more, and gives back what it has."""
        worker.open = False
        if worker in worker.site.workers:
            worker.site.workers.remove(worker)
        self._collect(list(worker.lent.values()))
        try:
            worker.flush()  # it may be going to get a request: that is its last
        except BlockingIOError:
            worker.ends = True
            self._is_full(worker)
        except OSError:
            worker.outbox.clear()  # it is gone: its line's end tells
        else:
            self._say_no_more(worker)
        for client in self._clients.values():
            if worker in client.holders and client.number not in worker.lent:
                client.holders.remove(worker)

    @staticmethod
    def _say_no_more(worker: Worker) -> None:
        with suppress(OSError):
            worker.sock.shutdown(socket.SHUT_WR)

    def _worker_gone(self, worker: Worker) -> None:
        """Its process has ended: what it was about ends with it."""
        self._let_go(worker)
        del self._lines[worker.fd]
        self._talkative.discard(worker)
        self._epoll.unregister(worker.fd)
        for client in list(worker.lent.values()):
            client.holders.remove(worker)
            self._drop(client)
        worker.lent.clear()
        worker.close()
        if worker.unclaimed:  # it has not said what it had: the daemon tells how it has ended
            self._unclaimed[worker.name] = worker.unclaimed

    # --- time ---------------------------------------------------------------------------------

    def _sweep(self, now: float) -> None:
        """End what has waited too long for its client."""
        for client in list(self._clients.values()):
            state = client.state
            age_s = now - client.since
            if state is State.LENT:
                self._collect((client,))
            elif state is State.IDLE:
                if client.site is not None:
                    keepalive_s = client.site.route.keepalive_s
                else:  # it is from a router before us, and may be new
                    keepalive_s = max(self._longest_keepalive_s, self._header_timeout_s)
                if age_s >= keepalive_s:
                    self._drop(client)
            elif state is State.FRESH and age_s >= self._header_timeout_s:
                self._drop(client)
            elif state is State.HEAD and age_s >= self._header_timeout_s:
                why = "the request did not arrive in time"
                self._tell(client, answer(408, why, self._date_line(), body=not client.is_head))
            elif state is State.TOLD and age_s >= LINGER_S:
                self._drop(client)

    def _date_line(self) -> bytes:
        if self._now >= self._date_until:
            wall = time.time()
            self._date = f"Date: {formatdate(wall, usegmt=True)}\r\n".encode()
            self._date_until = self._now + 1 - wall % 1
        return self._date
