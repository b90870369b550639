"""``djsup run``: a scheduled command now, in the place and as the user that its schedule runs it."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import click
from rich.text import Text

from djsup.cli import output
from djsup.cli.verb import FAILED, Failed, Target, Verb

WAIT_S = 3600.0


@click.command("run", cls=Verb, examples=("djsup run blog clearsessions", "djsup run blog report --no-wait"))
@click.argument("site")
@click.argument("program")
@click.option("--no-wait", is_flag=True, help="Do not wait until it has ended.")
@click.option(
    "--wait", "wait_s", type=float, default=WAIT_S, metavar="S", help="Wait at most S seconds (3600)."
)
@click.pass_context
def command(ctx: click.Context, site: str, program: str, no_wait: bool, wait_s: float) -> None:
    """Run a program that has a schedule, now."""
    target = ctx.ensure_object(Target)
    result = _result(target, site, program, no_wait, wait_s)
    well = result.get("well", True)
    if target.as_json:
        output.as_json(result)
        ctx.exit(0 if well else FAILED)
    if not result.get("ended"):
        click.echo(f"{site}: {program} has begun; djsup events {site} tells how it ends")
    elif well:
        click.echo(f"{site}: {program} {result.get('text')}")
    else:
        raise Failed(f"{site}: {program} {result.get('text')}")


def _result(target: Target, site: str, program: str, no_wait: bool, wait_s: float) -> dict[str, Any]:
    """What it printed goes out as it comes; gives how it went."""
    console = output.console()
    stream = target.client().stream("run", wait_s, site=site, program=program, wait=not no_wait)
    with closing(stream) as lines:
        for line in lines:
            if line.kind == "result":
                return dict(line.value)
            if line.kind == "log" and not target.as_json:
                console.print(Text(output.clean(str(line.value.get("text", "")))), soft_wrap=True)
    raise AssertionError("an answer ends with a result or an error")
