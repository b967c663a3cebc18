"""Rows of an array at the places in the picture that they come from, and what one row looks at.

Places are those of `run/provenance.py`, so a drawing cannot disagree with the model.
Read next: `geometry.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...door.contract import AXES, rows_of
from ...door.errors import ArgumentError, OutOfRange
from ...kernels.definition import softmax_weights
from . import axes
from .pictures import first_of_pairs, frames_of


def rows(array: np.ndarray, contract: Any, at: dict[str, np.ndarray], ax: Any = None, *,
         channel: int | None = None, medium: int = 0, pixels: np.ndarray | None = None,
         label: str | None = None) -> Any:
    """One number for each row, at the place in the picture that the row comes from.

    array (rows, ...): the root mean square of each row, or its value in `channel`; an array of one axis
    is drawn as it is. contract: an axis letter, a contract or a stage; at: what `provenance` gives.
    pixels: the resized picture, drawn in grey below. Axes in patches; rows of text are left out. Raises
    ArgumentError when rows and places do not fit.
    """
    letter = axis_letter(contract)
    if letter not in at:
        known = ", ".join(f"{key} ({AXES[key]})" for key in at)
        raise ArgumentError(f"rows {letter!r} have no fixed place in a picture; say which "
                            f"these are: {known}")
    values = row_values(array, channel)
    maps = on_grid(values, at[letter], at["p"], medium)                       # n -> t gh gw
    ax = axes.or_new(ax)
    if pixels is not None:
        _underlay(ax, first_of_pairs(frames_of(pixels, None), maps.shape), maps)
    alpha = None if pixels is None else 0.72
    axes.coloured(ax, _side_by_side(maps), label or _what(array, channel), alpha=alpha)
    title = f"{len(values)} rows ({letter}) on the picture"
    return axes.dress(ax, title, "column (patches)", "row (patches)")


def _what(array: np.ndarray, channel: int | None) -> str:
    if np.ndim(array) == 1:
        return "value of a row"
    return "rms of a row" if channel is None else f"channel {channel}"


def axis_letter(contract: Any) -> str:
    """The letter of the rows, given as it is, as a contract such as "c o, c -> m o", or as a stage."""
    text = getattr(contract, "contract", contract)
    return rows_of(text) if "->" in text else text


def row_values(array: np.ndarray, channel: int | None = None) -> np.ndarray:
    """One float64 a row, the root mean square of its values or its value in a channel: n ... -> n."""
    if np.ndim(array) == 1:
        return np.asarray(array).astype(np.float64)
    flat = np.asarray(array).astype(np.float64).reshape(len(array), -1)       # n ... -> n d
    if channel is None:
        return np.sqrt((flat * flat).mean(axis=1))
    if not -flat.shape[1] <= channel < flat.shape[1]:
        raise ArgumentError(f"there is no channel {channel}: a row has {flat.shape[1]} values")
    return flat[:, channel]


def on_grid(values: np.ndarray, places: np.ndarray, patch_places: np.ndarray, medium: int = 0
            ) -> np.ndarray:
    """Values of rows over the patches behind them: n -> t gh gw, NaN where no row stands for a patch.

    places: (n, 4) or (n, 4, 4) from provenance; patch_places: its "p", which says how large the grid is.
    """
    if len(values) != len(places):
        raise ArgumentError(f"{len(values)} rows, but provenance places {len(places)} of them")
    own = patch_places[patch_places[:, 0] == medium]
    if not len(own):
        raise ArgumentError(f"there is no picture {medium} in these rows")
    maps = np.full(own[:, 1:].max(axis=0) + 1, np.nan)
    spread = places.reshape(len(places), -1, 4)                               # n 4 or n 4 4 -> n k 4
    for value, four in zip(values, spread, strict=True):
        here = four[four[:, 0] == medium]
        maps[here[:, 1], here[:, 2], here[:, 3]] = value
    return maps


def attention(q: np.ndarray, k: np.ndarray, segments: np.ndarray, row: int, contract: Any,
              at: dict[str, np.ndarray], ax: Any = None, *, causal: bool = False,
              head: int | None = None, **options: Any) -> Any:
    """What one row looks at: its attention weights on the picture, of one head or the mean of all.

    q (n, a, e) and k (r, k, e) as `rotate` gives them; contract: the letter of the rows of k ("w" in the
    tower, "s" in a decoder's prefill, there with causal=True). Further options are those of `rows`.
    """
    weights = attention_weights(q, k, segments, row, causal)                  # a r
    chosen = weights.mean(axis=0) if head is None else weights[head]
    label = "attention, mean of heads" if head is None else f"attention of head {head}"
    ax = rows(chosen, contract, at, ax, **{"label": label, **options})
    ax.set_title(f"what row {row} looks at", size=9)
    return ax


def attention_weights(q: np.ndarray, k: np.ndarray, segments: np.ndarray, row: int, causal: bool = False
                      ) -> np.ndarray:
    """Softmax weights (a, r) of query `row` over all keys, float64; 0 outside of its segment."""
    own = [segment for segment in np.asarray(segments).tolist() if segment[0] <= row < segment[1]]
    if not own:
        raise OutOfRange(f"row {row} is in no segment")
    _, q1, k0, k1 = own[0]
    seen = k1 - (q1 - 1 - row) if causal else k1                         # the last query sees all keys
    query, keys = q[row].astype(np.float64), k[k0:seen].astype(np.float64)
    group = q.shape[1] // k.shape[1]                                     # query heads for each kv head
    out = np.zeros((q.shape[1], len(k)))
    for head in range(q.shape[1]):                                       # 1 e, m e -> 1 m
        out[head, k0:seen] = softmax_weights(query[None, head], keys[:, head // group], False)
    return out


def _underlay(ax: Any, frames: np.ndarray, maps: np.ndarray) -> None:
    """The picture in grey below the maps, in units of patches."""
    size = frames.shape[1] // maps.shape[1]
    for n, pixels in enumerate(frames):
        left = n * (maps.shape[2] + 1) - 0.5
        extent = (left, left + pixels.shape[1] / size, pixels.shape[0] / size - 0.5, -0.5)
        ax.imshow(pixels.mean(axis=2), cmap="gray", vmin=0, vmax=255, extent=extent)


def _side_by_side(maps: np.ndarray) -> np.ndarray:
    """Maps with one empty column between: (t, gh, gw) -> (gh, t (gw + 1) - 1)."""
    wide = np.pad(maps, ((0, 0), (0, 0), (0, 1)), constant_values=np.nan)
    return wide.swapaxes(0, 1).reshape(maps.shape[1], -1)[:, :-1]
