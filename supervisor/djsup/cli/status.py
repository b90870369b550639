"""``djsup status``: all sites on a line each, or one site with its workers and what each does now."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click
from rich.text import Text

from djsup import __version__
from djsup.cli import figures, output
from djsup.cli.program_table import program_table
from djsup.cli.verb import Failed, Target, Verb
from djsup.core.snapshot import ReloadResult, SiteState, WorkerState, from_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console
    from rich.table import Table

    from djsup.core.snapshot import (
        DaemonSnapshot,
        Latency,
        ReloadReport,
        SiteSnapshot,
        Snapshot,
        WorkerSnapshot,
    )

STATE_STYLES = {
    SiteState.STARTING: "cyan",
    SiteState.SERVING: "green",
    SiteState.DEGRADED: "yellow",
    SiteState.RELOADING: "cyan",
    SiteState.SLEEPING: "blue",
    SiteState.BACKING_OFF: "bold red",
    SiteState.FAILED: "bold red",
    SiteState.STOPPING: "dim",
    SiteState.STOPPED: "dim",
}
WORKER_STYLES = {
    WorkerState.BOOTING: "cyan",
    WorkerState.IDLE: "dim",
    WorkerState.BUSY: "green",
    WorkerState.DRAINING: "yellow",
    WorkerState.OVERDUE: "bold red",
    WorkerState.GONE: "dim",
}
LONG_S, TOO_LONG_S = 1.0, 5.0
"""Ages of a running request that are worth a colour."""
AT_WORK = (WorkerState.IDLE, WorkerState.BUSY, WorkerState.OVERDUE)
DETAILS_LINES = 15


@click.command("status", cls=Verb, examples=("djsup status", "djsup status blog", "djsup status --json"))
@click.argument("site", required=False)
@click.pass_obj
def command(target: Target, site: str | None) -> None:
    """Sites, their workers, and what each does now."""
    answer = target.client().call("status", site=site)
    if target.as_json:
        output.as_json(answer)
        return
    console = output.console()
    try:
        snapshot = from_json(answer)
    except (KeyError, TypeError, ValueError) as error:
        running = answer["daemon"].get("version")
        raise Failed(
            f"the daemon is of version {running} and this is {__version__}: restart it, or use --json"
        ) from error
    if site is None:
        show_all(console, snapshot, time.time())
    else:
        for each in snapshot.sites:
            show_one(console, each, time.time())


def age_style(age_s: float) -> str:
    """The colour of a running request's age."""
    return "bold red" if age_s >= TOO_LONG_S else "yellow" if age_s >= LONG_S else "green"


def show_all(console: Console, snapshot: Snapshot, now: float) -> None:
    """Every site on a line, and below them what is wrong and what should be known."""
    output.show(console, _daemon(snapshot.daemon))
    if not snapshot.sites:
        output.show(console, "no site is configured")
        return
    wide = console.width >= output.NARROW
    headers = ["SITE", "STATE", "GEN", "WORKERS", "REQ/S"]
    headers += ["P50", "P95", "P99", "5XX"] if wide else ["P50/95/99"]
    headers += ["MEMORY" if wide else "MEM", "RELOAD"]
    headers += ["LISTENS ON"] if wide else []
    right = ("GEN", "WORKERS", "REQ/S", "P50", "P95", "P99", "5XX", "P50/95/99", "MEMORY", "MEM")
    table = output.table(console, *headers, right=right, elastic="LISTENS ON")
    for site in snapshot.sites:
        latency = site.latency_ms
        row = [
            Text(site.name, style="bold"),
            Text(site.state.value, style=STATE_STYLES[site.state]),
            Text(str(site.generation or figures.NONE)),
            _workers(site),
            Text(figures.rate(site.requests_per_s)),
        ]
        if wide:
            row += [Text(figures.milliseconds(ms)) for ms in (latency.p50, latency.p95, latency.p99)]
            row += [Text(str(site.status[3]), style="red" if site.status[3] else "")]
        else:
            row += [Text(_short(latency))]
        row += [
            Text(figures.size(site.memory_bytes) if site.memory_bytes else figures.NONE),
            _last_reload(site.last_reload, now),
        ]
        row += [Text(", ".join(site.listen), style="dim")] if wide else []
        table.add_row(*row)
    output.show(console, table)
    remarks = [line for site in snapshot.sites for line in _remarks(site)]
    for line in (Text(), *remarks) if remarks else ():
        output.show(console, line)


