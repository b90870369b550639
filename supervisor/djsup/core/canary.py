"""The trial of new code on a share of the real traffic: how it stands, and what is judged from it.

Knows figures and nothing of processes: which workers take part is decided in ``generations.py``, and what was
counted comes as ``GenerationsSampled``. The rules, in this order:

1. A request of the new code that runs too long, where none of the old code's did, ends the trial.
2. Failed answers (5xx) that cannot be chance end it at once, so that a broken deploy is seen by few visitors.
3. When its time is over, and a sample has told what happened until then: too many failed answers, or too slow,
   and it has failed.
4. With too few requests to judge, it takes the same time once more; then it has passed, and the verdict says so,
   unless rule 2 holds for the few that there were.

"Cannot be chance": the bound of Chernoff and Hoeffding (W. Hoeffding, "Probability inequalities for sums of
bounded random variables", 1963, theorem 1): n requests of which each fails with probability p fail k times or more
with a probability of at most ``exp(-n * D(k/n, p))``, D the relative entropy. It needs no table, and holds for
every n, also where a normal approximation does not.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import log
from typing import TYPE_CHECKING

# The shell decodes a Trial (memory.py), and needs the types for it.
from djsup.core.model import Canary  # noqa: TC001

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from djsup.core.events import Answers
    from djsup.core.model import Generation

CHANCE = 0.001
"""What is less probable than this is no chance. It is asked each second of a trial, hence so little."""
EARLY_FAILED = 5
"""Fewer failed answers end no trial before its time: one visitor may ask five times for the page that fails anyway."""
LATE_FAILED = 2
"""A single failed answer ends no trial, however few requests there were."""
TAIL_REQUESTS = 100
"""So many requests are needed for a 95th percentile that is more than the slowest five."""
SLOWER_LEAST_S = 0.01
"""A difference of fewer seconds is not slow, however large the factor is: a new worker begins with cold caches."""
SAMPLE_LATE_S = 3.0
"""Samples come once a second. When a trial's time is over, the one that tells of its end is waited for so long."""
RATE_LEAST = 1e-6
"""The least probability of a failed answer that is reckoned with."""


