"""Arrays as pictures: one function for each kind of array that a pass gives, drawn on an Axes.

    from minivl.show import plot
    plot.windows(pixels, grid, vlm.config).figure.savefig("windows.png")
    at = minivl.provenance(inputs, vlm.config)
    plot.rows(trace["vision.blocks.4.add_mlp"], "w", at, pixels=pixels)

Needs matplotlib, which is imported when the first figure is drawn. Not here: interactive pages, and any
judgement of an array. Read next: `axes.py`, then `pictures.py` and those that it names.
"""

from .axes import BLUE, COLOURS, GREEN, INK, MAGNITUDE, ORANGE, PAPER, SIGNED, board
from .geometry import angles, cell_positions, position_space, positions, segments, turned
from .pictures import GAP, found, patch_grid, patches, picture, windows
from .placed import attention, attention_weights, axis_letter, on_grid, row_values, rows
from .roofline import roofline
from .sizes import FIELDS, bits, bits_of, channels, costs, errors, stream
from .tables import cosines, differences, filters, heat, resize_weights, similarity, table
from .text import logits, pieces, token_bars, token_name, tokens, top_tokens

__all__ = ["BLUE", "COLOURS", "FIELDS", "GAP", "GREEN", "INK", "MAGNITUDE", "ORANGE", "PAPER",
           "SIGNED", "angles", "attention", "attention_weights", "axis_letter", "bits", "bits_of",
           "board", "cell_positions", "channels", "cosines", "costs", "differences", "errors",
           "filters", "found", "heat", "logits", "on_grid", "patch_grid", "patches", "picture",
           "pieces", "position_space", "positions", "resize_weights", "roofline", "row_values",
           "rows", "segments", "similarity", "stream", "table", "token_bars", "token_name", "tokens",
           "top_tokens", "turned", "windows"]
