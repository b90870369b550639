"""``djsup requests``: the last requests of a site that failed or were slow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from rich.text import Text

from djsup.cli import figures, output
from djsup.cli.verb import Target, Verb

if TYPE_CHECKING:
    from rich.console import Console

LIMIT = 20


@click.command("requests", cls=Verb, examples=("djsup requests blog", "djsup requests blog -n 5 --json"))
@click.argument("site")
@click.option("-n", "--limit", type=click.IntRange(1, 200), default=LIMIT, help="How many of each (20).")
@click.pass_obj
def command(target: Target, site: str, limit: int) -> None:
    """The last requests of a site that failed or were slow.

    Those that were answered 5xx, newest first, and those that took half a second or more, slowest first.

    What runs at this moment is in status; stacks of it are in trace.
    """
    found = target.client().call("requests", site=site, limit=limit)
    if target.as_json:
        output.as_json(found)
        return
    console = output.console()
    _show(console, "failed", found["failed"])
    _show(console, "slowest", found["slowest"])


def _show(console: Console, title: str, requests: list[dict[str, Any]]) -> None:
    output.show(console, Text(f"{title}: {len(requests) or 'none'}", "bold"))
    if not requests:
        return
    table = output.table(
        console,
        "ENDED",
        "STATUS",
        "TOOK",
        "WORKER",
        "REQUEST",
        right=("STATUS", "TOOK", "WORKER"),
        elastic="REQUEST",
    )
    for each in requests:
        table.add_row(
            figures.clock(each["at"]),
            str(each["status"] or "gone"),
            figures.duration(each["duration_ms"] / 1000),
            str(each["slot"]),
            output.clean(f"{each['method']} {each['path']}"),
        )
    output.show(console, table)
