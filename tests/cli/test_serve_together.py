"""Requests that come together are written together, earlier turns are used again, and video files are read:
each answer is the one that the model gives by itself.

Read next: `minivl/cli/serve/worker.py`; `test_serve.py`.
"""

import base64
import json
import random
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import minivl
from minivl.cli.serve import pictures
from minivl.cli.serve.limits import ServerLimits
from minivl.cli.serve.places import AllowedPlaces
from minivl.cli.serve.refused import Refused
from minivl.run import together
from minivl.show.samples import load_samples

from ..run.films import av, write
from .serving import serving
from .test_serve import call, still

PICTURES = [str(one.paths[0]) for one in load_samples() if one.fps is None][:3]
H264 = ("mp4", "libx264", "yuv420p")


@pytest.fixture(scope="module")
def vlm():
    return minivl.load()


def url_of(data, kind="image/png"):
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def about(path, question):
    """The same question as a request has it, and as the model itself is asked."""
    url = url_of(Path(path).read_bytes())
    text = {"type": "text", "text": question}
    return ([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}, text]}],
            [{"role": "user", "content": [{"type": "image", "image": path}, text]}])


def answer(url, messages, status=200, **fields):
    body = json.dumps({"messages": messages, "temperature": 0, **fields}).encode()
    found, raw = call(url, "POST", "/v1/chat/completions", body)
    assert found == status, raw
    return json.loads(raw)


def text_of(reply):
    return reply["choices"][0]["message"]["content"]


@pytest.fixture
def seats(monkeypatch):
    """How many conversations each run of the server had."""
    counts, run_once = [], together.Together.run_once

    def counted(room):
        counts.append(len(room.seated))
        return run_once(room)
    monkeypatch.setattr(together.Together, "run_once", counted)
    return counts


WAYS = [{}, {"temperature": 1.5, "seed": 5}, {"repetition_penalty": 1.3}, {"stop": "o"}, {"max_tokens": 3},
        {"temperature": 1, "top_p": 0.7, "seed": 9}]


def test_together_each_gets_what_it_gets_alone(vlm, seats):
    """Twelve requests that ask in their own way, four at a time, against each alone."""
    asked = [(about(PICTURES[n % 3], question)[0], {"logprobs": True, "max_tokens": 24, **WAYS[n % 6]})
             for n, question in enumerate(["Describe the image.", "How many?", "What is it?"] * 4)]
    with serving(vlm, ServerLimits(together=1, kept=0)) as url:
        alone = [answer(url, messages, **fields) for messages, fields in asked]
    assert max(seats) == 1
    with serving(vlm, ServerLimits(together=4, kept=0)) as url, ThreadPoolExecutor(12) as pool:
        replies = list(pool.map(lambda one: answer(url, one[0], **one[1]), asked))
    assert max(seats) == 4
    for right, found in zip(alone, replies, strict=True):
        assert text_of(found) == text_of(right) and found["usage"] == right["usage"]
        both = [one["choices"][0]["logprobs"]["content"] for one in (right, found)]
        assert [one["bytes"] for one in both[0]] == [one["bytes"] for one in both[1]]
        assert [one["logprob"] for one in both[0]] == pytest.approx(
            [one["logprob"] for one in both[1]], abs=1e-3)


def test_a_turn_takes_the_rows_of_the_one_before_and_says_how_many(vlm):
    request, asked = about(PICTURES[0], "Describe the image.")
    with serving(vlm) as url:
        first = answer(url, request)
        assert first["usage"]["prompt_tokens_details"] == {"cached_tokens": 0}
        more = [{"role": "assistant", "content": text_of(first)}, {"role": "user", "content": "And where?"}]
        second = answer(url, [*request, *more])
        other = answer(url, about(PICTURES[1], "Describe the image.")[0])
    inputs = vlm.prepare(asked)
    assert text_of(second) == vlm.chat([*asked, *more], 1024, temperature=0)
    kept = second["usage"]["prompt_tokens_details"]["cached_tokens"]
    assert len(inputs.input_ids) < kept < second["usage"]["prompt_tokens"]
    # up to the other picture all is the same, and no further
    assert other["usage"]["prompt_tokens_details"]["cached_tokens"] < 30


def test_nothing_is_kept_where_that_is_said(vlm):
    request, _ = about(PICTURES[0], "Describe the image.")
    with serving(vlm, ServerLimits(kept=0)) as url:
        for _ in range(2):
            assert answer(url, request)["usage"]["prompt_tokens_details"] == {"cached_tokens": 0}


@pytest.fixture
def slowly(vlm, monkeypatch):
    """Every layer and every block takes a while, and is counted; nobody's answer comes to an end."""
    ran = {"decoder": 0, "vision": 0}

    def wrap(part):
        def slow(block):
            def run(*args):
                ran[part] += 1
                time.sleep(0.02)
                return block(*args)
            return run
        return slow
    table = {f"{name}.{n}": wrap(part) for name, part, depth in (
        ("decoder.layers", "decoder", vlm.config.text.num_hidden_layers),
        ("vision.blocks", "vision", vlm.config.vision.depth)) for n in range(depth)}
    monkeypatch.setattr(together, "Session", lambda **options: minivl.Session(replace=table, **options))
    return ran


def hung_up(url, messages, until):
    """A client that sends a request, waits for something, and is gone."""
    where, body = urlsplit(url), json.dumps({"messages": messages, "temperature": 0}).encode()
    head = ("POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n").encode()
    with socket.create_connection((where.hostname, where.port)) as client:
        client.sendall(head + body)
        while not until():
            time.sleep(0.005)


