"""Whatever a picture comes as -> pixels (y, b, 3): uint8, upright, RGB, transparency laid on white.

Files, bytes, `file:` and `data:` URLs, PIL images, arrays; and frames of a video, each of them any of
these. The header is checked before a pixel is decoded.

Not here: resizing (`passes/picture.py`), colour management, downloads, video files. Read next:
`prepare.py`.
"""

from __future__ import annotations

import base64
import binascii
import io
import os
import re
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..door.looks import kind_of, kind_of_file, shortened
from ..passes.picture import MAX_SOURCE_PIXELS, PictureError, check_size

if TYPE_CHECKING:
    from PIL import Image

ORIENTATION = 0x0112                      # the EXIF tag


def load_picture(source: Any) -> np.ndarray:
    """Pixels of a picture: (y, b, 3) uint8, upright, transparency laid on white, first frame of an
    animation.

    source: path (str or Path), bytes, `file:` or `data:` URL, PIL image, or an array (y, b) or (y, b,
        1|3|4),
        colour last, of bool, uint8, uint16 (0..65535) or floating point (0..1). Refused rather than
        guessed at: floating arrays beyond 0..1, other integers, 32-bit files (modes I, F) that are not
        plainly grey levels 0..255. 16-bit grey is scaled by 1/257; Pillow's own conversion would clip
        all above 255 to white. Raises PictureError, and nothing else, for whatever cannot be read.
    """
    from PIL import Image  # when first needed: it takes a while to import
    if isinstance(source, np.ndarray):
        return _to_rgb(Image.fromarray(_eight_bit(source)))
    if isinstance(source, Image.Image):
        return _decode(source)
    name, opened = _open(source)
    try:
        with warnings.catch_warnings():
            # `check_size` has the last word
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(opened) as image:
                return _decode(image)
    except PictureError as error:
        raise PictureError(f"{name}: {error}") from error
    except Image.DecompressionBombError as error:
        raise PictureError(f"{name}: {error} Here the limit is {MAX_SOURCE_PIXELS:,} pixels") from error
    except Exception as error:              # decoders raise nearly every type there is on a damaged file
        kind = kind_of(opened.getvalue()) if isinstance(opened, io.BytesIO) else kind_of_file(opened)
        raise PictureError(f"{name}: not a picture: it is {kind}" if kind else
                           f"{name}: not a picture that can be read ({_reason(error)})") from error


def _open(source: Any) -> tuple[str, Any]:
    """A name for messages, and what Pillow opens."""
    if isinstance(source, bytes | bytearray | memoryview):
        data = bytes(source)
        return f"picture of {len(data)} bytes", io.BytesIO(data)
    if isinstance(source, os.PathLike):
        return str(source), _regular_file(Path(source))
    if not isinstance(source, str):
        raise PictureError("a picture is a path, bytes, a URL, a PIL image or an array, "
                           f"not {type(source).__name__}")
    scheme = source.partition(":")[0].lower()
    if scheme in ("http", "https"):
        raise PictureError(f"{shortened(source)}: download the picture first; only files and data URLs are "
                           "opened")
    if scheme == "data":
        return "data URL", io.BytesIO(_data_of_url(source))
    path = _path_of_url(source) if scheme == "file" else Path(source)
    return str(path), _regular_file(path)


def _path_of_url(url: str) -> Path:
    """The path of a `file:` URL."""
    from urllib.parse import urlsplit
    from urllib.request import url2pathname
    return Path(url2pathname(urlsplit(url).path))


def _regular_file(path: Path) -> Path:
    """The path itself, when a file is there. A pipe or a device is refused: one could wait on it for
    ever."""
    try:
        regular, there = path.is_file(), path.exists()
    except (OSError, ValueError) as error:                  # a name too long for the system, a NUL in it
        _refuse_base64(str(path))
        why = error.strerror if isinstance(error, OSError) else error      # the rest is the name again
        raise PictureError(f"{shortened(str(path))!r}: not a usable path ({why})") from None
    if not there:
        _refuse_base64(str(path))
    if not regular:
        what = "a folder, not a regular file; name a picture in it" if path.is_dir() else \
            "not a regular file" if there else "no such file"
        raise PictureError(f"{shortened(str(path), 240)}: {what}")
    return path


def _refuse_base64(text: str) -> None:
    """Raise PictureError for a picture's base64 that was given where a path should be."""
    long = len(text) > 240 and re.fullmatch(r"[A-Za-z0-9+/=_\s-]+", text)
    if long or (kind_of(text.encode("utf-8", "replace")) or "").startswith("base64"):
        raise PictureError(f"{text[:12]}... ({len(text):,} characters): this is base64, not a path; put "
                           "`data:image/png;base64,` in front of it (jpeg for a JPEG)")


def _data_of_url(url: str) -> bytes:
    """The bytes of `data:[type][;base64],...`."""
    from urllib.parse import unquote_to_bytes
    head, comma, body = url.partition(",")
    if not comma:
        raise PictureError("data URL: no comma before the data")
    data = unquote_to_bytes(body)
    if not head.lower().endswith(";base64"):
        return data
    try:
        return base64.b64decode(re.sub(rb"\s", b"", data), validate=True)
    except binascii.Error as error:
        raise PictureError(f"data URL: its base64 is damaged ({error})") from error


def _decode(image: Image.Image) -> np.ndarray:
    """An opened image -> (y, b, 3) uint8. The header is checked before a pixel is decoded."""
    if image.format == "EPS":
        raise PictureError("PostScript is a program, not a picture; convert it to PNG first")
    check_size(image.height, image.width)
    try:
        image.load()
        return upright(_to_rgb(image), _orientation(image))
    except PictureError:
        raise
    except Exception as error:                               # as above: decoders raise nearly every type
        raise PictureError(f"cannot be decoded: damaged or cut short ({_reason(error)})") from error


