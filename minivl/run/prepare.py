"""Messages to `Inputs`: pictures to patches, text to ids, placeholders to as many tokens as a picture
has cells.

Read next: `passes/picture.py`, `passes/patches.py` and `passes/prompt.py`, which do the work;
`inputs.py`.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from ..config import ModelConfig, PreprocessorConfig
from ..door.errors import Error, brief
from ..passes import patches, picture, prompt, video
from ..passes.picture import PictureError
from ..passes.prompt import PromptError
from ..text.tokenizer import Tokenizer
from .footage import Footage, Shown, say_uneven
from .inputs import Inputs
from .messages import continued, marked, one_form, typed
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
    times: tuple[float, ...] | None = None        # of a video file's frames, in seconds


def prepare(messages: Any, parts: Processor, add_vision_id: bool,
            add_generation_prompt: bool,
            after_video: str, continue_final_message: bool = False, special_tokens: bool = False
            ) -> Inputs:
    """One conversation, of any dialect that `messages.one_form` takes, as Inputs.

    special_tokens: those that a text spells are tokens, as in the reference; else they stay text.

    Raises PictureError, PromptError, TemplateError or TokenizerError (all ValueErrors) naming what was
    wrong.
    """
    if continue_final_message not in (False, True, "content"):
        raise PromptError(f"continue_final_message is {brief(continue_final_message)}; only the "
                          "content can be gone on with: give True or False")
    if continue_final_message and add_generation_prompt:
        raise PromptError("continue_final_message goes on with the last message, add_generation_prompt "
                          "begins a new one; use one of them")
    messages = typed(one_form(messages, parts.template), parts.tokenizer.typed, special_tokens)
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
    return inputs.with_sizes([(cut.source_size, cut.size) for cut in cuts], [cut.times for cut in cuts])


def _stacked(cuts: list[Cut]) -> tuple[np.ndarray, np.ndarray] | tuple[None, None]:
    if not cuts:
        return None, None
    return np.concatenate([cut.patches for cut in cuts]), np.stack([cut.grid for cut in cuts])


def _cut(kind: str, item: Mapping[str, Any], config: PreprocessorConfig) -> Cut:
    size = (item["resized_height"], item["resized_width"]) if "resized_height" in item else None
    if kind == "video" and prompt.is_file(item["video"]):
        return cut_file(item, config, size)
    limits = {key: item[key] for key in ("min_pixels", "max_pixels") if key in item and size is None}
    cut = cut_video if kind == "video" else cut_picture
    return cut(item, replace(config, **limits), size)


def cut_picture(item: Mapping[str, Any], config: PreprocessorConfig,
                wanted: tuple[int, int] | None = None) -> Cut:
    """An item's `image` (anything that `load_picture` takes), resized, normalised and cut into
    patches. `wanted` is resized to as if it were the picture's size, by the checkpoint's limits."""
    pixels = load_picture(item["image"])
    size = picture.target_size(wanted or pixels.shape[:2], config)
    frame = picture.normalise(picture.resize(pixels, size), config)             # y b 3 -> h u 3 -> 3 h u
    return _patched("image", frame[None], None, pixels.shape[:2], config)


def cut_video(item: Mapping[str, Any], config: PreprocessorConfig,
              wanted: tuple[int, int] | None = None) -> Cut:
    """An item's `video`, a list of frames, all resized to one size, two by two into patches.

    `fps` says how many of the frames make a second (2 unless said). With `raw_fps` the list is the
    whole video at that rate, and frames are chosen from it as `sampler` says (qwen-vl-utils' rule unless
    said), `fps` of them (or `nframes` in all), between the seconds `video_start` and `video_end`.

    The pixel limits hold for each frame, as in transformers: official ones let a frame be as large as
    a picture, unless the checkpoint has settings for videos (`config/pictures.py`). `total_pixels` asks
    for the limits of qwen-vl-utils, within that budget for all frames.
    """
    frames, fps = as_frames(item["video"]), float(item.get("fps", video.FPS))
    if "raw_fps" in item:
        raw = float(item["raw_fps"])
        indices, fps = _chosen(len(frames), raw, item)
        frames = [frames[n] for n in indices]
    if "total_pixels" in item and wanted is None:
        config = video.within_budget(len(frames), item["total_pixels"], config, item.get("min_pixels"))
    stack = load_frames(frames)                                                # t y b 3
    size = picture.target_size(wanted or stack.shape[1:3], config.for_frames(len(stack)))
    return _filmed(stack, size, fps, config)


def cut_file(item: Mapping[str, Any], config: PreprocessorConfig,
             wanted: tuple[int, int] | None = None) -> Cut:
    """An item's `video`, a file (`footage.py`): the frames that its `sampler` chooses, read one by one.

    "official", which it is unless said: qwen-vl-utils chooses the frames and resizes them by its limits,
    then the checkpoint's settings for videos apply, as its processor is given them. "transformers": its
    processor alone. "time": frames evenly spread in time, at the official size.
    """
    source = item["video"]
    footage = source if isinstance(source, Footage) else Footage.open(source)
    shown, fps = frames_of(footage, item)
    if item.get("sampler") != "time":
        say_uneven(shown)
    size = file_size(shown.shape, item, config, wanted)
    return _filmed(shown, size, fps, config)._replace(times=tuple(shown.seconds.tolist()))


def frames_of(footage: Footage, item: Mapping[str, Any]) -> tuple[Shown, float]:
    """The frames of a file that are shown, none of them decoded yet, and how many of them make a second."""
    if item.get("sampler") == "time":
        indices, fps = _chosen_by_time(footage, item)
    else:
        indices, fps = _chosen(len(footage), footage.fps, item)
    return footage.shown(indices), fps


def file_size(shape: tuple[int, ...], item: Mapping[str, Any], config: PreprocessorConfig,
              wanted: tuple[int, int] | None = None) -> np.ndarray:
    """(height, width) of the frames of a file; shape: t y b 3."""
    limits = {key: item[key] for key in ("min_pixels", "max_pixels") if key in item and wanted is None}
    if wanted is not None or item.get("sampler") == "transformers":
        return picture.target_size(wanted or shape[1:3], replace(config, **limits).for_frames(shape[0]))
    budget = item.get("total_pixels")
    first = video.official_size(shape[1:], shape[0], config.factor, budget, **limits)
    # what was asked for is not undone by settings that are narrower
    least = min(config.min_pixels, limits.get("min_pixels", config.min_pixels))
    most = max(config.max_pixels, limits.get("max_pixels", 0))
    settings = replace(config, min_pixels=least, max_pixels=most).for_frames(shape[0])
    size = picture.target_size(first, settings)
    if budget is not None and (spent := int(size.prod()) * shape[0] // 2) > budget:
        warnings.warn(f"total_pixels is {budget:,.0f}, and the video has {spent:,}: a frame is given "
                      "its least size first, as in qwen-vl-utils; give a smaller min_pixels, or fewer "
                      "frames",
                      stacklevel=6)
    return size


def _filmed(frames: Any, size: np.ndarray, fps: float, config: PreprocessorConfig) -> Cut:
    """Frames (t, y, b, 3), an array or those of a file, at `fps` a second as a video of this size."""
    # t y b 3 -> t h u 3 -> t 3 h u
    normal = video.normalise_frames(video.resize_frames(frames, size), config)
    return _patched("video", normal, video.seconds_per_grid(fps, config), frames.shape[1:3], config)


def _chosen(total: int, raw: float, item: Mapping[str, Any]) -> tuple[np.ndarray, float]:
    """Indices of the frames of a whole video at `raw` a second that are shown, and how many of them make a
    second."""
    first, last = video.frame_range(total, raw, item.get("video_start"), item.get("video_end"))
    among = last - first + 1
    theirs = item.get("sampler") == "transformers"
    sample = video.sample_transformers if theirs else video.sample_official
    chosen = sample(among, raw, float(item.get("fps", video.FPS)), item.get("nframes"), **_bounds(item))
    indices = first + chosen if theirs else video.spread(first, last, len(chosen))
    return indices, video.sampled_fps(len(chosen), among, raw)


def _chosen_by_time(footage: Footage, item: Mapping[str, Any]) -> tuple[np.ndarray, float]:
    """The same by the times at which frames stand."""
    start, end = item.get("video_start", 0.0), item.get("video_end", np.inf)
    there = np.flatnonzero((footage.seconds >= start) & (footage.seconds <= end))
    seconds = footage.seconds[there]
    if len(there) < 2:
        raise PictureError(f"video_start {start} and video_end {end} leave no two frames of "
                           f"{footage.name}, which has {footage.seconds[-1]:.2f} seconds; move them "
                           "apart")
    indices = there[video.sample_times(seconds, float(item.get("fps", video.FPS)), item.get("nframes"),
                                       **_bounds(item))]
    return indices, (len(indices) - 1) / float(seconds[-1] - seconds[0])


def _bounds(item: Mapping[str, Any]) -> dict[str, int]:
    return {key: item[key] for key in ("min_frames", "max_frames") if key in item}


def _patched(kind: str, frames: np.ndarray, seconds: float | None, source_size: tuple[int, ...],
             config: PreprocessorConfig) -> Cut:
    return Cut(kind, patches.patchify(frames, config), patches.grid_of(frames.shape, config), seconds,
               (source_size[0], source_size[1]), (frames.shape[2], frames.shape[3]))
