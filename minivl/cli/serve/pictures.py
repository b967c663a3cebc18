"""What a request's messages hold to look at: brought here, sized from its header, counted in tokens. No
pixel is decoded yet, but for the first frame of a video file.

Read next: `places.py`; `run/messages.py`, the dialects; `worker.py`, where pixels are decoded.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ...config import PreprocessorConfig
from ...door.errors import Error
from ...passes.picture import PictureError, check_size, target_size
from ...passes.prompt import is_file
from ...run.footage import Footage, Readable
from ...run.inputs import Inputs
from ...run.messages import one_form
from ...run.open_picture import as_frames, open_source
from ...run.prepare import Processor, file_size, frames_of
from .limits import CHARACTERS_A_TOKEN, FRAMES, ServerLimits
from .places import AllowedPlaces
from .refused import Refused

if TYPE_CHECKING:
    from PIL import Image

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")  # of Pillow's many: each is a decoder in native code
# of video files: what cameras and browsers write
CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm"
CODECS = ("h264", "hevc", "av1", "vp9", "vp8", "mpeg4")
KEYS = {"image": ("min_pixels", "max_pixels"), "video": ("fps", "min_pixels", "max_pixels"),
        "video file": ("fps", "nframes", "min_frames", "max_frames", "video_start", "video_end",
                       "min_pixels", "max_pixels")}
Message = dict[str, Any]
Size = tuple[int, int]                    # height, width in pixels


def opened(messages: list[Message], parts: Processor, places: AllowedPlaces, limits: ServerLimits,
           goes: Callable[[], None]) -> list[Message]:
    """The messages in the one form, with opened pictures and videos (undecoded) for whatever named them.
    goes: raises where nobody waits for that any more. Raises Refused, saying which item, for what is too
    much, not allowed or no picture."""
    try:
        checked = one_form(messages, parts.template)
    except Error as error:
        raise Refused(str(error), param="messages") from None
    _check_text(checked, limits)
    budget = PictureBudget(limits)
    for n, message in enumerate(checked):
        items = message["content"] if isinstance(message["content"], list) else []
        for m, item in enumerate(items):
            if "text" not in item:
                where = f"messages[{n}]['content'][{m}]"
                try:
                    _open(item, parts, places, budget, goes)
                except Refused as refused:
                    refused.param = refused.param or where
                    raise
                except Error as error:
                    raise Refused(f"{where}: {error}", param=where,
                                  code=f"invalid_{item['type']}") from None
    return checked


def _check_text(messages: list[Message], limits: ServerLimits) -> None:
    texts = (text for message in messages for text in _texts(message["content"]))
    most = limits.prompt_tokens * CHARACTERS_A_TOKEN
    if (count := sum(map(len, texts))) > most:
        raise Refused(f"the texts have {count:,} characters, at most {most:,} are read for "
                      f"{limits.prompt_tokens:,} tokens; shorten them", 400, "messages",
                      "context_length_exceeded")


def _texts(content: Any) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    else:
        yield from (item["text"] for item in content if "text" in item)


class PictureBudget:
    """What is left of the limits while a request's pictures are opened."""

    def __init__(self, limits: ServerLimits):
        self.limits = limits
        self.pictures = self.frames = self.pixels = self.seen = self.tokens = 0

    def take(self, sizes: list[Size], seen: Size, tokens: int) -> None:
        """Count pictures of these (height, width), all shown at the size `seen`. Raises Refused."""
        self.pictures += len(sizes)
        self.pixels += sum(height * width for height, width in sizes)
        self._check(seen, len(sizes), tokens)

    def take_file(self, size: Size, frames: int, seen: Size, tokens: int) -> None:
        """Count the shown frames of a video file, which come one after the other. Raises Refused."""
        self.frames += frames
        self.pixels += size[0] * size[1]
        self._check(seen, frames, tokens)

    def _check(self, seen: Size, shown: int, tokens: int) -> None:
        self.seen += seen[0] * seen[1] * shown
        self.tokens += tokens
        for name, count, most in (("pictures", self.pictures, self.limits.pictures),
                                  ("frames of video files", self.frames, self.limits.frames),
                                  ("pixels, as they came", self.pixels, self.limits.pixels),
                                  ("pixels, as the model would see them", self.seen, self.limits.pixels),
                                  ("tokens of pictures", self.tokens, self.limits.prompt_tokens)):
            if count > most:
                raise Refused(f"the request has {count:,} {name} or more; at most {most:,} are taken. "
                              "Shrink the pictures, or send fewer; fewer frames of a video file are "
                              "shown by fps, nframes or max_frames", 413, code="too_many_pixels")


