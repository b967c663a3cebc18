"""How far two arrays are apart, row by row and as a whole. Everything in float64, row blocks at a time.

Two measures decide: the *error* ||candidate - golden|| / ||golden|| of a whole array, and the *worst
row*, the largest ||row difference|| / ||row||. The second is there because the first is an average:
one dead window among a hundred moves it by a tenth, and PCC and cosine, which go with the square of
it, hardly at all (see WHY_NOT_PCC).

Read next: `verdict.py`, which says what an error is worth.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...kernels.definition import log_softmax

WHY_NOT_PCC = ("PCC and cosine go with the square of the error and average over all rows: with 1 "
               "window of 100 all zeros both are still 0.995, so a threshold of 0.99 passes a picture "
               "with a hole in it.")
BLOCK = 1 << 20                # numbers widened to float64 at a time
SMALL = 0.1                    # a row is measured against at least this share of the median row's length


@dataclass(frozen=True)
class Measure:
    """One array against its golden value. `worst_row` is a row's number; shares are of all numbers."""
    error: float
    worst: float
    worst_row: int
    largest: float                    # largest absolute difference
    cosine: float
    pcc: float
    differing: float                  # share of numbers that are not the same
    finite: bool


def by_rows(array: np.ndarray, axis: int) -> np.ndarray:
    """An array as a table with one line for each of its rows: any shape -> n x."""
    moved = np.moveaxis(np.atleast_1d(array), axis, 0)
    return moved.reshape(len(moved), -1)


def row_norms(array: np.ndarray, axis: int) -> np.ndarray:
    """Length of every row, in float64: n."""
    return row_distances(array, None, axis)                                     # n ... -> n


def row_distances(candidate: np.ndarray, golden: np.ndarray | None, axis: int) -> np.ndarray:
    """Length of every row's difference, in float64: n. Without golden, of the row itself."""
    a = by_rows(candidate, axis)
    b = None if golden is None else by_rows(golden, axis)
    out = np.empty(len(a))
    for rows in _blocks(a):
        difference = a[rows].astype(np.float64)                       # n x: wide before it is subtracted
        if b is not None:
            difference -= b[rows].astype(np.float64)
        out[rows] = np.sqrt(np.einsum("nx,nx->n", difference, difference))      # n x -> n
    return out


