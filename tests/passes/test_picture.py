"""Pictures of every kind come out as the pixels they mean, hostile ones as a PictureError; the size and the filter
obey their laws. Expected values are written out here or come from Pillow; `oracle/test_pixels.py` has transformers.
"""

import base64
import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from minivl.config import PreprocessorConfig
from minivl.door.stage import session
from minivl.passes.picture import (
    MAX_SOURCE_PIXELS,
    PictureError,
    bicubic_weights,
    fixed_point,
    height_first,
    normalise,
    resize,
    resize_float,
    target_size,
)
from minivl.run.open_picture import load_picture, upright

HUB = PreprocessorConfig(min_pixels=3136, max_pixels=12845056, patch_size=14, temporal_patch_size=2, merge_size=2,
                         image_mean=(0.48145466, 0.4578275, 0.40821073),
                         image_std=(0.26862954, 0.26130258, 0.27577711))
TIGHT = PreprocessorConfig(**{**HUB.__dict__, "max_pixels": 60000})
SMALL = PreprocessorConfig(**{**HUB.__dict__, "max_pixels": 1003520})

rng = np.random.default_rng(7)
RGB = rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)
GREY = RGB[..., 0]
ALPHA = rng.integers(0, 256, (5, 7), dtype=np.uint8)
ALPHA[0], ALPHA[1] = 0, 255
DEEP = rng.integers(0, 65536, (5, 7), dtype=np.uint16)
DEEP[0] = [0, 1, 128, 129, 256, 65406, 65535]


def encode(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def grey(levels):
    return np.stack([levels] * 3, axis=-1)


def on_white(colour, alpha):
    """The composite in exact arithmetic; Pillow's integer version may be one level off in between."""
    a = alpha[..., None] / 255
    return np.rint(colour * a + 255 * (1 - a))


def palette_image():
    image = Image.fromarray(GREY % 4).convert("P")
    image.putpalette([10, 20, 30, 200, 100, 0, 0, 0, 0, 255, 255, 255])
    return image


PALETTE = np.array([[10, 20, 30], [200, 100, 0], [0, 0, 0], [255, 255, 255]])


# ---------------------------------------------------------------------------------------------- what pictures mean

@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "TGA"])
def test_colour_files_give_their_pixels(kind):
    np.testing.assert_array_equal(load_picture(encode(Image.fromarray(RGB), kind)), RGB)


def test_webp_and_jpeg_are_read():
    np.testing.assert_array_equal(load_picture(encode(Image.fromarray(RGB), "WEBP", lossless=True)), RGB)
    flat = np.full((16, 16, 3), (200, 100, 50), np.uint8)
    assert np.abs(load_picture(encode(Image.fromarray(flat), "JPEG", quality=95)).astype(int) - flat).max() <= 3


@pytest.mark.parametrize(("image", "expected"), [
    (Image.fromarray(GREY), grey(GREY)),
    (Image.fromarray(GREY > 127), grey((GREY > 127) * 255)),
    (palette_image(), PALETTE[GREY % 4]),
    (Image.fromarray(DEEP), grey(np.rint(DEEP / 257))),
], ids=["grey", "1-bit", "palette", "16-bit"])
@pytest.mark.parametrize("kind", [None, "PNG", "TIFF"])
def test_grey_and_palette(image, expected, kind):
    np.testing.assert_array_equal(load_picture(encode(image, kind) if kind else image), expected)


def test_a_16_bit_pgm_is_scaled_not_clipped():
    pgm = b"P5 7 5 65535\n" + DEEP.astype(">u2").tobytes()
    np.testing.assert_array_equal(load_picture(pgm), grey(np.rint(DEEP / 257)))


