"""Pixels against the programs they must equal, bit for bit: Pillow 13's resize, and transformers' processors.

The video processor cannot be imported without torchvision, though its sampling and its patchify need only torch: the
two methods are taken out of the installed source and run as they stand.
"""

import ast
import base64
import importlib.util
import io
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import PIL
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image
from transformers.image_utils import load_image
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil, smart_resize

from minivl.config import PreprocessorConfig
from minivl.passes.patches import grid_of, patchify
from minivl.passes.picture import PictureError, normalise, resize, target_size
from minivl.passes.video import frame_range, sample_official, sample_transformers, video_pixel_limits, within_budget
from minivl.run.open_picture import load_picture

LIMITS = {"hub": (3136, 12845056), "class default": (3136, 1003520), "tight": (50176, 60000)}


def config_of(limits):
    return PreprocessorConfig(min_pixels=limits[0], max_pixels=limits[1], patch_size=14, temporal_patch_size=2,
                              merge_size=2, image_mean=(0.48145466, 0.4578275, 0.40821073),
                              image_std=(0.26862954, 0.26130258, 0.27577711))


def noise(seed, *shape):
    rng = np.random.default_rng(seed)
    return (rng.integers(0, 2, shape) * 255 if seed % 2 else rng.integers(0, 256, shape)).astype(np.uint8)


def method_of(module, name, scope):
    """One function or method of an installed module that cannot itself be imported, compiled without its neighbours."""
    spec = importlib.util.find_spec(module)
    source = Path(spec.origin).read_text(encoding="utf-8")
    found = next(node for node in ast.walk(ast.parse(source))
                 if isinstance(node, ast.FunctionDef) and node.name == name)
    found.decorator_list, found.returns = [], None
    for argument in found.args.args:
        argument.annotation = None
    names = dict(scope)
    exec(compile(ast.Module([found], []), spec.origin, "exec"), names)
    return names[name]


# ------------------------------------------------------------------------------------------------------------- resize

def sizes(limit):
    """Source and target: small sides often, the same side on an axis often, a side that hardly changes often."""
    side = st.one_of(st.integers(1, 12), st.integers(1, limit))
    pair = st.one_of(st.tuples(side, side), side.map(lambda n: (n, n)),
                     st.tuples(side, st.integers(-4, 4)).map(lambda t: (t[0], max(1, t[0] + t[1]))))
    return st.tuples(pair, pair)


