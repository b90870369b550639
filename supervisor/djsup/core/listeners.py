"""Which addresses are bound, and for whom.

Knows owners (a site, the dashboard, the router) and what each needs; binds what somebody needs, closes
what nobody needs any more. An address has one owner at a time: where two need it, the second gets
it when the first has let go. What an owner does with a verdict is decided in ``pool.py`` and
``server.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from djsup.core.actions import BindListener, CloseListener
from djsup.core.model import DASHBOARD, ROUTER

if TYPE_CHECKING:
    from collections.abc import Iterable

    from djsup.core.actions import Action
    from djsup.core.model import Address, SiteName


class State(Enum):
    """How a listener is."""

    ASKED = "asked"
    """The shell was asked to bind it."""
    BOUND = "bound"
    """It listens."""
    FAILED = "failed"
    """It could not be bound; not tried again before its owner says so."""


@dataclass(slots=True)
class _Listener:
    owner: SiteName
    state: State = State.ASKED
    error: str = ""


class Listeners:
    """All listeners of the fleet."""

    def __init__(self) -> None:
        self._wanted: dict[SiteName, tuple[Address, ...]] = {}
        self._stays: dict[SiteName, tuple[Address, ...]] = {}
        """What each owner needs when the reload that it runs has ended well."""
        self._listeners: dict[Address, _Listener] = {}
        self._changed = False
        """Something else is needed than at the last reconciliation: with a thousand sites that is the exception."""

    def want(self, owner: SiteName, addresses: Iterable[Address]) -> None:
        """From now on this owner needs these addresses and no others."""
        wanted = tuple(addresses)
        if self._wanted.get(owner) != wanted:
            self._wanted[owner] = wanted
            self._changed = True

    def reloads(self, owner: SiteName, to: Iterable[Address] | None) -> None:
        """This owner runs a reload, after which it needs these addresses alone; None: it runs none."""
        if to is None:
            self._stays.pop(owner, None)
        else:
            self._stays[owner] = tuple(to)

    def forget(self, owner: SiteName) -> None:
        """This owner needs nothing any more."""
        self._stays.pop(owner, None)
        self._changed |= self._wanted.pop(owner, None) is not None

    def adopt(self, owner: SiteName, addresses: Iterable[Address]) -> None:
        """This owner needs these addresses, and they are bound already, by a daemon that is gone."""
        self._wanted[owner] = tuple(addresses)
        for address in self._wanted[owner]:
            self._listeners.setdefault(address, _Listener(owner, State.BOUND))

    def retry(self, owner: SiteName) -> None:
        """Ask again for what could not be bound for this owner."""
        failed = [
            address
            for address, each in self._listeners.items()
            if each.state is State.FAILED and each.owner == owner
        ]
        for address in failed:
            del self._listeners[address]
        self._changed |= bool(failed)

    def reconcile(self) -> list[Action]:
        """Close what nobody needs, bind what somebody needs."""
        if not self._changed:
            return []
        self._changed = False
        needed = {address for addresses in self._wanted.values() for address in addresses}
        actions: list[Action] = []
        for address in [each for each in self._listeners if each not in needed]:
            closed = self._listeners.pop(address)
            actions += [] if closed.state is State.FAILED else [CloseListener(address)]
        for owner, addresses in self._wanted.items():
            for address in addresses:
                held = self._listeners.get(address)
                # What another owner let go is asked for again: the shell answers at once that it is bound.
                if held is None or (held.owner != owner and address not in self._wanted.get(held.owner, ())):
                    self._listeners[address] = _Listener(owner)
                    actions.append(BindListener(address))
        return actions

    def bound(self, address: Address) -> SiteName:
        """It is bound. Gives its owner."""
        listener = self._listeners[address]
        listener.state = State.BOUND
        listener.error = ""
        return listener.owner

    def failed(self, address: Address, error: str) -> SiteName:
        """It could not be bound. Gives its owner."""
        listener = self._listeners[address]
        listener.state = State.FAILED
        listener.error = error
        return listener.owner

    def knows(self, address: Address) -> bool:
        """Whether somebody needs this address; a late answer may come for one that nobody does."""
        return address in self._listeners

    def owner(self, address: Address) -> SiteName | None:
        """Whose it is; None: nobody needs it."""
        listener = self._listeners.get(address)
        return None if listener is None else listener.owner

    def ready(self, owner: SiteName, addresses: Iterable[Address]) -> bool:
        """Whether all these addresses are bound for this owner."""
        return all(self._state(owner, address) is State.BOUND for address in addresses)

    def problem(self, owner: SiteName, addresses: Iterable[Address]) -> str:
        """Why the addresses can't be had, all reasons in one line; empty: no reason, or not all answers are in."""
        addresses = tuple(addresses)
        if any(self._state(owner, address) is State.ASKED for address in addresses):
            return ""
        errors = [
            f"cannot listen on {address}: {self._listeners[address].error}"
            for address in addresses
            if self._state(owner, address) is State.FAILED
        ]
        return "; ".join(errors)

    def waiting_for(self, owner: SiteName, addresses: Iterable[Address]) -> str:
        """What is still to come, for people: addresses that are not bound, and who holds them."""
        texts = []
        for address in addresses:
            listener = self._listeners.get(address)
            if listener is not None and listener.owner != owner:
                own = {DASHBOARD: "the dashboard", ROUTER: "the router"}
                holder = own.get(listener.owner, f'site "{listener.owner}"')
                texts.append(f"{address} belongs to {holder}")
            elif listener is None or listener.state is not State.BOUND:
                texts.append(f"{address} is not bound")
        return "; ".join(texts)

    def comes_free(self, owner: SiteName, addresses: Iterable[Address]) -> bool:
        """Whether others hold some of these addresses, and let go of all of them at the end of a reload that gets on.

        One that waits itself for an address gets on as long as that one comes free; two that wait for each other do not.
        """
        held = self._held(owner, addresses)
        return bool(held) and self._let_go(held, {owner})

    def _held(self, owner: SiteName, addresses: Iterable[Address]) -> set[tuple[Address, SiteName]]:
        """Those of these addresses that others have, and who has them."""
        there = ((address, self._listeners.get(address)) for address in addresses)
        return {(address, each.owner) for address, each in there if each is not None and each.owner != owner}

    def _let_go(self, held: set[tuple[Address, SiteName]], waiting: set[SiteName]) -> bool:
        for address, holder in held:
            stays = self._stays.get(holder)
            if stays is None or address in stays or holder in waiting:
                return False
            if not self._let_go(self._held(holder, stays), {*waiting, holder}):
                return False
        return True

    def _state(self, owner: SiteName, address: Address) -> State:
        listener = self._listeners.get(address)
        return State.ASKED if listener is None or listener.owner != owner else listener.state
