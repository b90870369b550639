"""The end, asked for: announced for a while, then begun."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from core.playbook import BLOG, settings
from djsup.core.events import Event, StopAsked
from djsup.farewell import Farewell

if TYPE_CHECKING:
    from djsup.performer import Performer

BY = "SIGTERM"


class FakePerformer:
    """Writes down what it is to announce and to say."""

    def __init__(self) -> None:
        self.announced_s: list[float] = []
        self.said: list[str] = []

    def announce_stop(self, for_s: float) -> None:
        self.announced_s.append(for_s)

    def say(self, kind: str, _text: str) -> None:
        self.said.append(kind)


class World:
    def __init__(self, stop_delay_s: float) -> None:
        self.settings = replace(settings(BLOG), stop_delay_s=stop_delay_s)
        self.performer = FakePerformer()
        self.told: asyncio.Queue[Event] = asyncio.Queue()
        self.farewell = Farewell(cast("Performer", self.performer), self.told.put_nowait)

    def ask(self, *, at_once: bool = False) -> None:
        self.farewell.ask(BY, self.settings, at_once=at_once)


def test_without_a_delay_the_end_begins_when_it_is_asked_for() -> None:
    world = World(0)
    world.ask()
    assert world.told.get_nowait() == StopAsked(BY)
    assert world.performer.said == []


def test_with_a_delay_the_end_is_announced_and_begins_when_the_delay_is_over() -> None:
    async def story() -> None:
        world = World(0.05)
        world.ask()
        assert world.told.empty()
        assert world.performer.said == ["stop-announced"]
        assert world.performer.announced_s == [0.05 + BLOG.limits.drain_timeout_s], (
            "the drain is part of the end"
        )
        assert await asyncio.wait_for(world.told.get(), 10) == StopAsked(BY)

    asyncio.run(story())


def test_asked_again_the_end_begins_without_waiting_for_the_delay() -> None:
    async def story() -> None:
        world = World(3600)
        assert world.farewell.delay_s(world.settings, at_once=False) == 3600
        world.ask()
        assert world.farewell.delay_s(world.settings, at_once=False) == 0
        world.ask()
        assert world.told.get_nowait() == StopAsked(BY)
        world.ask()
        assert world.told.get_nowait() == StopAsked(BY), "which ends the patience of the fleet"

    asyncio.run(story())


def test_at_once_is_at_once() -> None:
    world = World(3600)
    world.ask(at_once=True)
    assert world.told.get_nowait() == StopAsked(BY, at_once=True)
    assert world.performer.announced_s == []
