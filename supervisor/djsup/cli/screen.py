"""What ``djsup top`` shows: all sites on a row each, or the workers of one with the requests that they run.

A value of a picture and of what the operator has chosen; ``top`` moves it by keys. Nothing here asks or reads.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rich.console import Group
from rich.text import Text

from djsup.cli import figures, output
from djsup.cli.status import AT_WORK, STATE_STYLES, WORKER_STYLES, age_style

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console, RenderableType

    from djsup.core.snapshot import CurrentRequest, SiteSnapshot, Snapshot, WorkerSnapshot


def oldest_s(site: SiteSnapshot) -> float:
    """The age of the oldest request that a site runs; 0: none."""
    return max((each.age_s for worker in site.workers for each in worker.current), default=0.0)


SORTS: dict[str, tuple[str, Callable[[SiteSnapshot], float]]] = {
    "r": ("requests/s", lambda site: site.requests_per_s),
    "a": ("age", oldest_s),
    "l": ("p95", lambda site: site.latency_ms.p95 or 0.0),
    "e": ("errors", lambda site: site.status[3]),
    "m": ("memory", lambda site: site.memory_bytes),
    "c": ("cpu", lambda site: site.cpu_percent),
}
"""By what the sites are sorted, the most first; ``n`` is by name."""
BY_NAME = "n"
FIXED_LINES = 7
"""Lines of the screen that are no rows: title, head of the table, and what stands below."""


@dataclass(frozen=True, slots=True)
class Screen:
    """What is chosen and what is said."""

    snapshot: Snapshot | None = None
    sort: str = BY_NAME
    chosen: str | None = None
    """The site that the mark is on."""
    opened: str | None = None
    """The site whose workers are shown."""
    asks: str = ""
    """What is asked back before an action."""
    said: str = ""
    """How the last action went."""
    failed: bool = False
    """Whether it failed."""
    away: str = ""
    """Why there are no newer pictures."""

    @property
    def sites(self) -> tuple[SiteSnapshot, ...]:
        """The sites in the order in which they are shown."""
        if self.snapshot is None:
            return ()
        if self.sort == BY_NAME:
            return tuple(sorted(self.snapshot.sites, key=lambda site: site.name))
        _name, key = SORTS[self.sort]
        return tuple(sorted(self.snapshot.sites, key=lambda site: (-key(site), site.name)))

    @property
    def site(self) -> SiteSnapshot | None:
        """The site that an action is for."""
        name = self.opened or self.chosen
        return next((site for site in self.sites if site.name == name), None)

    def with_picture(self, snapshot: Snapshot) -> Screen:
        """With a newer picture; the mark stays on its site while there is one."""
        new = replace(self, snapshot=snapshot, away="")
        names = [site.name for site in new.sites]
        chosen = self.chosen if self.chosen in names else (names[0] if names else None)
        return replace(new, chosen=chosen, opened=self.opened if self.opened in names else None)

    def moved(self, step: int) -> Screen:
        """With the mark some rows further down."""
        names = [site.name for site in self.sites]
        if not names or self.opened:
            return self
        at = names.index(self.chosen) if self.chosen in names else 0
        return replace(self, chosen=names[min(len(names) - 1, max(0, at + step))])

    def show(self, console: Console) -> RenderableType:
        """What is to be seen."""
        if self.snapshot is None:
            return Text(self.away, style="red")
        site = self.site if self.opened else None
        body = _one(console, site) if site else _all(console, self)
        parts = (_title(self.snapshot), body)
        return Group(*parts, Text(), self._below()) if console.is_terminal else Group(*parts)

    def _below(self) -> Text:
        if self.away:
            return Text(f"{self.away}; this is the last picture.  q quit", style="bold red")
        if self.asks:
            return Text.assemble((self.asks, "bold yellow"), "  y: yes, any other key: no")
        sorts = "n name " + " ".join(f"{key} {name}" for key, (name, _) in SORTS.items())
        keys = "esc back  " if self.opened else f"enter workers  sort by {sorts}\n"
        text = Text(f"{keys}R reload  S restart  T stop, start  + - scale  q quit", style="dim")
        return text.append(f"\n{self.said}", style="red" if self.failed else "green") if self.said else text


def age(seconds: float) -> Text:
    """An age in its colour."""
    return Text(figures.duration(seconds), style=age_style(seconds))


def _title(snapshot: Snapshot) -> Text:
    daemon, sites = snapshot.daemon, snapshot.sites
    rate = sum(site.requests_per_s for site in sites)
    memory = sum(site.memory_bytes for site in sites)
    line = (
        f"  pid {daemon.pid}  up {figures.duration(daemon.uptime_s)}  {figures.counted(len(sites), 'site')}"
    )
    return Text.assemble(
        (f"djsup {daemon.version}", "bold"),
        line,
        f"  {figures.rate(rate)} requests/s  {figures.size(memory)}\n",
    )


def _all(console: Console, screen: Screen) -> RenderableType:
    right = ("GEN", "WORKERS", "BUSY", "REQ/S", "P50", "P95", "5XX", "MEM", "CPU", "OLDEST")
    headers = ("SITE", "STATE", *right[:-1], right[-1], "NOW")
    table = output.table(console, *headers, right=right, elastic="NOW")
    sites = screen.sites
    room = max(1, console.height - FIXED_LINES)
    at = next((number for number, site in enumerate(sites) if site.name == screen.chosen), 0)
    first = max(0, min(at - room // 2, len(sites) - room))
    for site in sites[first : first + room]:
        serving = [worker for worker in site.workers if worker.state in AT_WORK]
        busy, threads = sum(each.busy for each in serving), sum(each.threads for each in serving)
        running = _oldest(site)
        table.add_row(
            Text(site.name, style="bold"),
            Text(site.state.value, style=STATE_STYLES[site.state]),
            str(site.generation or figures.NONE),
            Text(
                f"{len(serving)}/{site.workers_asked}",
                style="" if len(serving) >= site.workers_asked else "yellow",
            ),
            f"{busy}/{threads}",
            figures.rate(site.requests_per_s),
            figures.milliseconds(site.latency_ms.p50),
            figures.milliseconds(site.latency_ms.p95),
            Text(str(site.status[3]), style="red" if site.status[3] else ""),
            figures.size(site.memory_bytes),
            f"{site.cpu_percent:.0f}%",
            age(running.age_s) if running else Text(figures.NONE, style="dim"),
            _request(running) if running else _instead(site),
            style="reverse" if site.name == screen.chosen and console.is_terminal else "",
        )
    return table


def _one(console: Console, site: SiteSnapshot) -> RenderableType:
    head = Text.assemble((site.name, "bold"), "  ", (site.state.value, STATE_STYLES[site.state]))
    head.append(f"  generation {site.generation}  {figures.rate(site.requests_per_s)} requests/s")
    head.append(f"  p95 {figures.milliseconds(site.latency_ms.p95)}")
    if site.stopped_by is not None:
        head.append(f"\nstopped by {output.clean(site.stopped_by)}", style="dim")
    if site.error:
        head.append(f"\n{output.clean(site.error)}", style="red")
    right = ("SLOT", "PID", "GEN", "BUSY", "CONN", "MEM", "CPU", "UP")
    headers = ("SLOT", "PID", "GEN", "STATE", "BUSY", "CONN", "MEM", "CPU", "UP", "RUNS NOW")
    table = output.table(console, *headers, right=right, elastic="RUNS NOW")
    # One of many workers that is stuck must not lie below the screen's edge.
    for worker in sorted(
        site.workers, key=lambda each: -max((one.age_s for one in each.current), default=-1.0)
    ):
        table.add_row(
            str(worker.slot),
            str(worker.pid or figures.NONE),
            str(worker.generation),
            Text(worker.state.value, style=WORKER_STYLES[worker.state]),
            f"{worker.busy}/{worker.threads}",
            str(worker.connections),
            figures.size(worker.pss_bytes),
            f"{worker.cpu_percent:.0f}%",
            figures.age(worker.uptime_s),
            _running(worker),
        )
    return Group(head, Text(), table)


def _instead(site: SiteSnapshot) -> Text:
    """What is to be said of a site that runs no request."""
    if site.stopped_by is not None:
        return Text(f"stopped by {output.clean(site.stopped_by)}", style="dim", no_wrap=True)
    return Text(output.clean(site.error or ""), style="red", no_wrap=True)


def _oldest(site: SiteSnapshot) -> CurrentRequest | None:
    return max(
        (each for worker in site.workers for each in worker.current),
        key=lambda each: each.age_s,
        default=None,
    )


def _running(worker: WorkerSnapshot) -> Text:
    lines = [
        Text.assemble(age(each.age_s), " ", _request(each))
        for each in sorted(worker.current, key=lambda each: -each.age_s)
    ]
    return Text("\n", no_wrap=True, overflow="ellipsis").join(lines)


def _request(request: CurrentRequest) -> Text:
    return Text(
        f"{output.clean(request.method)} {output.clean(request.path)}", no_wrap=True, overflow="ellipsis"
    )
