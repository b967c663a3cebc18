"""Relatives of the museum's exhibits: the same mistakes with other parameters and in other passes, for
diagnosis, which looks for a mechanism and not for an incident's numbers.

    for one in relatives(vlm.config): one.name, one.says, one.table()

    relative.py     what a relative is               looking.py      attention
    numbers.py      norms, activations, biases       order.py        windows, gathers, positions, angles

Read next: `truth/diagnose/rank.py`, which tries them.
"""

from __future__ import annotations

from ....config import ModelConfig
from .looking import buckets, heads, softmaxes
from .numbers import activations, biases, norms, rotations
from .order import angles, full_blocks, gathers, patches, positions, window_sizes
from .relative import Relative, relative

FAMILIES = (patches, positions, full_blocks, window_sizes, angles, gathers, norms, activations, biases,
            rotations, buckets, heads, softmaxes)

__all__ = ["Relative", "relative", "relatives"]


def relatives(config: ModelConfig) -> list[Relative]:
    """All that a model of these dimensions can have."""
    return [one for family in FAMILIES for one in family(config)]
