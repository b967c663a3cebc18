"""What a run costs, pass by pass, without weights: shapes, parameters, operations, bytes, cache, memory.

    found = costs(official_config("72B"), OFFICIAL_PICTURES, sizes=[(720, 1280)], new_tokens=200)
    found.prefill[0].flops, found.cache_bytes, found.peak_bytes

The program itself is run by the interpreter that computes nothing (`kernels/shapes.py`), so these are
not estimates of a formula: every pass that a real run enters is entered, with its real shapes. Two
decoding steps are run, the first and the last; what lies between grows in equal steps, since only
attention looks at what came before.

Not here: seconds. Read next: `door/listing.py` (a run as rows), `kernels/shapes.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..checkpoint.names import blank_tensors, build
from ..checkpoint.tree import Model
from ..config import ModelConfig, PreprocessorConfig
from ..door.contract import outputs
from ..door.listing import BLOCK
from ..door.stage import Session, running
from ..door.visit import Visit, Watcher
from ..kernels import interpreter
from ..kernels.stored import stored_as
from ..model import prefill, step
from ..passes.patches import grid_of
from ..passes.picture import target_size
from .cache import KVCache
from .inputs import Batch, Inputs

BY_ROWS = "decoder.embed_tokens"     # the pass whose weight is not read as a whole
TEXT_TOKENS = 32                   # of the official system prompt, the turns' frame and a short question


class Cost(NamedTuple):
    """One pass, or all of its runs in the blocks of a part."""
    label: str
    contract: str
    shapes: tuple[tuple[int, ...], ...]      # of what comes out, in the first run
    runs: int
    parameters: int
    flops: int                               # a multiply-add is two
    moved: int                               # bytes read and written: weights as stored, inputs, outputs
    held: int                        # bytes of inputs and outputs of one run: what must be there at once


@dataclass(frozen=True)
class Costs:
    """prefill: passes of the prompt; first, last: of the first and of the last step after it.

    N new tokens take N - 1 steps: the prompt itself gives the scores of the first one.
    """
    tokens: int                              # of the prompt
    visual_tokens: int
    new_tokens: int
    prefill: list[Cost]
    first: list[Cost]
    last: list[Cost]
    parameters: int                          # of the whole model, a tied table once
    weight_bytes: int
    cache: str                               # the type that keys and values are stored in
    cache_bytes: int
    chunk: int | None                        # rows of the prompt that run at a time; None: all

    @property
    def prefill_flops(self) -> int:
        """Operations of the prompt."""
        return sum(row.flops for row in self.prefill)

    @property
    def decode_flops(self) -> int:
        """Operations of all steps: the first and the last, and those between, which grow in equal
        amounts."""
        ends = sum(row.flops for row in [*self.first, *self.last])
        return ends * (self.new_tokens - 1) // 2

    @property
    def peak_bytes(self) -> int:
        """At least: weights, cache, and what goes in and out of the widest pass. What a kernel holds
        meanwhile is its own: the definitions widen a whole matrix to float32 while they multiply."""
        return self.weight_bytes + self.cache_bytes + max(row.held for row in self.prefill)


def costs(config: ModelConfig, pictures: PreprocessorConfig, sizes: Sequence[tuple[int, int]] = (),
          text_tokens: int = TEXT_TOKENS, new_tokens: int = 1,
          precision: np.dtype | None = None, model: Model | None = None, stored: str | None = None,
          chunk: int | None = None) -> Costs:
    """Costs of a prompt with pictures of these sizes (height, width in pixels) and of new_tokens after
    it.

    precision: of activations. model: whose weights count as they are stored; without one they
        count as bf16, as every release stores them. stored: the type of the cache; that of the
        activations unless said. chunk: rows of the prompt that run at a time.
    Raises PictureError for a size that the model does not take, ArgumentError for another type.
    """
    dtype = np.dtype(np.float32) if precision is None else precision
    model = model or build(blank_tensors(config), config, dtype)
    inputs = prompt_of(config, pictures, sizes, text_tokens)
    batch = Batch.of([inputs], config, dtype)
    kind = stored_as(stored, dtype)
    cache = KVCache(config.text, batch.lengths + new_tokens, kind, interpreter("shapes").zeros)
    rows = followed(lambda: prefill(batch, cache, model, chunk))
    going, place = np.ones(1, bool), inputs.position_ids[:, -1:] + 1                          # 1, 3 1
    token = batch.followed_by(np.zeros(1, np.int64), place, going)
    steps = new_tokens - 1
    first = followed(lambda: step(token, token.no_features, cache, model)) if steps else []
    cache.lengths = batch.lengths + steps - 1            # what is stored before the last step
    last = followed(lambda: step(token, token.no_features, cache, model)) if steps else []
    cells = len(inputs.patches) // config.vision.spatial_merge_size ** 2
    weights = distinct(model)
    return Costs(len(inputs.input_ids), cells, new_tokens, rows, first, last, sum(map(numbers, weights)),
                 sum(map(stored_bytes, weights)), kind.name, cache.nbytes, chunk)


def prompt_of(config: ModelConfig, pictures: PreprocessorConfig, sizes: Sequence[tuple[int, int]],
              text_tokens: int) -> Inputs:
    """A prompt of blank pictures between the marks of the model, and so many tokens of text."""
    from ..kernels.shapes import blank
    merge, ids, grids = config.vision.spatial_merge_size, [0] * (text_tokens // 2), []
    for size in sizes:
        height, width = target_size(size, pictures).tolist()
        grids.append(grid_of((1, 3, height, width), pictures))                               # 3: t h w
        cells = int(grids[-1].prod()) // merge**2
        ids += [config.vision_start_token_id, *[config.image_token_id] * cells,
                config.vision_end_token_id]
    ids += [0] * (text_tokens - text_tokens // 2)
    if not grids:
        return Inputs.from_ids(ids, config)
    patches = sum(int(grid.prod()) for grid in grids)
    return Inputs.from_ids(ids, config, blank(patches, config.vision.patch_values), np.stack(grids))


def followed(run: Callable[[], Any]) -> list[Cost]:
    """The passes of a run, those of a kind in all blocks as one row, in order of execution."""
    found: dict[str, Cost] = {}
    with Session(quiet=True) as session, running(interpreter("shapes")):
        session.watchers.append(adding(found))
        run()
    return list(found.values())


def adding(found: dict[str, Cost]) -> Watcher:
    """A watcher that adds each leaf to the row of its kind."""
    def look(visit: Visit) -> None:
        label, new = BLOCK.sub(r".\1.*.", visit.label), cost_of(visit)
        old = found.get(label)
        found[label] = new._replace(label=label) if old is None else old._replace(
            runs=old.runs + 1, parameters=old.parameters + new.parameters, flops=old.flops + new.flops,
            moved=old.moved + new.moved, held=max(old.held, new.held))
    return look


def cost_of(visit: Visit) -> Cost:
    """The cost of one run of a leaf."""
    arrays, weights = outputs(visit.output), list(weights_in(visit.args))
    held = sum(size_of(array) for array in (*arrays, *arrays_in(visit.args)))
    # a table of embeddings is not read as a whole: as many rows of it as there are tokens
    rows = len(arrays[0]) if visit.label == BY_ROWS else None
    read = sum(stored_bytes(one) if rows is None else stored_bytes(one) // one.shape[0] * rows
               for one in weights)
    return Cost(visit.label, visit.door.contract, tuple(tuple(a.shape) for a in arrays), 1,
                sum(numbers(one) for one in weights), visit.flops, held + read, held)


def numbers(thing: Any) -> int:
    """How many numbers an array or a weight has."""
    return int(np.prod(thing.shape, dtype=np.int64))


def size_of(array: Any) -> int:
    """Bytes of an array as it stands in memory, written out."""
    return numbers(array) * int(array.dtype.itemsize)


def arrays_in(args: Any) -> Iterator[Any]:
    """Every array of a stage's arguments, in tuples as well."""
    for value in args if isinstance(args, tuple) else ():
        if hasattr(value, "dtype") and hasattr(value, "shape"):
            yield value
        elif isinstance(value, tuple) and not weights_of(value):
            yield from arrays_in(value)


