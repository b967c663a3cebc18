"""Video files of every make, by number: `film(seed, folder)`, and what somebody may have done to one: `damaged`."""

from __future__ import annotations

import random
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

try:
    import av
except ImportError:                                       # the tests that need files are then skipped
    av = None                                                                                           # type: ignore

# (ending, encoder, pixels): what people send
MAKES = [("mp4", "mpeg4", "yuv420p"), ("mp4", "libx264", "yuv420p"), ("mkv", "libx264", "yuv444p"),
         ("mov", "mjpeg", "yuvj420p"), ("avi", "mpeg4", "yuv420p"), ("ts", "mpeg2video", "yuv420p"),
         ("webm", "libvpx", "yuv420p"), ("flv", "flv", "yuv420p"), ("gif", "gif", "rgb8"), ("mkv", "ffv1", "yuv420p"),
         ("mp4", "libx264", "yuv420p10le"), ("mpg", "mpeg1video", "yuv420p"), ("h264", "libx264", "yuv420p")]
RATES = [Fraction(25), Fraction(24000, 1001), Fraction(30), Fraction(30000, 1001), Fraction(50)]


class Film(NamedTuple):
    path: Path
    make: tuple[str, str, str]
    even: bool                                            # its frames come at one rate


def makes() -> list[tuple[str, str, str]]:
    """Those whose encoder is there."""
    return [one for one in MAKES if av and one[1] in av.codecs_available]


def film(seed: int, folder: Path) -> Film:
    draw = random.Random(seed)
    made = makes()
    make = made[seed % len(made)]
    ending, encoder, _ = make
    rate = draw.choice(RATES[:1] if encoder == "mpeg1video" else RATES)
    if encoder not in ("mpeg1video", "mpeg2video") and draw.random() < 0.4:
        rate = Fraction(draw.choice([1, 3, 10, 12]))
    even = ending not in ("mkv", "webm", "mp4", "mov") or draw.random() < 0.7             # others hold no other
    path = folder / f"film {seed}.{ending}"
    size = 2 * draw.randrange(12, 50), 2 * draw.randrange(12, 50)
    write(path, make, draw.randrange(3, 70), rate, size, draw, even)
    return Film(path, make, even and ending != "mpg")     # whose packets say no time of their own now and then


def write(path: Path, make: tuple[str, str, str], frames: int, rate: Fraction, size: tuple[int, int],
          draw: random.Random, even: bool = True, sound: bool | None = None) -> None:
    """A film of moving bars, each frame unlike the others."""
    _, encoder, pixels = make
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(encoder, rate=rate)
        stream.height, stream.width, stream.pix_fmt = *size, pixels
        base = stream.time_base = 1 / rate if even else Fraction(1, 1000)         # muxing changes the stream's own
        heard = container.add_stream("aac", rate=16000) if path.suffix == ".mp4" and (
            draw.random() < 0.3 if sound is None else sound) else None
        at = 0
        for n in range(frames):
            picture = np.zeros((*size, 3), np.uint8)
            picture[:, : 1 + n * 7 % size[1]] = (n * 31 % 256, 90, 255 - n * 3 % 256)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = (n if even else at), base
            at += int(1000 / rate) * draw.choice([1, 1, 1, 2, 9])
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if heard is not None:
            tone = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            tone.sample_rate = 16000
            container.mux(heard.encode(tone))
            container.mux(heard.encode())


def damaged(seed: int, path: Path) -> bytes:
    """The bytes of a film, cut short, or with wrong bytes, holes, or pieces twice."""
    draw, data = random.Random(seed), bytearray(path.read_bytes())
    kind = draw.randrange(6)
    if kind == 0:
        return bytes(data[: draw.randrange(len(data))])
    if kind == 1:
        for _ in range(draw.choice([1, 5, 60])):
            data[draw.randrange(len(data))] = draw.randrange(256)
    elif kind == 2:
        start = draw.randrange(len(data))
        data[start:start + draw.randrange(1, 2000)] = b""
    elif kind == 3:
        start = draw.randrange(len(data))
        stop = min(start + draw.randrange(1, 3000), len(data))
        data[start:stop] = bytes(stop - start)
    elif kind == 4:
        start = draw.randrange(len(data))
        data[start:start] = data[: draw.randrange(1, 3000)]
    else:
        at = draw.randrange(min(len(data), 300))                       # sizes and counts stand at the head
        data[at:at + 4] = draw.choice([b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0"])
    return bytes(data)


def every_frame(path: Path) -> tuple[list[np.ndarray], float]:
    """All frames, decoded one after the other, and the rate of the file: what an official reader sees."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)], float(stream.average_rate or 0)
