"""What all verbs share: which daemon is meant, examples in the help, and exit statuses.

0 done; 1 it was tried and failed; 2 wrong usage or configuration;
3 the daemon is not running; 4 it did not answer in time
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.text import Text

from djsup import client, config
from djsup.cli import output

if TYPE_CHECKING:
    from collections.abc import Sequence

    from djsup.config import Loaded

DONE = 0
FAILED = 1
USAGE = 2
NOT_RUNNING = 3
TIMED_OUT = 4
INTERRUPTED = 130


class Failed(Exception):
    """A verb could not do what was asked; the text is for people."""

    def __init__(
        self, error: str, status: int = FAILED, problems: Sequence[config.Problem | str] = ()
    ) -> None:
        super().__init__(error)
        self.status = status
        self.problems = tuple(problems)


@dataclass(slots=True)
class Target:
    """Which daemon is meant and how results are shown: the options that every verb has."""

    config: str | None = None
    runtime: str | None = None
    as_json: bool = False

    def file(self) -> Path:
        """The configuration file.

        Raises:
            Failed: there is none.
        """
        found = config.find_file(self.config, os.environ, Path.cwd())
        if found is None:
            raise Failed(
                "no configuration: there is neither ./djsup.toml nor /etc/djsup/djsup.toml; "
                "name a file with -c FILE",
                USAGE,
            )
        return found

    def load(self) -> Loaded:
        """The configuration.

        Raises:
            Failed: there is none, or it has mistakes.
        """
        file = self.file()
        try:
            return config.load(file, os.environ)
        except config.ConfigError as error:
            raise Failed(_mistakes(error, file), USAGE, error.problems) from error

    def runtime_dir(self) -> str:
        """The runtime directory of the daemon that is meant; needs no valid configuration.

        Raises:
            Failed: a configuration file is named that can't be read.
        """
        if self.runtime is not None:
            return str(Path(self.runtime).absolute())
        file = config.find_file(self.config, os.environ, Path.cwd())
        if file is None:
            return config.default_runtime_dir(os.environ)
        try:
            return config.runtime_dir_of(file, os.environ)
        except config.ConfigError as error:
            text = f"{_mistakes(error, file)}; to find the daemon all the same, name its --runtime-dir"
            raise Failed(text, USAGE, error.problems) from error

    def client(self) -> client.Client:
        """A client of the daemon that is meant."""
        return client.Client(self.runtime_dir())


def _mistakes(error: config.ConfigError, file: Path) -> str:
    number = len(error.problems)
    return f"{number} mistake{'' if number == 1 else 's'} in the configuration {file}"


def _remember(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    """An option of every verb counts before the verb and behind it."""
    target = context.ensure_object(Target)
    if value not in (None, False):
        setattr(target, str(parameter.name), value)


def target_options() -> list[click.Parameter]:
    """The options that every verb has."""
    return [
        click.Option(
            ["-c", "--config"],
            metavar="FILE",
            expose_value=False,
            callback=_remember,
            help="The configuration; else $DJSUP_CONFIG, ./djsup.toml, /etc/djsup/djsup.toml.",
        ),
        click.Option(
            ["--runtime-dir", "runtime"],
            metavar="FOLDER",
            expose_value=False,
            callback=_remember,
            help="Where the daemon is found; else runtime_dir of the configuration.",
        ),
        click.Option(
            ["--json", "as_json"],
            is_flag=True,
            expose_value=False,
            callback=_remember,
            help="Print JSON.",
        ),
    ]


class Verb(click.Command):
    """A verb: with the options of all verbs, with examples, and with errors that become exit statuses."""

    def __init__(self, *args: Any, examples: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.extend(target_options())
        self.examples = examples

    def get_short_help_str(self, limit: int = 60) -> str:
        """The first line of the help, whole."""
        return super().get_short_help_str(limit)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The examples."""
        super().format_epilog(ctx, formatter)
        if self.examples:
            with formatter.section("Examples"):
                for example in self.examples:
                    formatter.write(f"{'':{formatter.current_indent}}{example}\n")

    def invoke(self, ctx: click.Context) -> None:
        """Run the verb; whatever stops it becomes an exit status and a sentence."""
        target = ctx.ensure_object(Target)
        try:
            super().invoke(ctx)
            status = DONE
        except Failed as error:
            status = _complain(target, str(error), error.status, error.problems)
        except client.NotRunning as error:
            status = _complain(target, str(error), NOT_RUNNING)
        except client.TimedOut as error:
            status = _complain(target, str(error), TIMED_OUT)
        except client.Refused as error:
            status = _complain(target, str(error), error.exit, error.problems)
        except KeyboardInterrupt:
            status = INTERRUPTED
        ctx.exit(status)


def _complain(target: Target, error: str, status: int, problems: Sequence[config.Problem | str] = ()) -> int:
    if target.as_json:
        listed = [each if isinstance(each, str) else each.to_json() for each in problems]
        output.as_json({"error": error, "exit": status, **({"problems": listed} if listed else {})})
        return status
    console = output.console(stderr=True)
    for problem in problems:
        console.print(Text(output.clean(str(problem))), soft_wrap=True)
    console.print(Text.assemble(("djsup: ", "bold red"), output.clean(error)), soft_wrap=True)
    return status