def _open(item: Message, parts: Processor, places: AllowedPlaces, budget: PictureBudget,
          goes: Callable[[], None]) -> None:
    """Put opened pictures in place of what an item names, and count them."""
    kind = item["type"]
    file = kind == "video" and is_file(item["video"])
    known = KEYS["video file" if file else kind]
    if other := next((key for key in item if key not in ("type", kind, *known)), None):
        raise Refused(f"a {kind} has the key {other}, which this server does not take; it may have "
                      f"{', '.join(known)}", code="unsupported_parameter")
    config = parts.settings(kind)
    if file:
        return _open_file(item, config, places, budget, goes)
    config = replace(config, **{key: item[key] for key in ("min_pixels", "max_pixels") if key in item})
    given = as_frames(item["video"]) if kind == "video" else [item["image"]]
    if len(given) + budget.pictures > budget.limits.pictures:
        budget.take([(0, 0)] * len(given), (0, 0), 0)                  # which refuses them unopened
    pictures = [_picture(source, places, budget.limits) for source in given]
    sizes = [(one.height, one.width) for one in pictures]
    if sizes:
        budget.take(sizes, *_seen(kind, sizes, config))
    item[kind] = pictures if kind == "video" else pictures[0]


def _open_file(item: Message, config: PreprocessorConfig, places: AllowedPlaces, budget: PictureBudget,
               goes: Callable[[], None]) -> None:
    """The same for a video file. It is read through once for the times of its frames, and its first frame
    is decoded."""
    data = _bytes_of(item["video"], places, budget.limits, "video")
    footage = Footage.open(data, Readable(CONTAINERS, CODECS, FRAMES, goes))
    shown, _ = frames_of(footage, item)
    height, width = (int(side) for side in file_size(shown.shape, item, config))
    budget.take_file(footage.size, len(shown), (height, width), _tokens((height, width), len(shown), config))
    item["video"] = footage


def _seen(kind: str, sizes: list[Size], config: PreprocessorConfig) -> tuple[Size, int]:
    """(height, width) at which pictures are shown, and how many tokens that is: a token for each cell of
    each picture, or of two frames of a video."""
    for height, width in sizes:
        check_size(height, width)
    settings = config.for_frames(len(sizes)) if kind == "video" else config
    height, width = (int(side) for side in target_size(sizes[0], settings))
    return (height, width), _tokens((height, width), len(sizes), config)


def _tokens(size: Size, frames: int, config: PreprocessorConfig) -> int:
    return -(-frames // 2) * (size[0] // config.factor) * (size[1] // config.factor)


def _picture(source: Any, places: AllowedPlaces, limits: ServerLimits) -> Image.Image:
    """A picture whose header is read and whose pixels are not. Raises PictureError or Refused."""
    from PIL import Image
    data = _bytes_of(source, places, limits)
    try:
        with warnings.catch_warnings():
            # `PictureBudget` has the last word
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            return Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError:
        raise Refused("a picture has more pixels than are ever decoded; shrink it", 413,
                      code="too_many_pixels") from None
    except Exception:  # decoders raise nearly every type there is on a damaged file
        raise PictureError(f"not a picture that can be read; {', '.join(FORMATS)} are taken") from None


def _bytes_of(source: Any, places: AllowedPlaces, limits: ServerLimits, what: str = "picture") -> bytes:
    if isinstance(source, Mapping) and source.keys() == {"url"}:  # a frame as an image_url has it
        source = source["url"]
    if not isinstance(source, str):
        raise PictureError(f"a {what} is a data: URL, as a text")
    scheme = source.partition(":")[0].lower()
    if scheme == "data":
        return bytes(open_source(source, what)[1].getvalue())
    if scheme in ("http", "https"):
        return places.fetch(source, limits.body, what)
    return places.read(source, limits.body, what)


def check_length(inputs: Inputs, limits: ServerLimits) -> None:
    """Raise Refused for a prepared prompt of more tokens than are taken."""
    if (count := len(inputs.input_ids)) > limits.prompt_tokens:
        raise Refused(f"the prompt has {count:,} tokens, at most {limits.prompt_tokens:,} are taken; "
                      "shorten it, or shrink its pictures", 400, "messages", "context_length_exceeded")
