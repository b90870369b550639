"""``djsup logs``: what the sites printed."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import click
from rich.text import Text

from djsup.cli import figures, output
from djsup.cli.verb import Target, Verb

LIMIT = 100


@click.command(
    "logs",
    cls=Verb,
    examples=(
        "djsup logs",
        "djsup logs blog -f",
        "djsup logs blog -n 1000 | less",
        "djsup logs blog --access -f",
    ),
)
@click.argument("site", required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on with what is printed from now on.")
@click.option("-n", "--limit", type=click.IntRange(0, 5000), default=LIMIT, help="How many past lines (100).")
@click.option("--access", is_flag=True, help="The access log of the site instead.")
@click.pass_obj
def command(target: Target, site: str | None, follow: bool, limit: int, access: bool) -> None:
    """What the sites printed, or their requests."""
    if access and site is None:
        raise click.UsageError("--access needs a SITE")
    console = output.console()
    stream = target.client().stream("logs", site=site, follow=follow, limit=limit, access=access)
    with closing(stream) as lines:
        for line in lines:
            if line.kind != "log":
                continue
            if target.as_json:
                output.as_json(line.value, indent=None)
            elif access:
                console.print(Text(output.clean(str(line.value.get("text", "")))), soft_wrap=True)
            else:
                console.print(_text(line.value), soft_wrap=True)


def _text(log: dict[str, Any]) -> Text:
    where = str(log.get("site") or "djsup")
    if log.get("program"):
        where += f"/{log['program']}"
    elif log.get("slot") is not None:
        where += f"/{log['slot']}"
    if log.get("pid"):
        where += f" {log['pid']}"
    return Text.assemble(
        (figures.clock(str(log.get("at", ""))), "dim"),
        " ",
        (where, "cyan" if log.get("stream") == "stdout" else "yellow"),
        " ",
        output.clean(str(log.get("text", ""))),
    )