def test_a_client_that_hangs_up_takes_nobody_with_it(vlm, slowly, seats):
    request, asked = about(PICTURES[0], "Describe the image.")
    right = vlm.chat(asked, 1024, temperature=0)
    with serving(vlm) as url:
        found = []
        stays = threading.Thread(target=lambda: found.append(answer(url, request)))
        stays.start()
        hung_up(url, about(PICTURES[1], "What is it?")[0], lambda: seats and seats[-1] == 2)
        stays.join(60)
        assert text_of(found[0]) == right and seats[-1] == 1
        assert json.loads(call(url, "GET", "/health")[1])["asked"] == 0


class Counted:
    """`still` of test_serve.py asks for `.blocks`."""

    def __init__(self, ran):
        self.ran = ran

    @property
    def blocks(self):
        return sum(self.ran.values())


def test_the_tower_stops_when_nobody_waits_for_its_picture(vlm, slowly):
    with serving(vlm) as url:
        hung_up(url, about(PICTURES[0], "What is it?")[0], lambda: slowly["vision"])
        assert still(Counted(slowly)) and slowly["decoder"] == 0
        assert slowly["vision"] < vlm.config.vision.depth


# ---- video files

needs_av = pytest.mark.skipif(av is None, reason="the package av is not installed")


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    path = tmp_path_factory.mktemp("films") / "clip.mp4"
    write(path, H264, 40, Fraction(10), (56, 84), random.Random(1), sound=True)
    return path


def of_film(source, **keys):
    return [{"role": "user", "content": [{"type": "video_url", "video_url": {"url": source}, **keys},
                                         {"type": "text", "text": "What happens?"}]}]


@needs_av
def test_a_video_is_read_as_the_model_itself_reads_it(vlm, film):
    data = url_of(film.read_bytes(), "video/mp4")
    with serving(vlm, places=AllowedPlaces.of([], [film.parent])) as url:
        for keys in ({}, {"fps": 5}, {"nframes": 4}, {"video_start": 1, "video_end": 2.5}, {"max_frames": 6}):
            item = {"type": "video", "video": str(film), **keys}
            asked = [{"role": "user", "content": [item, {"type": "text", "text": "What happens?"}]}]
            right = vlm.chat(asked, 12, temperature=0)
            for source in (data, str(film), film.as_uri()):
                reply = answer(url, of_film(source, **keys), max_tokens=12)
                assert text_of(reply) == right, (keys, source[:20])
                assert reply["usage"]["prompt_tokens"] == len(vlm.prepare(asked).input_ids)
        plain = [{"role": "user", "content": [{"type": "video", "video": data}]}]
        assert text_of(answer(url, plain, max_tokens=2))


def code(reply):
    return reply["error"]["code"]


@needs_av
def test_what_a_video_may_not_be(vlm, film, tmp_path):
    data = url_of(film.read_bytes(), "video/mp4")
    with serving(vlm, ServerLimits(frames=6, prompt_tokens=500, body=1_000_000)) as url:
        for source in (str(film), film.as_uri()):
            assert code(answer(url, of_film(source), 403)) == "file_not_allowed"
        assert code(answer(url, of_film("https://example.org/a.mp4"), 403)) == "url_not_allowed"
        assert "video itself" in answer(url, of_film(str(film)), 403)["error"]["message"]
        many = answer(url, of_film(data, fps=10), 413)["error"]
        assert "frames of video files" in many["message"] and "max_frames" in many["message"]
        large = of_film(data, nframes=6, min_pixels=300_000, max_pixels=400_000)
        assert "tokens of pictures" in answer(url, large, 413)["error"]["message"]
        for key in ("raw_fps", "total_pixels", "sampler", "resized_height"):
            extra = {"resized_height": 56, "resized_width": 56} if key == "resized_height" else {key: 5}
            assert key in answer(url, of_film(data, **extra), 400)["error"]["message"]
        assert "not a video" in answer(url, of_film(url_of(b"x" * 300)), 400)["error"]["message"]
        assert code(answer(url, of_film(url_of(film.read_bytes()[:300])), 400)) == "invalid_video"
        for make in (("avi", "mpeg4", "yuv420p"), ("mov", "mjpeg", "yuvj420p"), ("gif", "gif", "rgb8")):
            other = tmp_path / f"other.{make[0]}"
            write(other, make, 6, Fraction(5), (28, 28), random.Random(2))
            said = answer(url, of_film(url_of(other.read_bytes())), 400)["error"]
            assert said["code"] == "invalid_video" and ("is mjpeg, and only" in said["message"]
                                                        or "not a video" in said["message"]), said


@needs_av
def test_a_film_of_too_many_frames_and_one_that_nobody_waits_for(film, monkeypatch):
    asked = []

    def goes():
        asked.append(None)
        if len(asked) > 30:
            raise Refused("over")
    parts, places, limits = minivl.load().processor, AllowedPlaces(), ServerLimits()
    messages = of_film(url_of(film.read_bytes(), "video/mp4"))
    with pytest.raises(Refused, match="over"):                    # while its packets are counted
        pictures.opened(messages, parts, places, limits, goes)
    asked[:] = [None] * -100
    opened = pictures.opened(messages, parts, places, limits, lambda: asked.append(None))
    before = len(asked)
    minivl.load().prepare(opened)
    assert len(asked) >= before + 40                              # once for each frame that is decoded
    monkeypatch.setattr(pictures, "FRAMES", 39)
    with pytest.raises(Refused, match="more than 39 frames"):
        pictures.opened(messages, parts, places, limits, lambda: None)
