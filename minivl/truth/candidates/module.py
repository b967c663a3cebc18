"""A torch module tree with the reference's names as a candidate: hooks take values out and put golden
ones in.

    candidate = Module(model)                          # transformers' class, or a copy of it
    candidate = Module(model, forward=my_forward)  # (model, inputs) -> logits, (1, s, v) or (s, v)

A value can be put in only where everything behind it comes from it: at what a module hands on, not at
a residual stream that the block has kept for itself. `PLACES` lists them. Torch is not imported: who
has a module has it.

Read next: `truth/trace/names.py`, the places at which a tree can be listened to; `runnable.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from inspect import signature
from typing import Any, NamedTuple

import numpy as np

from ..trace.names import matches
from ..trace.torch_recorder import array_of, hook
from .runnable import LOGITS, CandidateError, Value, Values

Forward = Callable[[Any, Mapping[str, np.ndarray]], Any]


class Place(NamedTuple):
    """A module's output (`after`) or its first input, and the stage whose value it is."""
    after: bool
    label: str


PLACES: dict[str, Place] = {
    "visual.patch_embed": Place(True, "vision.embed_patches"),
    "visual.blocks.0": Place(False, "vision.order_by_window"),
    "visual.blocks.*.norm1": Place(True, "vision.blocks.*.normalise"),
    "visual.blocks.*.attn.proj": Place(False, "vision.blocks.*.attend"),
    "visual.blocks.*": Place(True, "vision.blocks.*.add_mlp"),
    "visual.merger": Place(True, "vision.merge_2x2"),
    "embed_tokens": Place(True, "decoder.embed_tokens"),
    "layers.0": Place(False, "decoder.place_features"),
    "layers.*.input_layernorm": Place(True, "decoder.layers.*.normalise"),
    "layers.*.self_attn.o_proj": Place(False, "decoder.layers.*.attend"),
    "layers.*": Place(True, "decoder.layers.*.add_mlp"),
    "language_model.norm": Place(True, "decoder.normalise"),
    "model.norm": Place(True, "decoder.normalise"),        # before transformers had a `language_model`
}


class Module:
    """A torch module as a candidate. `.precision` is the type of its parameters."""

    def __init__(self, model: Any, forward: Forward | None = None):
        self.model, self.forward = model, forward or as_transformers
        self.precision = str(next(model.parameters()).dtype).rpartition(".")[2]
        self.found = dict(places_of(name for name, _ in model.named_modules()))
        if not self.found:
            raise CandidateError(f"{type(model).__name__}: none of its modules has a name of the "
                                 "reference's tree (visual.blocks.0, layers.0, ...); write a "
                                 "candidate of your own, or rename them")

    def cuts(self) -> list[str]:
        """The labels of all places that the tree has."""
        return list(self.found)

    def run(self, inputs: Mapping[str, np.ndarray], given: Values) -> dict[str, Value]:
        """One forward pass: its logits, and its own value at every place."""
        torch = sys.modules["torch"]                              # there, or there would be no module
        own: dict[str, Value] = {}
        with ExitStack() as stack, torch.inference_mode():
            for label, (name, place) in self.found.items():
                see = partial(self._see, own, label, given.get(label))
                stack.callback(hook(self.model.get_submodule(name), place.after, see).remove)
            logits = array_of(self.forward(self.model, inputs))
        return {**own, LOGITS: logits[0] if logits.ndim == 3 else logits}

    def _see(self, own: dict[str, Value], label: str, value: Value | None, tensor: Any) -> Any:
        """Keep a tensor under its label; the value that goes on in its place, if one is given."""
        own[label] = taken(label, tensor)
        return None if value is None else placed(value, tensor)


def places_of(modules: Any) -> Iterator[tuple[str, tuple[str, Place]]]:
    """(label, (module, place)) for every place of a tree."""
    for name, number, place in matches(modules, PLACES):
        label = place.label.replace("*", number)
        yield label, (name, place._replace(label=label))


def taken(label: str, tensor: Any) -> np.ndarray:
    """A tensor in minivl's shape but for heads side by side: rows first, no batch axis."""
    array = array_of(tensor)
    return array[0] if label.startswith("decoder.") and array.ndim > 2 else array


def placed(value: Value, like: Any) -> Any:
    """A golden array in the shape and type of the tensor that it stands in for."""
    assert isinstance(value, np.ndarray)
    return like.new_tensor(value).reshape(like.shape)


def as_transformers(model: Any, inputs: Mapping[str, np.ndarray]) -> Any:
    """transformers' way to be called, in any version: it is given what its forward takes, positions
    included."""
    blank = next(model.parameters()).new_empty(0)                 # makes tensors on the model's device
    kinds = {"i": blank.long(), "f": blank.float()}
    given = {name: kinds[array.dtype.kind].new_tensor(array) for name, array in inputs.items()
             if len(array)}
    ids, config = given.pop("input_ids")[None], model.config
    given["position_ids"] = given["position_ids"][:, None]                               # 3 s -> 3 1 s
    given["attention_mask"] = 0 * ids + 1
    given["mm_token_type_ids"] = (1 * (ids == config.image_token_id) + 2 *
                                  (ids == config.video_token_id))
    known = signature(model.forward).parameters
    return model(input_ids=ids, use_cache=False, **{k: v for k, v in given.items() if k in known}).logits
