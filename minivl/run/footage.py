"""A video file, read frame by frame: which frames it has and when they stand, and the pixels of the few
that are shown.

    footage = Footage.open("clip.mp4")
    len(footage), footage.fps, footage.seconds          from the packets: one frame is decoded for it
    for frame in footage.shown(indices): ...            (y, b, 3) uint8, upright; one in memory at a time

Files go through PyAV (`pip install "minivl[video]"`), by their content and never by another file that they
name: playlists and lists of files are refused, and nothing is fetched. Not here: which frames are shown and
at what size (`passes/video.py`). Read next: `prepare.py`, which asks both.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..door.errors import ArgumentError
from ..door.looks import kind_of, kind_of_file
from ..passes.picture import MAX_SOURCE_PIXELS, PictureError, check_size
from .open_picture import open_source

# what FFmpeg may read a file as: containers and bare streams; no playlist, list of files, device or script
FORMATS = ("mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,flv,mpegts,mpeg,mpegvideo,ogg,asf,gif,apng,nut,ivf,"
           "m4v,h264,hevc,av1,obu,mjpeg,yuv4mpegpipe,wtv,rm,mxf,dv,swf,webp_pipe")
SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".m2ts", ".mts",
            ".flv", ".wmv", ".asf", ".ogv", ".3gp", ".3g2", ".ivf", ".nut", ".mxf", ".h264", ".hevc")
MOST_FRAMES = 20_000_000                      # of one file: their times are kept, 8 bytes each
NONE = -1 << 63                               # the stamp of a frame without one
BUFFER = 1 << 20                              # bytes read at a time
SEEK_FROM = 5.0                               # seconds; what begins earlier is read from the start
INSTALL = 'video files need the package av: pip install "minivl[video]", or give a list of frames'


def nothing() -> None:
    """Nobody asks to end the reading."""


@dataclass(frozen=True)
class Readable:
    """What is read of a file.

    formats: containers by FFmpeg's names, with commas; codecs: by theirs, any where there are none;
    frames: the most that a file may have; goes: called for each packet and each decoded frame, what it
    raises ends the reading
    """
    formats: str = FORMATS
    codecs: tuple[str, ...] = ()
    frames: int = MOST_FRAMES
    goes: Callable[[], object] = nothing


@dataclass(frozen=True)
class Footage:
    """What a video file holds. `size` is (height, width) in pixels as it stands upright, `fps` the rate
    that the file states (as the official readers take it), `seconds` (n,) float64 when each frame stands,
    in the order in which they are shown. The file is open only while frames are read."""
    name: str
    source: Any                               # a path, or bytes in memory
    size: tuple[int, int]
    fps: float
    seconds: np.ndarray
    stamps: np.ndarray                        # the same in the stream's own unit; NONE where it says none
    readable: Readable = Readable()

    @classmethod
    def open(cls, source: Any, readable: Readable = Readable()) -> Footage:
        """A video file by path, `file:` or `data:` URL, bytes, or a row of a data set.

        Raises PictureError, which names the file, for what is no video or is damaged at its head;
        ArgumentError without the package av; whatever `readable.goes` raises.
        """
        name, opened = open_source(source, "video")
        with _container(name, opened, readable) as container:
            stream = _stream(name, container, readable)
            stamps = _stamps(name, container, stream, readable)
            rate, seconds = _times(name, stream, stamps)
        size = _first_size(name, opened, readable)
        return cls(name, opened, size, rate, seconds, stamps, readable)

    def __len__(self) -> int:
        return len(self.seconds)

    def shown(self, indices: Sequence[int] | np.ndarray) -> Shown:
        """The frames of these indices, which must not fall. Nothing is decoded before they are looped
        over."""
        indices = np.asarray(indices, np.int64)
        if not len(indices) or indices[0] < 0 or indices[-1] >= len(self) or (np.diff(indices) < 0).any():
            raise ArgumentError(f"frames of {self.name} are 0 to {len(self) - 1}, in order, not "
                                f"{indices.tolist()[:8]}")
        return Shown(self, indices)

    def decoded(self, wanted: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """(index, pixels (y, b, 3)) of each wanted frame, in order. Where a jump to the first of them
        does not find them all, the file is read from its start."""
        missing = wanted.tolist()
        jumps = [True, False] if self._can_jump(wanted[0]) else [False]
        for jump in jumps:
            for index, pixels in self._pass(missing, jump):
                missing.remove(index)
                yield index, pixels
            if not missing:
                return
        at = missing[0]
        raise PictureError(f"{self.name}: damaged: frame {at} of {len(self)}, at {self.seconds[at]:.2f} "
                           "seconds, cannot be decoded; convert the file (ffmpeg -i IN OUT.mp4), or end "
                           "before it with video_end")

    def _can_jump(self, first: int) -> bool:
        return bool(self.seconds[first] - self.seconds[0] > SEEK_FROM and self._by_stamp())

    def _by_stamp(self) -> bool:
        return bool(self.stamps[0] > NONE and (np.diff(self.stamps) > 0).all())

    def _pass(self, wanted: Sequence[int], jump: bool) -> Iterator[tuple[int, np.ndarray]]:
        """Wanted frames as one reading of the file gives them, until the last or the end of the file."""
        import av
        with _container(self.name, self.source, self.readable) as container:
            stream = _stream(self.name, container, self.readable)
            stream.thread_type = "AUTO"
            if jump:
                container.seek(int(self.stamps[wanted[0]]), stream=stream)
            left = list(wanted)
            for index, frame in self._numbered(container, stream, av.error.FFmpegError):
                if jump and index > left[0]:
                    return                               # behind the first already: not this way
                if index == left[0]:
                    yield index, self._pixels(index, frame)
                    left.pop(0)
                if not left:
                    return

    def _numbered(self, container: Any, stream: Any, broken: type[Exception]) -> Iterator[tuple[int, Any]]:
        """Decoded frames with their index: by their stamp, or counted where stamps do not tell."""
        known = {stamp: n for n, stamp in enumerate(self.stamps.tolist())} if self._by_stamp() else None
        for count, frame in enumerate(_frames(container, stream, broken, self.readable)):
            index = count if known is None else known.get(frame.pts, -1)
            if 0 <= index < len(self):
                yield index, frame

    def _pixels(self, index: int, frame: Any) -> np.ndarray:
        """A frame as (y, b, 3) uint8, upright, of the size of the first."""
        if frame.is_corrupt:
            warnings.warn(f"{self.name}: frame {index}, at {self.seconds[index]:.2f} seconds, is "
                          "damaged; it is shown as the decoder patched it", stacklevel=2)
        pixels = _upright(frame)
        if pixels.shape[:2] != self.size:
            raise PictureError(f"{self.name}: frame {index} is {pixels.shape[0]} x {pixels.shape[1]} "
                               f"(height x width), frame 0 is {self.size[0]} x {self.size[1]}; one "
                               "video has one size: convert it, or cut it with video_start and "
                               "video_end")
        return pixels


@dataclass(frozen=True)
class Shown:
    """Chosen frames of a video file. To a stage it is an array (t, y, b, 3) of uint8 that is looped over
    once; an array in memory only where somebody asks for one."""
    footage: Footage
    indices: np.ndarray
    dtype = np.dtype(np.uint8)
    ndim = 4

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(t, y, b, 3)."""
        return len(self.indices), *self.footage.size, 3

    @property
    def seconds(self) -> np.ndarray:
        """When each of them stands, (t,) float64."""
        found: np.ndarray = self.footage.seconds[self.indices]
        return found

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[np.ndarray]:
        times = dict(zip(*np.unique(self.indices, return_counts=True), strict=True))
        for index, pixels in self.footage.decoded(np.unique(self.indices)):
            for _ in range(times[index]):
                yield pixels

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.stack(list(self)).astype(dtype or self.dtype, copy=False)              # t y b 3


