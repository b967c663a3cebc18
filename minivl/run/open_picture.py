"""Whatever a picture comes as -> pixels (y, b, 3): uint8, upright, RGB, transparency laid on white.

Files, bytes, `file:` and `data:` URLs, PIL images, arrays; and frames of a video, each of them any of
these. The header is checked before a pixel is decoded.

Not here: resizing (`passes/picture.py`), colour management, downloads, video files (`footage.py`). Read
next: `prepare.py`.
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

from ..door.looks import kind_of, kind_of_file
from ..passes.picture import MAX_SOURCE_PIXELS, PictureError, check_size

if TYPE_CHECKING:
    from PIL import Image

ORIENTATION = 0x0112                      # the EXIF tag
BITS, PHOTOMETRIC = 258, 262              # tags of TIFF: bits a sample; 0 where white is 0
BASE64 = re.compile(r"[A-Za-z0-9+/\s]+={0,2}\s*")


def load_picture(source: Any) -> np.ndarray:
    """Pixels of a picture: (y, b, 3) uint8, upright, transparency laid on white, first frame of an
    animation.

    source: path (str or Path), bytes, `file:` or `data:` URL, base64 (where no file is called so, as in
        transformers), PIL image, a row of a data set ({"bytes": ..., "path": ...}), or an array (y, b)
        or (y, b, 1|3|4), colour last, of bool, uint8, uint16 (0..65535) or floating point (0..1).
    Refused rather than guessed at: floating arrays beyond 0..1, other integers, 32-bit files (modes I,
    F) that are not plainly grey levels 0..255. 16-bit grey is scaled by 1/257; Pillow's own conversion
    would clip all above 255 to white. Raises PictureError, and nothing else, for whatever cannot be
    read.
    """
    from PIL import Image  # when first needed: it takes a while to import
    if isinstance(source, np.ndarray):
        return _to_rgb(Image.fromarray(_eight_bit(source)))
    if isinstance(source, Image.Image):
        return _decode(source)
    name, opened = open_source(source)
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


def open_source(source: Any, what: str = "picture") -> tuple[str, Any]:
    """A name for messages, and the file itself: a path to one that is there, or its bytes in memory.

    what: "picture" or "video". Raises PictureError for what is neither, or is somewhere else.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        data = bytes(source)
        return f"{what} of {len(data)} bytes", io.BytesIO(data)
    if isinstance(source, Mapping):
        return open_source(_of_row(source, what), what)
    if isinstance(source, os.PathLike):
        return str(source), _regular_file(Path(source), what)
    if not isinstance(source, str):
        raise PictureError(f"a {what} is a path, bytes, a URL, "
                           + ("a PIL image or an array, " if what == "picture" else "or a list of frames, ")
                           + f"not {type(source).__name__}")
    scheme = source.partition(":")[0].lower()
    if scheme in ("http", "https"):
        raise PictureError(f"{named(source)}: download the {what} first; only files and data URLs are "
                           "opened")
    if scheme == "data":
        return "data URL", io.BytesIO(_data_of_url(source))
    plain = _bare_base64(source) if scheme != "file" and what == "picture" else None
    if plain is not None:
        return named(source), io.BytesIO(plain)
    path = _path_of_url(source) if scheme == "file" else Path(source)
    return named(str(path)), _regular_file(path, what)


def _of_row(row: Mapping[str, Any], what: str) -> Any:
    """What a row of a data set holds: its bytes, else the file at its path."""
    given = {key: value for key, value in row.items() if value is not None}
    if not given or not given.keys() <= {"bytes", "path"}:
        raise PictureError(f"a {what} as a dict has the keys bytes or path, as rows of data sets do, "
                           f"not {', '.join(map(str, given)) or 'none'}")
    return given.get("bytes", given.get("path"))


def named(source: str) -> str:
    """What to call a picture in a message: its path or URL, but never a payload."""
    if source[:5].lower() == "data:":
        return "data URL"
    if len(source) <= (64 if BASE64.fullmatch(source) else 300):
        return source
    kind = "base64" if BASE64.fullmatch(source) else "text"
    return f"{kind} of {len(source):,} characters, {source[:12]}..."


def _bare_base64(text: str) -> bytes | None:
    """The bytes of a picture whose base64 the text is. None for a text that is the name of a file, and
    for one that holds no picture."""
    if not BASE64.fullmatch(text) or _is_file(Path(text)):
        return None
    try:
        data = base64.b64decode(re.sub(r"\s", "", text), validate=True)
    except binascii.Error:
        return None
    return data if _is_picture(data) else None


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):                           # a name too long for the system, a NUL in it
        return False


