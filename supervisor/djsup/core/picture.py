"""How one pool looks: its part of the snapshot.

Reads a pool and changes nothing. Times stay readings of the monotonic clock; the shell turns
``started_at`` into wall time and fills in what it measures.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from djsup.core import worker
from djsup.core.pool import Mode, Pool
from djsup.core.snapshot import (
    ReloadReport,
    ReloadResult,
    SiteSnapshot,
    SiteState,
    TemplateSnapshot,
    WorkerSnapshot,
    WorkerState,
)

if TYPE_CHECKING:
    from djsup.core.template import Template
    from djsup.core.worker import Worker

WORKER_STATES = {
    worker.State.STARTING: WorkerState.BOOTING,
    worker.State.BOOTING: WorkerState.BOOTING,
    worker.State.FAILED: WorkerState.GONE,
    worker.State.SERVING: WorkerState.IDLE,
    worker.State.OVERDUE: WorkerState.OVERDUE,
    worker.State.DRAINING: WorkerState.DRAINING,
    worker.State.KILLED: WorkerState.GONE,
    worker.State.GONE: WorkerState.GONE,
}
"""What an operator calls the states of the core; whether a worker is busy, only the shell sees."""


def site_snapshot(pool: Pool, now: float) -> SiteSnapshot:
    """One site as it is now."""
    site, generations = pool.site, pool.generations
    shown = generations.serving
    if shown is None and generations.rollout is not None:
        shown = generations.by_number.get(generations.rollout.generation)
    former = generations.former(now)
    return SiteSnapshot(
        name=site.name,
        state=_state(pool, now),
        generation=0 if generations.serving is None else generations.serving.number,
        listen=tuple(str(each) for each in (*site.settings.listen, *site.settings.shared)),
        tls_listen=tuple(str(each) for each in (*site.settings.tls_listen, *site.settings.shared_tls)),
        shared=tuple(str(each) for each in site.settings.shared),
        mount=site.settings.mount,
        hosts=site.settings.hosts,
        error=site.error,
        stopped_by=pool.stopped_by,
        notes=_notes(pool, now),
        next_try_s=_next_try_s(pool, now),
        previous_generation=0 if former is None else former.number,
        previous_kept_s=generations.kept_s(now),
        failures_in_row=_failures_in_row(pool),
        workers_asked=0 if pool.stopped_by is not None else site.promise,
        workers_min=site.settings.workers.least,
        workers_max=site.settings.workers.most,
        workers_why=site.scaling.why if site.by_hand is None and not site.asleep else "",
        python="" if shown is None else shown.python,
        django="" if shown is None else shown.django,
        last_reload=_report(pool, now),
        workers=tuple(
            _worker(each, now) for each in sorted(pool.workers.by_proc.values(), key=lambda one: one.slot)
        ),
        templates=tuple(_template(each) for each in generations.templates),
        programs=pool.programs.snapshots(now),
    )


def _state(pool: Pool, now: float) -> SiteState:
    if pool.mode is not Mode.RUN:
        return SiteState.STOPPED if pool.at_rest else SiteState.STOPPING
    generations, error = pool.generations, pool.site.error
    if pool.site.asleep:
        return SiteState.SLEEPING
    number = len(pool.workers.serving())
    if generations.serving is None:
        if error is None:
            return SiteState.STARTING
        return SiteState.BACKING_OFF if generations.has_served else SiteState.FAILED
    if generations.rollout is not None and number:
        return SiteState.RELOADING
    if number >= pool.site.promise:
        return SiteState.SERVING
    if error is None and not pool.settled:
        return SiteState.STARTING
    if number == 0 and _next_try_s(pool, now) is not None:
        return SiteState.BACKING_OFF
    return SiteState.DEGRADED


def _next_try_s(pool: Pool, now: float) -> float | None:
    """Seconds until a worker or a load is tried again; None: nothing is being waited for."""
    generations = pool.generations
    if pool.mode is not Mode.RUN or generations.rollout is not None:
        return None
    next_at = None
    if generations.serving is None or generations.needs_load:
        next_at = generations.loads.next_at
    elif len(pool.workers.serving()) < pool.site.promise:
        next_at = generations.serving.deaths.next_at
    return None if next_at is None or next_at <= now else next_at - now


def _failures_in_row(pool: Pool) -> int:
    """Failed loads in a row where nothing can make workers, else early deaths of the workers that serve."""
    generations = pool.generations
    if generations.serving is None or generations.needs_load:
        return generations.loads.count
    return generations.serving.deaths.count


def _notes(pool: Pool, now: float) -> tuple[str, ...]:
    serving, notes = pool.generations.serving, []
    if serving is not None and serving.note:
        notes.append(serving.note)
    if serving is not None and serving.barren and pool.generations.rollout is None:
        wait_s = _next_try_s(pool, now) or 0.0
        notes.append(f"its template is lost, so no worker can be replaced; next load in {wait_s:.1f} s")
    if pool.site.by_hand is not None:
        notes.append(f"scaled by hand to {pool.site.promise} until the next change of the configuration")
    return tuple(notes)


def _report(pool: Pool, now: float) -> ReloadReport | None:
    report = pool.generations.last_reload
    if report is None or report.result is not ReloadResult.RUNNING:
        return report
    running = pool.generations.rollout
    assert running is not None
    trial = "" if running.trial is None else running.verdict or running.trial.progress(now)
    duration_s = now - report.started_at
    return replace(report, duration_s=duration_s, phase=running.phase.value, canary=trial)


def _worker(each: Worker, now: float) -> WorkerSnapshot:
    state = WORKER_STATES[each.state]
    if each.overdue and state is WorkerState.DRAINING:
        state = WorkerState.OVERDUE
    return WorkerSnapshot(
        slot=each.slot,
        pid=each.pid,
        generation=each.generation,
        state=state,
        started_at=each.asked_at,
        uptime_s=now - each.asked_at,
    )


def _template(each: Template) -> TemplateSnapshot:
    return TemplateSnapshot(each.pid, each.generation, each.state.value)
