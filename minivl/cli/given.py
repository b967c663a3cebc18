"""What a command is given: pictures, a question, a model's folder; checked before anything takes long.

Read next: `api.py` of the package, whose `load` and `find` do the work.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .. import api
from ..checkpoint.names import formats
from ..checkpoint.packed_folder import is_packed
from ..config import PreprocessorConfig
from ..door.errors import ArgumentError
from ..kernels import COMPILED, interpreter
from ..passes.patches import grid_of
from ..passes.picture import target_size
from ..run.footage import looks_like_video
from ..run.open_picture import load_picture, named
from ..run.prepare import Processor
from ..show.samples import WORLD, load_samples
from .console import note, working

EMBEDDED = f"the embedded model was trained on {WORLD}; what it says about other pictures means nothing"


class Chosen(NamedTuple):
    """Which checkpoint is run (None: the embedded one), in which precision and under which
    interpreter, in how much memory (None: all of it is loaded) and cut how (None: not)."""
    model: str | None
    precision: str = "float32"
    kernels: str = "auto"
    device: str | None = None
    memory: str | None = None
    parallel: str | None = None


def placed(kernels: str, device: str | None) -> str:
    """The interpreter that `--kernels` and `--device` name together. Raises ArgumentError for a device
    that there is none of, and for one beside kernels that do not run on it."""
    if device is None:
        return kernels
    if device not in ("gpu", "runner"):
        raise ArgumentError(f"--device must be gpu or runner, got {device!r}; runner is the CUDA kernels on "
                            "the processor")
    if kernels not in ("auto", "cuda"):
        raise ArgumentError(f"--device says where the CUDA kernels run, and --kernels {kernels} has none: "
                            "leave --device out, or give --kernels cuda")
    return "cuda" if device == "gpu" else "cuda-runner"


def open_model(chosen: Chosen, answers: bool = True) -> api.VLM:
    """A loaded model. Raises ArgumentError when an answer is wanted of an interpreter that has no
    numbers."""
    if answers and chosen.kernels == "shapes":
        raise ArgumentError("--kernels shapes computes no numbers, so there is no answer to show; use "
                            "minivl passes for shapes and operations, or minivl explain for any size "
                            "without weights")
    kernels = placed(chosen.kernels, chosen.device)
    interpreter(kernels)                         # wrong settings are refused before anything is fetched
    folder = chosen.model and api.find(chosen.model)          # a download shows its own progress
    with working("loading the model"):
        vlm = api.load(folder, chosen.precision, kernels, memory=chosen.memory, parallel=chosen.parallel)
    if chosen.kernels == "jit" and chosen.precision not in COMPILED:
        note(f"--kernels jit: {chosen.precision} runs by the definitions; compiled kernels are for "
             f"{' and '.join(COMPILED)}")
    if is_packed(vlm.folder):
        note(f"{vlm.folder}: packed weights, in {formats(vlm.weights)}")
    return vlm


def speaks(vlm: api.VLM) -> bool:
    """Whether this process writes files: of a job of several ranks the first one does."""
    return vlm.rank is None or vlm.rank.world.rank == 0


def say_which(model: str | None) -> None:
    """With the embedded model, one line on stderr that says what its answers are worth."""
    if model is None:
        note(EMBEDDED)


def processor(model: str | None) -> Processor:
    """What prepares a checkpoint's inputs, from its folder; its weights are not opened and need not be
    there."""
    folder = api.find(model, weights=False)
    return api.read_processor(folder, api.config_of(folder))


def sample() -> tuple[str, str]:
    """A picture that comes with the package, and a question about it."""
    first = next(one for one in load_samples() if one.fps is None)
    return str(first.paths[0]), first.question


def conversation(images: Sequence[str], question: str, fps: float | None = None) -> list[dict[str, Any]]:
    """One user's message: the pictures and video files, then the question. With `fps` the pictures are the
    frames of one video; of a video file it says how many frames a second are shown. Raises ArgumentError
    where it could be either."""
    films = [image for image in images if looks_like_video(image)]
    if fps is None or len(films) == len(images):
        rate = {} if fps is None else {"fps": fps}
        content = [{"type": "video", "video": image, **rate} if image in films
                   else {"type": "image", "image": image} for image in images]
    elif films:
        raise ArgumentError(f"--fps makes the pictures frames of one video, and {named(films[0])} is a video "
                            "itself; give either pictures or video files")
    else:
        content = [{"type": "video", "video": list(images), "fps": fps}]
    return [{"role": "user", "content": [*content, {"type": "text", "text": question}]}]


def check_words(images: Sequence[str], question: str | None = None) -> None:
    """Refuse what is surely a slip: a folder where a picture should be, a picture or nothing where the
    question should be.

    Raises ArgumentError.
    """
    for image in images:
        if _is(Path.is_dir, image):
            raise ArgumentError(f"{named(image)}: this is a folder; name a picture or video in it")
    if question is None:
        return
    if not question.strip():
        raise ArgumentError("the question is empty; write what you want to know behind the picture, in "
                         "quotes")
    if _is(Path.is_file, question):
        raise ArgumentError(f"the last word, {question}, is a file: the question is missing; it comes "
                         "after the pictures")


def _is(test: Callable[[Path], bool], word: str) -> bool:
    """A test of a path on a word that may be no path at all."""
    try:
        return test(Path(word))
    except (OSError, ValueError):
        return False


def source_size(image: str) -> tuple[int, int]:
    """(height, width) of a picture as it stands upright. Raises PictureError."""
    check_words([image])
    height, width = load_picture(image).shape[:2]
    return height, width


def grid(source: tuple[int, int], config: PreprocessorConfig, frames: int = 1
         ) -> tuple[np.ndarray, np.ndarray]:
    """Resized (height, width) and grid (t, h, w) of a picture, or of `frames` frames, of `source`
    (height, width) pixels."""
    resized = target_size(source, config)
    return resized, grid_of((frames, 3, int(resized[0]), int(resized[1])), config)
