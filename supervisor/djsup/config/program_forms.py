"""The forms of a program's command and of its schedule: read as a shell and as cron read them."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime
from typing import Any

from cronsim import CronSim, CronSimError

from djsup.config.forms import Form

FIELDS = 5
_DAY = datetime(2026, 1, 1, tzinfo=UTC)
"""A schedule that has no time after this one never has."""


def command_line() -> Form:
    """Words as a shell splits them; no shell runs them."""

    def read(value: Any) -> str:
        if not isinstance(value, str) or "\0" in value:
            raise ValueError
        try:
            words = shlex.split(value)
        except ValueError as error:
            raise ValueError(f"it cannot be split into words: {error}") from error
        if not words or not words[0]:
            raise ValueError("it is empty")
        return value

    return Form(read, "a command line", {"type": "string", "minLength": 1})


def cron_schedule() -> Form:
    """Five fields of crontab(5)."""

    def read(value: Any) -> str:
        if not isinstance(value, str) or "\0" in value:
            raise ValueError
        fields = value.split()
        if len(fields) != FIELDS:
            hint = "write the five fields out" if value.startswith("@") else f"it has {len(fields)}"
            raise ValueError(hint)
        try:
            first = next(CronSim(value, _DAY), None)
        except CronSimError as error:
            raise ValueError(str(error).lower()) from error
        if first is None:
            raise ValueError("there is no such day")
        return " ".join(fields)

    allowed = 'five fields as cron has them (minute, hour, day of month, month, day of week), as "0 3 * * *"'
    return Form(read, allowed, {"type": "string", "minLength": 1})
