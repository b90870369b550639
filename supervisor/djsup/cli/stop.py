"""``djsup stop``: everything ends, requests first, and the daemon is gone when this returns.

With names only those sites end, and stay so until ``djsup start SITE``: see ``site_orders.py``.
"""

from __future__ import annotations

import os
import select
import time

import click
from rich.text import Text

from djsup.cli import figures, output, site_orders
from djsup.cli.verb import TIMED_OUT, Failed, Target, Verb

WAIT_S = 120.0
WAIT_NOW_S = 20.0


@click.command("stop", cls=Verb, examples=("djsup stop", "djsup stop --now", "djsup stop blog"))
@click.argument("sites", metavar="[SITE]...", nargs=-1)
@click.option("--now", is_flag=True, help="Do not wait for requests.")
@click.option(
    "--wait",
    "wait_s",
    type=float,
    metavar="S",
    help="Wait at most S seconds (120 and stop_delay; 20 with --now; 600 for a SITE).",
)
@click.option("--no-wait", is_flag=True, help="With a SITE: do not wait for its end.")
@click.pass_context
def command(
    ctx: click.Context, sites: tuple[str, ...], now: bool, wait_s: float | None, no_wait: bool
) -> None:
    """Finish the requests that run, and stop.

    A SITE that is named refuses connections and stays stopped until djsup start SITE, whatever is reloaded; all others
    serve on. Without a name everything stops.

    Where stop_delay is set the health paths answer 503 for that long before; asked again, or with --now, djsup does not
    wait for it.

    What was told to stop has ended when this returns.
    """
    target = ctx.ensure_object(Target)
    if sites:
        ctx.exit(site_orders.stop(target, sites, wait_s, now=now, wait=not no_wait))
    if no_wait:
        raise click.UsageError("--no-wait is for single sites: djsup stop SITE --no-wait", ctx)
    daemon = target.client()
    pid = int(daemon.call("ping")["pid"])
    try:
        # Held before it is told to stop, so that the pid can't be another process's by then.
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        process = None
    started = time.monotonic()
    try:
        told = daemon.call("stop", now=now)
        bound_s = wait_s if wait_s is not None else WAIT_NOW_S if now else WAIT_S + told.get("delay_s", 0.0)
        if process is not None and not _gone(process, bound_s, target):
            raise Failed(
                f"pid {pid} has not ended after {figures.duration(bound_s)}; it goes on stopping"
                + ("" if now else "; djsup stop --now does not wait for requests"),
                TIMED_OUT,
            )
    finally:
        if process is not None:
            os.close(process)
    took_s = time.monotonic() - started
    if target.as_json:
        output.as_json({"pid": pid, "duration_s": round(took_s, 3)})
    else:
        click.echo(f"stopped pid {pid} in {figures.duration(took_s)}")


def _gone(process: int, bound_s: float, target: Target) -> bool:
    """Wait for the end of a process; False when it takes longer than the bound."""
    ending = select.poll()
    ending.register(process, select.POLLIN)  # pidfd_open(2): readable when the process is gone
    console = output.console(stderr=True)
    if target.as_json or not console.is_terminal:
        return bool(ending.poll(bound_s * 1000))
    with console.status(Text("finishing the requests that run")):
        return bool(ending.poll(bound_s * 1000))
