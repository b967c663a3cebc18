"""Video files: the frames that are shown are those that decoding every frame gives, at their own times; whatever is
no video, or is damaged, is named or read as far as it goes; and nothing but the file itself is ever opened."""

from __future__ import annotations

import base64
import http.server
import os
import random
import threading
import warnings
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import minivl
from minivl.passes import video
from minivl.passes.picture import PictureError
from minivl.run.footage import Footage, looks_like_video

av = pytest.importorskip("av")
from . import films  # noqa: E402

FILMS, SHARE = 150, 13                     # of each kind: sound ones, and damaged ones
DAMAGED, SOME = 150, 26
PLAIN = ("mp4", "mpeg4", "yuv420p")


@pytest.fixture(scope="module")
def vlm():
    return minivl.load()


def user(**item):
    return [{"role": "user", "content": [{"type": "video", **item}, {"type": "text", "text": "?"}]}]


def clip(path: Path, frames: int = 30, rate: int = 10, size=(48, 64), make=PLAIN, **options) -> Path:
    films.write(path, make, frames, Fraction(rate), size, random.Random(0), **options)
    return path


# ---- sound files -----------------------------------------------------------------------------------------------------

def sound(seed: int, folder: Path) -> None:
    film = films.film(seed, folder)
    frames, rate = films.every_frame(film.path)
    footage = Footage.open(film.path)
    assert len(footage) == len(frames) and footage.size == frames[0].shape[:2]
    assert footage.fps == (rate or pytest.approx(footage.fps)) and (np.diff(footage.seconds) >= 0).all()
    draw = random.Random(seed)
    for indices in (video.sample_official(len(frames), footage.fps), [len(frames) - 1], [0, 0, 1],
                    sorted(draw.sample(range(len(frames)), 3))):
        for n, shown in zip(indices, footage.shown(indices), strict=True):
            assert np.array_equal(shown, frames[n]), (film, n)
    if film.even:
        steps = np.diff(footage.seconds)
        assert np.allclose(steps, steps.mean(), atol=0.011)        # a hundredth of a second is a GIF's unit


@pytest.mark.parametrize("seed", range(SHARE))
def test_a_share_of_the_films(seed, tmp_path):
    sound(seed, tmp_path)


@pytest.mark.full
@pytest.mark.parametrize("part", range(10))
def test_films_of_every_make(part, tmp_path):
    for seed in range(part, FILMS, 10):
        sound(seed, tmp_path)


def test_every_way_to_name_a_file_is_the_same_video(vlm, tmp_path, monkeypatch):
    path = clip(tmp_path / "a clip #1.mp4")
    monkeypatch.chdir(tmp_path)
    data = path.read_bytes()
    want = vlm.prepare(user(video=path))
    url = "data:video/mp4;base64," + base64.b64encode(data).decode()
    for source in (str(path), path.name, f"file://{path}", path.as_uri(), data, memoryview(data), url, {"bytes": data},
                   {"bytes": None, "path": str(path)}, Footage.open(path)):
        assert np.array_equal(vlm.prepare(user(video=source)).patches, want.patches)
    medium = want.media[0]
    assert medium.times == pytest.approx([0, 0.6, 1.2, 1.7, 2.3, 2.9]) and medium.seconds == 1.0


@pytest.mark.parametrize("sampler, wanted, seconds", [
    ("official", [0, 6, 12, 17, 23, 29], 1.0), ("transformers", [0, 5, 10, 15, 20, 25], 1.0),
    ("time", [0, 5, 11, 17, 23, 29], 2 * 2.9 / 5)])
def test_who_chooses_the_frames(vlm, tmp_path, sampler, wanted, seconds):
    made = vlm.prepare(user(video=clip(tmp_path / "a.mp4"), sampler=sampler))
    assert made.media[0].times == pytest.approx([n / 10 for n in wanted])
    assert made.media[0].seconds == pytest.approx(seconds)


