"""``djsup events``: what happened, when, where, by whom, and why."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import click
from rich.text import Text

from djsup.cli import figures, output
from djsup.cli.verb import Target, Verb

LIMIT = 50
DETAILS_LINES = 12
"""Lines of an event's details that are shown without --full; the last ones, which say why."""
STYLES = {"error": "bold red", "warning": "yellow"}


@click.command(
    "events", cls=Verb, examples=("djsup events", "djsup events blog -f", "djsup events blog -n 5 --full")
)
@click.argument("site", required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on with what happens from now on.")
@click.option("-n", "--limit", type=click.IntRange(0, 5000), default=LIMIT, help="How many past ones (50).")
@click.option("--full", is_flag=True, help="Whole tracebacks and outputs, not only their last lines.")
@click.pass_obj
def command(target: Target, site: str | None, follow: bool, limit: int, full: bool) -> None:
    """What happened, why, and by whom."""
    console = output.console()
    with closing(target.client().stream("events", site=site, follow=follow, limit=limit)) as lines:
        for line in lines:
            if line.kind != "event":
                continue
            if target.as_json:
                output.as_json(line.value, indent=None)
            else:
                for text in _texts(line.value, full=full):
                    console.print(text, soft_wrap=True)


def _texts(event: dict[str, Any], *, full: bool) -> list[Text]:
    style = STYLES.get(str(event.get("level")), "")
    where = str(event.get("site") or "djsup")
    if event.get("generation"):
        where += f" gen {event['generation']}"
    if event.get("pid"):
        where += f" pid {event['pid']}"
    by = f" (by {event['by']})" if event.get("by") else ""
    first = Text.assemble(
        (figures.clock(str(event.get("at", ""))), "dim"),
        " ",
        (where, "cyan"),
        " ",
        (output.told(event.get("text", ""), event.get("site")), style),
        (by, "dim"),
    )
    lines = str(event.get("details") or "").rstrip().splitlines()
    if not lines:
        return [first]
    shown = lines if full else lines[-DETAILS_LINES:]
    left_out = len(lines) - len(shown)
    if left_out:
        shown = [f"[{figures.counted(left_out, 'line')} more with --full]", *shown]
    return [first, output.indented("\n".join(shown), "dim")]
