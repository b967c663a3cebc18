"""Messages to `Inputs`: pictures to patches, text to ids, placeholders to as many tokens as a picture
has cells.

Read next: `passes/picture.py`, `passes/patches.py` and `passes/prompt.py`, which do the work;
`inputs.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from ..config import ModelConfig, PreprocessorConfig
from ..door.errors import Error
from ..passes import patches, picture, prompt, video
from ..passes.prompt import PromptError
from ..text.tokenizer import Tokenizer
from .inputs import Inputs
from .messages import continued, marked, one_form, refuse_typed_placeholders
from .open_picture import as_frames, load_frames, load_picture


@dataclass(frozen=True)
class Processor:
    """What turns messages into inputs: the parts of a checkpoint's folder that are not weights."""
    config: ModelConfig
    preprocessor: PreprocessorConfig
    tokenizer: Tokenizer
    template: str | None
    videos: PreprocessorConfig | Error | None = None     # None: as pictures; or why there are none

    def settings(self, kind: str) -> PreprocessorConfig:
        """Those for "image" or "video". Raises what was wrong with the settings for videos, and
        PromptError for a model that reads text alone."""
        if not self.config.vision.depth:
            raise PromptError(f"this model has no vision tower and reads text alone: ask without the {kind}, "
                              "or load the model together with its tower (for a .gguf, its mmproj file)")
        if kind != "video" or self.videos is None:
            return self.preprocessor
        if isinstance(self.videos, Error):
            raise self.videos
        return self.videos


class Cut(NamedTuple):
    """One picture or video cut into patches."""
    kind: str
    patches: np.ndarray                  # (p, 1176)
    grid: np.ndarray                     # (3,)
    seconds: float | None                # from one pair of frames to the next; None for a picture
    source_size: tuple[int, int]         # height, width in pixels, as it came
    size: tuple[int, int]                # as resized


def prepare(messages: Any, parts: Processor, add_vision_id: bool,
            add_generation_prompt: bool,
            after_video: str, continue_final_message: bool = False) -> Inputs:
    """One conversation, of any dialect that `messages.one_form` takes, as Inputs.

    Raises PictureError, PromptError, TemplateError or TokenizerError (all ValueErrors) naming what was
    wrong.
    """
    if continue_final_message not in (False, True, "content"):
        raise PromptError(f"continue_final_message is {prompt.brief(continue_final_message)}; only the "
                          "content can be gone on with: give True or False")
    if continue_final_message and add_generation_prompt:
        raise PromptError("continue_final_message goes on with the last message, add_generation_prompt "
                          "begins a new one; use one of them")
    messages = one_form(messages, parts.template)
    refuse_typed_placeholders(messages)
    cuts = [_cut(kind, item, parts.settings(kind)) for kind, item in prompt.media_in(messages)]
    cells = np.array([len(cut.patches) for cut in cuts],
                     np.int64) // parts.config.vision.spatial_merge_size ** 2
    pads = (parts.config.image_token_id, parts.config.video_token_id)
    messages = marked(messages) if continue_final_message else messages
    text = prompt.text_of(messages, parts.template, add_generation_prompt, add_vision_id)
    text = continued(text, messages) if continue_final_message else text
    ids = prompt.expand(prompt.encode(text, parts.tokenizer), cells, pads)
    images, videos = ([cut for cut in cuts if cut.kind == kind] for kind in ("image", "video"))
    pixel_values, image_grids = _stacked(images)
    frame_values, video_grids = _stacked(videos)
    seconds = [cut.seconds for cut in videos] or None
    inputs = Inputs.from_ids(ids, parts.config, pixel_values, image_grids, frame_values, video_grids,
                             seconds,
                             after_video)
    return inputs.with_sizes([(cut.source_size, cut.size) for cut in cuts])


def _stacked(cuts: list[Cut]) -> tuple[np.ndarray, np.ndarray] | tuple[None, None]:
    if not cuts:
        return None, None
    return np.concatenate([cut.patches for cut in cuts]), np.stack([cut.grid for cut in cuts])


def _cut(kind: str, item: Mapping[str, Any], config: PreprocessorConfig) -> Cut:
    limits = {key: item[key] for key in ("min_pixels", "max_pixels") if key in item}
    size = (item["resized_height"], item["resized_width"]) if "resized_height" in item else None
    cut = cut_video if kind == "video" else cut_picture
    return cut(item, replace(config, **limits), size)


def cut_picture(item: Mapping[str, Any], config: PreprocessorConfig,
                wanted: tuple[int, int] | None = None) -> Cut:
    """An item's `image` (anything that `load_picture` takes), resized, normalised and cut into
    patches."""
    pixels = load_picture(item["image"])
    size = picture.target_size(wanted or pixels.shape[:2], config)
    frame = picture.normalise(picture.resize(pixels, size), config)             # y b 3 -> h u 3 -> 3 h u
    return _patched("image", frame[None], None, pixels.shape[:2], config)


def cut_video(item: Mapping[str, Any], config: PreprocessorConfig,
              wanted: tuple[int, int] | None = None) -> Cut:
    """An item's `video`, a list of frames, all resized to one size, two by two into patches.

    `fps` says how many of the frames make a second (2 unless said). With `raw_fps` the list is the
    whole video at that rate, and frames are chosen from it as qwen-vl-utils does, `fps` of them (or
    `nframes` in all), between the seconds `video_start` and `video_end`.

    The pixel limits hold for each frame, as in transformers: official ones let a frame be as large as
    a picture, unless the checkpoint has settings for videos (`config/pictures.py`). `total_pixels` asks
    for the limits of qwen-vl-utils, within that budget for all frames.
    """
    frames, fps = as_frames(item["video"]), float(item.get("fps", video.FPS))
    if "raw_fps" in item:
        frames, fps = _chosen(frames, fps, item)
    if "total_pixels" in item:
        config = video.within_budget(len(frames), item["total_pixels"], config, item.get("min_pixels"))
    stack = load_frames(frames)                                                # t y b 3
    config = config.for_frames(len(stack))
    size = picture.target_size(wanted or stack.shape[1:3], config)
    # t y b 3 -> t h u 3 -> t 3 h u
    normal = video.normalise_frames(video.resize_frames(stack, size), config)
    return _patched("video", normal, video.seconds_per_grid(fps, config), stack.shape[1:3], config)


def _chosen(frames: Sequence[Any] | np.ndarray, fps: float, item: Mapping[str, Any]
            ) -> tuple[list[Any], float]:
    """The frames of a whole video that are shown, and how many of them make a second."""
    raw = float(item["raw_fps"])
    first, last = video.frame_range(len(frames), raw, item.get("video_start"), item.get("video_end"))
    total = last - first + 1
    bounds = {key: item[key] for key in ("min_frames", "max_frames") if key in item}
    indices = first + video.sample_official(total, raw, fps, item.get("nframes"), **bounds)
    return [frames[n] for n in indices], video.sampled_fps(len(indices), total, raw)


def _patched(kind: str, frames: np.ndarray, seconds: float | None, source_size: tuple[int, ...],
             config: PreprocessorConfig) -> Cut:
    return Cut(kind, patches.patchify(frames, config), patches.grid_of(frames.shape, config), seconds,
               (source_size[0], source_size[1]), (frames.shape[2], frames.shape[3]))
