"""The official programs' side of a conversation: qwen-vl-utils opens and resizes, transformers' processor makes ids and
grids, its model the positions.

    official = Official(folder)
    official.inputs(messages)        ids, grids, seconds and positions, under the reference's names

Everything is theirs, but for two things where torchvision is not installed: the pixels of a resized video, which no id
or grid depends on, and the grid of a video, which then comes from its size by their own `smart_resize`. A video file is
read by decord where that is installed, else every frame of it is decoded here, which is what decord does.
"""

from __future__ import annotations

import importlib.util
import sys
import types
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoTokenizer, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil, smart_resize

from minivl.text.template import load_template

WHOLE = bool(importlib.util.find_spec("torchvision"))
PADS = "<|image_pad|>", "<|video_pad|>"


def utilities() -> Any:
    """The module `qwen_vl_utils.vision_process`. It imports torchvision for one function, which is stood in for."""
    pytest.importorskip("av")
    if not WHOLE:
        functional = types.SimpleNamespace(resize=_blank)
        modes = types.SimpleNamespace(BICUBIC=3)
        stand_in = types.ModuleType("torchvision.transforms")
        stand_in.functional, stand_in.InterpolationMode = functional, modes                              # type: ignore
        root = types.ModuleType("torchvision")
        root.io, root.transforms, root.__version__ = types.SimpleNamespace(), stand_in, "0.28"            # type: ignore
        names = {"torchvision": root, "torchvision.transforms": stand_in}
    else:
        names = {}
    with patch.dict(sys.modules, names):
        pytest.importorskip("qwen_vl_utils")
        from qwen_vl_utils import vision_process
    # what it falls back to: torchvision no longer reads files
    vision_process.VIDEO_READER_BACKENDS["torchvision"] = lambda item: _read(item, vision_process)
    return vision_process


def _blank(video: torch.Tensor, size: list[int], **options: Any) -> torch.Tensor:
    return torch.zeros(()).expand(*video.shape[:2], *size)                    # takes no memory


def _read(item: dict[str, Any], utils: Any) -> tuple[torch.Tensor, dict[str, Any], float]:
    """A video file with every frame decoded, then chosen from by the utilities' own functions."""
    import av
    with av.open(item["video"].removeprefix("file://")) as container:
        stream = container.streams.video[0]
        rate = float(stream.average_rate)
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    start, end, total = utils.calculate_video_frame_range(item, len(frames), rate)
    n = utils.smart_nframes(item, total_frames=total, video_fps=rate)
    chosen = torch.linspace(start, end, n).round().long().tolist()
    video = torch.tensor(np.stack([frames[k] for k in chosen])).permute(0, 3, 1, 2)
    return video, {"fps": rate, "frames_indices": chosen, "total_num_frames": total}, n / total * rate


class Official:
    """The reference's processor and model of a checkpoint's folder."""

    def __init__(self, folder: Path):
        self.folder, self.utils = folder, utilities()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.template = load_template(folder)
        self.pictures = Qwen2VLImageProcessorPil.from_pretrained(folder)
        with torch.device("meta"):                                    # `get_rope_index` needs no weights
            self.model = Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig.from_pretrained(folder))
        if WHOLE:
            from transformers import AutoProcessor
            self.processor = AutoProcessor.from_pretrained(folder, use_fast=False)

    def inputs(self, messages: list[dict[str, Any]], **template: Any) -> dict[str, np.ndarray]:
        """Of a conversation in the form of qwen-vl-utils."""
        text = self.tokenizer.apply_chat_template(messages, chat_template=self.template, tokenize=False, **template)
        images, videos, rates = self._media(messages)
        made = self._whole(text, images, videos, rates) if WHOLE else self._parts(text, images, videos, rates)
        kinds = torch.tensor(sum((n + 1) * (made["input_ids"] == self.tokenizer.convert_tokens_to_ids(pad))
                                 for n, pad in enumerate(PADS)))[None]
        grids = {name: torch.tensor(made[name]) if len(made[name]) else None
                 for name in ("image_grid_thw", "video_grid_thw", "second_per_grid_ts")}
        at, _ = self.model.model.get_rope_index(torch.tensor(made["input_ids"])[None], kinds, **grids)
        return made | {"position_ids": at[:, 0].numpy()}

    def _media(self, messages: list[dict[str, Any]]) -> tuple[list[Image.Image], list[torch.Tensor], list[float]]:
        """Pictures, videos (t 3 h u) and their rates. A list of frames is the processor's alone: the utilities resize
        it twice, which minivl does not follow."""
        images, videos, rates = [], [], []
        for item in self.utils.extract_vision_info(messages):
            if "video" not in item:
                images.append(self.utils.fetch_image(item))
            elif isinstance(item["video"], str):
                video, rate = self.utils.fetch_video(item, return_video_sample_fps=True)
                videos.append(video.round().clamp(0, 255).to(torch.uint8))
                rates.append(rate)
            else:
                frames = np.stack([np.asarray(frame.convert("RGB")) for frame in item["video"]])
                videos.append(torch.tensor(frames).permute(0, 3, 1, 2))
                rates.append(item.get("fps", 2.0))
        return images, videos, rates

    def _whole(self, text: str, images: list[Image.Image], videos: list[torch.Tensor], rates: list[float]
               ) -> dict[str, np.ndarray]:
        from transformers.video_utils import VideoMetadata
        told = [VideoMetadata(total_num_frames=len(video), fps=rate, frames_indices=list(range(len(video))))
                for video, rate in zip(videos, rates, strict=True)]
        made = self.processor(text=[text], images=images or None, videos=videos or None, video_metadata=told or None,
                              do_sample_frames=False, return_tensors="pt", cap_pixels_per_frame=False)
        none = {"image_grid_thw": np.zeros((0, 3), np.int64), "video_grid_thw": np.zeros((0, 3), np.int64),
                "second_per_grid_ts": np.zeros(0)}
        return none | {name: np.asarray(made[name]) for name in (*none, "input_ids") if name in made} \
            | {"input_ids": made["input_ids"][0].numpy()}

    def _parts(self, text: str, images: list[Image.Image], videos: list[torch.Tensor], rates: list[float]
               ) -> dict[str, np.ndarray]:
        """What `_whole` gives, put together from the parts that need no torchvision."""
        grids = [self.pictures(image, return_tensors="np")["image_grid_thw"][0] for image in images]
        limits = {"min_pixels": self.pictures.size["shortest_edge"], "max_pixels": self.pictures.size["longest_edge"]}
        films = []
        for video in videos:
            h, u = smart_resize(*map(int, video.shape[2:]), factor=28, **limits)
            films.append([-(-len(video) // 2), h // 14, u // 14])
        counts = {pad: [int(np.prod(grid)) // 4 for grid in some]
                  for pad, some in zip(PADS, (grids, films), strict=True)}
        for pad in PADS:
            for count in counts[pad]:
                text = text.replace(pad, "<|held|>" * count, 1)
            text = text.replace("<|held|>", pad)
        return {"input_ids": np.array(self.tokenizer(text)["input_ids"]),
                "image_grid_thw": np.array(grids, np.int64).reshape(-1, 3),
                "video_grid_thw": np.array(films, np.int64).reshape(-1, 3),
                "second_per_grid_ts": np.array([2 / rate for rate in rates], np.float32)}
