"""The final project: a run of the model in which the student's functions do all the work.

    from minivl.teach.check.own import missing, only

    table = {"patchify": my_patchify, "rms_norm": ..., }
    missing(table)                                     # what is still to be written
    with only(table):
        vlm.ask("picture.png", "What is this?")        # the package's passes and kernels are blocked

What is left to the package is the program (`model.py`, the order of the stages), the files and the
tokenizer. It is no fence against a student who means to cheat: it says what is still borrowed.

Read next: `door/stage.py` (`using`), which puts one function in.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from ... import model
from ...door.errors import ArgumentError
from ...door.stage import Session, functions
from ...kernels import definition as kernels

from ...passes import block, decoder, patches, picture, positions, prompt  # isort: skip
from ...passes import sampling, video, vision, windows  # isort: skip


# A name for each pass, the labels under which it comes, and the pass itself. Attention has two: with
# looking ahead, in
# the tower, and without.
PLACES: dict[str, tuple[str, Any]] = {
    "target_size": ("picture.target_size", picture.target_size),
    "resize": ("picture.resize", picture.resize),
    "picture.normalise": ("picture.normalise", picture.normalise),
    "video.resize": ("video.resize", video.resize_frames),
    "video.normalise": ("video.normalise", video.normalise_frames),
    "patchify": ("patches.patchify", patches.patchify),
    "render": ("prompt.render", prompt.render_bytes),
    "encode": ("prompt.encode", prompt.encode),
    "expand": ("prompt.expand", prompt.expand),
    "ticks": ("positions.ticks", positions.ticks),
    "mrope": ("positions.mrope", positions.mrope),
    "window_order": ("vision.window_order", windows.window_order),
    "schedule": ("vision.schedule", windows.schedule),
    "order_by_window": ("vision.*order_by_window", windows.order_by_window),
    "spatial_angles": ("vision.angles.spatial_angles", positions.spatial_angles),
    "cos_sin": ("*.cos_sin", positions.cos_sin),
    "embed_patches": ("vision.embed_patches", vision.embed_patches),
    "rms_norm": ("vision.*.normalise decoder.*normalise", block.normalise),
    "project_qkv": ("*.project_qkv", block.project_qkv),
    "rotate": ("*.rotate", block.rotate),
    "attend_inside": ("vision.*.attend", block.attend_inside),
    "attend_backwards": ("decoder.*.attend", block.attend_backwards),
    "add_attended": ("*.add_attended", block.add_attended),
    "add_mlp": ("*.add_mlp", block.add_mlp),
    "merge_2x2": ("vision.merge_2x2", vision.merge_2x2),
    "restore_order": ("vision.restore_order", windows.restore_order),
    "mrope_angles": ("decoder.angles", positions.mrope_angles),
    "embed_tokens": ("decoder.embed_tokens", decoder.embed_tokens),
    "place_features": ("decoder.place_features", decoder.place_features),
    "select_rows": ("decoder.select_rows", decoder.select_rows),
    "logits": ("decoder.logits", decoder.logits),
    "penalise": ("sampling.penalise", sampling.penalise),
    "narrow_choice": ("sampling.narrow_choice", sampling.narrow_choice),
    "most_likely": ("sampling.most_likely", sampling.most_likely),
    "draw": ("sampling.draw", sampling.draw),
    "advance": ("positions.advance", positions.advance),
}
LENT = ("render", "encode")  # the template's and the tokenizer's: no array code
# only with a video, or a draw
OPTIONAL = ("ticks", "video.resize", "video.normalise", "narrow_choice", "draw")


class NotYours(RuntimeError):
    """A pass or kernel of the package was reached that the student has not written."""


def missing(table: Mapping[str, Callable], lend: Iterable[str] = LENT) -> list[str]:
    """Names of the passes that a run on a picture, decoded greedily, still needs."""
    return [name for name in PLACES if name not in table and name not in lend and name not in OPTIONAL]


def only(table: Mapping[str, Callable], lend: Iterable[str] = LENT) -> Session:
    """A session in which `table` runs and everything else of the package is blocked.

    table: name from PLACES -> function of the pass's own arguments. lend: names of passes, and
    `kernel.NAME` for kernels, that may be the package's. ArgumentError for an unknown name.
    """
    lend = tuple(lend)
    unknown = [name for name in (*table, *lend) if name not in PLACES and not _kernel(name)]
    if unknown:
        raise ArgumentError(f"there is no pass {unknown[0]!r}; the names are {', '.join(PLACES)}, and "
                         f"kernel.NAME to lend")
    allowed = [_kernel(name) or PLACES[name][1] for name in lend]
    program = [model.vision, model.vision_block, model.decoder, model.decoder_layer,
               positions.window_angles]
    open_ = {door.definition for door in [*allowed, *program]}
    mine = {pattern: function for name, function in table.items() for pattern in _patterns(name)}
    return Session(replace={"*": functools.partial(_blocked, open_), **functions(mine)})


def _kernel(name: str) -> Any:
    kind, _, kernel = name.partition("kernel.")
    return getattr(kernels, kernel, None) if not kind and kernel else None


def _patterns(name: str) -> list[str]:
    return [name] if _kernel(name) else PLACES[name][0].split()


def _blocked(open_: Collection[Callable], original: Callable) -> Callable:
    """The pass itself when it is open; else a function that says whose it is."""
    if original in open_:
        return original

    def blocked(*args: Any) -> Any:
        name = next((name for name, (_, door) in PLACES.items() if door.definition is original),
                    f"kernel.{original.__name__}")
        raise NotYours(f"the run has reached {name}, which is the package's: put a function of yours "
                       f"into the table, or borrow it with lend=(..., {name!r})")
    return blocked
