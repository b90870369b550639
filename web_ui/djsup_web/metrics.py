"""The figures as Prometheus reads them: names, help, types (OpenMetrics 1.0, or its older text format).

Labels are names of sites and words of fixed lists, so there are never more series than the configuration has
sites. What is counted, and why it never gets less, is the daemon's affair (``djsup.figures``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, exposition
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from djsup.core.snapshot import SiteState

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from prometheus_client.core import Metric

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


def expose(figures: dict[str, Any], accept: str) -> tuple[bytes, str]:
    """The figures, and their content type: OpenMetrics, unless only the older format is asked for."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Figures(figures))
    if "text/plain" in accept and "application/openmetrics-text" not in accept:
        return exposition.generate_latest(registry), TEXT
    return openmetrics.generate_latest(registry), OPENMETRICS  # type: ignore[no-untyped-call]


class Figures(Collector):
    """What the daemon has told, as families of metrics."""

    def __init__(self, figures: dict[str, Any]) -> None:
        self._daemon: dict[str, Any] = figures["daemon"]
        self._sites: list[dict[str, Any]] = figures["sites"]
        self._bounds: list[float] = figures["duration_bounds_s"]

    def collect(self) -> Iterable[Metric]:
        """Every family."""
        yield from self._of_daemon()
        yield from self._of_states()
        yield from self._now()
        yield from self._so_far()

    def _of_daemon(self) -> Iterator[Metric]:
        daemon = self._daemon
        yield InfoMetricFamily(
            "djsup_build", "The version of the daemon.", {"version": str(daemon["version"])}
        )
        for name, text, key in (
            (
                "djsup_start_time_seconds",
                "When the daemon started, in seconds since the epoch.",
                "started_at_s",
            ),
            ("djsup_uptime_seconds", "How long the daemon has been running.", "uptime_s"),
            ("djsup_daemon_memory_bytes", "Memory of the daemon alone (PSS).", "memory_bytes"),
        ):
            yield GaugeMetricFamily(name, text, value=daemon[key])
        yield CounterMetricFamily(
            "djsup_daemon_cpu_seconds", "Processor time of the daemon alone.", value=daemon["cpu_s"]
        )

    def _of_states(self) -> Iterator[Metric]:
        state = GaugeMetricFamily(
            "djsup_site_state", "1 for the state that the site is in.", labels=("site", "state")
        )
        workers = GaugeMetricFamily("djsup_workers", "Workers by their state.", labels=("site", "state"))
        for site in self._sites:
            for each in SiteState:
                state.add_metric((site["name"], each.value), float(site["state"] == each.value))
            for name, count in site["workers"].items():
                workers.add_metric((site["name"], name), count)
        yield state
        yield workers

    def _now(self) -> Iterator[Metric]:
        for name, text, key in (
            ("djsup_site_up", "1 while requests to the site are answered by it.", "answers"),
            ("djsup_site_generation", "The generation of its code that serves; 0: none yet.", "generation"),
            ("djsup_workers_wanted", "Workers that the site is to have.", "workers_asked"),
            ("djsup_threads", "Threads that could run requests.", "threads"),
            ("djsup_threads_busy", "Threads that run a request.", "threads_busy"),
            (
                "djsup_oldest_request_age_seconds",
                "Age of the oldest request that runs; 0: none.",
                "oldest_request_s",
            ),
            ("djsup_connections", "Open connections of clients.", "connections"),
            ("djsup_queue_length", "Requests from shared addresses that wait for a worker.", "queued"),
            ("djsup_memory_bytes", "Memory of workers and templates (PSS).", "memory_bytes"),
        ):
            gauge = GaugeMetricFamily(name, text, labels=("site",))
            for site in self._sites:
                gauge.add_metric((site["name"],), float(site[key]))
            yield gauge

    def _so_far(self) -> Iterator[Metric]:
        for name, text, key in (
            ("djsup_connections_accepted", "Connections that were accepted.", "connections_accepted"),
            ("djsup_queue_waits", "Requests that had to wait for a worker.", "queue_waited"),
            ("djsup_queue_wait_seconds", "How long they have waited, all together.", "queue_waited_s"),
            (
                "djsup_queue_turned_away",
                "Requests that waited in vain, and were answered 503.",
                "queue_turned_away",
            ),
            ("djsup_cpu_seconds", "Processor time of all processes of the site.", "cpu_s"),
            ("djsup_request_bytes", "Bytes of request bodies.", "bytes_in"),
            ("djsup_response_bytes", "Bytes that were sent.", "bytes_out"),
            ("djsup_requests_overdue", "Requests that ran longer than request_timeout.", "requests_overdue"),
        ):
            counter = CounterMetricFamily(name, text, labels=("site",))
            for site in self._sites:
                counter.add_metric((site["name"],), site[key])
            yield counter
        for name, text, label, key in (
            (
                "djsup_requests",
                "Requests that were answered, by class of status.",
                "code_class",
                "answers_by_class",
            ),
            ("djsup_reloads", "Reloads that have ended, by their result.", "result", "reloads"),
            ("djsup_worker_restarts", "Workers that had to be replaced, by why.", "reason", "worker_ends"),
        ):
            counter = CounterMetricFamily(name, text, labels=("site", label))
            for site in self._sites:
                for word, count in site[key].items():
                    counter.add_metric((site["name"], word), count)
            yield counter
        durations = HistogramMetricFamily(
            "djsup_request_duration_seconds",
            "How long requests took; bounds and sum are exact to 5 %.",
            labels=("site",),
        )
        for site in self._sites:
            buckets = [
                (str(bound), float(count))
                for bound, count in zip(self._bounds, site["durations"], strict=True)
            ]
            durations.add_metric((site["name"],), [*buckets, ("+Inf", site["requests"])], site["took_s"])
        yield durations
