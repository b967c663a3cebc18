"""The checks of lesson 8: the merger."""

from __future__ import annotations

import math

import numpy as np

from .filing import array, exercise


def _gelu(y: np.ndarray) -> np.ndarray:
    return np.array([z * 0.5 * (1 + math.erf(z / math.sqrt(2))) for z in y.ravel()]).reshape(y.shape)


@exercise("8.1", "an array (n / 4, o)")
def merge(mine):
    draw = np.random.default_rng(4)
    x, norm = draw.standard_normal((8, 3)) * np.geomspace(0.1, 10, 8)[:, None], draw.uniform(0.5, 2, 3)
    inner, b1, outer, b2 = (draw.standard_normal(s) for s in ((12, 12), (12,), (5, 12), (5,)))
    got = array(mine(x, norm, (inner, b1), (outer, b2)), (2, 5), "8 patches of width 3 and an outer map to 5")

    def normal(y, weight):
        return y / np.sqrt((y * y).mean(axis=-1, keepdims=True) + 1e-6) * weight

    def through(cells, act=_gelu):
        return act(cells @ inner.T + b1) @ outer.T + b2
    four = normal(x, norm)
    wanted = through(four.reshape(2, 12))

    def tanh(y):
        return 0.5 * y * (1 + np.tanh(math.sqrt(2 / math.pi) * (y + 0.044715 * y**3)))
    mistakes = {
        "yours joins first and norms rows of 4d; each patch is normalised by itself, before they are joined":
            through(normal(x.reshape(2, 12), np.tile(norm, 4))),
        "the norm is missing": through(x.reshape(2, 12)),
        "the norm's weight is missing": through(normal(x, 1).reshape(2, 12)),
        "the GELU between the two maps is missing": through(four.reshape(2, 12), lambda y: y),
        "that is SiLU; the merger is the one place that has a GELU":
            through(four.reshape(2, 12), lambda y: y / (1 + np.exp(-y))),
        "yours joins rows 0 2 4 6 and 1 3 5 7; the four of a cell are consecutive":
            through(four.reshape(4, 2, 3).transpose(1, 0, 2).reshape(2, 12)),
        "yours is channel by channel; put whole rows side by side, with a plain reshape":
            through(four.reshape(2, 4, 3).transpose(0, 2, 1).reshape(2, 12)),
    }
    for remark, wrong in mistakes.items():
        assert not np.allclose(got, wrong), remark
    assert not np.allclose(got, through(four.reshape(2, 12), tanh), atol=1e-7), (
        "that is GELU's tanh approximation; off by up to 0.0005 here, use the exact one with erf")
    assert np.allclose(got, wanted, atol=1e-6), (
        f"the first number should be {wanted[0, 0]:.4f}, yours is {got[0, 0]:.4f}")


@exercise("8.2", "one integer")
def token_of_pixel(mine):
    photo, seen = (480, 640), (476, 644)                       # 17 x 23 cells
    for y, x, wanted in ((0, 0, 0), (0, 639, 22), (27, 0, 0), (29, 0, 23), (479, 639, 390), (240, 320, 195)):
        got = mine(y, x, photo, seen)
        assert isinstance(got, int | np.integer), f"one integer should come out, not {type(got).__name__}"
        where = f"a photo of 480 x 640 seen as 476 x 644, pixel (row {y}, column {x})"
        h, w = y * seen[0] / photo[0], x * seen[1] / photo[1]
        patches = int(h // 14) * 46 + int(w // 14)
        assert got != patches or got == wanted, f"{where}: that counts patches of 14 pixels; a token covers 28 x 28"
        assert got != int(h // 28) + int(w // 28) * 17 or got == wanted, (
            f"{where}: tokens are numbered along the rows: cell row times cells in a row, plus cell column")
        assert got != int(h // 28) * 17 + int(w // 28) or got == wanted, (
            f"{where}: a row has 644 / 28 = 23 cells, not 17")
        assert got == wanted, f"{where}: token {wanted}, you say {got}"
    got, wanted = mine(700, 100, (1400, 700), (700, 336)), 12 * 12 + 1    # 25 x 12 cells; (350, 48) is in cell (12, 1)
    assert got != 25 * 12 + 3, "yours does not go to the picture that the model sees: scale y and x first"
    assert got == wanted, (f"a photo of 1400 x 700 seen as 700 x 336, pixel (row 700, column 100): token {wanted}, you "
                           f"say {got}; height and width have a factor each")
