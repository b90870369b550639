"""``djsup schema``: the JSON Schema of the configuration, for editors."""

from __future__ import annotations

import click

from djsup.cli import output
from djsup.cli.verb import Verb
from djsup.config.schema import json_schema


@click.command("schema", cls=Verb, examples=("djsup schema > djsup.schema.json",))
def command() -> None:
    """The configuration's JSON Schema, for editors."""
    output.as_json(json_schema())