def show_one(console: Console, site: SiteSnapshot, now: float) -> None:
    """One site: what it is, how it fares, and a table of its workers."""
    state = Text.assemble((site.name, "bold"), "  ", (site.state.value, STATE_STYLES[site.state]))
    state.append(f"  generation {site.generation}" if site.generation else "")
    output.show(console, state)
    for name, value in _facts(site, now):
        output.show(console, Text.assemble((f"  {name:<9}", "dim"), value))
    if site.workers:
        output.show(console)
        output.show(console, _worker_table(console, site))
    if site.programs:
        output.show(console)
        output.show(console, program_table(console, site.programs, now))
    report = site.last_reload
    if report is not None and report.result is ReloadResult.ROLLED_BACK and report.details:
        output.show(console)
        output.show(console, Text(f"why generation {report.generation} was rolled back:", style="red"))
        lines = report.details.rstrip().splitlines()[-DETAILS_LINES:]
        output.show(console, output.indented("\n".join(lines), "dim"))


def _daemon(daemon: DaemonSnapshot) -> Text:
    parts = [f"djsup {daemon.version}", f"pid {daemon.pid}", f"up {figures.duration(daemon.uptime_s)}"]
    parts += [daemon.config, *([daemon.dashboard] if daemon.dashboard else [])]
    return Text("  ".join(parts), style="dim")


def _workers(site: SiteSnapshot) -> Text:
    serving = sum(worker.state in AT_WORK for worker in site.workers)
    style = "" if serving >= site.workers_asked else "yellow" if serving else "red"
    bounds = f" ({_bounds(site)})" if site.workers_min < site.workers_max else ""
    return Text(f"{serving}/{site.workers_asked}{bounds}", style=style)


def _bounds(site: SiteSnapshot) -> str:
    return f"{site.workers_min}..{site.workers_max}"


def _short(latency: Latency) -> str:
    """Three latencies in little room: ``0.4/1.2/9.8ms``, in seconds when the last is above one."""
    if latency.p50 is None or latency.p95 is None or latency.p99 is None:
        return figures.NONE
    in_seconds = latency.p99 >= 1000  # noqa: PLR2004 -- a second
    numbers = [each / 1000 if in_seconds else each for each in (latency.p50, latency.p95, latency.p99)]
    return "/".join(f"{each:.1f}" if each < 10 else f"{each:.0f}" for each in numbers) + (  # noqa: PLR2004
        "s" if in_seconds else "ms"
    )


def _last_reload(report: ReloadReport | None, now: float) -> Text:
    if report is None:
        return Text(figures.NONE, style="dim")
    age = figures.age(now - report.started_at)
    match report.result:
        case ReloadResult.RUNNING:
            return Text(f"running {age}", style="cyan")
        case ReloadResult.DONE:
            return Text(f"done {age} ago")
        case ReloadResult.ROLLED_BACK:
            return Text(f"rolled back {age}", style="bold red")


def _remarks(site: SiteSnapshot) -> Iterator[Text]:
    """Lines below the table: errors first."""
    if site.stopped_by is not None:
        yield Text.assemble((f"{site.name}: ", "bold"), f"stopped by {output.clean(site.stopped_by)}")
    if site.error:
        yield Text.assemble((f"{site.name}: ", "bold"), (output.clean(site.error), "red"), _next_try(site))
    report = site.last_reload
    if report is not None and report.result is ReloadResult.ROLLED_BACK and report.error != site.error:
        why, sides = figures.of_trial(output.clean(report.error or "no reason"))
        text = f"generation {report.generation} was rolled back: {why}"
        yield Text.assemble((f"{site.name}: ", "bold"), (text, "red"))
        if sides:
            yield output.indented("\n".join(sides), "dim")
    if report is not None and report.result is ReloadResult.RUNNING and report.canary:
        yield Text.assemble((f"{site.name}: ", "bold"), (f"canary: {output.clean(report.canary)}", "cyan"))
    for note in site.notes:
        yield Text.assemble((f"{site.name}: ", "bold"), (output.clean(note), "yellow"))


def _next_try(site: SiteSnapshot) -> str:
    if site.next_try_s is None:
        return ""
    row = f", after {site.failures_in_row} failures in a row" if site.failures_in_row > 1 else ""
    return f"; next try in {figures.duration(max(0.0, site.next_try_s))}{row}"