@dataclass(slots=True)
class Tally:
    """What one side has answered during the trial."""

    requests: int = 0
    failed: int = 0
    """Answers 5xx, and requests that ran too long."""
    overdue: int = 0
    latency: dict[float, int] = field(default_factory=dict)
    """Number of answers by how long they took, in seconds."""

    def add(self, answers: Answers) -> None:
        """Count what was answered since the last sample."""
        self.requests += answers.requests
        self.failed += answers.failed
        for took_s, number in answers.latency:
            self.latency[took_s] = self.latency.get(took_s, 0) + number

    def add_overdue(self) -> None:
        """Count a request that has run too long, and has no answer yet."""
        self.requests += 1
        self.failed += 1
        self.overdue += 1

    @property
    def rate(self) -> float:
        """The share of failed answers."""
        return min(1.0, self.failed / self.requests) if self.requests else 0.0

    def quantile_s(self, share: float) -> float:
        """How long this share of the answers took at most, in seconds; 0 without any."""
        wanted = share * sum(self.latency.values())
        seen = 0
        for took_s, number in sorted(self.latency.items()):
            seen += number
            if seen >= wanted:
                return took_s
        return 0.0

    def in_words(self) -> str:
        """Its figures."""
        text = f"{self.requests} requests, {self.failed} failed ({100 * self.rate:.1f} %)"
        if self.latency:
            p50, p95 = (1000 * self.quantile_s(share) for share in (0.5, 0.95))
            text += f", p50 {p50:.3g} ms, p95 {p95:.3g} ms"
        return text


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a trial has ended."""

    passed: bool
    why: str
    """One line with the figures of both sides."""


@dataclass(slots=True, eq=False)
class Trial:
    """One trial that runs."""

    wishes: Canary
    workers: int
    """How many workers of the new code take part."""
    began_at: float
    until: float
    new: Tally = field(default_factory=Tally)
    old: Tally = field(default_factory=Tally)
    extended: bool = False
    sampled_at: float = 0.0
    """When the last sample came; the beginning, before there was one."""

    @classmethod
    def begin(cls, wishes: Canary, surge: int, now: float) -> Trial:
        """A trial that begins now. No old worker goes before the verdict, so ``surge`` workers at most take part."""
        return cls(wishes, min(wishes.workers, surge), now, now + wishes.seconds, sampled_at=now)

    def deadlines(self) -> Iterator[float]:
        """When to judge, if nothing happens."""
        yield self.until
        yield self.until + SAMPLE_LATE_S

    def sampled(self, building: Generation, samples: Iterable[Answers], now: float) -> None:
        """What was answered since the last sample: by the new code, and by all others."""
        self.sampled_at = now
        for each in samples:
            (self.new if each.generation == building else self.old).add(each)

    def judge(self, now: float) -> Verdict | None:
        """The verdict; None: it is too early."""
        new, old = self.new, self.old
        if new.overdue and not old.overdue:
            return self._failed("a request of the new code ran too long, and none of the old code")
        over = now >= self.until + (0.0 if self.sampled_at >= self.until else SAMPLE_LATE_S)
        if new.failed >= (LATE_FAILED if over else EARLY_FAILED) and self._no_chance():
            return self._failed("the new code fails more often than the old, and that is no chance")
        if not over:
            return None
        if new.requests < self.wishes.min_requests:
            if self.extended:
                return Verdict(passed=True, why=f"too few requests to judge: {self.in_words()}")
            self.extended = True
            self.until = now + self.wishes.seconds
            return None
        if new.failed >= LATE_FAILED and new.rate > old.rate + self.wishes.max_error_rate:
            return self._failed("the new code fails more often than the old")
        slow = self._slower()
        return self._failed(slow) if slow else Verdict(passed=True, why=self.in_words())

    def in_words(self) -> str:
        """The figures of both sides."""
        return f"new code: {self.new.in_words()}; old code: {self.old.in_words()}"

    def progress(self, now: float) -> str:
        """How far it has come, as "12 of 30 s, 420 requests, 0 failed"."""
        whole_s = self.until - self.began_at
        spent_s = min(now - self.began_at, whole_s)
        return f"{spent_s:.0f} of {whole_s:.0f} s, {self.new.requests} requests, {self.new.failed} failed"

    def _failed(self, why: str) -> Verdict:
        return Verdict(passed=False, why=f"{why}; {self.in_words()}")

    def _no_chance(self) -> bool:
        """Whether so many failed answers are improbable, if each fails as often as it may."""
        allowed = self.old.rate + self.wishes.max_error_rate
        return self.new.requests * divergence(self.new.rate, allowed) > -log(CHANCE)

    def _slower(self) -> str:
        """By how much the new code is too slow; empty: it is not."""
        if not self.wishes.max_slowdown:
            return ""
        number = min(sum(each.latency.values()) for each in (self.new, self.old))
        for name, share, least in (("p50", 0.5, self.wishes.min_requests), ("p95", 0.95, TAIL_REQUESTS)):
            new_s, old_s = self.new.quantile_s(share), self.old.quantile_s(share)
            if (
                number >= least
                and new_s - old_s >= SLOWER_LEAST_S
                and new_s > old_s * self.wishes.max_slowdown
            ):
                return f"the new code is slower than the old by more than {self.wishes.max_slowdown:g} times ({name})"
        return ""


def divergence(rate: float, allowed: float) -> float:
    """How far a rate is above one that is allowed: relative entropy in nats; 0 when it is not above."""
    allowed = max(RATE_LEAST, allowed)
    if rate <= allowed:
        return 0.0
    rest = (1 - rate) * log((1 - rate) / (1 - allowed)) if rate < 1 else 0.0
    return rate * log(rate / allowed) + rest
