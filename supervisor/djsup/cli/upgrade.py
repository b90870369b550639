"""``djsup upgrade``: the daemon goes on with the program that is installed now, in the same process."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from djsup import client
from djsup.cli import figures, output
from djsup.cli.verb import TIMED_OUT, Failed, Target, Verb

if TYPE_CHECKING:
    from djsup.client import Client

WAIT_S = 120.0
LOOK_S = 0.02
"""How often we ask whether it is done: the old program can't tell, and the new one does not know us."""


@click.command("upgrade", cls=Verb, examples=("djsup upgrade", "djsup upgrade --no-wait"))
@click.option(
    "--no-wait", is_flag=True, help="Return once the installed program has proved that it can go on."
)
@click.option(
    "--wait", "wait_s", type=float, default=WAIT_S, metavar="S", help="Wait at most S seconds (120)."
)
@click.pass_obj
def command(target: Target, no_wait: bool, wait_s: float) -> None:
    """Replace the running daemon's program by the installed one.

    Same pid; workers, programs, sockets and counters are kept, and nothing is dropped. If the installed program
    can't go on, the old one does, and this says why.
    """
    until = time.monotonic() + wait_s
    daemon = target.client()
    begun = daemon.call("upgrade", wait_s)
    if no_wait:
        _show(target, begun, f"djsup {begun['from']} → {begun['to']} has begun")
        return
    done = _wait(daemon, int(begun["number"]), until)
    if done is None:
        raise Failed(f"no answer after {figures.duration(wait_s)}; djsup status tells how it is", TIMED_OUT)
    if done["error"]:
        raise Failed(f"djsup {done['now']} goes on, its program is not replaced: {done['error']}")
    _show(target, done, str(done["text"]))
    if done["before"] != done["now"] and not target.as_json:
        click.echo(f"workers run the code of {done['before']} until they are loaded anew: djsup reload")


def _wait(daemon: Client, number: int, until: float) -> dict[str, Any] | None:
    """How this upgrade has ended; None: not in time."""
    while (left_s := until - time.monotonic()) > 0:
        # While the program is replaced connections wait in the queue of the control socket, which stays.
        with suppress(client.TimedOut, client.NotRunning):
            found: dict[str, Any] = daemon.call("ping", left_s).get("upgrade", {})
            if int(found.get("number", 0)) >= number:
                return found
        time.sleep(LOOK_S)
    return None


def _show(target: Target, result: dict[str, Any], text: str) -> None:
    if target.as_json:
        output.as_json(result)
    else:
        click.echo(text)
