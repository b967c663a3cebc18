"""Who has what: ranks in a grid of pipeline stages by shards of a matrix, and which layers lie on which
stage.

Rank r is shard r % tensor of stage r // tensor: ranks that must talk most are neighbours, on one
machine.

Read next: `machine.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from math import prod
from typing import NamedTuple

from ...checkpoint.names import place_shapes
from ...checkpoint.shares import check_divides
from ...config import ModelConfig
from ...door.errors import ArgumentError

LAYER = re.compile(r"decoder\.layers\.(\d+)\.")


class Cut(NamedTuple):
    """How many ranks share a matrix, and how many stages share the layers."""
    tensor: int = 1
    pipeline: int = 1

    @property
    def ranks(self) -> int:
        """All of them."""
        return self.tensor * self.pipeline

    def __str__(self) -> str:
        return f"tensor={self.tensor},pipeline={self.pipeline}"


class Seat(NamedTuple):
    """One rank's place in a cut. layers: first and last + 1 of the decoder's layers on its stage"""
    cut: Cut
    rank: int
    layers: tuple[int, int]

    @property
    def stage(self) -> int:
        return self.rank // self.cut.tensor

    @property
    def shard(self) -> int:
        return self.rank % self.cut.tensor

    @property
    def first(self) -> bool:
        """Whether it sees the picture and the words."""
        return self.stage == 0

    @property
    def last(self) -> bool:
        """Whether it makes the scores."""
        return self.stage == self.cut.pipeline - 1


def cut_from(text: str) -> Cut:
    """`"tensor=2,pipeline=2"` as a Cut; what is left out is 1. Raises ArgumentError for anything
    else."""
    found: dict[str, int] = {}
    for word in text.split(","):
        name, _, number = word.strip().partition("=")
        if name not in Cut._fields or name in found or not re.fullmatch(r"[1-9]\d{0,4}", number):
            raise ArgumentError("parallel must be such as tensor=2,pipeline=2, each a whole number from "
                                f"1 on, got {text!r}")
        found[name] = int(number)
    return Cut(**found)


def seats(config: ModelConfig, cut: Cut) -> list[Seat]:
    """Every rank's place. Raises ArgumentError, naming the sizes, for a model that cannot be cut so."""
    check_divides(config, cut.tensor)
    if cut.pipeline > config.text.num_hidden_layers:
        raise ArgumentError(f"pipeline={cut.pipeline} is more stages than the decoder has layers "
                            f"({config.text.num_hidden_layers}): give fewer")
    ranges = stages(config, cut.pipeline)
    return [Seat(cut, rank, ranges[rank // cut.tensor]) for rank in range(cut.ranks)]


def stages(config: ModelConfig, count: int) -> list[tuple[int, int]]:
    """The layers of each stage, so that all have about as many numbers: the first stage has the tower
    and the words as well, the last one the head. Each has a layer at least."""
    layer, first, last = numbers_of(config)
    layers, found, start = config.text.num_hidden_layers, list[tuple[int, int]](), 0
    for stage in range(count):
        behind = count - 1 - stage
        rest = first * (stage == 0) + layer * (layers - start) + last
        fair = round((rest / (behind + 1) - first * (stage == 0) - last * (behind == 0)) / layer)
        here = min(max(1, fair), layers - start - behind) if behind else layers - start
        found.append((start, start + here))
        start += here
    return found


def numbers_of(config: ModelConfig) -> tuple[int, int, int]:
    """Numbers of a layer, of what the first stage has beside its layers, and of what the last one
    has."""
    layer = first = last = 0
    for place, shape in place_shapes(config).items():
        if (found := LAYER.match(place)):
            layer += prod(shape) * (found[1] == "0")
        elif place in ("decoder.head", "decoder.norm"):
            last += prod(shape)
        else:
            first += prod(shape)
    if config.tie_word_embeddings:                     # the last stage has the words too
        last += config.text.vocab_size * config.text.hidden_size
    return layer, first, last


def here(seat: Seat, config: ModelConfig) -> Callable[[str], bool]:
    """Whether a place of the tree is on a rank's stage."""
    def found(place: str) -> bool:
        if layer := LAYER.match(place):
            return seat.layers[0] <= int(layer[1]) < seat.layers[1]
        if place == "decoder.norm":
            return True
        if place == "decoder.head":
            return seat.last
        tied = place == "decoder.embed" and config.tie_word_embeddings         # then the head, too
        return seat.first or (seat.last and tied)
    return found
