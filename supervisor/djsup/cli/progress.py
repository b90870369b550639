"""Long work as it goes on: the progress lines of an answer, then its result."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

from rich.text import Text

from djsup.cli import output

if TYPE_CHECKING:
    from collections.abc import Generator

    from djsup.cli.verb import Target
    from djsup.client import Line


def follow(target: Target, lines: Generator[Line, None, None]) -> Any:
    """Print the progress of an answer (nothing with --json), and give its result."""
    console = output.console()
    with closing(lines):
        for line in lines:
            match line.kind:
                case "result":
                    return line.value
                case "progress" if not target.as_json:
                    site = line.value.get("site")
                    text = output.told(line.value.get("text", ""), site)
                    console.print(Text(f"{site}: {text}", style="dim"), soft_wrap=True)
                case _:
                    pass
    raise AssertionError("an answer ends with a result or an error")
