"""Which module of a PyTorch tree is which stage: one table, for the reference and for every port that
kept its names.

    for name, tap in taps_of(name for name, _ in model.named_modules()): ...

Data only: nothing is imported. Read next: `oracle.py` and `torch_recorder.py`, which listen at these
places.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple


class Tap(NamedTuple):
    """A place to listen at: a module's output (`after`) or what goes into it, and the stage that this
    is.

    part: which array of the stage's three, where queries, keys and values have a module each.
    """
    after: bool
    label: str
    part: int | None = None

    @property
    def array(self) -> str:
        """The array's name in a trace: the label, with the part where there are several."""
        return self.label if self.part is None else f"{self.label}:{self.part}"


BLOCK, LAYER = "visual.blocks.*.", "layers.*."
AT, IN = "vision.blocks.*.", "decoder.layers.*."
NORM = (Tap(False, "decoder.select_rows"), Tap(True, "decoder.normalise"))
TAPS: dict[str, tuple[Tap, ...]] = {
    "visual.patch_embed": (Tap(True, "vision.embed_patches"),),
    "visual.blocks.0.norm1": (Tap(False, "vision.order_by_window"),),
    BLOCK + "norm1": (Tap(True, AT + "normalise"),),
    BLOCK + "attn.qkv": (Tap(True, AT + "project_qkv"),),
    BLOCK + "attn.proj": (Tap(False, AT + "attend"),),
    BLOCK + "norm2": (Tap(False, AT + "add_attended"),),
    "visual.blocks.*": (Tap(True, AT + "add_mlp"),),
    "visual.merger": (Tap(True, "vision.merge_2x2"),),
    "embed_tokens": (Tap(True, "decoder.embed_tokens"),),
    "layers.0.input_layernorm": (Tap(False, "decoder.place_features"),),
    LAYER + "input_layernorm": (Tap(True, IN + "normalise"),),
    LAYER + "self_attn.q_proj": (Tap(True, IN + "project_qkv", 0),),
    LAYER + "self_attn.k_proj": (Tap(True, IN + "project_qkv", 1),),
    LAYER + "self_attn.v_proj": (Tap(True, IN + "project_qkv", 2),),
    LAYER + "self_attn.o_proj": (Tap(False, IN + "attend"),),
    LAYER + "post_attention_layernorm": (Tap(False, IN + "add_attended"),),
    "layers.*": (Tap(True, IN + "add_mlp"),),
    "language_model.norm": NORM,
    "model.norm": NORM,                                   # before transformers had a `language_model`
    "lm_head": (Tap(True, "decoder.logits"),),
}


def taps_of(modules: Iterable[str]) -> Iterator[tuple[str, Tap]]:
    """Every module of a tree at which there is something to listen to, with the tap; `*` is the
    block's number."""
    for name, number, taps in matches(modules, TAPS):
        yield from ((name, tap._replace(label=tap.label.replace("*", number))) for tap in taps)


def matches(modules: Iterable[str], table: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """(module, number of its block, entry) for every module whose name ends in a path of the table;
    `*` in a path is the number, and without one it is empty."""
    patterns = [(re.compile(r"(?:^|.*\.)" + re.escape(path).replace(r"\*", r"(\d+)")), entry)
                for path, entry in table.items()]
    for name in modules:
        for pattern, entry in patterns:
            if found := pattern.fullmatch(name):
                yield name, found[1] if found.groups() else "", entry
