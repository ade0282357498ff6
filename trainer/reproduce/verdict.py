r"""Agrees, differs or inconclusive.

The differences d_i of two arms, seed by seed, have the 95 % confidence interval

.. math:: \bar d \pm t_{0.975,\,n-1}\, s / \sqrt n

(Student's t; s with n - 1); ratios are compared by their logarithms. A sign *agrees* where the whole interval lies above `by`, *differs*
where it lies below, and is inconclusive else; "0 within w" agrees where the interval lies in [-w, w], differs where it lies outside.
Where a run diverged its figure is infinite, and only the common sign of all differences decides.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lpref.trainer.reproduce.experiment import Expectation

AGREES, DIFFERS, INCONCLUSIVE = "agrees", "differs", "inconclusive"
# 97.5 % quantiles of Student's t for 1 … 30 degrees of freedom (three decimals; any statistical table)
T975 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip


@dataclass(frozen=True)
class Interval:
    """Mean of the differences and the ends of its 95 % confidence interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Judged:
    """An expectation, its interval and its verdict."""

    expectation: Expectation
    interval: Interval
    verdict: str

    @property
    def text(self) -> str:
        """``mx_floor < mx_ceil: 0.013 [0.011, 0.015], agrees``."""
        e, i = self.expectation, self.interval
        sign = "/" if e.ratio else "-"
        less, more = (f"({side})" if " - " in side else side for side in (e.less, e.more))
        compared = f"{more} {sign} {less}" if e.less else e.more
        what = f"{e.zero} is 0 within {e.within:g}" if e.zero else f"{compared} > {e.by:g}"
        return f"{what}: {i.mean:.4g} [{i.low:.4g}, {i.high:.4g}], {self.verdict}"


def interval(values: Sequence[float]) -> Interval:
    """The 95 % confidence interval of the mean; of non-finite values their least and greatest.

    >>> interval([1.0, 1.0, 1.0])
    Interval(mean=1.0, low=1.0, high=1.0)
    """
    if not all(map(math.isfinite, values)):
        return Interval(statistics.median_low(values), min(values), max(values))
    mean, n = statistics.fmean(values), len(values)
    half = T975[min(n - 1, len(T975)) - 1] * statistics.stdev(values) / math.sqrt(n)
    return Interval(mean, mean - half, mean + half)


def judge(expectation: Expectation, figures: Mapping[str, Sequence[float]]) -> Judged:
    """The verdict on one expectation; `figures`: arm -> one figure a seed, seeds in the same order."""
    if expectation.zero:
        found, reach = interval(values_of(expectation.zero, figures)), expectation.within
        inside, outside = -reach <= found.low and found.high <= reach, found.low > reach or found.high < -reach
        return Judged(expectation, found, AGREES if inside else DIFFERS if outside else INCONCLUSIVE)
    more = values_of(expectation.more, figures)
    less = values_of(expectation.less, figures) if expectation.less else [0.0] * len(more)
    if expectation.ratio:
        logs = interval([_log(b) - _log(a) if a != b else 0.0 for a, b in zip(less, more, strict=True)])
        found = Interval(_exp(logs.mean), _exp(logs.low), _exp(logs.high))
    else:
        found = interval([b - a if a != b else 0.0 for a, b in zip(less, more, strict=True)])  # both diverged: no difference
    verdict = AGREES if found.low > expectation.by else DIFFERS if found.high < expectation.by else INCONCLUSIVE
    return Judged(expectation, found, verdict)


def values_of(side: str, figures: Mapping[str, Sequence[float]]) -> Sequence[float]:
    """The figures of an arm, or of ``a - b``, seed by seed.

    >>> values_of("a - b", {"a": [3.0, 5.0], "b": [1.0, 1.0]})
    [2.0, 4.0]
    """
    first, *rest = (figures[arm] for arm in side.split(" - "))
    return [a - sum(others) for a, *others in zip(first, *rest, strict=True)] if rest else first


def _log(value: float) -> float:
    return math.log(value) if value > 0 else -math.inf


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf


def overall(judged: Sequence[Judged]) -> str:
    """Of an experiment: agrees where every sign does, differs where one does."""
    verdicts = {one.verdict for one in judged}
    return DIFFERS if DIFFERS in verdicts else AGREES if verdicts == {AGREES} else INCONCLUSIVE
