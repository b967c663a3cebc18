"""Text: pieces, tokens, a number for each of them, and the likeliest next ones.

Read next: `sizes.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...door.errors import ArgumentError
from ...door.stage import unwatched
from ...kernels.definition import log_softmax
from . import axes
from .axes import BLUE, INK, ORANGE


def pieces(lines: Sequence[Sequence[str]], ax: Any = None, names: Sequence[str] = ()) -> Any:
    """A text cut into pieces, once on each line: boxes as wide as their pieces are long.

    lines: a list of pieces for each line, such as the steps of joining bytes; names: one a line.
    """
    ax = axes.or_new(ax)
    for number, line in enumerate(lines):
        left = 0
        for piece in line:
            right, colour = left + len(piece), BLUE if len(piece) > 1 else "#bbbbbb"
            axes.block(ax, left, right, number - 0.38, number + 0.38, colour, alpha=0.3, edgecolor=INK,
                       lw=0.8)
            ax.text((left + right) / 2, number, no_formula(readable(piece)), ha="center", va="center",
                    size=8, family="monospace")
            left = right
    ax.set_xlim(-0.2, max((sum(map(len, line)) for line in lines), default=1) + 0.2)
    ax.set_ylim(len(lines) - 0.5, -0.5)
    ax.set_xticks([])
    ax.set_yticks(range(len(names)), names, size=8)
    axes.without_frame(ax)
    return ax


def tokens(ids: np.ndarray, tokenizer: Any, pads: Sequence[int] = (), ax: Any = None, *,
           across: int = 14) -> Any:
    """A sequence of ids (s,) as boxes in reading order, `across` to a line, with their texts and rows.

    Text is blue, special tokens are grey, and the placeholders (`pads`) orange, with the number of the
    visual token that takes their row.
    """
    ids = np.asarray(ids)
    is_pad = np.isin(ids, np.asarray(pads, np.int64))
    number = np.cumsum(is_pad) - 1
    ax = axes.or_new(ax)
    for row, token in enumerate(ids.tolist()):
        x, y = row % across, row // across
        colour = ORANGE if is_pad[row] else "#999999" if token in tokenizer.special_ids else BLUE
        axes.block(ax, x, x + 0.94, y, y + 0.8, colour, alpha=0.3, lw=0)
        name = f"visual\n{number[row]}" if is_pad[row] else _folded(token_name(tokenizer, token))
        ax.text(x + 0.47, y + 0.46, name, ha="center", va="center", size=8, family="monospace")
        ax.text(x + 0.03, y + 0.03, str(row), ha="left", va="top", size=8, color=INK)
    ax.set_xlim(-0.1, across + 0.04)
    ax.set_ylim(-(-len(ids) // across), -0.1)
    ax.set_axis_off()
    ax.set_title(f"{len(ids)} tokens, {is_pad.sum()} of them placeholders", size=9)
    return ax


def _folded(name: str, width: int = 9) -> str:
    """A long name on two lines, cut at an underscore where there is one."""
    if len(name) <= width:
        return name
    cut = name.find("_") + 1 or len(name) // 2
    return f"{name[:cut]}\n{name[cut:]}"


def token_bars(names: Sequence[str], values: np.ndarray, counted: np.ndarray | None = None,
               ax: Any = None, *, label: str = "value") -> Any:
    """One number (s,) for each token, as bars over their texts; pale where `counted` (s,) is False.

    names: what `token_name` gives, one for each value. Raises ArgumentError when the lengths differ.
    """
    values = np.asarray(values).astype(np.float64)
    kept = np.ones(len(values), bool) if counted is None else np.asarray(counted, bool)
    if not len(names) == len(values) == len(kept):
        raise ArgumentError(f"{len(names)} names, {len(values)} values and a mask of {len(kept)}: "
                            "give one of each for each token")
    ax = axes.or_new(ax)
    ax.bar(np.flatnonzero(~kept), values[~kept], color=INK, alpha=0.15, width=0.85)
    ax.bar(np.flatnonzero(kept), values[kept], color=BLUE, width=0.85)
    count = f"{len(kept)} tokens" if counted is None else f"{kept.sum()} of {len(kept)} tokens count"
    axes.dress(ax, count, "", label)
    ax.set_xticks(range(len(names)), names, rotation=90, size=8, family="monospace")
    ax.margins(x=0.01)
    return ax


def logits(row: np.ndarray, tokenizer: Any, k: int = 8, ax: Any = None) -> Any:
    """The k likeliest next tokens of one row of logits (v,), as bars of probability, logarithmic."""
    ax = axes.or_new(ax)
    ids, chances = top_tokens(row, k)
    names = [token_name(tokenizer, token) for token in ids]
    colours = [ORANGE] + [BLUE] * (len(ids) - 1)
    bars = ax.barh(range(len(ids)), chances, color=colours, height=0.72)
    ax.bar_label(bars, [f"{100 * p:.3g} %" if p >= 1e-5 else "" for p in chances], size=8, padding=3)
    ax.set_yticks(range(len(ids)), names, size=8, family="monospace")
    ax.set_xscale("log")
    ax.set_xlim(1e-6, 20)                                 # room for the label of a sure token
    ax.set_xticks([1e-6, 1e-4, 1e-2, 1])
    ax.invert_yaxis()
    axes.without_frame(ax, "top", "right")
    axes.dress(ax, f"the {len(ids)} likeliest next tokens", "probability")
    ax.tick_params(axis="y", labelsize=8)
    return ax


def top_tokens(row: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Ids and probabilities of the k likeliest tokens, likeliest first; of equals the lower id first."""
    row = np.asarray(row).astype(np.float64)
    if row.ndim != 1 or not len(row):
        raise ArgumentError(f"give one row of logits, (v,), not {list(row.shape)}: "
                            "logits[-1] is the last token's")
    ids = np.argsort(-row, kind="stable")[:k]
    with unwatched():
        return ids, np.exp(log_softmax(row))[ids]


def token_name(tokenizer: Any, token: int) -> str:
    """A token as it can be read in a plot: see `token_text`; a dollar starts no formula."""
    return no_formula(token_text(tokenizer, token))


def token_text(tokenizer: Any, token: int) -> str:
    """A token by itself: its text with visible spaces and line ends, or `#` and its id where it has none.

    A token may hold part of a character. Such bytes stand there by their number, `<0xE2>`.
    """
    try:
        text = _whole_or_bytes(tokenizer, int(token))
    except (ValueError, IndexError, KeyError):
        text = ""
    return "".join(_by_number(c) or readable(c) for c in text) or f"#{int(token)}"


def _whole_or_bytes(tokenizer: Any, token: int) -> str:
    """The text of a token; each byte that belongs to no whole character is a lone surrogate."""
    of_bytes = getattr(tokenizer, "decode_whole", True) is None    # what has only `decode` will do as well
    if of_bytes:
        return tokenizer.bytes_of(token).decode("utf-8", errors="surrogateescape")
    return tokenizer.decode([token], skip_special_tokens=False)


def _by_number(character: str) -> str:
    """`<0xE2>` for a byte that `surrogateescape` kept, nothing for a character."""
    byte = ord(character) - 0xDC00
    return f"<0x{byte:02X}>" if 0x80 <= byte <= 0xFF else ""


def readable(text: str) -> str:
    """The text with spaces and line ends that can be seen."""
    shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    return shown.replace(" ", "\N{OPEN BOX}")


def no_formula(text: str) -> str:
    """The text for matplotlib, where a dollar would start a formula."""
    return text.replace("$", r"\$")
