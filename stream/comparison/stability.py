"""How far one distribution is from another. Pure."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def population_stability(was: NDArray[np.number], now: NDArray[np.number]) -> float:
    """The population stability index Σ (q - p)·ln(q / p) of counts `[bins]`, over bins that hold something on either
    side, as if each of these had half a count more: the index of an empty one would be infinite.
    """
    filled = (was > 0) | (now > 0)
    p, q = ((part[filled] + 0.5) / (part[filled] + 0.5).sum() for part in (was, now))
    return float(((q - p) * np.log(q / p)).sum())
