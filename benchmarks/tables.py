"""The tables that a person at a terminal sees while the benchmark goes on."""

from benchmarks.report import OURS, Report, best_rival, ratio
from benchmarks.workloads import BY_NAME, QUICK_ALONE

LEGEND = """
CPU us      CPU time of all the server's processes a request, user and system. The load generator runs on the same
            cores, so this is the figure to compare; requests a second depend on who else wants the machine.
to best     the figure over that of the best other server; below 1 (requests/s: above 1) djsup is better.
+-          by how much the rounds differ in it.
newcomer    how long a client waits that arrives under this load; "none": no answer while the load lasted.
cores       how many cores the server kept busy; far below its workers, something else was the limit.
failed      socket errors, no answer within 30 s, and answers other than 2xx and 3xx.
closed      keep-alive connections that the server closed. gunicorn's sync worker keeps none open."""


def load(report: Report, workers: int, workload: str) -> str:
    """One workload, a line for each server."""
    figures = report.load[workers][workload]
    cpu = {name: each.cpu_us for name, each in figures.items()}
    rate = {name: each.requests_per_s for name, each in figures.items()}
    of_cpu, of_rate = _value(cpu, best_rival(cpu)), _value(rate, best_rival(rate, greater=True))
    several = "worker" if workers == 1 else "workers"
    head = f"{'CPU us':>9}{'to best':>9}{'+-':>6}{'req/s':>9}{'to best':>9}{'p50 ms':>9}{'p99 ms':>9}{'p99.9':>9}"
    lines = [
        f"\n{workload}: {BY_NAME[workload].sentence}; {workers} {several}",
        f"{'':18}{head}{'newcomer':>10}{'cores':>7}{'failed':>8}",
    ]
    for name, each in figures.items():
        newcomer = "none" if each.newcomer_ms is None else f"{each.newcomer_ms:.1f}"
        lines.append(
            f"{name:18}{each.cpu_us:9.1f}{_ratio(each.cpu_us, of_cpu)}{each.spread:6.0%}"
            f"{each.requests_per_s:9,.0f}{_ratio(each.requests_per_s, of_rate)}"
            f"{each.p50_ms:9.2f}{each.p99_ms:9.2f}{each.p999_ms:9.2f}{newcomer:>10}{each.cores:7.2f}{each.failed:8}"
        )
    alone = report.load[workers].get(QUICK_ALONE, {})
    if BY_NAME[workload].beside and alone:
        more = ", ".join(
            f"{name} {each.p99_ms - alone[name].p99_ms:+.1f}"
            for name, each in figures.items()
            if name in alone
        )
        lines.append(f"p99 beside slow requests less p99 alone, ms: {more}")
    return "\n".join(lines)


def memory(report: Report, application: str) -> str:
    """What four workers need."""
    figures = report.memory[application]
    started = {name: each.started.total_mib for name, each in figures.items()}
    loaded = {name: each.loaded.total_mib for name, each in figures.items()}
    of_started, of_loaded = _value(started, best_rival(started)), _value(loaded, best_rival(loaded))
    lines = [
        f"\n{application}: memory of four workers (PSS, MiB), all processes; in brackets the one that watches",
        f"{'':18}{'as started':>18}{'to best':>9}{'after load':>18}{'to best':>9}",
    ]
    for name, each in figures.items():
        then, now = (f"{one.total_mib:.1f} ({one.master_mib:.1f})" for one in (each.started, each.loaded))
        lines.append(
            f"{name:18}{then:>18}{_ratio(each.started.total_mib, of_started)}"
            f"{now:>18}{_ratio(each.loaded.total_mib, of_loaded)}"
        )
    return "\n".join(lines)


def reloads(report: Report, application: str) -> str:
    """What clients noticed of reloads."""
    head = (
        f"{'done':>6}{'failed':>8}{'wrk failed':>12}{'closed':>8}{'worst ms':>10}{'p99 ms':>9}{'each s':>8}"
    )
    lines = [f"\n{application}: reloads under load, two workers", f"{'':18}{head}"]
    for name, each in report.reloads[application].items():
        counts = f"{each.done:6}{each.failed:8}{each.failed_wrk:12}{each.closed:8}"
        lines.append(f"{name:18}{counts}{each.worst_ms:10.0f}{each.p99_ms:9.1f}{each.seconds:8.2f}")
    return "\n".join(lines)


def legend(report: Report) -> str:
    """What the columns mean, and what was not measured."""
    missing = [f"not measured: {why} ({', '.join(what)})" for why, what in report.missing.items()]
    return "\n".join([LEGEND, "", *missing])


def _value(figures: dict[str, float], name: str | None) -> float:
    return figures[name] if name is not None and OURS in figures else 0.0


def _ratio(figure: float, best: float) -> str:
    found = ratio(figure, best)
    return f"{'':9}" if found is None else f"{found:9.2f}"