def looks_like_video(source: Any) -> bool:
    """Whether a word or path names a video: by its ending, or a `data:` URL by its type. A GIF is taken for
    a picture, its first frame, unless it stands in an item of type video."""
    source = str(source) if isinstance(source, str | os.PathLike) else ""
    return source.lower().endswith(SUFFIXES) or source[:11].lower() == "data:video/"


# ---------------------------------------------------------------------------------- what a file tells

@contextmanager
def _container(name: str, opened: Any, readable: Readable) -> Iterator[Any]:
    """An open container of PyAV. It reads this one file as one of the formats, and can open no other."""
    try:
        import av
    except ImportError:
        raise ArgumentError(f"{name}: {INSTALL}") from None
    with opened.open("rb") if isinstance(opened, Path) else nullcontext(opened) as file:
        file.seek(0)
        try:
            container = av.open(file, metadata_errors="replace", io_open=_no_other_file, buffer_size=BUFFER,
                                container_options={"format_whitelist": readable.formats})
        except (av.error.FFmpegError, ValueError, OSError, AnotherFile) as error:
            raise PictureError(f"{name}: not a video{_instead(opened, error)}") from error
        with container:
            yield container


def _instead(opened: Any, error: Exception) -> str:
    """What a file is that is no video."""
    kind = kind_of_file(opened) if isinstance(opened, Path) else kind_of(opened.getvalue())
    if kind and not kind.startswith("a video"):
        return f": it is {kind}"
    return (f" that can be read ({_reason(error)}): it is damaged, cut short, a list of other files, "
            "or of a kind that is not read; convert it (ffmpeg -i IN OUT.mp4)")


class AnotherFile(Exception):
    """A video file asked for another one."""


def _no_other_file(url: str, flags: int, options: Mapping[str, str]) -> Any:
    raise AnotherFile("it names another file")


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error).partition(";")[0][:80]


