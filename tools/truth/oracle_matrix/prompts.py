"""The prompts of the matrix, as files that a worker of any version reads: pictures and videos, text before and after.

Read next: `worker.py`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from minivl import VLM
from minivl.run.inputs import Inputs
from minivl.truth.museum import cases

CASES = {"picture": cases.ragged, "pictures": cases.two_pictures, "video 2 fps": cases.two_frames,
         "video 1 fps": cases.slow_video, "video 4 fps": cases.fast_video, "video, picture": cases.video_first}


# transformers runs pictures and videos apart, so that the rows of its tower are not those of a prompt that has both.
MIXED = ("video, picture",)


def write(vlm: VLM, folder: Path) -> dict[str, Path]:
    """Name -> .npz of the inputs under the reference's names; `position_ids` are minivl's."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    for name in CASES:
        found[name] = folder / f"{name.replace(' ', '-').replace(',', '')}.npz"
        np.savez(found[name], **inputs(vlm, name).arrays())             # type: ignore[arg-type]
    return found


def inputs(vlm: VLM, name: str, after_video: str = "max_plus_one") -> Inputs:
    """A prompt's inputs; `after_video` as `VLM.prepare` has it."""
    return vlm.prepare(CASES[name].build(vlm)[0], after_video=after_video)
