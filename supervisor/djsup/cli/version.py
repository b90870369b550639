"""``djsup version``: what is installed here."""

from __future__ import annotations

import platform

import click

from djsup import __version__
from djsup.cli import INSTALLED, output
from djsup.cli.verb import Target, Verb


@click.command("version", cls=Verb, examples=("djsup version",))
@click.pass_obj
def command(target: Target) -> None:
    """The version that is installed here."""
    if target.as_json:
        output.as_json({"version": __version__, "python": platform.python_version()})
    else:
        click.echo(INSTALLED)
