"""The maker of the embedded model: its network is the reference's, its rows are minivl's, a kill loses nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="the maker of the embedded model needs the extra `oracle`")

from minivl.config import PreprocessorConfig  # noqa: E402
from minivl.passes.picture import target_size  # noqa: E402
from tools.train_tiny import packing, world  # noqa: E402
from tools.train_tiny.network import Lean, config_for, new_model, tensors  # noqa: E402
from tools.train_tiny.packing import Packer, Sample, collate  # noqa: E402
from tools.train_tiny.tasks import KINDS_OF_SAMPLE  # noqa: E402
from tools.train_tiny.tokens import load_tokenizer  # noqa: E402


@pytest.fixture(scope="module")
def lean() -> Lean:
    return Lean(new_model(config_for(load_tokenizer()), seed=3)).eval()


@pytest.fixture(scope="module")
def packer() -> Packer:
    return Packer(load_tokenizer())


def pixels(lean: Lean, row: packing.Row) -> torch.Tensor:
    x = (torch.from_numpy(row.patches).view(len(row.patches), 3, -1).float() - lean.mean) * lean.scale
    return x.view(len(x), -1)


def reference_logits(lean: Lean, sample: Sample, row: packing.Row, number: int) -> torch.Tensor:
    """Logits of the class itself on one branch of a row, as a conversation of its own."""
    kept = (row.branch == 0) | (row.branch == number + 1)
    ids = torch.from_numpy(row.ids[kept])[None]
    video = sample.clips[0].fps is not None
    kind = "video" if video else "image"
    config = lean.model.config
    types = (ids == config.image_token_id).int() + 2 * (ids == config.video_token_id).int()
    media = {f"pixel_values{'_videos' * video}": pixels(lean, row), f"{kind}_grid_thw": torch.tensor(row.grids)}
    positions = torch.from_numpy(np.ascontiguousarray(row.positions[:, kept]))[:, None]
    out = lean.model(input_ids=ids, mm_token_type_ids=types, attention_mask=torch.ones_like(ids),
                     position_ids=positions, **media)
    return out.logits[0][torch.from_numpy(row.target[kept]) >= 0]


@pytest.mark.parametrize("kind", KINDS_OF_SAMPLE)
def test_the_lean_network_gives_the_logits_of_the_class_itself(kind, lean, packer):
    rng = np.random.default_rng(5)
    samples = [KINDS_OF_SAMPLE[kind](rng) for _ in range(3)]
    rows = [packer.pack(sample) for sample in samples]
    b = tensors(collate(rows, packer.pad))
    with torch.no_grad():
        ours = lean.read(b, lean.see(b))
        theirs = torch.cat([reference_logits(lean, sample, row, number)
                            for sample, row in zip(samples, rows, strict=True) for number in range(len(row.tasks))])
    assert ours.shape == theirs.shape
    assert float((ours - theirs).abs().max()) < 2e-4 * float(theirs.abs().max())


@given(st.integers(20, 900), st.integers(20, 900))
@settings(deadline=None)
def test_the_size_is_that_of_the_pass(h, w):
    if max(h, w) > 100 * min(h, w):
        return
    config = PreprocessorConfig(min_pixels=world.MIN_PIXELS, max_pixels=world.MAX_PIXELS)
    assert world.target((h, w)) == tuple(target_size((h, w, 3), config))
