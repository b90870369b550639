"""``djsup scale``: another number of workers, until the configuration changes."""

from __future__ import annotations

import re
from typing import Any

import click

from djsup.cli import output
from djsup.cli.figures import counted
from djsup.cli.verb import Target, Verb

_WISH = re.compile(r"([^=]+)=([+-]?)(\d{1,4})\Z")


class Wish(click.ParamType[Any]):
    """``SITE=N``, ``SITE=+N`` or ``SITE=-N``."""

    name = "SITE=N"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int | str]:
        """The site, and a number, or a text with its sign when it is relative."""
        if isinstance(value, tuple):
            return value
        match = _WISH.match(value)
        if match is None:
            self.fail(f'"{value}" is none of SITE=4, SITE=+1, SITE=-1', param, ctx)
        site, sign, number = match.groups()
        return site, f"{sign}{number}" if sign else int(number)


@click.command("scale", cls=Verb, examples=("djsup scale blog=4", "djsup scale blog=+1 shop=-1"))
@click.argument("wishes", metavar="SITE=N...", type=Wish(), nargs=-1, required=True)
@click.pass_obj
def command(target: Target, wishes: tuple[tuple[str, int | str], ...]) -> None:
    """Set the number of workers of a site.

    It holds until the next change of the configuration, within the bounds of workers = { min, max }.
    """
    daemon = target.client()
    results = []
    for site, workers in wishes:
        result = daemon.call("scale", site=site, workers=workers)
        results.append(result)
        if not target.as_json:
            asleep = "" if result["workers"] else " (it sleeps; a number without sign wakes it)"
            click.echo(f"{site}: {counted(int(result['workers']), 'worker')}{asleep}")
    if target.as_json:
        output.as_json({"sites": results})
