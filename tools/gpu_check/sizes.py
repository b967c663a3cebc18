"""How big everything is that is checked and measured: as on a card, and small enough for the processor.

Read next: `checkpoint.py`, random weights of these shapes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from minivl import load
from minivl.config import ModelConfig, official_config


class Sizes(NamedTuple):
    """config: the model whose kernels and steps are measured. parity: one of its widths and few layers, for comparison
    with float64. rows: of a prompt; cached: tokens in the cache while decoding; picture: patches down and across;
    tokens: that are decoded by the clock; copied: bytes of the copy that shows the bandwidth; side: of the square
    product that shows the FLOP/s; seconds: that one measurement may take"""

    config: ModelConfig
    parity: ModelConfig
    rows: int
    cached: int
    picture: tuple[int, int]
    tokens: int
    copied: int
    side: int
    seconds: float


def shallow(config: ModelConfig, layers: int = 2) -> ModelConfig:
    """The same widths with few layers: one block of the tower inside windows, one inside frames."""
    vision = replace(config.vision, depth=layers, fullatt_block_indexes=(layers - 1,))
    return replace(config, vision=vision, text=replace(config.text, num_hidden_layers=layers))


def on_a_card() -> Sizes:
    """The released 3B."""
    config = official_config("3B")
    return Sizes(config, shallow(config), 1024, 2048, (16, 16), 64, 2**30, 8192, 0.3)


def on_the_processor() -> Sizes:
    """The embedded model's shapes: the whole way, with numbers that mean nothing."""
    config = load().config
    return Sizes(config, shallow(config), 24, 40, (4, 4), 2, 2**14, 32, 0.0)
