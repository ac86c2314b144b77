"""Closed-form two-sided intervals. No resampling, so the same scores give the same interval to the last digit."""

from math import sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit  # type: ignore[import-untyped]  # scipy has no stubs

Interval = tuple[float, float]


def normal_quantile(level: float) -> float:
    """z with P(|Z| <= z) = level."""
    if not 0 < level < 1:
        raise ValueError(f"level is {level}: use a number between 0 and 1, such as 0.9")
    return NormalDist().inv_cdf((1 + level) / 2)


def wilson(share: float, n: float, level: float) -> Interval:
    """Wilson's (1927) score interval for a proportion, which it holds; `n` may be an effective, fractional sample size."""
    if not n > 0:
        raise ValueError("a proportion of no samples has no interval")
    z2 = normal_quantile(level) ** 2
    centre, half = share + z2 / (2 * n), sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n * n)))
    low, high = (centre - half) / (1 + z2 / n), (centre + half) / (1 + z2 / n)
    return max(0.0, min(low, share)), min(1.0, max(high, share))  # at 0 and 1 they differ from the share by rounding


def newcombe(share_1: float, n_1: float, share_2: float, n_2: float, level: float) -> Interval:
    """share_1 - share_2 of two independent sets: Newcombe's (1998) hybrid score interval, his method 10."""
    low_1, high_1 = wilson(share_1, n_1, level)
    low_2, high_2 = wilson(share_2, n_2, level)
    difference = share_1 - share_2
    low = difference - sqrt((share_1 - low_1) ** 2 + (high_2 - share_2) ** 2)
    high = difference + sqrt((high_1 - share_1) ** 2 + (share_2 - low_2) ** 2)
    return max(-1.0, low), min(1.0, high)


def bonett_price(gained: int, lost: int, n: int, level: float, extra_variance: float = 0.0) -> Interval:
    """(gained - lost) / n of paired answers: the adjusted Wald interval of Bonett and Price (2012).

    `gained` and `lost` count the discordant pairs. `extra_variance` is added to the squared standard error, for noise
    that the pairs do not show, such as that between training runs.
    """
    if n < 1 or gained < 0 or lost < 0 or gained + lost > n:
        raise ValueError("counts of pairs do not add up: need n >= 1 and gained + lost <= n")
    if not extra_variance >= 0:
        raise ValueError("extra_variance is a variance: zero or more")
    up, down = (gained + 1) / (n + 2), (lost + 1) / (n + 2)
    centre = up - down
    half = normal_quantile(level) * sqrt((up + down - centre**2) / (n + 2) + extra_variance)
    return max(-1.0, centre - half), min(1.0, centre + half)


def wider(estimate: float, interval: Interval, margin: float) -> Interval:
    """The interval with a further, independent error of `margin` on each side added in squares; within [-1, 1]."""
    below, above = (max(0.0, estimate - interval[0]), max(0.0, interval[1] - estimate))
    return max(-1.0, estimate - sqrt(below**2 + margin**2)), min(1.0, estimate + sqrt(above**2 + margin**2))


def delong(
    values_N: NDArray[np.float64], influence_M: NDArray[np.float64], groups_M: NDArray[np.int64], level: float
) -> Interval:
    """The mean of `values_N` over D_f, where each value is a rank among a random holdout: DeLong's (1988) two variances.

    The first is that of `values_N`; half a squared unit is added to its sum of squares, so that perfect separation
    does not look certain. The second is that of `influence_M`, what each holdout sample contributes to the mean,
    around the means of its groups. Student's t with N - 1 degrees of freedom. One value alone has no variance: its
    interval is unbounded, and the caller clips it to what is possible.
    """
    n = len(values_N)
    if n == 0:
        raise ValueError("the mean of no samples has no interval")
    if n == 1:
        return float("-inf"), float("inf")
    estimate = float(values_N.mean())
    from_forget = (float(((values_N - estimate) ** 2).sum()) + 0.5) / (n * (n + 1))
    from_holdout = 0.0
    for group in np.unique(groups_M):
        part = influence_M[groups_M == group]
        from_holdout += float(((part - part.mean()) ** 2).sum()) * len(part) / max(1, len(part) - 1)
    normal_quantile(level)
    half = float(stdtrit(n - 1, (1 + level) / 2)) * sqrt(from_forget + from_holdout)
    return estimate - half, estimate + half