def equals_pillow(y, b, h, u, seed):
    assert PIL.__version__ == "13.0.0"                      # another version may filter the axes in another order
    pixels = noise(seed, y, b, 3)
    expected = np.asarray(Image.fromarray(pixels).resize((u, h), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(resize(pixels, np.array([h, u])), expected)


@given(sizes(150), st.integers(0, 99))
def test_resize_is_pillows(axes, seed):
    (y, h), (b, u) = axes
    equals_pillow(y, b, h, u, seed)


@pytest.mark.parametrize(("source", "target"), [
    ((480, 640), (476, 644)), ((1365, 2048), (1372, 2044)), ((1080, 1920), (728, 1316)), ((13, 200), (28, 224)),
    ((1, 200), (28, 784)), ((700, 3), (28, 28)), ((60, 60), (11, 36)), ((60, 60), (12, 36)), ((1, 1), (56, 56)),
])
def test_resize_is_pillows_on_real_sizes(source, target):
    equals_pillow(*source, *target, seed=1)


@pytest.mark.full
def test_resize_is_pillows_on_thousands_of_sizes():
    rng = np.random.default_rng(13)
    for seed in range(4000):
        y, b, h, u = (int(n) for n in rng.integers(1, rng.choice([9, 40, 150, 400]), 4))
        equals_pillow(y, b, h if seed % 5 else y, u if seed % 7 else b, seed)


# ---------------------------------------------------------------------------------------------------------- processor

@given(st.integers(1, 6000), st.integers(1, 6000), st.sampled_from(sorted(LIMITS)))
def test_size_is_the_processors(y, b, which):
    least, most = LIMITS[which]
    try:
        expected = smart_resize(y, b, 28, least, most)
    except ValueError:
        with pytest.raises(ValueError, match="200"):
            target_size((y, b), config_of(LIMITS[which]))
        return
    assert tuple(target_size((y, b), config_of(LIMITS[which]))) == expected


def pictures():
    """Name -> picture, of every mode on which transformers and we agree. Not among them: 16-bit grey, which it clips
    and we scale, and premultiplied alpha (RGBa), which it drops and we lay on white.
    """
    rgb, alpha = Image.fromarray(noise(2, 45, 71, 3)), Image.fromarray(noise(4, 45, 71))
    grey = rgb.convert("L")
    rgba, la = rgb.copy(), grey.copy()
    rgba.putalpha(alpha)
    la.putalpha(alpha)
    spotted = grey.convert("P")
    spotted.info["transparency"] = 7
    return {"RGB": rgb, "L": grey, "1": grey.convert("1"), "P": rgb.quantize(16), "P clear": spotted, "RGBA": rgba,
            "LA": la, "CMYK": rgb.convert("CMYK"), "YCbCr": rgb.convert("YCbCr"), "HSV": rgb.convert("HSV"),
            "I": grey.convert("I"), "F": grey.convert("F"),
            "LAB": Image.frombytes("LAB", (71, 45), noise(6, 45, 71, 3).tobytes())}


def assert_same_patches(image, pixels, which="hub"):
    config = config_of(LIMITS[which])
    processor = Qwen2VLImageProcessorPil(min_pixels=config.min_pixels, max_pixels=config.max_pixels)
    expected = processor(images=image, return_tensors="np")
    frames = normalise(resize(pixels, target_size(pixels.shape, config)), config)[None]
    patches, grid = patchify(frames, config), grid_of(frames.shape, config)
    np.testing.assert_array_equal(expected["image_grid_thw"], grid[None])
    assert patches.dtype == expected["pixel_values"].dtype and grid.dtype == expected["image_grid_thw"].dtype
    np.testing.assert_array_equal(patches.view(np.uint32), expected["pixel_values"].view(np.uint32))   # every bit


@pytest.mark.parametrize("name", pictures())
def test_patches_of_every_mode_are_the_processors(name):
    image = pictures()[name]
    assert_same_patches(image, load_picture(image))


@given(st.integers(1, 180), st.integers(1, 180), st.integers(0, 99), st.sampled_from(sorted(LIMITS)))
def test_patches_are_the_processors(y, b, seed, which):
    if max(y, b) <= 200 * min(y, b):
        pixels = noise(seed, y, b, 3)
        assert_same_patches(Image.fromarray(pixels), pixels, which)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "TIFF"])
def test_patches_of_files_are_the_processors(kind):
    file = io.BytesIO()
    Image.fromarray(noise(8, 61, 90, 3)).save(file, kind)
    assert_same_patches(Image.open(file), load_picture(file.getvalue()))


def spellings(data, path):
    """Every text under which transformers loads a picture that lies on this machine."""
    coded = base64.b64encode(data).decode()
    return {"path": str(path), "base64": coded, "base64 in lines": base64.encodebytes(data).decode(),
            "data URL": f"data:image/png;base64,{coded}", "of any type": f"data:image/*;base64,{coded}",
            "without its coding": f"data:image/png,{coded}", "type and lines": "data:image/png;base64," +
            base64.encodebytes(data).decode()}


