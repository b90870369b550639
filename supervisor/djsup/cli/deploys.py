"""``djsup deploys``: the reloads and rollbacks of a site that are over, newest first."""

from __future__ import annotations

import click
from rich.text import Text

from djsup.cli import figures, output
from djsup.cli.verb import Target, Verb

LIMIT = 20
STYLES = {"done": "green", "rolled-back": "bold red", "superseded": "yellow"}


@click.command(
    "deploys",
    cls=Verb,
    examples=("djsup deploys blog", "djsup deploys blog --full", "djsup deploys blog --json"),
)
@click.argument("site")
@click.option("-n", "--limit", type=click.IntRange(1, 100), default=LIMIT, help="How many (20).")
@click.option("--full", is_flag=True, help="The tracebacks of those that were rolled back, too.")
@click.pass_obj
def command(target: Target, site: str, limit: int, full: bool) -> None:
    """How the reloads and rollbacks of a site went."""
    found = target.client().call("deploys", site=site, limit=limit)
    if target.as_json:
        output.as_json(found)
        return
    console = output.console()
    table = output.table(
        console, "STARTED", "GEN", "RESULT", "TOOK", "BY", "ERROR", right=("GEN", "TOOK"), elastic="ERROR"
    )
    for deploy in found["deploys"]:
        table.add_row(
            figures.clock(deploy["started_at"]),
            str(deploy["generation"]),
            Text(deploy["result"], STYLES.get(deploy["result"], "")),
            figures.duration(deploy["duration_s"]),
            output.clean(deploy["by"]),
            output.clean(deploy["error"] or ""),
        )
    output.show(console, table)
    for deploy in found["deploys"] if full else ():
        if deploy["traceback"]:
            output.show(console, Text(f"generation {deploy['generation']}:", "bold"))
            output.show(console, output.indented(deploy["traceback"].rstrip(), "dim"))