def _is_picture(data: bytes) -> bool:
    """Whether Pillow knows the format, from the header alone."""
    from PIL import Image
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            Image.open(io.BytesIO(data)).close()
    except Image.DecompressionBombError:
        return True                                   # of which `load_picture` says that it is large
    except Exception:
        return False
    return True


def _path_of_url(url: str) -> Path:
    """The path of a `file:` URL.

    Most are made by gluing `file://` and a path, `#`, `?`, `%` and relative ones too, so what follows
    is a name as it stands when such a file is there: all that qwen-vl-utils knows
    (QwenLM/Qwen3-VL#1084).
    Else `%20` and its like are decoded, as RFC 8089 wants.
    """
    from urllib.parse import unquote_to_bytes
    glued = url.partition(":")[2].removeprefix("//")
    if _is_file(Path(glued)):
        return Path(glued)
    path = os.fsdecode(unquote_to_bytes(re.sub("^localhost(?=/)", "", glued)))
    return Path(re.sub(r"^/(?=[A-Za-z]:)", "", path) if os.name == "nt" else path)


def _regular_file(path: Path, what: str) -> Path:
    """The path itself, when a file is there. A pipe or a device is refused: one could wait on it for
    ever."""
    try:
        regular, there = path.is_file(), path.exists()
    except (OSError, ValueError) as error:                  # a name too long for the system, a NUL in it
        reason = getattr(error, "strerror", None) or error        # str(error) repeats the whole name
        raise PictureError(f"{named(str(path))!r}: not a usable path ({reason})"
                           f"{_as_base64(path)}") from error
    if not regular:
        folder = f"a folder, not a regular file; name a {what} in it" if path.is_dir() \
            else "not a regular file"
        found = folder if there else f"no such file{_as_base64(path)}"
        raise PictureError(f"{named(str(path))}: {found}")
    return path


def _as_base64(path: Path) -> str:
    """What to add about a text that is no path and may have been meant as base64."""
    meant = len(str(path)) > 64 and BASE64.fullmatch(str(path))
    return "; as base64 it holds no picture: is it whole, and of a picture?" if meant else ""


def _data_of_url(url: str) -> bytes:
    """The bytes of `data:[type][;base64],...`. Where `;base64` is forgotten and the data is nothing
    else, it is meant, as transformers takes it."""
    from urllib.parse import unquote_to_bytes
    head, comma, body = url.partition(",")
    if not comma:
        raise PictureError("data URL: no comma before the data")
    data = unquote_to_bytes(body)
    if not head.lower().endswith(";base64") and not _forgotten(body):
        return data
    try:
        return base64.b64decode(re.sub(rb"\s", b"", data), validate=True)
    except binascii.Error as error:
        raise PictureError(f"data URL: its base64 is damaged ({error})") from error


def _forgotten(body: str) -> bool:
    """Whether the body of a data URL that names no coding is a picture's base64."""
    return len(body) > 64 and _bare_base64(body) is not None


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
        return np.where(clear, np.uint8(255), _scale_16(*_in_range(levels, image)))
    if not (levels.min() >= 0 and levels.max() <= 255):         # so written that a NaN fails
        raise PictureError(f"mode {image.mode} holds {levels.min()}..{levels.max()}, grey levels go "
                           "0..255: scale it, or give an array (uint16, or floating point 0..1)")
    if image.mode == "F" and 0 < levels.max() <= 1:
        raise PictureError("mode F holds 0..1, which may mean nearly black or the whole range: multiply "
                           "by 255, or give an array, whose range is 0..1")
    return np.rint(levels).astype(np.uint8)


def _in_range(levels: np.ndarray, image: Image.Image) -> tuple[np.ndarray, int]:
    """Deep grey with black at 0, and where its white is. A TIFF may have 12 bits, or white at 0: Pillow
    gives both as they stand, which would be nearly black, or a negative."""
    tags = getattr(image, "tag_v2", {})
    white = (1 << int(np.ravel(tags.get(BITS, 16))[0])) - 1
    return (white - levels.astype(np.int64) if tags.get(PHOTOMETRIC) == 0 else levels), white


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


def _scale_16(levels: np.ndarray, white: int = 65535) -> np.ndarray:
    """0..white -> 0..255, to the nearest: 65535 = 255 * 257."""
    return ((levels.astype(np.int64) * 255 + white // 2) // white).astype(np.uint8)


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

    Raises PictureError for what is no series of frames, one file above all (`footage.py` reads those).
    """
    if isinstance(frames, str | bytes | bytearray | memoryview | Mapping) or not isinstance(frames,
                                                                                            Iterable):
        raise PictureError(f"a video is a file, or a list of frames, not one {type(frames).__name__}")
    if not isinstance(frames, np.ndarray) or (frames.dtype == object and frames.ndim == 1):
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
