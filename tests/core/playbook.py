"""Tests that read as plays: ``play >> event << action << action``.

``>>`` tells the fleet an event, or lets seconds pass (a number). ``<<`` is the next action that
must have come out; ``<< ...`` lets the rest of this step pass. What was not named when the next
event comes, is an error: a play is complete.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from types import EllipsisType
from typing import Any, Self

from djsup.core.actions import Action, ForkWorker, NoticeKind, Publish, StartTemplate
from djsup.core.events import (
    DeadlinePassed,
    Event,
    Exit,
    ListenerBound,
    ProcessExited,
    ProcessStarted,
    SettingsChanged,
    TemplateLoaded,
    WorkerReady,
)
from djsup.core.fleet import Fleet
from djsup.core.model import Address, AddressKind, Pid, ProcId, Settings, SiteName, SiteSettings, WorkerCount
from djsup.core.snapshot import SiteSnapshot

HTTP = Address(AddressKind.TCP, "127.0.0.1", 8000)
OTHER = Address(AddressKind.TCP, "127.0.0.1", 8001)
BLOG = SiteSettings(
    SiteName("blog"), "/srv/blog", "/srv/blog/.venv/bin/python", (HTTP,), workers=WorkerCount(2, 2)
)
SHOP = replace(BLOG, name=SiteName("shop"), directory="/srv/shop", listen=(OTHER,))
KILLED = Exit(signal="SIGKILL")
ENDED = Exit(status=0)


def settings(*sites: SiteSettings, grace_s: float = 0.0) -> Settings:
    """With a grace, programs outlive the daemon, and so there is a keeper on the stage."""
    return Settings("/etc/djsup.toml", "/run/djsup", sites, orphan_grace_s=grace_s)


def changed(*sites: SiteSettings, reload: tuple[SiteName, ...] = (), grace_s: float = 0.0) -> SettingsChanged:
    return SettingsChanged(settings(*sites, grace_s=grace_s), "root (HUP)", frozenset(reload))


@dataclass(frozen=True)
class Like:
    """An action of this kind with these fields, whatever the others are."""

    kind: type
    fields: dict[str, Any]

    def __repr__(self) -> str:
        return f"{self.kind.__name__} with {self.fields}"


def like(kind: type, **fields: Any) -> Like:
    return Like(kind, fields)


@dataclass(frozen=True)
class Said:
    """A notice of this kind, whose text and details hold these words."""

    kind: NoticeKind
    words: str = ""


@dataclass
class Play:
    """A fleet on its stage."""

    now: float = 1000.0
    fleet: Fleet = field(default_factory=Fleet)
    script: list[str] = field(default_factory=list)
    came: list[Action] = field(default_factory=list)
    """Actions of this step that were not named yet."""
    all: list[Action] = field(default_factory=list)
    """Every action since the start."""

    def __rshift__(self, event: Event | float) -> Self:
        self._all_named()
        self.script.append(f">> {event}")
        if isinstance(event, (int, float)):
            self._wait(event)
        else:
            self._tell(event)
        return self

    def __lshift__(self, expected: Action | Like | Said | EllipsisType) -> Self:
        if expected is Ellipsis:
            self.came.clear()
            return self
        assert self.came, self._told(f"expected {expected}, and nothing more came")
        action = self.came.pop(0)
        assert _fits(action, expected), self._told(f"expected {expected}, and {action} came")
        return self

    def _tell(self, event: Event) -> None:
        self._keep(self.fleet.handle(event, self.now))

    def _wait(self, seconds: float) -> None:
        """Let time pass; the fleet is told of every deadline."""
        until = self.now + seconds
        while (deadline := self.fleet.deadline) is not None and deadline <= until:
            assert deadline > self.now, self._told("the fleet asks for the past")
            self.now = deadline
            self._keep(self.fleet.handle(DeadlinePassed(), self.now))
        self.now = until

    def _keep(self, actions: list[Action]) -> None:
        self.came += actions
        self.all += actions
        self.script += [f"       << {each}" for each in actions]

    def _all_named(self) -> None:
        assert not self.came, self._told(f"{self.came} came, and nobody expected it")

    def _told(self, wrong: str) -> str:
        return "\n".join([*self.script[-40:], wrong])

    def done(self) -> None:
        """The curtain: nothing may be left over."""
        self._all_named()

    def site(self, name: str = "blog") -> SiteSnapshot:
        """How a site looks now."""
        return next(each for each in self.fleet.snapshot(self.now) if each.name == name)

    def asked(self, kind: type[StartTemplate | ForkWorker]) -> ProcId:
        """The process that was asked for last."""
        found = next(each for each in reversed(self.all) if isinstance(each, kind))
        return found.proc

    def said(self, kind: NoticeKind) -> list[str]:
        """All that was said of this kind so far."""
        return [each.text for each in self.all if isinstance(each, Publish) and each.kind is kind]


def _fits(action: Action, expected: Action | Like | Said) -> bool:
    match expected:
        case Like(kind, fields):
            return isinstance(action, kind) and all(
                getattr(action, name) == value for name, value in fields.items()
            )
        case Said(kind, words):
            return (
                isinstance(action, Publish)
                and action.kind is kind
                and words in f"{action.text}\n{action.details}"
            )
        case _:
            return action == expected


def pid(proc: int) -> Pid:
    return Pid(100 + proc)


def started(proc: int) -> ProcessStarted:
    return ProcessStarted(ProcId(proc), pid(proc))


def loaded(proc: int, *unsafe: str) -> TemplateLoaded:
    return TemplateLoaded(ProcId(proc), 0.5, "3.11", "5.2", unsafe)


def ready(proc: int) -> WorkerReady:
    return WorkerReady(ProcId(proc))


def exited(proc: int, how: Exit = ENDED) -> ProcessExited:
    return ProcessExited(ProcId(proc), how)


def curtain_up(*sites: SiteSettings) -> Play:
    """A play in which blog serves with two workers: template 1, workers 2 and 3."""
    play = Play()
    play >> changed(*(sites or (BLOG,))) << ...
    play >> ListenerBound(HTTP) << ...
    play >> started(1) >> loaded(1) << ...
    play >> started(2) >> ready(2) << ...
    play >> started(3) >> ready(3) << ...
    return play
