"""An interpreter that computes nothing runs the official 72B model: so no pass forms a large array outside a kernel.

The arrays of the interpreter `shapes` take no memory. A pass that added, multiplied or gathered on its own would
allocate.
"""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

import minivl
from minivl.api import VLM
from minivl.checkpoint.names import blank_tensors, build
from minivl.config import official_config
from minivl.door.stage import running
from minivl.kernels import NAMES, definition, interpreter, shapes
from minivl.model import prefill


class GhostCache:
    """Stores nothing; says who sees whom as the real one does."""

    def __init__(self, config):
        self.config, self.segments = config, None

    def admit(self, lengths):
        self.segments = np.array([[0, lengths[0], 0, lengths[0]]])

    def append(self, layer, k, v):
        return k, v


@pytest.mark.parametrize("name", ["3B", "72B"])
def test_a_model_too_big_to_hold_runs_without_numbers(name):
    config = official_config(name)
    weights = build(blank_tensors(config), config, np.dtype(np.float32))
    grid = np.array([[1, 92, 138]])                                       # 1288 x 1932 pixels, ragged both ways
    cells = int(grid.prod()) // 4
    ids = [7, config.vision_start_token_id, *[config.image_token_id] * cells, config.vision_end_token_id, 8]
    inputs = minivl.Inputs.from_ids(ids, config, shapes.blank(int(grid.prod()), config.vision.patch_values), grid)
    batch = minivl.run.inputs.Batch.of([inputs], config, np.float32)
    tracemalloc.start()
    with minivl.session(profile=True, record="*") as s, running(interpreter("shapes")):
        logits = prefill(batch, GhostCache(config.text), weights)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert logits.shape == (1, config.text.vocab_size)
    assert peak < 100 * 2**20
    assert s.trace["vision.restore_order"].shape == (cells, config.text.hidden_size)
    tower = sum(cost.flops for key, cost in s.profile.items() if key.startswith("vision."))
    decoder = sum(cost.flops for key, cost in s.profile.items() if key.startswith("decoder."))
    matrices = sum(np.prod(t.shape) for name, t in blank_tensors(config).items()
                   if name.startswith("visual.blocks") and t.shape[1:])
    mlp = 3 * config.text.num_hidden_layers * config.text.hidden_size * config.text.intermediate_size
    assert tower > 2 * matrices * grid.prod()                             # each patch meets each matrix of the blocks
    assert decoder > 2 * mlp * len(ids)


def test_the_closed_set_of_kernels():
    kernels = {name for name, value in vars(definition).items() if hasattr(value, "definition") and name != "kernel"}
    assert kernels == {*NAMES} == {*(f.__name__ for f in interpreter("shapes").functions), "log_softmax", "least_first"}


def test_an_interpreter_needs_no_kernel_of_its_own():
    vlm = minivl.load()
    assert isinstance(vlm, VLM) and isinstance(vlm.folder, Path)
    with minivl.session(replace={"kernel.*": lambda original: original}):
        vlm.generate(minivl.Inputs.from_ids([1, 2, 3], vlm.config), 2)