def weights_in(args: Any) -> Iterator[Any]:
    """Every weight of a stage's arguments, each once."""
    for value in args if isinstance(args, tuple) else ():
        yield from weights_of(value)


def weights_of(value: Any) -> list[Any]:
    """The weights of a branch of the model's tree: a `Linear`, an `MLP`, ...; none for anything else."""
    if hasattr(value, "dense") and hasattr(value, "format"):
        return [value]
    return [one for part in value for one in weights_of(part)] if isinstance(value, tuple) else []


def stored_bytes(weight: Any) -> int:
    """What a weight takes where it is stored: tiles, blocks of a .gguf file and AWQ's three tensors say it
    themselves, others by the type of their numbers."""
    if hasattr(weight, "nbytes"):
        return int(weight.nbytes)
    if (parts := getattr(weight, "parts", None)) is not None:
        return sum(map(stored_bytes, parts))
    if (inner := getattr(weight, "weight", None)) is not None:           # in another order, or a share of it
        return stored_bytes(inner) * numbers(weight) // numbers(inner)
    return numbers(weight) * {"bf16": 2, "f16": 2, "f32": 4, "f64": 8}[weight.format]


def distinct(model: Model) -> list[Any]:
    """All weights of a model; a tied table counts once."""
    return list({id(one): one for one in weights_of(model)}.values())
