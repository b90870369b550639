"""The command line: ``djsup VERB``. One verb, one module, imported when it is called for.

Only this package exits and prints. It drives the daemon through ``djsup.client`` and knows nothing
of how the daemon works.
"""

from __future__ import annotations

import platform
from importlib import import_module
from typing import Any

import click

from djsup import __version__
from djsup.cli.verb import target_options
from djsup.config.problem import nearest

INSTALLED = f"djsup {__version__} (Python {platform.python_version()})"
VERBS = (
    "start",
    "stop",
    "status",
    "reload",
    "rollback",
    "restart",
    "scale",
    "run",
    "upgrade",
    "check",
    "logs",
    "events",
    "deploys",
    "requests",
    "trace",
    "profile",
    "top",
    "schema",
    "systemd",
    "proxy-config",
    "version",
)
"""In the order in which help shows them; each is a module here with a ``command``."""
ALSO_CALLED = {
    "ps": "status",
    "ls": "status",
    "list": "status",
    "log": "logs",
    "tail": "logs",
    "stacks": "trace",
    "htop": "top",
    "flame": "profile",
    "up": "start",
    "down": "stop",
    "deploy": "reload",
    "update": "upgrade",
    "kill": "stop",
    "test": "check",
    "validate": "check",
}
"""What people type who come from elsewhere, for the suggestion."""


class Verbs(click.Group):
    """The verbs, each imported only when it is used."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """Every verb."""
        return list(VERBS)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of one verb; None when there is none."""
        if cmd_name not in VERBS:
            return None
        command: click.Command = import_module(f"djsup.cli.{cmd_name.replace('-', '_')}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does it, with the nearest verb when there is none of that name."""
        name = args[0] if args else ""
        if name not in VERBS and not name.startswith("-"):
            meant = ALSO_CALLED.get(name) or nearest(name, VERBS)
            known = f'did you mean "{meant}"?' if meant else f"there are: {', '.join(VERBS)}"
            raise click.UsageError(f'no verb "{name}"; {known}', ctx)
        return super().resolve_command(ctx, args)


@click.group(
    cls=Verbs,
    params=target_options(),
    subcommand_metavar="VERB [ARGUMENTS]...",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="djsup VERB --help tells more, with examples.",
)
@click.version_option(
    __version__, message=INSTALLED, help="The version that is installed here, as the verb says it."
)
def cli() -> None:
    """One daemon runs many Django sites.

    Exit status: 0 done; 1 it was tried and failed; 2 wrong usage or configuration;
    3 the daemon is not running; 4 it did not answer in time.
    """


def main(*args: Any) -> None:
    """Run the command line and exit."""
    cli(*args, prog_name="djsup")
