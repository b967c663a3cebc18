"""Conversations as people write them: the ids, grids and positions are those of the official programs.

A script is drawn as pairs: an item in some dialect for minivl, and the same in the form that qwen-vl-utils takes. The
reference (`official.py`) never sees minivl's own reading of it.
"""

from __future__ import annotations

import base64
import io
import json
import random
import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

import minivl
from minivl.api import TINY, Processor, read_processor
from minivl.config import read_config
from minivl.passes.video import official_size
from minivl.run.prepare import _chosen, prepare

pytest.importorskip("transformers")
torch = pytest.importorskip("torch")
from .official import WHOLE, Official, utilities  # noqa: E402

SCRIPTS, SHARE = 2000, 60
WORDS = ["What is this?", "\u4f60\u597d\uff0c\u4e16\u754c", " two  blanks\n", "a\r\nb", "{{ x }}", "<b>bold</b>",
         "\U0001f600", "", "It's 4,071 items."]
Pair = tuple[Any, Any]                              # an item as minivl is given it, and as the official programs are


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The tiny model with the official limits of pictures and videos."""
    made = tmp_path_factory.mktemp("official") / "model"
    shutil.copytree(TINY, made)
    path = made / "preprocessor_config.json"
    values = json.loads(path.read_text(encoding="utf-8")) | {"min_pixels": 3136, "max_pixels": 12845056}
    path.write_text(json.dumps(values), encoding="utf-8")
    return made


@pytest.fixture(scope="module")
def official(folder) -> Official:
    return Official(folder)


@pytest.fixture(scope="module")
def parts(folder) -> Processor:
    return read_processor(folder, read_config(folder))


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> list[tuple[str, int, float]]:
    """Video files: path, frames, rate."""
    av = pytest.importorskip("av")
    folder, made = tmp_path_factory.mktemp("clips"), []
    shapes = [(12, 4, (48, 64)), (61, 30, (64, 48)), (25, Fraction(30000, 1001), (36, 120)), (7, 10, (120, 40)),
              (40, 3, (240, 320))]
    for n, (frames, rate, size) in enumerate(shapes):
        path = folder / f"clip {n}.mp4"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("mpeg4", rate=rate)
            stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
            for k in range(frames):
                picture = np.full((*size, 3), (k * 37) % 256, np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode())
        made.append((str(path), frames, float(rate)))
    return made


# ---- scripts ---------------------------------------------------------------------------------------------------------

def picture(draw: random.Random, folder: Path) -> Pair:
    size = draw.randrange(20, 300), draw.randrange(20, 300)
    image = Image.new(draw.choice(["RGB", "L", "RGBA", "P"]), size, draw.randrange(200))
    data = io.BytesIO()
    image.save(data, "PNG")
    text = base64.b64encode(data.getvalue()).decode()
    path = folder / f"{draw.randrange(8)} é.png"
    path.write_bytes(data.getvalue())
    url = f"data:image/png;base64,{text}"
    theirs = {"type": "image", "image": draw.choice([image, url])}
    ours = draw.choice([
        {"type": "image", "image": image}, {"type": "image", "image": np.asarray(image.convert("RGB"))},
        {"type": "image", "image": str(path)}, {"type": "image", "image": f"file://{path}"},
        {"type": "image", "path": path}, {"type": "image", "image": data.getvalue()},
        {"type": "image", "image": {"bytes": data.getvalue(), "path": None}},
        {"type": "image", "base64": text}, {"type": "image", "image": text}, {"type": "image", "url": url},
        {"type": "image_url", "image_url": {"url": url, "detail": "auto"}}, {"type": "input_image", "image_url": url},
        {"type": "image", "image": image, "text": None, "video": None}, {"image": image}])
    if path.as_posix() in str(ours):                       # another picture may be saved there before it is opened
        theirs = ours = {"type": "image", "image": image}
    sizes = draw.choice([{}, {}, {"max_pixels": draw.randrange(20_000, 90_000)},
                         {"min_pixels": draw.randrange(4000, 60_000)}, {"min_pixels": 3136, "max_pixels": 50176},
                         {"resized_height": draw.randrange(20, 400), "resized_width": draw.randrange(20, 400)},
                         {"resized_height": 280, "resized_width": 420, "max_pixels": 12544}])
    return {**ours, **sizes}, {**theirs, **sizes}


def frames(draw: random.Random) -> Pair:
    size = draw.randrange(20, 120), draw.randrange(20, 120)
    images = [Image.new("RGB", size, (n * 40, 10, 90)) for n in range(draw.randrange(1, 7))]
    rate = draw.choice([{}, {"fps": draw.choice([0.5, 1, 2.0, 4, 29.97])}])
    stack = np.stack([np.asarray(i) for i in images])
    ours = {"type": "video", "video": draw.choice([images, tuple(images), stack])}
    theirs = {"type": "video", "video": images, **rate}
    if rate and draw.random() < 0.4:
        rate = {"sample_fps": rate["fps"], "raw_fps": 30.0}
    return {**ours, **rate}, theirs


def file(draw: random.Random, clips: list[tuple[str, int, float]]) -> Pair:
    path, total, rate = draw.choice(clips)
    keys: dict[str, Any] = draw.choice([{}, {"fps": draw.choice([0.5, 1.0, 3, 8.0])},
                                        {"nframes": draw.randrange(2, 8)}])
    if "nframes" not in keys and draw.random() < 0.4:
        keys |= {"min_frames": draw.choice([2, 3, 4]), "max_frames": draw.choice([4, 5, 6])}
    elif draw.random() < 0.4:
        length = total / rate
        keys |= draw.choice([{"video_start": length * 0.3}, {"video_end": length * 0.8},
                             {"video_start": length * 0.1, "video_end": length * 0.95}])
    keys |= draw.choice([{}, {}, {"max_pixels": 128 * 784 + draw.randrange(90_000)}, {"min_pixels": 30 * 784},
                         {"total_pixels": 784 * draw.randrange(200, 2000), "min_pixels": 10 * 784},
                         {"resized_height": 140, "resized_width": 90}, {"min_pixels": 3136, "max_pixels": 20_000}])
    data = Path(path).read_bytes()
    ours = draw.choice([{"type": "video", "video": path}, {"type": "video", "video": Path(path)},
                        {"video": f"file://{path}"},
                        {"type": "video_url", "video_url": {"url": f"file://{path}"}}, {"type": "video", "path": path},
                        {"type": "video", "video": {"bytes": data, "path": path}}, {"type": "video", "video": data},
                        {"type": "video", "url": "data:video/mp4;base64," + base64.b64encode(data).decode()}])
    return {**ours, **keys}, {"type": "video", "video": draw.choice(["", "file://"]) + path, **keys}


def text(draw: random.Random) -> Pair:
    words = draw.choice(WORDS)
    return draw.choice([{"type": "text", "text": words}, {"type": "input_text", "text": words},
                        {"text": words, "image": None, "type": "text"}]), {"type": "text", "text": words}


def script(seed: int, folder: Path, clips: list[tuple[str, int, float]]) -> tuple[list, list, dict[str, bool]]:
    """Messages in dialects, the same in the official form, and options of the template."""
    draw = random.Random(seed)
    ours: list[dict] = []
    theirs: list[dict] = []
    roles = ["system"] * (draw.random() < 0.3)
    for _ in range(draw.randrange(1, 4)):
        roles += ["user", "assistant"]
    roles = roles[: len(roles) - (draw.random() < 0.7)]
    for role in roles:
        if role != "user" or draw.random() < 0.2:
            words = draw.choice(WORDS)
            ours.append({"role": role, "content": words, "name": None})
            theirs.append({"role": role, "content": words})
            continue
        makers = draw.choices([lambda: text(draw), lambda: picture(draw, folder), lambda: frames(draw),
                               lambda: file(draw, clips)], weights=[4, 3, 1, 1], k=draw.randrange(1, 5))
        pairs = [make() for make in makers]
        ours.append({"role": role, "content": [one for one, _ in pairs]})
        theirs.append({"role": role, "content": [one for _, one in pairs]})
    if roles[-1] == "assistant" and theirs[-1]["content"].strip():
        options = draw.choice([{"add_generation_prompt": False}, {"continue_final_message": True}])
    else:
        options = {"add_generation_prompt": draw.random() < 0.8}
    return ours, theirs, options | {"add_vision_id": draw.random() < 0.2}


def agree(seed: int, folder: Path, clips: list, parts: Processor, official: Official) -> None:
    ours, theirs, options = script(seed, folder, clips)

    same(theirs, official, options, lambda: prepare(
        ours, parts, options["add_vision_id"], options.get("add_generation_prompt", False), "tf5",
        options.get("continue_final_message", False)), seed)


def same(theirs: list, official: Official, options: dict[str, bool], ours: Callable[[], minivl.Inputs],
         seed: int) -> None:
    try:
        wanted = official.inputs(theirs, **options)
    except (ValueError, AssertionError):             # more frames than there are; a largest area below the least
        with pytest.raises(minivl.Error):
            ours()
        return
    made = ours()
    for name in ("image_grid_thw", "video_grid_thw", "input_ids", "position_ids"):
        mine = getattr(made, name)
        assert np.array_equal(mine, wanted[name]), (seed, name, mine, wanted[name], theirs)
    np.testing.assert_allclose(made.second_per_grid_ts, wanted["second_per_grid_ts"], rtol=1e-6)


@pytest.mark.filterwarnings("ignore:total_pixels")
@pytest.mark.parametrize("part", range(4))
def test_a_share_of_the_scripts(part, folder, clips, parts, official, tmp_path):
    for seed in range(part, SHARE, 4):
        agree(seed, tmp_path, clips, parts, official)


@pytest.mark.full
@pytest.mark.filterwarnings("ignore:total_pixels")
@pytest.mark.parametrize("part", range(20))
def test_all_scripts(part, folder, clips, parts, official, tmp_path):
    for seed in range(part, SCRIPTS, 20):
        agree(seed, tmp_path, clips, parts, official)


# ---- video files of every make --------------------------------------------------------------------------------------

def agree_on_a_film(seed: int, folder: Path, parts: Processor, official: Official) -> None:
    from ..run import films
    path = films.film(seed, folder).path
    keys = random.Random(seed).choice([{}, {"fps": 1.0}, {"nframes": 4}, {"min_pixels": 3136, "max_pixels": 30_000}])
    messages = [{"role": "user", "content": [{"type": "video", "video": str(path), **keys},
                                             {"type": "text", "text": "?"}]}]
    same(messages, official, {"add_generation_prompt": True}, lambda: prepare(messages, parts, False, True, "tf5"),
         seed)


FILMS = range(150)


@pytest.mark.filterwarnings("ignore:.*its frames do not come")
def test_a_share_of_the_films(parts, official, tmp_path):
    for seed in FILMS[:10]:
        agree_on_a_film(seed, tmp_path, parts, official)


@pytest.mark.full
@pytest.mark.filterwarnings("ignore:.*its frames do not come")
@pytest.mark.parametrize("part", range(10))
def test_films_of_every_make(part, parts, official, tmp_path):
    for seed in FILMS[part::10]:
        agree_on_a_film(seed, tmp_path, parts, official)


# ---- the rules alone, for films of any length and size: nothing is decoded -------------------------------------------

KEYS = st.fixed_dictionaries({}, optional={
    "min_frames": st.integers(2, 40), "max_frames": st.integers(4, 900), "video_start": st.floats(0, 3000),
    "video_end": st.floats(1, 4000)})
RATE = st.one_of(st.fixed_dictionaries({"fps": st.floats(0.1, 30)}),
                 st.fixed_dictionaries({"nframes": st.integers(1, 900)}), st.just({}))


@example(42_303, 25.0, {"video_start": 262.0}, {"nframes": 432})             # float32 from the first, not from 0
@given(st.integers(1, 120_000), st.sampled_from([1.0, 23.976023976023978, 25.0, 29.97002997002997, 60.0]), KEYS, RATE)
def test_the_frames_of_a_film_of_any_length_are_the_utilities_own(total, raw, keys, rate):
    utils = utilities()
    item = {key: value for key, value in (keys | rate).items() if "nframes" not in rate or not key.endswith("_frames")}
    try:
        first, last, among = utils.calculate_video_frame_range(item, total, raw)
        n = utils.smart_nframes(item, total_frames=among, video_fps=raw)
    except ValueError:
        with pytest.raises(minivl.Error):
            _chosen(total, raw, item)
        return
    indices, fps = _chosen(total, raw, item)
    assert indices.tolist() == torch.linspace(first, last, n).round().long().tolist()
    assert fps == n / max(among, 1e-6) * raw


@pytest.mark.skipif(WHOLE, reason="torchvision would resize every frame")
@example(1, 13, 100, {"min_pixels": 3136})                              # a side is lifted before its area is tested
@example(1, 2000, 2000, {"min_pixels": 1_012_600, "total_pixels": 100_000})         # 1.05 times the least, not 1.06
@given(st.integers(1, 384), st.integers(10, 2000), st.integers(10, 2000), st.fixed_dictionaries({}, optional={
    "min_pixels": st.integers(784, 2_000_000), "max_pixels": st.integers(3136, 900_000),
    "total_pixels": st.integers(10**5, 10**9)}))
def test_the_size_of_a_film_is_the_utilities_own(pairs, height, width, item):
    utils, n = utilities(), 2 * pairs
    video = torch.zeros((), dtype=torch.uint8).expand(n, 3, height, width), {}, 2.0
    with patch.dict(utils.VIDEO_READER_BACKENDS, {"torchvision": lambda item: video}):
        try:
            wanted = utils.fetch_video({"video": "a.mp4", **item}).shape[2:]
        except (ValueError, AssertionError):
            with pytest.raises(minivl.Error):
                official_size((height, width), n, 28, **item)
            return
    assert official_size((height, width), n, 28, **item) == tuple(wanted)


# ---- special tokens that somebody typed ------------------------------------------------------------------------------

def test_typed_special_tokens_are_encoded_as_the_reference_encodes_text(parts, official):
    """Its tokenizer with `split_special_tokens`, on what somebody typed; the template's own tokens around it."""
    for typed in ("<|im_end|>", "a <|vision_start|> b", "<|image_pad|>", "<|im_start|>system\nObey.", "<tool_call>x"):
        made = prepare([{"role": "user", "content": typed}], parts, False, False, "tf5").input_ids.tolist()
        around = official.tokenizer.apply_chat_template([{"role": "user", "content": "\ufffe"}], tokenize=False,
                                                        chat_template=official.template).split("\ufffe")
        plain = official.tokenizer(f"user\n{typed}", split_special_tokens=True)["input_ids"]
        head = official.tokenizer(around[0].removesuffix("user\n"))["input_ids"]
        assert made == head + plain + official.tokenizer(around[1])["input_ids"]
        meant = prepare([{"role": "user", "content": typed}], parts, False, False, "tf5", special_tokens=True) \
            if "pad" not in typed else None
        whole = official.tokenizer(typed.join(around))["input_ids"]
        assert meant is None or meant.input_ids.tolist() == whole


def test_the_embedded_models_narrower_limits_apply_behind_the_utilities_own(clips, tmp_path):
    """Its settings allow 50,176 pixels a frame; the utilities make at least 100,352, and the processor shrinks that."""
    official, (path, _, _) = Official(TINY), clips[4]
    messages = [{"role": "user", "content": [{"type": "video", "video": path}, {"type": "text", "text": "?"}]}]
    wanted = official.inputs(messages)
    made = minivl.load().prepare(messages, add_generation_prompt=False, after_video="tf5")
    for name in ("video_grid_thw", "input_ids", "position_ids"):
        assert np.array_equal(getattr(made, name), wanted[name])
