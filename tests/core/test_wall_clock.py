"""The clock on the wall decides nothing: the core is given its time, and the timetable sees a jump as one."""

from __future__ import annotations

import random
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from freezegun import freeze_time

from core.playbook import BLOG, settings
from core.simulation.history import History, Name
from djsup.core.events import Event
from djsup.core.model import ProgramSettings
from djsup.timetable import JUMP_MAX_S, Timetable


@pytest.mark.parametrize("name", ["3", "7d"])
def test_a_history_is_the_same_whatever_the_wall_clock_does(name: str) -> None:
    quiet: list[str] = []
    History(Name.read(name), quiet.append).play()
    jumping: list[str] = []
    dice = random.Random(name)
    with freeze_time("2026-01-05 02:00:00") as clock:

        def tell(text: str) -> None:
            jumping.append(text)
            clock.move_to(datetime(2026, 1, 5, tzinfo=UTC) + timedelta(days=dice.uniform(-9000, 9000)))

        History(Name.read(name), tell).play()
    assert jumping == quiet


@pytest.mark.parametrize("seed", range(20))
def test_a_schedule_runs_once_a_night_however_the_clock_is_set_by_less_than_three_hours(seed: int) -> None:
    dice, told = random.Random(seed), list[Event]()
    with freeze_time("2026-01-05 01:00:00") as clock:
        timetable = Timetable(told.append, UTC)
        nightly = ProgramSettings("clean", "x", schedule="0 3 * * *")
        timetable.adopt(settings(replace(BLOG, programs=(nightly,))), time.time())
        dawn, dusk = datetime(2026, 1, 5, 1, tzinfo=UTC), datetime(2026, 1, 6, 2, tzinfo=UTC)
        at, monotonic = dawn, 50.0
        for _ in range(300):
            passed_s = dice.uniform(0.0, 60.0)
            jump_s = dice.choice([0.0, dice.uniform(-JUMP_MAX_S, JUMP_MAX_S)])
            at = min(max(at + timedelta(seconds=passed_s + jump_s), dawn), dusk)
            monotonic += passed_s
            clock.move_to(at)
            timetable.look(time.time(), monotonic)
        while at < dusk:
            at, monotonic = at + timedelta(minutes=10), monotonic + 600.0
            clock.move_to(at)
            timetable.look(time.time(), monotonic)
    assert len(told) == 1
