"""``djsup restart``: one site stops and starts, for what a reload can't change."""

from __future__ import annotations

import click

from djsup.cli import output
from djsup.cli.progress import follow
from djsup.cli.verb import FAILED, Failed, Target, Verb

WAIT_S = 600.0
FAILED_STATES = ("failed", "backing-off")


@click.command("restart", cls=Verb, examples=("djsup restart blog", "djsup restart blog --no-wait"))
@click.argument("site")
@click.option("--no-wait", is_flag=True, help="Do not wait until it serves again.")
@click.option(
    "--wait", "wait_s", type=float, default=WAIT_S, metavar="S", help="Wait at most S seconds (600)."
)
@click.pass_context
def command(ctx: click.Context, site: str, no_wait: bool, wait_s: float) -> None:
    """Stop and start one site. It does not serve in between; a reload does."""
    target = ctx.ensure_object(Target)
    result = follow(target, target.client().stream("restart", wait_s, site=site, wait=not no_wait))
    state, error = str(result["state"]), result.get("error")
    if target.as_json:
        output.as_json(result)
        ctx.exit(FAILED if state in FAILED_STATES else 0)
    if state in FAILED_STATES:
        raise Failed(f"{site}: {state}" + (f": {error}" if error else f"; djsup events {site} tells why"))
    click.echo(f"{site}: {'restart has begun' if no_wait else state}")
