"""What docs/teaching/accessibility.md states as measured: colours, contrast, and headings in order."""

import re
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest

from minivl.show.plot.axes import COLOURS
from tools.teaching import slides

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "teaching" / "accessibility.md").read_text(encoding="utf-8")

# Machado, Oliveira and Fernandes 2009, full severity: linear red, green and blue as they are seen.
BLINDNESS = {
    "none": np.eye(3),
    "protan": np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                        [-0.003882, -0.048116, 1.051998]]),
    "deutan": np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                        [-0.011820, 0.042940, 0.968881]]),
    "tritan": np.array([[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
                        [0.004733, 0.691367, 0.303900]])}
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def linear(colour):
    """#rrggbb as linear red, green and blue from 0 to 1."""
    levels = np.array([int(colour[n:n + 2], 16) for n in (1, 3, 5)]) / 255
    return np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)


def lab(rgb):
    """Linear red, green and blue in CIE Lab, white of D65."""
    x, y, z = XYZ @ np.clip(rgb, 0, 1) / [0.9505, 1, 1.089]
    x, y, z = (np.cbrt(v) if v > 0.008856 else 7.787 * v + 16 / 116 for v in (x, y, z))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def contrast(one, other):
    """The ratio of WCAG 2: 1 to 21."""
    low, high = sorted(float(XYZ[1] @ linear(colour)) for colour in (one, other))
    return (high + 0.05) / (low + 0.05)


def nearest(kind):
    """How far apart the two colours are that look most alike."""
    seen = [lab(BLINDNESS[kind] @ linear(colour)) for colour in COLOURS]
    return min(np.linalg.norm(a - b) for a, b in combinations(seen, 2))


def test_colours_can_be_told_apart_as_far_as_the_page_says():
    blind, others = map(int, re.search(r"at least (\d+) units .+ \(for others (\d+)\)", PAGE).groups())
    assert blind == int(min(nearest(kind) for kind in BLINDNESS)) and others == int(nearest("none"))
    assert contrast("#000000", "#ffffff") == pytest.approx(21)


def test_text_on_slides_has_the_contrast_that_the_page_says():
    least = int(re.search(r"Slides: at least (\d+) to 1", PAGE)[1])
    named = dict(re.findall(r"--(\w+): (#\w{6})", slides.STYLE))
    texts = [named["ink"], named["accent"], *re.findall(r"[^-]color: (#\w{6})", slides.STYLE)]
    assert len(texts) == 3
    assert least == int(min(contrast(text, named[paper]) for text in texts for paper in ("paper", "pale")))


def test_contrast_of_lines_is_as_the_page_says():
    blue, orange, green = (contrast(colour, "#ffffff") for colour in COLOURS[:3])
    assert blue > 4.5 and orange < 3 < green < 4.5


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("**/*.py")), ids=lambda path: path.stem)
def test_headings_of_a_notebook_leave_no_level_out(path):
    levels = [len(marks) for marks in re.findall(r"(?m)^# (#+) ", path.read_text(encoding="utf-8"))]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
