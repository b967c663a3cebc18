"""What else the candidate may have done with a sample before the model saw it: other pixels, another
prompt.

A small list. Each is minivl itself with one pass of the preparation replaced through the door, so that
the candidate's answer can be scored as if that were so. Faults of pictures come from the museum; the
rest is written here. How tokens are chosen is no matter of inputs: see `samplers.py`. Read next:
`cause.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ...api import VLM
from ...config import PreprocessorConfig
from ...door.stage import Session, Wrap
from ...run.inputs import Inputs
from ..museum import FAULTS
from .lines import Line

PIXELS, SETTINGS, ARITHMETIC = KINDS = ("pixels", "settings", "arithmetic")
UNDECIDED = "undecided"                  # where there are too few bad samples to tell


@dataclass(frozen=True)
class Hypothesis:
    """One thing that may be so. wraps: what stands in for which pass in preparing; options: of
    `prepare`."""
    name: str
    kind: str
    wraps: Mapping[str, Wrap] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    messages: Callable[[list[dict[str, Any]]], list[dict[str, Any]]] = lambda messages: messages

    def prepare(self, vlm: VLM, line: Line, prompt: Mapping[str, Any] | None = None) -> Inputs:
        """The sample's inputs, if this is so; prompt: what `prompt_of` gave, which other pixels leave
        as it is. Raises ValueError where it cannot be so."""
        given = prompt if self.kind == PIXELS else None
        with Session(replace=self.wraps, given=given, quiet=True):
            return vlm.prepare(self.messages(line.messages), **self.options)


def prompt_of(vlm: VLM, line: Line) -> dict[str, Any]:
    """The rendered prompt of a line and its ids, by their stages: a template takes longer than a
    picture."""
    with Session(record=("prompt.render", "prompt.encode"), quiet=True) as s:
        vlm.prepare(line.messages)
    return dict(s.trace)


OURS = Hypothesis("as it should be", ARITHMETIC)


# ---- pixels ------------------------------------------------------------------------------------

def frame_by_frame(wrap: Wrap) -> Wrap:
    """A wrap of `picture.resize` as one of `video.resize`: t y b 3, 2 -> t h u 3."""
    def resize(right: Callable) -> Callable:
        def one(pixels: np.ndarray, size: np.ndarray) -> np.ndarray:
            return right(pixels[None], size)[0]
        return lambda frames, size: np.stack([wrap(one)(frame, size) for frame in frames])
    return resize


def of_pictures(wraps: Mapping[str, Wrap]) -> dict[str, Wrap]:
    """The same for the frames of videos, where a wrap is one of resizing."""
    both = {"video.resize": frame_by_frame(wraps["picture.resize"])} if "picture.resize" in wraps else {}
    return {**wraps, **both}


def museum() -> list[Hypothesis]:
    """Every fault of the museum that is one of pixels: with the frames of videos, and without."""
    found = []
    for name, fault in FAULTS.items():
        if fault.label.startswith(("picture.", "patches.")):
            said, wraps = name.replace("-", " "), fault.table()
            found.append(Hypothesis(said, PIXELS, of_pictures(wraps)))
            if "picture.resize" in wraps:
                found.append(Hypothesis(f"{said}, of pictures alone", PIXELS, wraps))
    return found


def to_nearest(right: Callable) -> Callable:
    """Resizing that takes the nearest pixel: no filter at all."""
    def resize(pixels: np.ndarray, size: np.ndarray) -> np.ndarray:
        rows, columns = (np.minimum(((np.arange(n) + 0.5) * have / n).astype(np.int64), have - 1)
                         for n, have in zip(size.tolist(), pixels.shape[:2], strict=True))
        return pixels[rows[:, None], columns]
    return resize


def normalised(mean: tuple[float, ...], deviation: tuple[float, ...]) -> dict[str, Wrap]:
    """Pictures and frames normalised by other numbers."""
    def wrap(right: Callable) -> Callable:
        def normalise(pixels: np.ndarray, config: PreprocessorConfig) -> np.ndarray:
            return right(pixels, replace(config, image_mean=mean, image_std=deviation))
        return normalise
    return {"picture.normalise": wrap, "video.normalise": wrap}


def _blue_first(right: Callable) -> Callable:
    return lambda pixels, config: right(np.ascontiguousarray(pixels[..., ::-1]), config)


def as_stored(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Pictures as a plain decoder gives them: neither turned upright nor laid on white."""
    from PIL import Image

    def opened(item: dict[str, Any]) -> dict[str, Any]:
        if not isinstance(item.get("image"), str) or item["image"].startswith("data:"):
            return item
        with Image.open(item["image"]) as image:
            return {**item, "image": np.asarray(image.convert("RGB"))}
    return each_item(messages, lambda content: [opened(item) for item in content])


