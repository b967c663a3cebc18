"""What the tower knows of writing, and what the decoder says of it: the two can be stuck in different places.

The tower's head for characters says how many slots of a cell are told apart; the decoder, given the true characters of
an answer up to each one, how many it says right. Where the first is high and the second low, more training of the tower
does not help: it was so with forms and tables, whose digits the decoder guessed.

Read next: `looking.py`, the look at all kinds of samples while training.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from . import fused
from .going_on import averaged, network_of
from .layout import lay
from .network import Lean, config_for, fill, new_model
from .packing import Packer, Sample
from .targets import GLYPH_COUNT, UNASKED
from .tasks import invoice_sample, number_sample, table_sample, word_sample
from .tokens import load_tokenizer
from .world import Rng

SMALL, BATCH = 20, 16                                     # pixels; samples at a time


class Read(NamedTuple):
    """Shares. asked: of the characters that answers read, those that are a target of the tower in at least one slot.
    Right are, slots: of written slots, by the tower's head; characters: of those that answers read, by the decoder;
    answers: of whole ones."""
    kind: str
    asked: float
    slots: float
    characters: float
    answers: float

    def __str__(self) -> str:
        return (f"{self.kind:24} asked {self.asked:6.1%}   tower {self.slots:6.1%} of slots   "
                f"decoder {self.characters:6.1%} of characters "
                f"{self.answers:6.1%} of answers")


def _height(sample: Sample) -> int:
    (thing,) = sample.clips[0].things
    return thing.box[3] - thing.box[1]


KINDS: dict[str, tuple[Callable[[Rng], Sample], Callable[[Sample], bool]]] = {
    "form": (invoice_sample, lambda sample: True), "table": (table_sample, lambda sample: True),
    **{f"{name}, {size}": (draw, lambda sample, small=small: (_height(sample) < SMALL) == small)
       for name, draw in (("number", number_sample), ("word", word_sample))
       for size, small in ((f"below {SMALL} pixels", True), ("larger", False))}}


def load(weights: Path) -> Lean:
    """A network from a phase's weights.pt or checkpoint.pt (its average), or from a kept state's .safetensors."""
    if weights.suffix == ".safetensors":
        return network_of(weights)
    lean = Lean(new_model(config_for(load_tokenizer()), 0))
    kept = weights.name == "checkpoint.pt"
    fill(lean, averaged(weights) if kept else torch.load(weights, weights_only=True), weights)
    return lean


def measure(lean: Lean, samples: int, seed: int = 77) -> Iterator[Read]:
    """A row for each kind, of so many held-out samples."""
    packer = Packer(load_tokenizer())
    for kind, (draw, fits) in KINDS.items():
        rng, found = np.random.default_rng([seed + 10**6]), list[Sample]()
        while len(found) < samples:
            sample = draw(rng)
            if fits(sample):
                found.append(Sample(sample.clips, sample.turns[:1]))
        parts = [_right(lean, packer, found[i:i + BATCH]) for i in range(0, samples, BATCH)]
        yield Read(kind, *(np.concatenate(column).mean() for column in zip(*parts, strict=True)))


@torch.no_grad()
def _right(lean: Lean, packer: Packer, samples: list[Sample]) -> tuple[np.ndarray, ...]:
    """Four arrays of bool: is each character that is read a target of the tower; is each written slot right, each
    character that is read, each answer."""
    b = fused.tensors(lay([packer.pack(sample) for sample in samples]), lean)
    features = fused.see(lean, b)
    truth = b["glyph"].reshape(-1)
    said = lean.heads["glyph"](features[:len(b["glyph"])]).view(-1, GLYPH_COUNT).argmax(dim=1)
    written = (truth > 0) & (truth != UNASKED)
    right = (fused.read(lean, b, features)[0].argmax(dim=1)[:len(b["target"])] == b["target"]).numpy()
    read = np.concatenate([packer.said(turn)[1] for sample in samples for turn in sample.turns]) > 0
    answers = [right[b["answer"].numpy() == i].all() for i in range(len(samples))]
    things, spots = (b[name][:len(read)].numpy()[read] for name in ("sought", "spot"))
    known = set(zip(b["written_on"].reshape(-1).tolist(), b["place"].reshape(-1).tolist(), strict=True))
    asked = [one in known for one in zip(things[:, 0].tolist(), spots.tolist(), strict=True)]
    return np.array(asked), (said == truth)[written].numpy(), right[read], np.array(answers)
