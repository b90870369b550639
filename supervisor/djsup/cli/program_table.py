"""A site's programs as a table: what runs, and when what is scheduled runs next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from djsup.cli import figures, output

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from djsup.core.snapshot import ProgramSnapshot

STYLES = {
    "starting": "cyan",
    "running": "green",
    "stopping": "yellow",
    "backing-off": "bold red",
    "waiting": "dim",
}


def program_table(console: Console, programs: tuple[ProgramSnapshot, ...], now: float) -> Table:
    """One line an instance; ``now`` is the time in seconds since the epoch."""
    table = output.table(console, "PROGRAM", "PID", "STATE", "UP", "NOW", right=("PID", "UP"), elastic="NOW")
    for program in programs:
        table.add_row(
            program.name if program.schedule else f"{program.name}/{program.instance}",
            str(program.pid or figures.NONE),
            Text(program.state, style=STYLES.get(program.state, "")),
            figures.age(program.uptime_s) if program.pid else figures.NONE,
            _what(program, now),
        )
    return table


def _what(program: ProgramSnapshot, now: float) -> Text:
    """What there is to say of it beside its state."""
    parts: list[tuple[str, str]] = []
    if program.status_text:
        parts.append((output.clean(program.status_text), "cyan"))
    if program.next_try_s is not None:
        parts.append((f"next try in {figures.duration(program.next_try_s)}", "red"))
    if program.schedule and program.next_run_at is not None:
        parts.append((f"next run in {figures.age(max(0.0, program.next_run_at - now))}", ""))
    if program.last_result:
        parts.append(
            (f"last: {output.clean(program.last_result)}", "red" if program.last_well is False else "dim")
        )
    return Text("; ").join(Text(text, style=style) for text, style in parts)