def pixels() -> list[Hypothesis]:
    """Other pixels."""
    nearest = of_pictures({"picture.resize": to_nearest})
    swapped: dict[str, Wrap] = {"picture.normalise": _blue_first, "video.normalise": _blue_first}
    imagenet = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    return [*museum(),
            Hypothesis("resize to the nearest pixel", PIXELS, nearest),
            Hypothesis("blue before red", PIXELS, swapped),
            Hypothesis("mean and deviation 0.5", PIXELS, normalised((0.5,) * 3, (0.5,) * 3)),
            Hypothesis("mean and deviation of ImageNet", PIXELS, normalised(*imagenet)),
            Hypothesis("0 to 1, mean and deviation not applied", PIXELS,
                       normalised((0.0,) * 3, (1.0,) * 3)),
            Hypothesis("not turned upright, transparency not on white", PIXELS, messages=as_stored)]


# ---- prompts -----------------------------------------------------------------------------------

def each_item(messages: list[dict[str, Any]], change: Callable[[list], list]) -> list[dict[str, Any]]:
    """Messages with the items of each content changed."""
    return [m if isinstance(m["content"], str) else {**m, "content": change(list(m["content"]))}
            for m in messages]


def rendered(change: Callable[[str], str]) -> dict[str, Wrap]:
    """The rendered prompt, changed as a text."""
    def wrap(right: Callable) -> Callable:
        def render(*args: Any) -> np.ndarray:
            text = right(*args).tobytes().decode("utf-8", "surrogatepass")
            return np.frombuffer(change(text).encode("utf-8", "surrogatepass"), np.uint8)
        return render
    return {"prompt.render": wrap}


START, STOP, VISION = "<|im_start|>", "<|im_end|>\n", ("<|vision_start|>", "<|vision_end|>")
SYSTEM_OF_QWEN = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."


def no_system(text: str) -> str:
    """Without the system turn that the template puts in front."""
    return text.partition(STOP)[2] if text.startswith(f"{START}system") else text


def other_system(said: str) -> Callable[[str], str]:
    """Another system turn than the template's."""
    return lambda text: f"{START}system\n{said}{STOP}{no_system(text)}"


def no_marks(text: str) -> str:
    """Pictures without the tokens around them."""
    return text.replace(VISION[0], "").replace(VISION[1], "")


def bare(text: str) -> str:
    """The last turn's words and pictures, with no mark of turns."""
    turns = [turn for turn in text.split(START) if turn.startswith("user")]
    return turns[-1].partition("\n")[2].removesuffix(STOP) if turns else text


def line_after_pictures(text: str) -> str:
    """A line break between a picture and what is said after it."""
    return text.replace(VISION[1], f"{VISION[1]}\n")


def media_first(content: list) -> list:
    return sorted(content, key=lambda item: "text" in item)


def media_last(content: list) -> list:
    return sorted(content, key=lambda item: "text" not in item)


def prompts() -> list[Hypothesis]:
    """Other prompts."""
    texts: dict[str, Callable[[str], str]] = {
        "no system turn": no_system,
        "an empty system turn": other_system(""),
        "the system turn of Qwen2.5": other_system(SYSTEM_OF_QWEN),
        "no template at all": bare,
        "no line break after the last role": lambda text: text.removesuffix("\n"),
        "one more line break at the end": lambda text: text + "\n",
        "a line break after each picture": line_after_pictures,
        "no marks around pictures": no_marks}
    return [*(Hypothesis(name, SETTINGS, rendered(change)) for name, change in texts.items()),
            Hypothesis("no generation prompt", SETTINGS, options={"add_generation_prompt": False}),
            Hypothesis("pictures numbered", SETTINGS, options={"add_vision_id": True}),
            Hypothesis("pictures before text", SETTINGS, messages=lambda m: each_item(m, media_first)),
            Hypothesis("text before pictures", SETTINGS, messages=lambda m: each_item(m, media_last))]


def hypotheses() -> list[Hypothesis]:
    """All of them. The last are of the model's arithmetic, and are told apart because the reference
    itself differs."""
    return [*pixels(), *prompts(),
            Hypothesis("text after a video counted as transformers 5 does", ARITHMETIC,
                       options={"after_video": "tf5"})]