def tiff_of(bits, photometric, samples, big):
    """An uncompressed grey TIFF of 16 x 16, by hand: Pillow writes neither 12 bits nor white at 0."""
    end = ">" if big else "<"
    tags = [(256, 3, 16), (257, 3, 16), (258, 3, bits), (259, 3, 1), (262, 3, photometric),
            (273, 4, 8 + 2 + 9 * 12 + 4), (277, 3, 1), (278, 3, 16), (279, 4, len(samples))]
    table = b"".join(struct.pack(f"{end}HHI", tag, kind, 1) + struct.pack(end + ("HH" if kind == 3 else "I"),
                                                                          *([value, 0] if kind == 3 else [value]))
                     for tag, kind, value in tags)
    return ((b"MM\0*" if big else b"II*\0") + struct.pack(f"{end}IH", 8, len(tags)) + table + bytes(4) + samples)


def test_deep_grey_of_twelve_bits_and_with_white_at_zero():
    ramp = np.arange(256, dtype=np.uint16).reshape(16, 16)
    twelve = "".join(f"{round(int(level) * 4095 / 255):012b}" for level in ramp.flat)
    packed = bytes(int(twelve[at : at + 8], 2) for at in range(0, len(twelve), 8))
    np.testing.assert_array_equal(load_picture(tiff_of(12, 1, packed, False)), grey(ramp))
    for big in (False, True):
        samples = (ramp * 257).astype(">u2" if big else "<u2").tobytes()
        np.testing.assert_array_equal(load_picture(tiff_of(16, 1, samples, big)), grey(ramp))
    little = (ramp * 257).astype("<u2").tobytes()
    np.testing.assert_array_equal(load_picture(tiff_of(16, 0, little, False)), grey(255 - ramp))


@pytest.mark.parametrize(("mode", "colour"), [
    ("RGBA", RGB), ("LA", grey(GREY)), ("PA", grey(GREY)),
])
def test_alpha_is_laid_on_white(mode, colour):
    base = Image.fromarray(RGB if mode == "RGBA" else GREY).convert(mode)
    base.putalpha(Image.fromarray(ALPHA))
    assert base.mode == mode
    got, exact = load_picture(base), on_white(colour, ALPHA)
    assert np.abs(got - exact).max() <= 1
    np.testing.assert_array_equal(got[0], 255)              # fully transparent: white, whatever is underneath
    np.testing.assert_array_equal(got[1], colour[1])        # fully opaque: itself


def test_premultiplied_alpha_is_undone():
    opaque_or_clear = np.where(ALPHA > 127, 255, 0).astype(np.uint8)
    for mode, pixels in (("LA", GREY), ("RGBA", RGB)):
        image = Image.fromarray(pixels)
        image.putalpha(Image.fromarray(opaque_or_clear))
        assert image.mode == mode
        expected = on_white(grey(pixels) if mode == "LA" else pixels, opaque_or_clear)
        np.testing.assert_array_equal(load_picture(image.convert({"LA": "La", "RGBA": "RGBa"}[mode])), expected)


@pytest.mark.parametrize(("image", "clear", "expected"), [
    (palette_image(), 1, np.where((GREY % 4 == 1)[..., None], 255, PALETTE[GREY % 4])),
    (palette_image(), bytes([255, 255, 0, 255]), np.where((GREY % 4 == 2)[..., None], 255, PALETTE[GREY % 4])),
    (Image.fromarray(GREY), int(GREY[2, 2]), np.where(grey(GREY) == GREY[2, 2], 255, grey(GREY))),
    (Image.fromarray(RGB), tuple(int(c) for c in RGB[2, 2]),
     np.where((RGB[2, 2] == RGB).all(-1, keepdims=True), 255, RGB)),
    (Image.fromarray(DEEP), int(DEEP[2, 2]), np.where(grey(DEEP) == DEEP[2, 2], 255, grey(np.rint(DEEP / 257)))),
], ids=["palette index", "palette alphas", "grey", "colour", "16-bit"])
def test_a_transparent_colour_of_a_png_is_white(image, clear, expected):
    np.testing.assert_array_equal(load_picture(encode(image, transparency=clear)), expected)


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_32_bit_grey_is_levels_or_refused(dtype):
    np.testing.assert_array_equal(load_picture(Image.fromarray(GREY.astype(dtype))), grey(GREY))
    for beyond in (-1, 256, 65535):
        with pytest.raises(PictureError, match=r"grey levels go 0\.\.255"):
            load_picture(Image.fromarray(np.array([[0, beyond]], dtype)))


