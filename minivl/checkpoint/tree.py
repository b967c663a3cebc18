"""The tree of weights that the passes walk, and what a weight is to them.

A weight is whatever has the five members of `Weight`. How its numbers are kept (as the file has them,
joined from three tensors, packed for one machine, quantised, a rank's share) never shows in a pass:
only kernels look inside.

Not here: kinds of weights (`weight.py`) and names of tensors (`names.py`). Read next:
`kernels/definition.py`.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from ..config import ModelConfig, TextConfig, VisionConfig


@runtime_checkable
class Weight(Protocol):
    """A table of numbers. A protocol: a kind of weight needs no base class."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its sizes, known before a number is read."""

    @property
    def format(self) -> str:
        """How the numbers are kept: "bf16", "f16", "f32", "f64", ..."""

    def dense(self, dtype: Any) -> np.ndarray:
        """All of it as a model of precision `dtype` holds it: rounded once, to nearest even."""

    def rows(self, index: np.ndarray, dtype: Any) -> np.ndarray:
        """`dense(dtype)[index]`, reading only these rows: v d, n -> n d. Raises IndexError for a row
        that is not there; a negative one too, which NumPy would count from the end."""

    def fill(self, out: np.ndarray) -> None:
        """Write `dense(out.dtype)` into `out`."""


class Linear(NamedTuple):
    """y = x @ weight.T + bias; weight (out, in), bias (out) or None."""
    weight: Weight
    bias: Weight | None


class Norm(NamedTuple):
    """RMS norm: division by the root mean square, then times `weight` (d); `eps` is added to the mean
    square."""
    weight: Weight
    eps: float


class MLP(NamedTuple):
    """down(silu(gate(x)) * up(x)); gate_up holds gate above up: (2 inner, d)."""
    gate_up: Linear
    down: Linear


class Block(NamedTuple):
    """One transformer block, of vision and decoder alike. qkv holds q above k above v, each heads *
    width rows."""
    norm1: Norm
    qkv: Linear
    out: Linear
    norm2: Norm
    mlp: MLP
    config: VisionConfig | TextConfig


class Merger(NamedTuple):
    """2x2 patches to one visual token: norm over d, inner (4d, 4d), GELU, outer (o, 4d)."""
    norm: Norm
    inner: Linear
    outer: Linear


class Vision(NamedTuple):
    """The vision tower; patch_embed is (d, values of a patch) without bias. `dtype` is the precision
    it runs in."""
    patch_embed: Linear
    blocks: tuple[Block, ...]
    merger: Merger
    config: VisionConfig
    dtype: np.dtype


class Decoder(NamedTuple):
    """The language model; a tied head's weight is `embed` itself. `dtype` is the precision it runs
    in."""
    embed: Weight
    layers: tuple[Block, ...]
    norm: Norm
    head: Linear
    config: TextConfig
    dtype: np.dtype


class Model(NamedTuple):
    """All weights of the model, each in its place."""
    vision: Vision
    decoder: Decoder
    config: ModelConfig

    def in_precision(self, dtype: np.dtype) -> Model:
        """The same weights, not copied, to be run with activations of another type."""
        return self._replace(vision=self.vision._replace(dtype=dtype),
                             decoder=self.decoder._replace(dtype=dtype))
