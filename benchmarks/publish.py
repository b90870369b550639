"""``python -m benchmarks.publish [RESULTS.json]``: the figures of a run into docs/explanation/performance.md.

Replaces what stands between two markers there and leaves the rest, which is written by people. Without a name it
takes the newest file of benchmarks/results/.
"""

import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from benchmarks.measure import Figures
from benchmarks.report import OURS, Report, best_rival, newest, ratio
from benchmarks.workloads import BY_NAME, QUICK_ALONE, ROOT, WORKLOADS

PAGE = ROOT / "docs/explanation/performance.md"
NONE = "-"
GIB = 1024**3


def main(arguments: list[str]) -> int:
    """Rewrite the section."""
    path = Path(arguments[0]) if arguments else newest()
    if path is None:
        sys.stderr.write("There are no results yet; they are made by: make bench\n")
        return 1
    PAGE.write_text(replaced(PAGE.read_text(), section(Report.read(path))))
    return 0


def marks(of: str) -> tuple[str, str]:
    """The lines between which the figures of a command stand."""
    return f"<!-- figures of {of}: begin -->", f"<!-- figures of {of}: end -->"


def replaced(page: str, new: str, of: str = "make bench") -> str:
    """The page with a new section between the markers.

    Raises:
        ValueError: a marker is missing.
    """
    first, last = marks(of)
    before, begin, rest = page.partition(first)
    _, end, after = rest.partition(last)
    if not begin or not end:
        raise ValueError(f"the page has no {first if not begin else last}")
    return f"{before}{first}\n\n{new}\n{last}{after}"


def with_rows(
    page: str,
    of: str,
    said: str,
    head: str,
    rows: dict[str, str],
    order: Iterable[str],
    fits: Callable[[str], bool],
) -> str:
    """The page with these rows in the table of a command, beside those of before, if they fit.

    A key of ``rows`` is what its row begins with; ``order`` has all there can be. ``said`` is to stand above the table;
    ``fits`` tells of what stands there so far whether rows below it are like these.

    Raises:
        ValueError: a marker is missing.
    """
    first, last = marks(of)
    before = page.partition(first)[2].partition(last)[0]
    known = before.splitlines() if fits(before) else []
    lines: list[str] = []
    for key in order:
        lines.extend(
            [rows[key]] if key in rows else (each for each in known if each.startswith(f"| {key} |"))
        )
    return replaced(page, "\n".join((said, "", head, *lines, "")), of)


def section(report: Report) -> str:
    """All tables, as Markdown."""
    cpus, kernel, python = (report.machine[key] for key in ("cpus", "kernel", "python"))
    memory_gib = report.machine["memory_bytes"] / GIB
    where = f"{cpus} cores, {memory_gib:.0f} GiB, Linux {kernel}, Python {python}"
    parts = [
        f"Measured on {report.at[:10]}: {where}; medians of {report.rounds} rounds of {report.seconds:g} s.\n",
        "| workload | is |\n| --- | --- |",
        *(f"| {each.name} | {each.sentence} |" for each in WORKLOADS if _measured(report, each.name)),
    ]
    for workers in sorted(report.load):
        parts.extend(_of_workers(report, workers))
    parts.extend(_memory(report))
    parts.extend(_reloads(report))
    if report.missing:
        parts.append("\nNot measured:\n")
        parts.extend(f"* {why.splitlines()[0]} ({', '.join(what)})" for why, what in report.missing.items())
    return "\n".join(parts) + "\n"


def _measured(report: Report, workload: str) -> bool:
    return any(workload in by_workload for by_workload in report.load.values())


def _of_workers(report: Report, workers: int) -> Iterable[str]:
    several = "One worker" if workers == 1 else f"{workers} workers"
    yield f"\n### {several}\n\nCPU time a request, in microseconds; in the last column djsup's over the best other's.\n"
    yield from _by_server(
        report, workers, lambda each: f"{each.cpu_us:,.1f}", lambda each: each.cpu_us, greater=False
    )
    yield "\nRequests a second.\n"
    yield from _by_server(
        report,
        workers,
        lambda each: f"{each.requests_per_s:,.0f}",
        lambda each: each.requests_per_s,
        greater=True,
    )
    yield "\nMilliseconds until half, 99 % and 99.9 % of the requests were answered, and until a newcomer was.\n"
    yield from _by_server(report, workers, _latencies, None, greater=False)
    failed = {
        f"{server} {each.failed} of {each.requests:,} ({workload})"
        for workload, figures in report.load[workers].items()
        for server, each in figures.items()
        if each.failed
    }
    yield f"\nFailed: {', '.join(sorted(failed)) or 'no request'}."
    alone, beside = report.load[workers].get(QUICK_ALONE), report.load[workers].get("mix")
    if alone and beside:
        more = [f"{name} {beside[name].p99_ms - alone[name].p99_ms:+.1f}" for name in beside if name in alone]
        yield f"\nBeside slow requests, the 99 % of the quick ones come later by so many ms: {', '.join(more)}."


def _by_server(
    report: Report,
    workers: int,
    cell: Callable[[Figures], str],
    figure: Callable[[Figures], float] | None,
    *,
    greater: bool,
) -> Iterable[str]:
    """A table of workloads by servers, with the ratio to the best rival when a figure can be compared."""
    by_workload = report.load[workers]
    names = list(dict.fromkeys(name for figures in by_workload.values() for name in figures))
    yield f"| | {' | '.join(names)} |{' to best |' if figure else ''}"
    yield "| --- |" + " ---: |" * (len(names) + bool(figure))
    for workload in (each for each in BY_NAME if each in by_workload):
        found = by_workload[workload]
        cells = [cell(found[name]) if name in found else NONE for name in names]
        if figure:
            values = {name: figure(each) for name, each in found.items()}
            best = best_rival(values, greater=greater)
            of_best = ratio(values[OURS], values[best]) if best is not None and OURS in values else None
            cells.append(NONE if of_best is None else f"{of_best:.2f}")
        yield f"| {workload} | {' | '.join(cells)} |"


def _latencies(each: Figures) -> str:
    newcomer = "never" if each.newcomer_ms is None else f"{each.newcomer_ms:.0f}"
    return f"{each.p50_ms:.1f} / {each.p99_ms:.1f} / {each.p999_ms:.1f} / {newcomer}"


def _memory(report: Report) -> Iterable[str]:
    for application, figures in report.memory.items():
        yield f"\n### Memory of four workers: {application}\n\nPSS of all processes, in MiB.\n"
        yield "| | as started | after load |\n| --- | ---: | ---: |"
        for name, each in figures.items():
            yield f"| {name} | {each.started.total_mib:.0f} | {each.loaded.total_mib:.0f} |"


def _reloads(report: Report) -> Iterable[str]:
    for application, figures in report.reloads.items():
        yield f"\n### Reloads under load, ten or as many as ten seconds allow: {application}\n"
        yield "| | reloads done | failed | connections closed | worst answer | a reload takes |"
        yield "| --- |" + " ---: |" * 5
        for name, each in figures.items():
            failed = each.failed + each.failed_wrk
            yield f"| {name} | {each.done} | {failed} | {each.closed} | {each.worst_ms:.0f} ms | {each.seconds:.1f} s |"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