def _stream(name: str, container: Any, readable: Readable) -> Any:
    """The first stream of moving pictures; the cover of a piece of music is none."""
    for stream in container.streams.video:
        if int(stream.disposition) & 0x0400:                                  # AV_DISPOSITION_ATTACHED_PIC
            continue
        if stream.codec_context is None:
            raise PictureError(f"{name}: its video is in a code that no decoder here reads, or its "
                               "head is damaged; convert it (ffmpeg -i IN OUT.mp4)")
        if readable.codecs and (found := stream.codec.canonical_name) not in readable.codecs:
            raise PictureError(f"{name}: its video is {found}, and only {', '.join(readable.codecs)} are "
                               "read here; convert it (ffmpeg -i IN OUT.mp4)")
        check_size(stream.codec_context.height or 1, stream.codec_context.width or 1)
        # a later frame may be of another size, and is made before anybody sees it
        stream.codec_context.options = {"max_pixels": str(MAX_SOURCE_PIXELS)}
        return stream
    raise PictureError(f"{name}: holds no video" + ", only sound" * bool(container.streams.audio))


def _stamps(name: str, container: Any, stream: Any, readable: Readable) -> np.ndarray:
    """When each frame is shown, in the stream's unit, in that order; from the packets, undecoded. Where
    packets carry no time all are NONE."""
    import av
    found: list[int] = []
    try:
        for packet in container.demux(stream):
            readable.goes()
            if packet.size and not packet.is_discard:
                found.append(NONE if packet.pts is None else packet.pts)
            if len(found) > readable.frames:
                raise PictureError(f"{name}: has more than {readable.frames:,} frames; cut it first")
    except av.error.FFmpegError as error:
        warnings.warn(f"{name}: is damaged behind frame {len(found)} ({_reason(error)}); what comes "
                      "later is not shown", stacklevel=4)
    if not found:
        raise PictureError(f"{name}: holds no frame: it is cut short or was never finished")
    stamps = np.sort(np.array(found, np.int64))
    return stamps if stamps[0] > NONE else np.full(len(stamps), NONE, np.int64)


def _times(name: str, stream: Any, stamps: np.ndarray) -> tuple[float, np.ndarray]:
    """The rate that the file states, and the seconds of each frame. Where one is missing the other gives
    it."""
    stated = stream.average_rate or stream.guessed_rate
    timed = len(stamps) > 1 and stamps[0] > NONE and stamps[-1] > stamps[0]
    if not stated and not timed:
        raise PictureError(f"{name}: says neither how many frames make a second nor when they stand; "
                           "convert it, or give its frames and fps")
    if not timed:
        return float(stated), np.arange(len(stamps)) / float(stated)
    seconds = (stamps - stamps[0]) * float(stream.time_base)
    return float(stated or (len(stamps) - 1) / seconds[-1]), seconds


def _first_size(name: str, opened: Any, readable: Readable) -> tuple[int, int]:
    """(height, width) of the first frame that can be decoded, upright."""
    import av
    with _container(name, opened, readable) as container:
        stream = _stream(name, container, readable)
        first = next(_frames(container, stream, av.error.FFmpegError, readable), None)
        if first is None:
            raise PictureError(f"{name}: damaged: none of its frames can be decoded")
        check_size(first.height, first.width)
        height, width = first.height, first.width
        return (width, height) if first.rotation % 180 else (height, width)


def _frames(container: Any, stream: Any, broken: type[Exception], readable: Readable) -> Iterator[Any]:
    """Frames in the order in which they are shown; what a damaged packet held is left out."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except broken:                                             # of which `_stamps` has said so
            packet = None
        readable.goes()
        with suppress(broken, EOFError):
            yield from stream.decode(packet)
        if packet is None or not packet.size:
            return


def _upright(frame: Any) -> np.ndarray:
    """A decoded frame as (y, b, 3) uint8, turned as the file's matrix asks."""
    pixels = frame.to_ndarray(format="rgb24")
    return np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90) % 4))


# ------------------------------------------------------------------------------- whether its clock fits

def say_uneven(shown: Shown) -> None:
    """Warn where frames stand half a pair or more from where the stated rate puts them: the model is told
    one rate for the whole video."""
    seconds, steady = shown.seconds, shown.indices / shown.footage.fps
    apart = np.abs((seconds - seconds[0]) - (steady - steady[0]))
    pair = np.ptp(steady) / max(len(shown) - 1, 1)
    if len(shown) > 1 and apart.max() > max(pair, 1 / shown.footage.fps):
        at = int(apart.argmax())
        warnings.warn(f"{shown.footage.name}: its frames do not come at the stated {shown.footage.fps:g} a "
                      f"second: frame {shown.indices[at]} stands at {seconds[at]:.2f} seconds, where that "
                      f"rate puts it at {steady[at]:.2f}. The model's clock follows the rate, as the "
                      "official programs have it; sampler \"time\" chooses frames by their times",
                      stacklevel=5)
