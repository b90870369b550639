"""The timetable: what is due when, by a clock on the wall that may jump."""

from __future__ import annotations

import random
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from freezegun import freeze_time

from core.playbook import BLOG, settings
from djsup import timetable
from djsup.core.events import Event, RunAsked
from djsup.core.model import ProgramSettings, Settings
from djsup.core.snapshot import ProgramSnapshot, SiteSnapshot, SiteState
from djsup.timetable import JUMP_MAX_S, Timetable

BERLIN = ZoneInfo("Europe/Berlin")


def at(text: str) -> float:
    """Seconds since the epoch of a time in Berlin."""
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN).timestamp()


class Clock:
    """A timetable, and the two clocks that it is shown."""

    def __init__(self, now: str, schedule: str = "0 3 * * *") -> None:
        self.told: list[Event] = []
        self.timetable = Timetable(self.told.append, BERLIN)
        self.wall, self.monotonic = at(now), 50.0
        self.timetable.adopt(scheduled(schedule), self.wall)
        self.look()

    def look(self) -> int:
        """One look; how many runs it told of."""
        before = len(self.told)
        self.timetable.look(self.wall, self.monotonic)
        return len(self.told) - before

    def passes(self, seconds: float) -> int:
        """Time passes, the daemon being busy until then."""
        self.wall += seconds
        self.monotonic += seconds
        return self.look()

    def jumps(self, seconds: float) -> int:
        """The clock on the wall is set."""
        self.wall += seconds
        self.monotonic += 1.0
        return self.look()


def scheduled(schedule: str) -> Settings:
    return settings(replace(BLOG, programs=(ProgramSettings("clean", "x", schedule=schedule),)))


def test_command_is_told_of_once_when_its_time_has_come() -> None:
    clock = Clock("2026-01-05T02:59:58")
    assert [clock.passes(1.0) for _ in range(5)] == [0, 1, 0, 0, 0]
    assert clock.told == [RunAsked(BLOG.name, "clean", "schedule")]
    assert clock.passes(86_400 - 10) == 0
    assert clock.passes(10) == 1


def test_daemon_that_could_not_look_for_days_runs_a_command_once() -> None:
    assert Clock("2026-01-05T02:00:00").passes(5 * 86_400) == 1


def test_clock_set_forward_by_less_than_three_hours_runs_what_was_passed_over() -> None:
    clock = Clock("2026-01-05T02:00:00")
    assert clock.jumps(2 * 3600) == 1
    assert clock.passes(3600) == 0


def test_clock_set_back_by_less_than_three_hours_runs_nothing_twice() -> None:
    clock = Clock("2026-01-05T02:59:59")
    assert clock.passes(1) == 1
    assert clock.jumps(-2 * 3600) == 0
    assert clock.passes(2.5 * 3600) == 0
    assert clock.passes(86_400) == 1


@pytest.mark.parametrize("years", [12, -12])
def test_clock_that_was_wrong_by_years_forgets_no_command_and_runs_none_for_it(years: int) -> None:
    clock = Clock("2026-01-05T02:00:00")
    assert clock.jumps(years * 365 * 86_400) == 0
    assert clock.jumps(-years * 365 * 86_400) == 0
    assert clock.passes(3600) == 1


@pytest.mark.parametrize("seed", range(20))
def test_a_schedule_runs_once_a_night_however_the_clock_is_set_by_less_than_three_hours(seed: int) -> None:
    dice, told = random.Random(seed), list[Event]()
    with freeze_time("2026-01-05 01:00:00") as clock:
        timetable = Timetable(told.append, UTC)
        timetable.adopt(scheduled("0 3 * * *"), time.time())
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


def test_command_in_the_hour_that_summer_time_leaves_out_runs_once_that_night() -> None:
    clock = Clock("2026-03-29T00:00:00", "30 2 * * *")
    assert sum(clock.passes(600) for _ in range(6 * 12)) == 1


def test_command_in_the_hour_that_comes_twice_runs_once_that_night() -> None:
    clock = Clock("2026-10-25T00:00:00", "30 2 * * *")
    assert sum(clock.passes(600) for _ in range(6 * 12)) == 1


def test_reload_leaves_the_times_of_what_has_not_changed() -> None:
    clock = Clock("2026-01-05T02:59:59")
    clock.timetable.adopt(scheduled("0 3 * * *"), at("2026-01-05T03:00:00"))
    assert clock.passes(1) == 1
    clock.timetable.adopt(scheduled("*/5 * * * *"), clock.wall)
    assert clock.passes(300) == 1
    clock.timetable.adopt(settings(BLOG), clock.wall)
    assert clock.passes(86_400) == 0


def test_time_of_the_next_run_is_shown() -> None:
    clock = Clock("2026-01-05T02:00:00")
    programs = (
        ProgramSnapshot("clean", 0, None, "waiting", 0.0, schedule="0 3 * * *"),
        ProgramSnapshot("celery", 0, 7, "running", 1.0),
    )
    shown = clock.timetable.complete(SiteSnapshot("blog", SiteState.SERVING, 1, (), programs=programs))
    assert [each.next_run_at for each in shown.programs] == [at("2026-01-05T03:00:00"), None]


def test_time_zone_is_that_of_tz_and_else_the_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", ":America/New_York")
    assert str(timetable.local_zone()) == "America/New_York"
    monkeypatch.setenv("TZ", "no/such-zone")
    named = timetable.local_zone()
    monkeypatch.delenv("TZ")
    now = datetime.fromisoformat("2026-01-05T12:00:00+00:00")
    assert now.astimezone(named).utcoffset() == now.astimezone(timetable.local_zone()).utcoffset()
