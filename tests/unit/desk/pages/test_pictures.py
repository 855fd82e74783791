"""The colours of the levels are told apart by everybody, and seen on light and on dark pages."""

from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import desk.pages.pictures as pictures

CARDS = set(
    re.findall(r"--card: (#[0-9a-f]{6});", (Path(pictures.__file__).parents[1] / "static" / "desk.css").read_text())
)
"""What charts stand on, light and dark."""

SIGHT = {
    "usual": np.eye(3),
    "protanopia": np.array([[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]]),
    "deuteranopia": np.array([[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]]),
    "tritanopia": np.array([[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]]),
}
"""What of linear red, green and blue is seen (Machado, Oliveira and Fernandes 2009, severity 1)."""

TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def linear(colour: str) -> NDArray[np.float64]:
    value = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    """As WCAG 2 has it."""
    darker, lighter = sorted(float(TO_XYZ[1] @ linear(colour)) for colour in (one, other))
    return (lighter + 0.05) / (darker + 0.05)


def lab(light: NDArray[np.float64]) -> NDArray[np.float64]:
    """CIE 1976 L*a*b*, in which a difference of about 2 is just seen."""
    share = TO_XYZ @ np.clip(light, 0, 1) / (TO_XYZ @ np.ones(3))
    x, y, z = np.where(share > 0.008856, np.cbrt(share), 7.787 * share + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("colour", pictures.LEVEL_COLOURS.values())
def test_a_level_is_seen_on_every_page(colour: str) -> None:
    assert len(CARDS) == 2
    assert all(contrast(colour, card) >= 3 for card in CARDS), "WCAG 2.1 AA for graphics"


@pytest.mark.parametrize("sight", SIGHT)
def test_levels_are_told_apart(sight: str) -> None:
    for one, other in combinations(pictures.LEVEL_COLOURS.values(), 2):
        assert np.linalg.norm(lab(SIGHT[sight] @ linear(one)) - lab(SIGHT[sight] @ linear(other))) > 30
    first, second = linear("#b7791f"), linear("#d9531e")
    assert np.linalg.norm(lab(SIGHT["deuteranopia"] @ first) - lab(SIGHT["deuteranopia"] @ second)) < 5, "an example"