def _facts(site: SiteSnapshot, now: float) -> Iterator[tuple[str, Text]]:
    if site.stopped_by is not None:
        yield "stopped", Text(f"by {output.clean(site.stopped_by)}; djsup start {site.name} starts it")
    if site.error:
        yield "error", Text.assemble((output.clean(site.error), "red"), _next_try(site))
    for note in site.notes:
        yield "note", Text(output.clean(note), style="yellow")
    marks = ((site.tls_listen, " (TLS)"), (site.shared, " (shared)"))
    listens = (each + "".join(text for those, text in marks if each in those) for each in site.listen)
    yield "listens", Text(", ".join(listens) or figures.NONE)
    if site.hosts:
        yield "hosts", Text(", ".join(site.hosts))
    if site.mount:
        yield "mount", Text(site.mount)
    if site.shared:
        queue = site.queue
        wait_ms = f", {1000 * queue.waited_s / queue.waited:.1f} ms each" if queue.waited else ""
        text = (
            f"{queue.waiting} wait, {queue.waited} have waited{wait_ms}, {queue.turned_away} were turned away"
        )
        yield "queue", Text(text)
    if site.python:
        yield "runs", Text(f"Python {site.python}" + (f", Django {site.django}" if site.django else ""))
    if site.workers_min < site.workers_max:
        why = f": {site.workers_why}" if site.workers_why else ""
        yield "workers", Text(f"{site.workers_asked} of {_bounds(site)}{why}")
    kinds = zip(("2xx", "3xx", "4xx", "5xx"), site.status, strict=True)
    answers = "  ".join(f"{kind} {count}" for kind, count in kinds if count)
    yield "requests", Text(f"{site.requests}, {figures.rate(site.requests_per_s)}/s   {answers}".rstrip())
    latency = site.latency_ms
    if latency.p50 is not None:
        percentiles = (("p50", latency.p50), ("p95", latency.p95), ("p99", latency.p99))
        yield "latency", Text("  ".join(f"{name} {figures.milliseconds(ms)}" for name, ms in percentiles))
    templates = sum(template.pss_bytes for template in site.templates)
    of_template = f" ({figures.size(templates)} of it the template's)" if templates else ""
    yield "memory", Text(f"{figures.size(site.memory_bytes)}{of_template}   cpu {site.cpu_percent:.0f}%")
    report = site.last_reload
    if report is not None:
        text = f"{report.result.value.replace('-', ' ')}, generation {report.generation}, "
        text += f"{figures.age(now - report.started_at)} ago, took {figures.duration(report.duration_s)}"
        text += f", by {report.by}" if report.by else ""
        error, sides = figures.of_trial(output.clean(report.error or ""))
        text += f": {error}" if error else ""
        yield "reload", Text(text, style="red" if report.result is ReloadResult.ROLLED_BACK else "")
        if report.canary and not sides:
            progress, sides = figures.of_trial(output.clean(report.canary))
            sides = [progress, *sides] if progress else sides
        for number, side in enumerate(sides):
            yield "" if number else "canary", Text(side)


def _worker_table(console: Console, site: SiteSnapshot) -> Table:
    right = ("SLOT", "PID", "GEN", "REQUESTS", "BUSY", "CONN", "MEM", "CPU", "UP")
    table = output.table(
        console,
        "SLOT",
        "PID",
        "GEN",
        "STATE",
        "REQUESTS",
        "BUSY",
        "CONN",
        "MEM",
        "CPU",
        "UP",
        "NOW",
        right=right,
        elastic="NOW",
    )
    for worker in site.workers:
        table.add_row(
            str(worker.slot),
            str(worker.pid or figures.NONE),
            str(worker.generation),
            Text(worker.state.value, style=WORKER_STYLES[worker.state]),
            str(worker.requests),
            f"{worker.busy}/{worker.threads}" if worker.threads else figures.NONE,
            str(worker.connections),
            figures.size(worker.pss_bytes),
            f"{worker.cpu_percent:.0f}%",
            figures.age(worker.uptime_s),
            _now(worker),
        )
    return table


def _now(worker: WorkerSnapshot) -> Text:
    """What a worker does now, a request a line, the oldest first."""
    lines = [
        Text.assemble(
            (figures.duration(each.age_s), age_style(each.age_s)),
            f" {output.clean(each.method)} {output.clean(each.path)}",
        )
        for each in sorted(worker.current, key=lambda each: -each.age_s)
    ]
    return Text("\n", no_wrap=True, overflow="ellipsis").join(lines)
