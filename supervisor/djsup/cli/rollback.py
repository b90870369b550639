"""``djsup rollback``: the code that served before the last reload, from its template, at once."""

from __future__ import annotations

import click

from djsup.cli.progress import follow
from djsup.cli.reload import show_outcomes
from djsup.cli.verb import Target, Verb

WAIT_S = 600.0


@click.command("rollback", cls=Verb, examples=("djsup rollback blog", "djsup rollback blog --no-wait"))
@click.argument("site")
@click.option("--no-wait", is_flag=True, help="Do not wait for the outcome.")
@click.option(
    "--wait", "wait_s", type=float, default=WAIT_S, metavar="S", help="Wait at most S seconds (600)."
)
@click.pass_context
def command(ctx: click.Context, site: str, no_wait: bool, wait_s: float) -> None:
    """Bring the code back that served before the last reload.

    Its template is kept for a while (keep_previous), so nothing is read from the disk, which may hold the new
    code. Drops nothing. The code that served until now is kept in turn: a second rollback returns to it.
    """
    target = ctx.ensure_object(Target)
    result = follow(target, target.client().stream("rollback", wait_s, site=site, wait=not no_wait))
    ctx.exit(show_outcomes(target, result))