def _blocks(table: np.ndarray) -> list[slice]:
    step = max(1, BLOCK // max(1, table.shape[1]))
    return [slice(start, start + step) for start in range(0, len(table), step)]


def row_leans(candidate: np.ndarray, ours: np.ndarray, axis: int) -> np.ndarray:
    """How many numbers of a row the candidate has larger than ours, less how many it has smaller, by
    size: n."""
    a, b = by_rows(candidate, axis), by_rows(ours, axis)
    out = np.empty(len(a))
    for rows in _blocks(a):
        x, y = np.abs(a[rows].astype(np.float64)), np.abs(b[rows].astype(np.float64))
        out[rows] = (x > y).sum(axis=1) - (x < y).sum(axis=1, dtype=np.int64)
    return out


def sigmas(leans: np.ndarray) -> float:
    """How sure it is that rows lean one way: their sum in standard deviations of rows that lean by
    chance."""
    spread = np.sqrt(np.square(leans).sum())                              # of n rows that lean by chance
    return float(leans.sum() / spread) if spread else 0.0


def relative(distances: np.ndarray, norms: np.ndarray) -> float:
    """The error of the whole array from the distances and lengths of its rows."""
    size, distance = np.linalg.norm(norms), np.linalg.norm(distances)
    return float(distance / size) if size else float("inf") if distance else 0.0


def relative_rows(distances: np.ndarray, norms: np.ndarray) -> np.ndarray:
    """The error of every row. A row that is nearly nothing is measured against SMALL of the median
    row."""
    least = SMALL * float(np.median(norms)) if len(norms) else 0.0
    size = np.maximum(norms, least)
    return np.divide(distances, size, out=np.where(distances > 0, np.inf, 0.0), where=size > 0)


def measure(candidate: np.ndarray, golden: np.ndarray, axis: int) -> Measure:
    """All measures of one array; both of one shape. What is not finite makes the error infinite."""
    distances, norms = row_distances(candidate, golden, axis), row_norms(golden, axis)  # n, n
    finite = bool(np.isfinite(distances).all())
    rows = np.nan_to_num(relative_rows(distances, norms), nan=np.inf, posinf=np.inf)
    a, b = by_rows(candidate, axis), by_rows(golden, axis)
    return Measure(relative(distances, norms) if finite else float("inf"), float(rows.max(initial=0.0)),
                   int(rows.argmax()) if len(rows) else 0, *_alike(a, b), finite)


def _alike(a: np.ndarray, b: np.ndarray) -> tuple[float, float, float, float]:
    """Largest difference, cosine, Pearson correlation and share of differing numbers of two tables."""
    sums, largest, differing = np.zeros(5), 0.0, 0              # of x, y, x x, y y, x y: PCC in one pass
    for rows in _blocks(a):
        x, y = a[rows].astype(np.float64), b[rows].astype(np.float64)
        with np.errstate(invalid="ignore"):
            sums += x.sum(), y.sum(), np.vdot(x, x), np.vdot(y, y), np.vdot(x, y)
            largest = max(largest, float(np.abs(x - y).max(initial=0.0)))
        with np.errstate(over="ignore"):                  # a golden value too large for float16
            differing += int((a[rows] != b[rows].astype(a.dtype)).sum())
    sx, sy, xx, yy, xy = map(float, sums)
    n = max(1, a.size)
    cosine = _ratio(xy, (xx * yy) ** 0.5)
    return largest, cosine, _ratio(xy - sx * sy / n, ((xx - sx * sx / n) *
                                                      (yy - sy * sy / n)) ** 0.5), differing / n


def _ratio(top: float, bottom: float) -> float:
    """top / bottom, and 1 where both are nothing: two arrays of zeros are alike."""
    if not bottom > 0:
        return 1.0 if abs(top) < 1e-300 else float("nan")
    return min(top / bottom, 1.0)                        # in this order NaN stays NaN


# ---- logits ------------------------------------------------------------------------------------

@dataclass(frozen=True)
class LogitsMeasure:
    """What a difference of the logits means for the words, over all rows (teacher forcing: the prompt
    is given)."""
    kl_mean: float                    # KL(golden || candidate) in nats
    kl_worst: float
    kl_worst_row: int
    top_overlap: float             # mean share of the golden's k best words among the candidate's k best
    k: int
    differing_rows: int               # rows with another best word
    first_differing_row: int | None
    margin: float | None              # golden's lead of its best word over the candidate's, in that row


def measure_logits(candidate: np.ndarray, golden: np.ndarray, k: int = 5) -> LogitsMeasure:
    """Logits s v against golden ones."""
    kl, overlap = np.zeros(len(golden)), np.zeros(len(golden))
    k = min(k, golden.shape[1])
    best = np.stack([candidate.argmax(axis=1), golden.argmax(axis=1)])
    for n, (x, y) in enumerate(zip(candidate, golden, strict=True)):  # a row of a big vocabulary a time
        p, q = (log_softmax(row[None].astype(np.float64))[0] for row in (y, x))      # v -> 1 v -> v
        kl[n] = np.sum(np.exp(p) * (p - q))
        overlap[n] = len(np.intersect1d(np.argpartition(-p, k - 1)[:k],
                                        np.argpartition(-q, k - 1)[:k])) / k
    other = np.flatnonzero(best[0] != best[1])
    first = int(other[0]) if len(other) else None
    lead = np.zeros(0) if first is None else golden[first, best[:, first]].astype(np.float64)         # 2
    margin = None if first is None else float(lead[1] - lead[0])
    kl = np.maximum(np.nan_to_num(kl, nan=np.inf, posinf=np.inf), 0)
    return LogitsMeasure(float(kl.mean()), float(kl.max()), int(kl.argmax()), float(overlap.mean()), k,
                         len(other), first, margin)
