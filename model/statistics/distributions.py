"""Tails and quantiles of the normal and chi-square distributions, and intervals of a share, for monitoring.

Pure arithmetic on single numbers, so that serving needs no statistics library.
"""

from __future__ import annotations

import math
from statistics import NormalDist

_ROUNDING = 1e-16
_MOST_TERMS = 100_000
_TINY = 1e-300


def normal_quantile(probability: float) -> float:
    """The value below which a standard normal variable lies with `probability`, between 0 and 1 (both excluded)."""
    return NormalDist().inv_cdf(probability)


def two_sided(z: float) -> float:
    """Probability that a standard normal variable is at least as far from zero as `z`."""
    return math.erfc(abs(z) / math.sqrt(2))


def chi_square_tail(value: float, degrees: float) -> float:
    """Probability that a chi-square variable with `degrees` of freedom exceeds `value`.

    The regularised upper incomplete gamma function Q(degrees/2, value/2), by its power series below the mean and by
    Legendre's continued fraction above (Abramowitz & Stegun 1964, 6.5.29 and 6.5.31; the fraction is evaluated by the
    modified Lentz method). The tests hold it to 9 digits of closed forms.
    """
    if degrees <= 0:
        raise ValueError(f"degrees of freedom must be above 0, got {degrees}")
    shape, x = degrees / 2, value / 2
    if x <= 0:
        return 1.0
    scale = math.exp(shape * math.log(x) - x - math.lgamma(shape))
    if x < shape + 1:
        return 1.0 - scale * _series(shape, x)
    return scale * _fraction(shape, x)


def chi_square_quantile(probability: float, degrees: float) -> float:
    """The value that a chi-square variable with `degrees` of freedom stays below with `probability`, in [0, 1).

    Bisection of `chi_square_tail`, started at the approximation of Wilson & Hilferty (1931).
    """
    if not 0 <= probability < 1:
        raise ValueError(f"probability must be in [0, 1), got {probability}")
    if probability == 0:
        return 0.0
    tail = 1.0 - probability
    spread = 2 / (9 * degrees)
    start = degrees * max(1 - spread + normal_quantile(probability) * math.sqrt(spread), 0.01) ** 3
    low, high = start, start
    while low > _TINY and chi_square_tail(low, degrees) < tail:
        low /= 2
    while chi_square_tail(high, degrees) > tail:
        high *= 2
    for _ in range(200):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        if chi_square_tail(middle, degrees) > tail:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def share_interval(share: float, trials: float, confidence: float = 0.95) -> tuple[float, float]:
    """Interval of a probability of which `share` was seen in `trials` (Wilson 1927); [0, 1] without trials.

    `trials` need not be whole: for correlated trials it is the effective number (see `model.evaluation.drift`).
    """
    if trials <= 0:
        return 0.0, 1.0
    z = normal_quantile(0.5 + confidence / 2)
    weight = z * z / trials
    centre = (share + weight / 2) / (1 + weight)
    half = math.sqrt(share * (1 - share) * weight + weight * weight / 4) / (1 + weight)
    return max(0.0, min(centre - half, share)), min(1.0, max(centre + half, share))


def _series(shape: float, x: float) -> float:
    """γ(shape, x) / (x^shape · e^-x)."""
    term = total = 1 / shape
    for step in range(1, _MOST_TERMS):
        term *= x / (shape + step)
        total += term
        if term < total * _ROUNDING:
            break
    return total


def _fraction(shape: float, x: float) -> float:
    """Γ(shape, x) / (x^shape · e^-x)."""
    below = x + 1 - shape
    ratio = 1 / _TINY
    inverse = 1 / below
    total = inverse
    for step in range(1, _MOST_TERMS):
        numerator = -step * (step - shape)
        below += 2
        inverse = 1 / _away_from_zero(numerator * inverse + below)
        ratio = _away_from_zero(below + numerator / ratio)
        factor = inverse * ratio
        total *= factor
        if abs(factor - 1) < 1e-15:
            break
    return total


def _away_from_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