def test_frames_that_come_unevenly_are_told_and_can_be_chosen_by_time(vlm, tmp_path):
    path = tmp_path / "slides.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt, stream.time_base = 64, 48, "yuv420p", Fraction(1, 1000)
        for n in range(30):                                         # a second of motion, then a slide every half second
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), n * 8, np.uint8), format="rgb24")
            frame.pts, frame.time_base = (n * 100 if n < 10 else 500 * n - 4000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.warns(UserWarning, match="frame 29 stands at 10.50 seconds, where that rate puts it at 2.90"):
        vlm.prepare(user(video=path))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        medium = vlm.prepare(user(video=path, sampler="time", nframes=22)).media[0]
    assert medium.times == pytest.approx(np.minimum(np.linspace(0, 10.5, 22), 10.5), abs=0.5)
    assert medium.seconds == pytest.approx(1.0)                     # pairs are a second apart, as they are


def turned(path: Path, degrees: int) -> Path:
    """A copy of a film of 48 x 64 (mp4) whose header asks for a turn: the matrix of its track."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40                                # version and flags, times, id, ...: then 9 numbers
    cos, sin = {90: (0, 1), 180: (-1, 0), 270: (0, -1)}[degrees]
    numbers = [cos << 16, sin << 16, 0, -sin << 16, cos << 16, 0, 0, 0, 1 << 30]
    data[at:at + 36] = b"".join(n.to_bytes(4, "big", signed=True) for n in numbers)
    made = path.with_name(f"turned {degrees}.mp4")
    made.write_bytes(data)
    return made


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_film_that_was_held_sideways_is_shown_upright(vlm, tmp_path, degrees):
    """A telephone notes by how much a player should turn its film, clockwise."""
    flat = clip(tmp_path / "flat.mp4", frames=4)
    frames, _ = films.every_frame(flat)
    footage = Footage.open(turned(flat, degrees))
    assert footage.size == (frames[0].shape[:2] if degrees == 180 else frames[0].shape[1::-1])
    for shown, frame in zip(footage.shown(range(4)), frames, strict=True):
        assert np.array_equal(shown, np.rot90(frame, -degrees // 90))
    assert vlm.prepare(user(video=turned(flat, degrees), nframes=4)).media[0].source_size == footage.size


def test_a_jump_into_a_long_film_finds_the_same_frames(tmp_path, monkeypatch):
    path = clip(tmp_path / "long.mp4", frames=200, make=("mp4", "libx264", "yuv420p"))
    frames, _ = films.every_frame(path)
    footage = Footage.open(path)
    decoded = []
    real = Footage._numbered

    def counting(self, *given):
        for index, frame in real(self, *given):
            decoded.append(index)
            yield index, frame
    monkeypatch.setattr(Footage, "_numbered", counting)
    for n, shown in zip([150, 163], footage.shown([150, 163]), strict=True):
        assert np.array_equal(shown, frames[n])
    assert min(decoded) > 0


def test_only_the_chosen_frames_are_held(vlm, tmp_path, monkeypatch):
    """However long the file, no two of its frames are in memory at their full size."""
    import gc
    import weakref
    alive: list = []
    real = Footage._pixels

    def watched(self, index, frame):
        pixels = real(self, index, frame)
        assert sum(one() is not None for one in alive) <= 1            # the one before, which is just let go
        alive.append(weakref.ref(pixels))
        return pixels
    monkeypatch.setattr(Footage, "_pixels", watched)
    made = vlm.prepare(user(video=clip(tmp_path / "a.mp4", frames=90), nframes=16))
    gc.collect()
    assert len(alive) == 16 and made.media[0].grid[0] == 8


@pytest.mark.full
def test_ten_minutes_of_720p_in_bounded_memory(tmp_path):
    """Frames of 2.8 MB each: 6,000 are 16.6 GB, the 32 that are shown 85 MB at full size."""
    resource = pytest.importorskip("resource")
    path = clip(tmp_path / "film.mp4", frames=6000, rate=10, size=(720, 1280))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    made = minivl.load().prepare(user(video=path, nframes=32))
    spent = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024        # MiB on Linux
    assert made.media[0].grid[0] == 16 and made.media[0].times[-1] == pytest.approx(599.9) and spent < 400, spent


# ---- keys ------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("keys, words", [
    ({"raw_fps": 30}, "beside a video file"), ({"sampler": "best"}, "official, transformers, time"),
    ({"nframes": 900}, "it has 30|that has 30"), ({"video_start": 2.0, "video_end": 1.0}, "leave no two frames"),
    ({"sampler": "time", "video_start": 9.0}, "leave no two frames"), ({"sample_fps": 2.0}, "sample_fps"),
    ({"max_pixels": 9000}, "smaller min_pixels"), ({"fps": 2.0, "nframes": 4}, "one of them")])
def test_keys_of_a_file_that_do_not_fit_are_refused_by_name(vlm, tmp_path, keys, words):
    with pytest.raises(minivl.Error, match=words):
        vlm.prepare(user(video=clip(tmp_path / "a.mp4"), **keys))


def test_a_budget_that_is_exceeded_is_told(vlm, tmp_path):
    folder = clip(tmp_path / "a.mp4")
    with pytest.warns(UserWarning, match="total_pixels is 1,000"):
        vlm.prepare(user(video=folder, total_pixels=1000))


def test_a_list_stands_at_no_times(vlm):
    with pytest.raises(minivl.Error, match="'time'"):
        vlm.prepare(user(video=[np.zeros((28, 28, 3), np.uint8)] * 4, raw_fps=2, sampler="time"))


# ---- what is no video, or is damaged ---------------------------------------------------------------------------------

def survived(seed: int, folder: Path) -> str:
    """A damaged film is refused by name, or read as far as a decoder reads it; what came of it, in a word."""
    data = films.damaged(seed, films.film(seed, folder).path)
    path = folder / f"damaged {seed}"
    path.write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            footage = Footage.open(path)
            shown = list(footage.shown(video.sample_official(len(footage), footage.fps)))
        except PictureError as error:
            assert path.name in str(error) or "video of" in str(error) or "picture of" in str(error), error
            return "refused"
    assert all(one.shape == (*footage.size, 3) and one.dtype == np.uint8 for one in shown)
    return "read"


@pytest.mark.parametrize("part", range(2))
def test_some_damaged_films(part, tmp_path):
    assert {survived(seed, tmp_path) for seed in range(part, SOME, 2)} == {"refused", "read"}


@pytest.mark.full
@pytest.mark.parametrize("part", range(10))
def test_damaged_films(part, tmp_path):
    for seed in range(part, DAMAGED, 10):
        survived(seed, tmp_path)


PLAYLIST = "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{}\n#EXT-X-ENDLIST\n"


@pytest.mark.parametrize("words", [PLAYLIST, "ffconcat version 1.0\nfile {}\n", "file '{}'\n",
                                   "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n",
                                   '<?xml version="1.0"?><MPD><BaseURL>{}</BaseURL></MPD>', "{}"])
def test_a_list_of_other_files_opens_none_of_them(tmp_path, words):
    """Neither from the disk nor from a server, though FFmpeg alone would."""
    asked: list[str] = []

    class Watch(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)
    server = http.server.HTTPServer(("127.0.0.1", 0), Watch)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    secret = clip(tmp_path / "secret.ts", make=("ts", "mpeg2video", "yuv420p"), rate=25)
    try:
        for name in ("list.m3u8", "list.mp4", "list.txt", "list.sdp", "list.mpd", "list.ffconcat"):
            for other in (str(secret), secret.name, f"http://127.0.0.1:{server.server_port}/secret.ts"):
                (tmp_path / name).write_text(words.format(other), encoding="utf-8")
                with pytest.raises(PictureError, match="not a video"):
                    Footage.open(tmp_path / name)
    finally:
        server.shutdown()
        server.server_close()
    assert asked == []


def test_what_is_no_video_is_named(tmp_path):
    wav = tmp_path / "sound.mp4"
    with av.open(str(wav), "w") as container:
        heard = container.add_stream("aac", rate=16000)
        tone = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        tone.sample_rate = 16000
        container.mux(heard.encode(tone))
        container.mux(heard.encode())
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "page.mp4").write_bytes(b"<!DOCTYPE html><html>")
    (tmp_path / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
    for source, words in ((wav, "only sound"), (tmp_path / "empty.mp4", r"empty \(0 bytes\)"), (tmp_path, "a folder"),
                          (tmp_path / "page.mp4", "HTML"), (tmp_path / "noise.mp4", "damaged, cut short"),
                          (tmp_path / "none.mp4", "no such file"), (b"", r"empty \(0 bytes\)"), (7, "not int"),
                          ("https://example.com/a.mp4", "download the video first"), ("concat:a|b", "no such file"),
                          ({"array": 1}, "keys bytes or path")):
        with pytest.raises(PictureError, match=words):
            Footage.open(source)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes by name")
def test_a_pipe_is_not_waited_on(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(PictureError, match="not a regular file"):
        Footage.open(tmp_path / "pipe.mp4")


def test_a_film_that_changes_its_size_is_refused_where_it_does(tmp_path):
    small = clip(tmp_path / "a.ts", 10, 25, (48, 64), ("ts", "mpeg2video", "yuv420p")).read_bytes()
    large = clip(tmp_path / "b.ts", 10, 25, (96, 64), ("ts", "mpeg2video", "yuv420p")).read_bytes()
    (tmp_path / "both.ts").write_bytes(small + large)
    words = r"frame \d+ is 96 x 64 .* frame 0 is 48 x 64|cannot be decoded"
    with warnings.catch_warnings(), pytest.raises(PictureError, match=words):
        warnings.simplefilter("ignore")
        footage = Footage.open(tmp_path / "both.ts")
        list(footage.shown(range(len(footage))))


def test_without_the_package_a_file_says_what_to_install(tmp_path, monkeypatch):
    import sys
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(minivl.Error, match=r'pip install "minivl\[video\]"'):
        Footage.open(Path(clip.__code__.co_filename))


def test_a_word_that_names_a_video():
    for word in ("a.MP4", "file:///x/y.webm", "data:video/mp4;base64,AA"):
        assert looks_like_video(word)
    assert not looks_like_video("a.png") and not looks_like_video("data:image/png;base64,AA")
