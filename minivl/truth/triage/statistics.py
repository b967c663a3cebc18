"""The statistics that triage needs: a bootstrap interval, Fisher's exact test, Holm's correction, and
whether numbers are uniform. Small, exact where exact is cheap, seeded where not.

Read next: `loss.py` and `properties.py`, which ask.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

LEVEL, DRAWS = 0.99, 4000
AT_ONCE = 1 << 20                        # numbers drawn in one go


class Interval(NamedTuple):
    """A mean and where it would lie if other samples had been drawn."""
    mean: float
    low: float
    high: float


def paired_interval(differences: Sequence[float] | np.ndarray, seed: int = 0,
                    level: float = LEVEL) -> Interval:
    """The mean of paired differences with a percentile bootstrap interval over samples (Efron, 1979)."""
    values = np.asarray(differences, np.float64)
    rng, n = np.random.default_rng(seed), len(values)
    step = max(1, AT_ONCE // n)
    means = np.concatenate([values[rng.integers(0, n, (min(step, DRAWS - start), n))].mean(axis=1)
                            for start in range(0, DRAWS, step)])
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(values.mean()), float(low), float(high))


def fisher_exact(a: int, b: int, c: int, d: int) -> float:
    """Two-sided p of the table [[a, b], [c, d]]: all tables with its margins that are no likelier than
    it (Fisher, 1935)."""
    rows, columns, total = (a + b, c + d), a + c, a + b + c + d

    def log_of(k: int) -> float:
        return log_choose(rows[0], k) + log_choose(rows[1], columns - k) - log_choose(total, columns)
    seen = log_of(a) + 1e-9                                # ties are ties in spite of rounding
    tables = range(max(0, columns - rows[1]), min(rows[0], columns) + 1)
    return min(1.0, math.fsum(math.exp(log_of(k)) for k in tables if log_of(k) <= seen))


def at_least(k: int, n: int, share: float) -> float:
    """The probability of k or more of n independent events that each come with this share."""
    logs = [log_choose(n, m) + m * math.log(share) + (n - m) * math.log1p(-share)
            for m in range(k, n + 1)]
    return min(1.0, math.fsum(map(math.exp, logs)))


def log_choose(n: int, k: int) -> float:
    """Logarithm of n over k."""
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def holm(values: Sequence[float]) -> list[float]:
    """p values corrected for how many there are (Holm, 1979), in the order in which they came."""
    out, worst = [0.0] * len(values), 0.0
    for rank, n in enumerate(sorted(range(len(values)), key=lambda n: values[n])):
        worst = max(worst, min(1.0, (len(values) - rank) * values[n]))
        out[n] = worst
    return out


def uniform(values: Sequence[float] | np.ndarray) -> float:
    """p of the Kolmogorov-Smirnov test that numbers in 0..1 are uniform; the asymptotic series,
    Stephens' form."""
    u = np.sort(np.asarray(values, np.float64))
    n = len(u)
    if not n:
        return 1.0
    gap = max(float((np.arange(1, n + 1) / n - u).max()), float((u - np.arange(n) / n).max()))
    x = (math.sqrt(n) + 0.12 + 0.11 / math.sqrt(n)) * gap
    if x < 0.3:                                            # the series converges slowly there, to 1
        return 1.0
    return min(1.0, max(0.0, 2 * math.fsum((-1) ** (k - 1) *
                                           math.exp(-2 * (k * x) ** 2) for k in range(1, 101))))
