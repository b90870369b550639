"""What the verbs print: for people on a terminal, plain when piped, JSON when asked for.

Results go to standard output, what went wrong to standard error. Texts from sites are never taken
for markup, and their control characters never reach the terminal.
"""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from rich.console import RenderableType

PIPED_WIDTH = 100_000
"""A pipe has no edge at which to wrap."""
NARROW = 100
"""Columns below which a table leaves out what can be left out."""
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def console(*, stderr: bool = False) -> Console:
    """A console on standard output or standard error as they are now."""
    stream = sys.stderr if stderr else sys.stdout
    piped = not stream.isatty()
    return Console(
        file=stream,
        width=PIPED_WIDTH if piped else None,
        no_color=True if piped else None,
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=False,
    )


def table(to: Console, *headers: str, right: tuple[str, ...] = (), elastic: str = "") -> Table:
    """An empty table without lines.

    Args:
        to: where it will be shown.
        headers: of the columns.
        right: columns that hold numbers.
        elastic: the column that gets narrower than its content when there is not enough room.
    """
    found = Table(
        box=None,
        pad_edge=False,
        padding=(0, 2, 0, 0) if to.width >= NARROW else (0, 1, 0, 0),
        header_style="dim" if to.is_terminal else "",
        collapse_padding=True,
    )
    for header in headers:
        found.add_column(header, justify="right" if header in right else "left", no_wrap=header != elastic)
    return found


def show(to: Console, what: RenderableType = "") -> None:
    """Print a table, a line, or a group of them, without blanks at the ends of lines when piped."""
    if to.is_terminal:
        to.print(what, overflow="fold" if isinstance(what, Text) else None)
        return
    with to.capture() as captured:
        to.print(what)
    for line in captured.get().splitlines():
        to.file.write(line.rstrip() + "\n")
    to.file.flush()


def clean(text: str) -> str:
    """A text of a site's without control characters (but line ends and tabs)."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def told(text: object, site: object) -> str:
    """What the daemon tells of a site, clean, and without the site's name where that stands before it."""
    return clean(str(text)).removeprefix(f'site "{site}": ')


def indented(text: str, style: str = "") -> Text:
    """A text of several lines, four columns in."""
    return Text("\n".join("    " + line for line in clean(text).rstrip().splitlines()), style=style)


def as_json(value: Any, *, indent: int | None = 2) -> None:
    """Print JSON; without an indent it is one line, for streams."""
    sys.stdout.write(json.dumps(value, indent=indent, ensure_ascii=False) + "\n")
    sys.stdout.flush()
