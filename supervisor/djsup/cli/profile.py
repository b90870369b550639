"""``djsup profile``: which functions of a site take the time, seen by looking at all of its workers for a while."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.text import Text

from djsup import flame
from djsup import profile as profiles
from djsup.cli import figures, output, progress
from djsup.cli.verb import FAILED, USAGE, Failed, Target, Verb

if TYPE_CHECKING:
    from djsup.profile import Counted

SHOWN = 15
LATE_S = 30.0
FORMATS = (".svg", ".html", ".folded", ".json")


@click.command(
    "profile",
    cls=Verb,
    examples=(
        "djsup profile blog",
        "djsup profile blog --seconds 30 -o blog.html",
        "djsup profile blog -o blog.folded",
        "djsup profile blog --native",
    ),
)
@click.argument("site")
@click.option("--seconds", type=float, default=10.0, show_default=True, help="How long to look.")
@click.option("--rate", type=float, default=50.0, show_default=True, help="Looks a second at each worker.")
@click.option(
    "-o", "file", metavar="FILE", help="Write a flame graph (.svg, .html), or the stacks (.folded, .json)."
)
@click.option(
    "--native", is_flag=True, help="Have py-spy look: what computes, in C code too, and nothing that waits."
)
@click.pass_context
def command(  # one argument an option
    ctx: click.Context, site: str, seconds: float, rate: float, file: str | None, native: bool
) -> None:
    """Which functions of a site take the time.

    All workers look at their own threads while they serve on. Threads that wait for a request do not count.
    """
    target = ctx.ensure_object(Target)
    if file is not None and Path(file).suffix not in FORMATS:
        raise Failed(f"-o {file}: its name must end in {', '.join(FORMATS)}", USAGE)
    lines = target.client().stream(
        "profile", seconds + LATE_S, site=site, seconds=seconds, rate=rate, native=native
    )
    found = progress.follow(target, lines)
    stacks = profiles.from_json(found)
    if file is not None:
        _write(Path(file), found, stacks)
    if target.as_json:
        output.as_json(found)
    else:
        _show(found, stacks, file)
    ctx.exit(FAILED if all(each["error"] for each in found["processes"]) else 0)


def _write(file: Path, found: dict[str, Any], stacks: Counted) -> None:
    title = f"{found['site']}: {found['samples']} samples in {found['seconds']:g} s"
    match file.suffix:
        case ".svg":
            text = flame.svg(stacks, title)
        case ".html":
            text = flame.html(stacks, title)
        case ".folded":
            text = profiles.folded(stacks)
        case _:
            text = json.dumps(found, indent=1) + "\n"
    try:
        file.write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise Failed(f"cannot write {file}: {error.strerror}") from error


def _show(found: dict[str, Any], stacks: Counted, file: str | None) -> None:
    console = output.console()
    for each in found["processes"]:
        if each["error"]:
            text = f"nothing of worker {each['slot']} (pid {each['pid']}): {output.clean(each['error'])}"
            console.print(Text(text, style="red"), soft_wrap=True)
    looked = figures.counted(found["rounds"], "look")
    workers = figures.counted(len(found["processes"]), "worker")
    summary = (
        f"{looked} at {workers}: {figures.counted(found['samples'], 'sample')} of code, {found['idle']} idle"
    )
    console.print(Text.assemble((found["site"], "bold"), f"  {summary}"), soft_wrap=True)
    if found["samples"]:
        table = output.table(
            console, "self", "total", "function", "where", right=("self", "total"), elastic="where"
        )
        for top in profiles.tops(stacks)[:SHOWN]:
            own, total = (f"{100 * each / found['samples']:.1f} %" for each in (top.own, top.total))
            where = f"{output.clean(top.frame.file)}:{top.frame.line}"
            table.add_row(own, total, Text(output.clean(top.frame.function)), Text(where, style="dim"))
        output.show(console, table)
    if file is not None:
        console.print(Text(f"written to {file}", style="dim"), soft_wrap=True)
