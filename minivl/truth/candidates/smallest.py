"""A reduced prompt as a folder: its pictures, its messages, and two traces that `minivl diff` takes.

Read next: `reduce.py`.
"""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from ...api import VLM
from ...door.files import check_new_folder
from ...door.stage import Session
from ..trace.record import record
from ..trace.recorder import Recorder
from .engine import flat
from .judge import END
from .ours import Ours
from .reduce import CRASHES, Reduction, prepared
from .runnable import LOGITS, Checked, Crashed
from .scene import Medium, Scene, messages_of

GOLDEN, CANDIDATE, PROMPT = "golden.safetensors", "candidate.safetensors", "prompt.json"


def write(found: Reduction, vlm: VLM, candidate: Checked, folder: Path) -> list[str]:
    """Write a new folder, whole or not at all; the names of its files. Raises OSError as
    `check_new_folder` does."""
    check_new_folder(folder)
    partial = Path(mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        fill(found, vlm, candidate, partial)
        if folder.exists():
            folder.rmdir()
        partial.chmod(0o755)                                      # a temporary folder is born private
        partial.replace(folder)
    finally:
        with suppress(FileNotFoundError):
            shutil.rmtree(partial)
    return sorted(path.name for path in folder.iterdir())


def fill(found: Reduction, vlm: VLM, candidate: Checked, folder: Path) -> None:
    """Pictures, prompt.json, the golden trace, and the candidate's; one that only crashes leaves no
    trace."""
    scene, crashes = found.scene, found.failure.kind == CRASHES
    text = json.dumps(saved(scene, folder), indent=1)
    (folder / PROMPT).write_text(text + "\n", encoding="utf-8", newline="\n")
    messages = messages_of(scene)
    exact = vlm.on("float64", "definition")
    record(exact, messages, folder / GOLDEN, yardsticks=(candidate.precision,))
    if isinstance(candidate.candidate, Ours):
        with suppress(*((Exception, SystemExit) if crashes else ())), \
                Session(replace=candidate.candidate.table, quiet=True):
            record(candidate.candidate.vlm, messages, folder / CANDIDATE)
        return
    with suppress(Crashed):
        write_values(scene, exact, candidate, folder / CANDIDATE)


def write_values(scene: Scene, vlm: VLM, candidate: Checked, path: Path) -> None:
    """What the candidate gives at its cuts, under minivl's labels. Raises Crashed."""
    messages = messages_of(scene)
    inputs = prepared(candidate, messages) or vlm.prepare(messages).arrays()
    made = candidate.run(inputs, {})
    with Recorder(path) as out:
        out.put("prompt.expand", inputs["input_ids"])
        if sum(isinstance(item, Medium) for item in scene) == 1:
            kind = "pixel_values" if len(inputs["pixel_values"]) else "pixel_values_videos"
            out.put("patches.patchify", inputs[kind])
        for name, array in flat({END if key == LOGITS else key: value
                                 for key, value in made.items()}).items():
            out.put(name, array)


def saved(scene: Scene, folder: Path) -> list[dict[str, Any]]:
    """The messages with each picture written to a .png beside them, under its name."""
    from PIL import Image
    messages = messages_of(scene)
    for n, (item, content) in enumerate(zip(scene, messages[0]["content"], strict=True)):
        if not isinstance(item, Medium):
            continue
        names = [f"item-{n}.png" if item.fps is None else f"item-{n}-frame-{k}.png"
                 for k in range(len(item.frames))]
        for name, frame in zip(names, item.frames, strict=True):
            Image.fromarray(frame).save(folder / name)
        content[content["type"]] = names[0] if item.fps is None else names
    return messages