@pytest.mark.parametrize("shape", [(1, 1, 3), (45, 71, 3)])
@pytest.mark.parametrize("orientation", [1, 6])
def test_every_text_that_the_reference_loads_is_the_same_picture(tmp_path, shape, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(noise(2, *shape)).save(tmp_path / "a b#1.png", exif=exif)
    for name, text in spellings((tmp_path / "a b#1.png").read_bytes(), tmp_path / "a b#1.png").items():
        np.testing.assert_array_equal(load_picture(text), np.asarray(load_image(text)), err_msg=name)


# -------------------------------------------------------------------------------------------------------------- video

VIDEO = "transformers.models.qwen2_vl.video_processing_qwen2_vl"
their_samples = method_of(VIDEO, "sample_frames", {"torch": torch, "math": math})
their_patchify = method_of(VIDEO, "patchify", {"torch": torch})


@given(st.integers(2, 9000), st.sampled_from([1.0, 10, 23.976, 24, 25, 29.97, 30, 60]),
       st.sampled_from([0.1, 0.5, 1, 2, 4, 30]))
def test_samples_are_the_video_processors(total, fps, wanted):
    processor = SimpleNamespace(num_frames=None, fps=None, temporal_patch_size=2, min_frames=4, max_frames=768)
    theirs = their_samples(processor, SimpleNamespace(total_num_frames=total, fps=fps), fps=wanted).numpy()
    ours = sample_transformers(total, fps, wanted)
    np.testing.assert_array_equal(theirs[: len(ours)], ours)
    np.testing.assert_array_equal(theirs[len(ours):], [total] * (len(theirs) - len(ours)))   # one that is not there


@given(st.integers(2, 9000), st.integers(1, 384))
def test_samples_are_those_of_linspace(total, pairs):
    n = min(2 * pairs, total // 2 * 2)
    expected = torch.linspace(0, total - 1, n).round().long().numpy()
    np.testing.assert_array_equal(sample_official(total, 30, count=n), expected)


@given(st.integers(1, 5), st.integers(1, 3), st.integers(1, 3))
def test_video_patches_are_the_video_processors(count, rows, columns):
    config = config_of(LIMITS["hub"])
    frames = np.random.default_rng(count).standard_normal((count, 3, 28 * rows, 28 * columns)).astype(np.float32)
    expected, *grid = their_patchify(None, torch.from_numpy(frames)[None], 14, 2, 2)
    np.testing.assert_array_equal(patchify(frames, config), expected[0].numpy())
    assert grid == grid_of(frames.shape, config).tolist()


@given(st.integers(1, 3000), st.integers(28, 4000), st.integers(28, 4000))
def test_frame_sizes_are_those_of_qwen_vl_utils(count, y, b):
    """Its limits are floating, ours and those of transformers are cut to integers: the sizes are the same."""
    least, total = 128 * 784, 128000 * 784 * 0.9
    most = max(min(768 * 784, total / count * 2), int(least * 1.05))
    expected = smart_resize(y, b, 28, least, most)
    assert tuple(target_size((y, b), video_pixel_limits(count, config_of(LIMITS["hub"])))) == expected


@given(st.integers(1, 800), st.integers(28, 4000), st.integers(28, 4000), st.integers(1, 10**8),
       st.none() | st.integers(1, 10**6))
def test_a_budget_gives_the_sizes_of_qwen_vl_utils_or_is_refused_where_it_goes_beyond(count, y, b, total, least):
    shown = math.ceil(count / 2) * 2
    floor, config = 128 * 784 if least is None else least, config_of((1, LIMITS["hub"][1]))
    if total / shown * 2 < int(floor * 1.05):
        with pytest.raises(PictureError, match="total_pixels"):
            within_budget(count, total, config, least)
        return
    most = min(768 * 784, total / shown * 2)
    assume(floor <= most and max(y, b) <= 200 * min(y, b))
    expected = smart_resize(y, b, 28, floor, most)
    assert tuple(target_size((y, b), within_budget(count, total, config, least))) == expected


@given(st.integers(2, 3000), st.sampled_from([1.0, 23.976, 25, 29.97, 30, 60]), st.floats(0, 200),
       st.none() | st.floats(0, 200))
def test_a_range_of_seconds_is_cut_as_qwen_vl_utils_cuts(total, fps, start, end):
    """Its rule, written out: times clamped to the video, the first frame not before, the last not after."""
    first = math.ceil(max(0.0, min(start, total / fps)) * fps)
    last = total - 1 if end is None else min(math.floor(max(0.0, min(end, total / fps)) * fps), total - 1)
    if first >= last:
        with pytest.raises(PictureError, match="video_start"):
            frame_range(total, fps, start, end)
    else:
        assert frame_range(total, fps, start, end) == (first, last)
