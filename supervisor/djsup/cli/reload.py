"""``djsup reload``: new code and settings, nothing dropped; the outcome of each site."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click
from rich.text import Text

from djsup.cli import figures, forecast, output
from djsup.cli.progress import follow
from djsup.cli.verb import DONE, FAILED, Target, Verb
from djsup.client import Client, ClientError
from djsup.core.snapshot import DAY_S

if TYPE_CHECKING:
    from rich.console import Console

AT_WORK = ("idle", "busy", "overdue")
WAIT_S = 900.0
WELL = ("done", "started", "asleep", "stopped")
"""Results of which none is a failure."""


def _seconds(_context: click.Context, _parameter: click.Parameter, value: str | None) -> float | None:
    """The seconds that a duration means, written as in the configuration; a wrong one is wrong usage."""
    if value is None:
        return None
    from djsup.config.forms import duration  # noqa: PLC0415  # it needs pydantic, and a plain reload does not

    try:
        plain = value.replace(".", "", 1).isdigit()
        return float(duration(0, DAY_S).read(float(value) if plain else value))
    except ValueError as error:
        text = f'{value!r} is no time; write seconds, or as "30s" or "2m", a day at most'
        raise click.BadParameter(text) from error


@click.command(
    "reload",
    cls=Verb,
    examples=(
        "djsup reload",
        "djsup reload blog shop --no-wait",
        "djsup reload blog --canary 30s",
        "djsup reload --dry-run",
    ),
)
@click.argument("sites", metavar="[SITE]...", nargs=-1)
@click.option("--no-wait", is_flag=True, help="Do not wait for the outcome.")
@click.option(
    "--wait",
    "wait_s",
    type=float,
    metavar="S",
    help="Wait at most S seconds (900, and twice --canary).",
)
@click.option(
    "--canary",
    "canary_s",
    callback=_seconds,
    metavar="TIME",
    help="Try the new code on a share of the traffic for so long first, as 30s; 0: take over without a trial.",
)
@click.option("--dry-run", is_flag=True, help="Show what would change and what that costs; change nothing.")
@click.pass_context
def command(
    ctx: click.Context,
    sites: tuple[str, ...],
    no_wait: bool,
    wait_s: float | None,
    canary_s: float | None,
    dry_run: bool,
) -> None:
    """Load new code and settings, dropping nothing.

    All sites, or those named, change over without a pause.

    Code that can't be imported, does not become healthy, or takes too long is rolled back: the old
    code serves on, the reason is printed, and the exit status is 1.
    """
    target = ctx.ensure_object(Target)
    daemon = target.client()
    if dry_run:
        planned = daemon.call("plan", sites=list(sites))
        if target.as_json:
            output.as_json(planned)
        else:
            forecast.show(planned)
        ctx.exit(DONE)
    wishes = {} if canary_s is None else {"canary_s": canary_s}
    patience_s = WAIT_S + 2 * (canary_s or 0.0) if wait_s is None else wait_s
    result = follow(
        target, daemon.stream("reload", patience_s, sites=list(sites), wait=not no_wait, **wishes)
    )
    ctx.exit(show_outcomes(target, result))


def show_outcomes(target: Target, result: dict[str, Any]) -> int:
    """Print how reloads have ended; gives the exit status."""
    outcomes: list[dict[str, Any]] = result["sites"]
    if target.as_json:
        output.as_json(result)
    else:
        serving = (
            _serving(target.client()) if any(each["result"] == "rolled-back" for each in outcomes) else {}
        )
        for outcome in outcomes:
            _show(outcome, serving.get(outcome["name"]))
        if not outcomes:
            click.echo("no site to reload")
    return DONE if all(each["result"] in WELL for each in outcomes) else FAILED


def _serving(daemon: Client) -> dict[str, int]:
    """The generation that serves, by site; 0 where none does."""
    with suppress(ClientError):
        return {
            site["name"]: site["generation"]
            if any(each["state"] in AT_WORK for each in site["workers"])
            else 0
            for site in daemon.call("status")["sites"]
        }
    return {}


def _show(outcome: dict[str, Any], serving: int | None) -> None:
    name, generation = outcome["name"], outcome["generation"]
    site = (f"{name}: ", "bold")
    match outcome["result"]:
        case "done":
            took = figures.duration(float(outcome.get("duration_s") or 0))
            line = Text.assemble(site, (f"generation {generation} serves", "green"), f" ({took})")
            why, sides = figures.of_trial(output.clean(outcome.get("canary") or ""))
            line.append(f", canary: {why}" if why else "")
            output.console().print(line, soft_wrap=True)
            _show_sides(output.console(), sides)
        case "started":
            output.console().print(Text.assemble(site, f"the reload to generation {generation} has begun"))
        case "asleep":
            text = "sleeps and has nothing loaded; the next connection loads the new code"
            output.console().print(Text.assemble(site, text), soft_wrap=True)
        case "stopped":
            text = f"stays stopped; djsup start {name} loads the new code"
            output.console().print(Text.assemble(site, text), soft_wrap=True)
        case "superseded":
            text = f"generation {generation} was given up for a newer reload"
            output.console(stderr=True).print(Text.assemble(site, (text, "yellow")), soft_wrap=True)
        case _:
            console = output.console(stderr=True)
            text = f"generation {generation} was rolled back"
            if serving is not None:
                text += f", generation {serving} serves on" if serving else ", nothing serves"
            error, sides = figures.of_trial(output.clean(outcome.get("error") or ""))
            console.print(
                Text.assemble(site, (text, "bold red"), f": {error}" if error else ""), soft_wrap=True
            )
            _show_sides(console, sides)
            if outcome.get("details"):
                console.print(output.indented(outcome["details"], "dim"), soft_wrap=True)


def _show_sides(console: Console, sides: list[str]) -> None:
    """What old and new code have answered during a trial, one below the other."""
    if sides:
        console.print(output.indented("\n".join(sides), "dim"), soft_wrap=True)