def test_float_files_that_could_be_two_things_are_refused():
    for value, reason in ((0.5, "nearly black"), (1.0, "nearly black"), (np.nan, "grey"), (np.inf, "grey")):
        with pytest.raises(PictureError, match=reason):
            load_picture(Image.fromarray(np.array([[0, value]], np.float32)))
    assert load_picture(Image.fromarray(np.zeros((2, 3), np.float32))).max() == 0


def test_cmyk_and_other_colour_spaces():
    ink = rng.integers(0, 256, (5, 7, 4), dtype=np.uint8)
    expected = (255 - ink[..., :3].astype(float)) * (255 - ink[..., 3:].astype(float)) / 255
    image = Image.frombytes("CMYK", (7, 5), ink.tobytes())
    for source in (image, encode(image, "TIFF")):
        assert np.abs(load_picture(source) - expected).max() <= 1
    for mode in ("YCbCr", "HSV", "RGBX"):
        assert np.abs(load_picture(Image.fromarray(np.full((2, 2, 3), 200, np.uint8)).convert(mode)) - 200.0).max() <= 1


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_the_first_frame_of_an_animation(kind):
    frames = [Image.new("RGB", (6, 4), colour) for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encode(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    np.testing.assert_array_equal(load_picture(data), np.broadcast_to([255, 0, 0], (4, 6, 3)))


TURNED = {0: RGB, 1: RGB, 2: RGB[:, ::-1], 3: np.rot90(RGB, 2), 4: RGB[::-1], 5: RGB.swapaxes(0, 1),
          6: np.rot90(RGB, -1), 7: np.rot90(RGB, 2).swapaxes(0, 1), 8: np.rot90(RGB), 9: RGB}


@pytest.mark.parametrize("orientation", TURNED)
def test_the_camera_was_held_so(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    np.testing.assert_array_equal(load_picture(encode(Image.fromarray(RGB), exif=exif)), TURNED[orientation])
    np.testing.assert_array_equal(upright(RGB, orientation), TURNED[orientation])


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_a_damaged_orientation_turns_nothing():
    for exif in (b"Exif\0\0garbage", b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x02\0\0\0\x02ab\0\0"):
        np.testing.assert_array_equal(load_picture(encode(Image.fromarray(RGB), exif=exif)), RGB)


# ------------------------------------------------------------------------------------------- where pictures come from

def test_sources(tmp_path):
    data = encode(Image.fromarray(RGB))
    path = tmp_path / "ein schönes Bild 猫.png"
    path.write_bytes(data)
    percent = "".join(f"%{byte:02x}" for byte in data)
    coded = base64.b64encode(data).decode()
    for source in (path, str(path), path.as_uri(), path.as_uri().replace("file:", "FILE:"), data, bytearray(data),
                   memoryview(data), f"data:image/png;base64,{coded}", f"DATA:;BASE64,{coded[:40]}\n{coded[40:]}",
                   f"data:image/png,{percent}", Image.open(path), Image.fromarray(RGB), RGB):
        np.testing.assert_array_equal(load_picture(source), RGB)


@pytest.mark.parametrize(("pixels", "expected"), [
    (GREY, grey(GREY)), (GREY[..., None], grey(GREY)), (GREY > 99, grey((GREY > 99) * 255)),
    (RGB[::-1, ::2], RGB[::-1, ::2]),
    (DEEP, grey(np.rint(DEEP / 257))), (DEEP.astype(">u2"), grey(np.rint(DEEP / 257))),
    (RGB / 255, RGB), (RGB.astype(np.float32) / 255, RGB), (np.array([[0, 0.25, 1]], np.float16), grey([[0, 64, 255]])),
    (np.dstack([RGB, np.full_like(GREY, 255)]), RGB), (np.dstack([RGB, np.zeros_like(GREY)]), np.full_like(RGB, 255)),
], ids=["grey", "grey axis", "bool", "strided", "uint16", "big-endian", "float64", "float32", "float16", "opaque",
        "clear"])
def test_arrays(pixels, expected):
    got = load_picture(pixels)
    assert got.dtype == np.uint8
    np.testing.assert_array_equal(got, expected)


def test_what_comes_out_is_a_copy():
    before = RGB.copy()
    load_picture(RGB)[:] = 0
    np.testing.assert_array_equal(RGB, before)


@pytest.mark.parametrize(("source", "reason"), [
    (RGB.astype(np.int64), "does not say its range"), (RGB.astype(np.float32), r"floating pixels go 0\.\.1"),
    (np.array([[-0.1]]), "floating"), (np.array([[np.nan]]), "floating"), (np.zeros((2, 2), complex), "range"),
    (np.zeros((3, 8, 9), np.uint8), "colour last"), (np.zeros((1, 8, 9, 3), np.uint8), "no picture"),
    (np.zeros((4, 4, 2), np.uint8), "no picture"), (np.zeros(5, np.uint8), "no picture"), (np.array([["x"]]), "range"),
    (np.zeros((0, 5, 3), np.uint8), "no pixels"), (np.zeros((5, 0)), "no pixels"),
    (Image.new("RGB", (0, 4)), "no pixels"),
    (np.broadcast_to(np.uint8(0), (10000, 10000)), "limit"),
    ("http://example.com/a.png", "download"), ("HTTPS://example.com/a.png", "download"),
    ("data:image/png;base64", "comma"), ("data:image/png;base64,AAA", "base64"),
    ("data:image/png;base64,A!==", "base64"),
    ("data:,hello", "not a picture"), ({"url": "a.png"}, "bytes or path.*url"), ({"bytes": None, "path": None}, "none"),
    (base64.b64encode(encode(Image.fromarray(RGB)))[:-2].decode(), "as base64 it holds no picture"),
    (f"data:image/png,{base64.b64encode(b'nothing' * 20).decode()}", "not a picture"),
    ("no such.png", "no such file"), ("", "not a regular"), (Path(), "not a regular"),
    ("a\0b", "not a usable path|no such file"), ("x" * 5000, "not a usable path|no such file"),
    (None, "not NoneType"), (7, "not int"), ([RGB], "not list"), (b"", "not a picture"), (b"hello", "not a picture"),
    (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "PostScript"),
    (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a picture"),
])
def test_refused_with_a_reason(source, reason):
    with pytest.raises(PictureError, match=reason):
        load_picture(source)


# --------------------------------------------------------------------------------------------------- hostile pictures

def png_header(width, height):
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    body = zlib.compress(bytes(100))
    return (b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
            + struct.pack(">I", len(body)) + b"IDAT" + body + struct.pack(">I", zlib.crc32(b"IDAT" + body)))


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [9460, 20_000, 2_000_000])
def test_a_decompression_bomb_is_refused_from_its_header(side):
    with pytest.raises(PictureError, match=f"limit is {MAX_SOURCE_PIXELS:,}"):
        load_picture(png_header(side, side))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
def test_a_file_cut_short_is_refused(kind):
    data = encode(Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)), kind)
    for keep in (0.2, 0.5, 0.8):
        with pytest.raises(PictureError):
            load_picture(data[: int(len(data) * keep)])


def test_a_pipe_is_refused_and_not_waited_on(tmp_path):
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.png")
        with pytest.raises(PictureError, match="not a regular file"):
            load_picture(tmp_path / "pipe.png")
    with pytest.raises(PictureError, match="not a regular file"):
        load_picture(tmp_path)


SEEDS = [encode(Image.fromarray(RGB), kind) for kind in (
    "PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "TGA", "PCX", "ICO", "JPEG2000", "DDS", "SGI", "AVIF")]


@pytest.mark.filterwarnings("ignore")                       # Pillow warns of much on the way
@given(st.sampled_from(SEEDS), st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=8))
def test_damaged_bytes_give_a_picture_or_a_picture_error(data, hits):
    data = bytearray(data)
    for where, value in hits:
        data[min(int(where**2 * len(data)), len(data) - 1)] = value           # the header is hit more often
    try:
        got = load_picture(data)
    except PictureError:
        return
    assert got.ndim == 3 and got.shape[2] == 3 and got.dtype == np.uint8


# --------------------------------------------------------------------------------------------------------------- size

GOLDEN_SIZES = {(480, 640): (476, 644), (1080, 1920): (1092, 1932), (42, 42): (56, 56), (14, 14): (56, 56),
                (70, 70): (56, 56), (98, 98): (112, 112), (300, 400): (308, 392), (28, 5000): (28, 5012),
                (4000, 6000): (2912, 4368), (1365, 2048): (1372, 2044), (10, 30): (56, 112), (13, 200): (28, 224),
                (13, 100): (28, 168), (1, 100): (28, 560), (10, 1900): (28, 784), (1, 200): (28, 812)}


@pytest.mark.parametrize(("shape", "expected"), GOLDEN_SIZES.items())
def test_golden_sizes(shape, expected):
    got = target_size(shape, HUB)
    assert tuple(got) == expected and got.dtype == np.int64 and got.shape == (2,)


def test_golden_sizes_with_a_lower_limit():
    assert tuple(target_size((1080, 1920, 3), SMALL)) == (728, 1316)
    assert tuple(target_size((4000, 6000), SMALL)) == (812, 1204)
    assert tuple(target_size((30, 6000), TIGHT)) == (28, 3444)         # never less than one block
    assert tuple(target_size((1002, 1001), SMALL)) == (980, 980)              # within the limit, but not once rounded


@given(st.integers(1, 9000), st.integers(1, 9000))
def test_size_laws(y, b):
    if max(y, b) > 200 * min(y, b):
        with pytest.raises(PictureError, match="at most 200 times"):
            target_size((y, b), HUB)
        return
    h, u = target_size((y, b), HUB)
    assert h % 28 == 0 and u % 28 == 0 and h * u >= HUB.min_pixels
    assert h * u <= HUB.max_pixels or min(h, u) == 28
    if h * u <= HUB.max_pixels and max(h, u) <= 200 * min(h, u):
        assert tuple(target_size((h, u), HUB)) == (h, u)    # a picture that fits is left alone: resizing twice is once


# ------------------------------------------------------------------------------------------------------------- resize

def noise(seed, *shape):
    hard = np.random.default_rng(seed).integers(0, 2, shape) * 255
    soft = np.random.default_rng(seed).integers(0, 256, shape)
    return (hard if seed % 2 else soft).astype(np.uint8)


sides = st.one_of(st.integers(1, 12), st.integers(1, 120))


@given(sides, sides, sides, st.integers(0, 9))
def test_one_axis_is_pillows(n_in, n_out, other, seed):
    """One axis at a time there is no order to choose, so any Pillow will do."""
    tall = noise(seed, n_in, other, 3)
    expected = np.asarray(Image.fromarray(tall).resize((other, n_out), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(resize(tall, np.array([n_out, other])), expected)
    wide = np.ascontiguousarray(tall.swapaxes(0, 1))
    np.testing.assert_array_equal(resize(wide, np.array([other, n_out])), expected.swapaxes(0, 1))


@given(sides, sides, sides, sides, st.integers(0, 9))
def test_two_axes_are_two_resizes_in_the_order_of_the_rule(y, b, h, u, seed):
    pixels = noise(seed, y, b, 3)
    between = (b, h) if height_first((y, b), (h, u)) else (u, y)
    halfway = Image.fromarray(pixels).resize(between, Image.Resampling.BICUBIC)
    expected = np.asarray(halfway.resize((u, h), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(resize(pixels, np.array([h, u])), expected)


@pytest.mark.parametrize(("source", "target", "first"), [
    ((480, 640), (476, 644), True),         # loses 4 rows, gains columns
    ((60, 60), (11, 36), True), ((60, 60), (12, 36), False),      # 49 rows against 24 columns; 48 is just not more
    ((100, 130), (112, 140), False), ((4, 3), (7, 7), False), ((2, 2), (4, 7), False),      # rows gained
    ((85, 26), (19, 25), True), ((34, 33), (19, 8), False), ((5, 9), (5, 4), False),
])
def test_order_of_the_axes(source, target, first):
    assert height_first(source, target) == first


@given(sides, sides, sides, sides, st.integers(0, 9))
def test_the_float_resize_is_the_same_filter(y, b, h, u, seed):
    """Apart: half a level at the end, half a level times the last axis' absolute weights for the one between."""
    pixels, size = noise(seed, y, b, 3), np.array([h, u])
    last = (b, u) if height_first((y, b), (h, u)) else (y, h)
    spread = np.abs(bicubic_weights(*last)[1]).sum(1).max()
    apart = np.abs(resize_float(pixels, size) - resize(pixels, size)).max()
    assert apart <= 0.5 + 0.5 * spread + 0.01 < 1.2


@given(st.integers(1, 3000), st.integers(1, 3000))
def test_weights_are_an_average_that_fits_32_bits(n_in, n_out):
    first, weights = bicubic_weights(n_in, n_out)
    assert first.min() >= 0 and len(first) == n_out
    np.testing.assert_allclose(weights.sum(1), 1, rtol=1e-12)
    reach = first[:, None] + np.arange(weights.shape[1])
    assert not weights[reach >= n_in].any()
    assert 255 * np.abs(fixed_point(weights).astype(np.int64)).sum(1).max() + 2**21 < 2**31


@pytest.mark.parametrize("level", [0, 1, 127, 255])
def test_a_flat_picture_stays_flat(level):
    for size in ((28, 56), (3, 90), (1, 1), (200, 2)):
        assert (resize(np.full((37, 41, 3), level, np.uint8), np.array(size)) == level).all()


def test_resize_takes_bytes_and_a_size():
    with pytest.raises(ValueError, match="uint8"):
        resize(np.zeros((4, 4, 3)), np.array([28, 28]))
    with pytest.raises(ValueError, match="positive"):
        resize(RGB, np.array([28, 0]))


# ---------------------------------------------------------------------------------------------------------- normalise

def test_normalise_golden_values():
    ends = np.array([[[0, 0, 0], [255, 255, 255]]], np.uint8)                 # 1 2 3
    got = normalise(ends, HUB)
    assert got.shape == (3, 1, 2) and got.dtype == np.float32
    np.testing.assert_allclose(got[:, 0, 0], (-1.792263, -1.752097, -1.480220), atol=1e-6)
    np.testing.assert_allclose(got[:, 0, 1], (1.930336, 2.074884, 2.145897), atol=1e-6)


def test_normalise_casts_where_the_reference_casts():
    levels = np.arange(256, dtype=np.uint8)
    got = normalise(np.stack([levels] * 3, -1)[None], HUB)                    # 1 256 3 -> 3 1 256
    for c in range(3):
        for x in (1, 3, 100, 254):
            scaled = np.float32(float(x) * (1 / 255))
            assert got[c, 0, x] == (scaled - np.float32(HUB.image_mean[c])) / np.float32(HUB.image_std[c])


def test_the_passes_keep_their_contracts():
    with session(verify=True, record="*") as s:
        size = target_size(RGB.shape, HUB)
        normalise(resize(RGB, size), HUB)
    assert list(s.trace) == ["picture.target_size", "picture.resize", "picture.normalise"]
    assert s.trace["picture.normalise"].shape == (3, *size)
