"""``djsup trace``: where every thread of a site is at this moment, and which request it is there for."""

from __future__ import annotations

import re
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.text import Text

from djsup.cli import figures, output
from djsup.cli.status import age_style
from djsup.cli.verb import FAILED, Target, Verb

if TYPE_CHECKING:
    from collections.abc import Iterator

TIMEOUT_S = 60.0
THREADS_SHOWN = 5
"""Threads at one place that are listed without --full; how many there are is always said."""
SOURCE_MAX_BYTES = 4 * 1024 * 1024
_LIBRARY = re.compile(r".*/(?:site|dist)-packages/([^/]+)")
_PYTHON = re.compile(r".*/lib/python3\.\d+/(?!(?:site|dist)-packages/)")


@click.command(
    "trace", cls=Verb, examples=("djsup trace blog", "djsup trace blog --full", "djsup trace blog --json")
)
@click.argument("site")
@click.option("--full", is_flag=True, help="Every call and every thread, those of libraries and djsup too.")
@click.pass_context
def command(ctx: click.Context, site: str, full: bool) -> None:
    """Where every thread of a site is, now.

    Threads at the same place are put together. It works while all of the site is stuck, in C code too.
    """
    target = ctx.ensure_object(Target)
    found = target.client().call("trace", TIMEOUT_S, site=site)
    silent = all(process["error"] for process in found["processes"])
    if target.as_json:
        output.as_json(found)
    else:
        console = output.console()
        for line in _lines(found, full=full):
            output.show(console, line)
    ctx.exit(FAILED if silent else 0)


def _lines(found: dict[str, Any], *, full: bool) -> Iterator[Text]:
    total, processes = found["threads"], found["processes"]
    counts = (
        f"  {figures.counted(total, 'thread')} in {figures.counted(len(processes), 'process', 'processes')}"
    )
    yield Text.assemble((found["site"], "bold"), counts)
    for process in processes:
        if process["error"]:
            who = f"{_worker(process)} (pid {process['pid']}): "
            yield Text.assemble(("  no stacks of ", "red"), who, (output.clean(process["error"]), "red"))
        elif process["asked_by"] == "signal":
            told = f"  {_worker(process)} (pid {process['pid']}) did not answer, and was asked by a signal"
            yield Text(told, style="yellow")
    idle = []
    for place in found["places"]:
        if place["idle"] is not None:
            idle.append(place)
            continue
        yield Text()
        yield from _place(place, total, full=full)
    if idle:
        yield Text()
    for place in idle:
        workers = ", ".join(dict.fromkeys(_worker(each) for each in place["threads"]))
        number = figures.counted(len(place["threads"]), "thread")
        yield Text.assemble((f"{number}: {place['idle']}", "dim"), (f"  ({workers})" if full else "", "dim"))
        if full:
            yield from _frames(place["frames"], full=True)


def _place(place: dict[str, Any], total: int, *, full: bool) -> Iterator[Text]:
    threads = place["threads"]
    yield Text(
        f"{len(threads)} of {figures.counted(total, 'thread')} {'is' if len(threads) == 1 else 'are'} here",
        style="bold",
    )
    shown = threads if full else threads[:THREADS_SHOWN]
    for thread in shown:
        request = thread["request"]
        line = Text("  ")
        if request is None:
            line.append("no request", style="dim")
        else:
            line.append(figures.duration(request["age_s"]), style=age_style(request["age_s"]))
            line.append(f"  {output.clean(request['method'])} {output.clean(request['path'])}")
        line.append(f"  {_worker(thread)}, pid {thread['pid']}", style="dim")
        yield line
    if len(threads) > len(shown):
        yield Text(f"  and {figures.counted(len(threads) - len(shown), 'thread')} more", style="dim")
    yield from _frames(place["frames"], full=full)


def _frames(frames: list[dict[str, Any]], *, full: bool) -> Iterator[Text]:
    """The calls, the most recent first; those of libraries but the first are counted only."""
    if not frames:
        yield Text("    no Python code", style="dim")
        return
    yield from _frame(frames[0])
    for library, calls in groupby(frames[1:], lambda each: None if full else _library(each["file"])):
        if library is None:
            for call in calls:
                yield from _frame(call)
        else:
            yield Text(f"    ... {figures.counted(len(list(calls)), 'call')} in {library}", style="dim")


def _frame(frame: dict[str, Any]) -> Iterator[Text]:
    file, line = output.clean(frame["file"]), frame["line"]
    yield Text.assemble("    ", (output.clean(frame["function"]), "cyan"), (f"  {file}:{line}", "dim"))
    if source := _source(frame["file"], line):
        yield Text(f"      {output.clean(source)}")


def _library(file: str) -> str | None:
    if match := _LIBRARY.match(file):
        return output.clean(match[1])
    return "Python's own library" if _PYTHON.match(file) else None


def _source(file: str, line: int) -> str | None:
    """A line of a file that whoever asks may read; None: there is none."""
    path = Path(file)
    try:
        if not path.is_file() or path.stat().st_size > SOURCE_MAX_BYTES:
            return None
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except (OSError, ValueError):
        return None
    return lines[line - 1].strip() if 0 < line <= len(lines) else None


def _worker(each: dict[str, Any]) -> str:
    return "template" if each["slot"] is None else f"worker {each['slot']}"