def _reason(error: Exception) -> str:
    text = str(error) or type(error).__name__
    return "its bytes are of no known format" if "cannot identify image file" in text else text


def _to_rgb(image: Image.Image) -> np.ndarray:
    """An image of any mode -> (y, b, 3) uint8. Transparency is the reference's: as RGBA, over opaque
    white."""
    if image.mode[0] in "IF":                                   # I, I;16*, F: grey deeper than 8 bits
        return np.repeat(_grey_levels(image)[:, :, None], 3, axis=2)                      # y b -> y b 3
    if image.mode == "La":                               # premultiplied grey has one way out, through LA
        image = image.convert("LA")
    if image.has_transparency_data:
        from PIL import Image
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return np.array(image.convert("RGB"))


def _grey_levels(image: Image.Image) -> np.ndarray:
    """Grey of 16 or 32 bits -> (y, b) uint8."""
    levels = np.asarray(image)
    if image.mode.startswith("I;16") or (image.format == "PPM" and image.mode == "I"):    # I: 16-bit PGM
        clear = levels == image.info.get("transparency", -1)
        return np.where(clear, np.uint8(255), _scale_16(levels))
    if not (levels.min() >= 0 and levels.max() <= 255):         # so written that a NaN fails
        raise PictureError(f"mode {image.mode} holds {levels.min()}..{levels.max()}, grey levels go "
                           "0..255: scale it, or give an array (uint16, or floating point 0..1)")
    if image.mode == "F" and 0 < levels.max() <= 1:
        raise PictureError("mode F holds 0..1, which may mean nearly black or the whole range: multiply "
                           "by 255, or give an array, whose range is 0..1")
    return np.rint(levels).astype(np.uint8)


def _eight_bit(pixels: np.ndarray) -> np.ndarray:
    """An array of a picture as uint8, grey without a colour axis; the rule is in `load_picture`."""
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]                                                          # y b 1 -> y b
    if pixels.ndim != 2 and (pixels.ndim != 3 or pixels.shape[2] not in (3, 4)):
        raise PictureError(f"array of shape {list(pixels.shape)} is no picture: it must be [y b], [y b "
                           "1], [y b 3] or [y b 4], colour last")
    check_size(*pixels.shape[:2])
    dtype = pixels.dtype.newbyteorder("=")
    if dtype == np.uint8:
        return np.ascontiguousarray(pixels)
    if dtype == np.bool_:
        return pixels * np.uint8(255)
    if dtype == np.uint16:
        return _scale_16(pixels)
    if not np.issubdtype(dtype, np.floating):
        raise PictureError(f"an array of {dtype} does not say its range: give uint8 (0..255), "
                           "uint16 (0..65535) or floating point (0..1)")
    if not (pixels.min() >= 0 and pixels.max() <= 1):
        raise PictureError(f"{dtype} array holds {pixels.min()}..{pixels.max()}, "
                           "floating pixels go 0..1")
    return np.rint(pixels.astype(np.float64) * 255).astype(np.uint8)


def _scale_16(levels: np.ndarray) -> np.ndarray:
    """0..65535 -> 0..255, to the nearest: 65535 = 255 * 257."""
    return ((levels.astype(np.int64) + 128) // 257).astype(np.uint8)


def _orientation(image: Image.Image) -> int:
    """The camera's note of how it was held, 1..8. A damaged note is no note, as in every viewer."""
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:
        return 1


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turn and mirror (y, b, 3) as EXIF orientation 1..8 asks; any other value changes nothing."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)                                                   # y b 3 -> b y 3
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


# ------------------------------------------------------------------------ frames of a video -> t y b 3

def as_frames(frames: Any) -> list[Any] | np.ndarray:
    """Frames that can be counted and chosen from: an array (t, y, b, 3) as it is, anything else in
    order as a list.

    Raises PictureError for what is no series of frames, a video file above all: those are not read.
    """
    if isinstance(frames, str | bytes | bytearray | memoryview | Mapping) or not isinstance(frames,
                                                                                            Iterable):
        raise PictureError(f"a video is a list of frames, not one {type(frames).__name__}; video files "
                           "are not read: extract the frames first (ffmpeg -i video.mp4 -vf fps=2 "
                           "frame%04d.png)")
    if not isinstance(frames, np.ndarray):
        return list(frames)
    if frames.ndim != 4:
        raise PictureError(f"a video as one array is [t y b colour], not {list(frames.shape)}")
    return frames


def load_frames(frames: Iterable[Any]) -> np.ndarray:
    """Frames -> (t, y, b, 3) uint8; each may be whatever `load_picture` takes, all of them of one size.

    Raises PictureError that names the frame (counted from 0), and as `as_frames` does.
    """
    loaded = [_load_frame(n, frame) for n, frame in enumerate(as_frames(frames))]
    if not loaded:
        raise PictureError("a video needs at least one frame")
    for n, frame in enumerate(loaded):
        if frame.shape != loaded[0].shape:
            raise PictureError(f"frame {n} is {frame.shape[0]} x {frame.shape[1]} (height x width), "
                               f"frame 0 is {loaded[0].shape[0]} x {loaded[0].shape[1]}; one video has "
                               "one size")
    return np.stack(loaded)                                                       # y b 3 each -> t y b 3


def _load_frame(n: int, frame: Any) -> np.ndarray:
    try:
        return load_picture(frame)
    except PictureError as error:
        raise PictureError(f"frame {n}: {error}") from error
