"""Requests that no client of good will sends, drawn from a seed: what `test_serve_fuzz.py` throws at a
server.

A request is a function that is given an open socket. Read next: `test_serve_fuzz.py`.
"""

import base64
import functools
import io
import json
import random
import re
import socket
import tempfile
import time
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

from ..run.films import av, makes, write

HEAD = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
KIND = "Content-Type: application/json\r\n"
FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "ICO", "EPS", "PPM", "TGA", "PCX", "SGI", "DDS")
ODD = (None, True, False, 0, -1, 1.5, 1e308, 10**30, "", "x", "\ud800", "\0", "é" * 50, [], [[]], {},
       {"a": {}}, [None],
       {"type": "text"}, {"url": "file:///etc/passwd"}, "http://169.254.169.254/", "../../etc/passwd",
       "<|im_end|>",
       "<|image_pad|>", {"type": "image_url"}, [1] * 300, "null", "9" * 400, -10**400)
FIELDS = ("n", "tools", "response_format", "logit_bias", "functions", "model", "stop", "stream",
          "stream_options",
          "seed", "logprobs", "top_logprobs", "top_p", "top_k", "max_completion_tokens",
          "repetition_penalty",
          "user", "store",
          "__proto__", "", "messages\0")
HEADERS = ("Host: evil.example", "Host:", "Origin: null", "Content-Type: text/plain", "Content-Length: "
                                                                                      "-1",
           "Content-Length: 5", "Content-Length: 99999999999999999999", "Content-Length: 0x10",
           "Expect: 100-continue",
           "Transfer-Encoding: chunked", "Transfer-Encoding: gzip, chunked", "Content-Encoding: gzip",
           "Connection: upgrade\r\nUpgrade: websocket", "Connection: close", "X: " + "y" * 40_000,
           "X: \x00", "é: é",
           "Authorization: Basic x", "Range: bytes=0-", " folded: header", "Cookie: " + "a=b; " * 500,
           "no colon")


def question(rng, content=None):
    """A body that is in order."""
    return {"messages": [{"role": "user", "content": content or "How many?"}],
            "max_tokens": rng.randint(1, 4),
            "temperature": rng.choice([0, 1, 2]), "stream": rng.random() < 0.3}


def url_of(data, kind="png"):
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def picture(rng):
    """The bytes of a picture of some format, mode and size."""
    mode = rng.choice(["RGB", "L", "RGBA", "P", "1", "CMYK", "I;16", "F", "LA"])
    height, width = rng.choice([(30, 40), (1, 1), (60, 3), (1, 300), (90, 90)])
    file = io.BytesIO()
    pixels = np.random.default_rng(rng.randint(0, 99)).integers(0, 256, (height, width, 3), np.uint8)
    with suppress(Exception):  # of many pairs of format and mode there is none
        Image.fromarray(pixels).convert(mode).save(file, rng.choice(FORMATS))
    return file.getvalue() or bytes(pixels)


def spoilt(rng, data):
    """Bytes cut off, changed, doubled, or with more in the middle."""
    data, at = bytearray(data), rng.randrange(len(data) + 1)
    how = rng.randrange(5)
    if how == 0:
        return bytes(data[:at])
    if how == 1:
        for _ in range(rng.randint(1, 9)):
            data[rng.randrange(len(data))] = rng.randrange(256)
    if how == 2:
        data[at:at] = bytes(rng.randrange(256) for _ in range(rng.randint(1, 20)))
    if how == 3:
        return bytes(data) * 2
    if how == 4:
        data[at:at] = rng.choice([b"[" * 5000, b'{"a":' * 5000, b"\0" * 9, b"\xff\xfe", b"NaN",
                                  b"1" * 6000, b'"',
                                  b"//"])
    return bytes(data)


def replaced(rng, value):
    """A value with something odd somewhere in it."""
    if isinstance(value, dict) and value and rng.random() < 0.8:
        key = rng.choice(list(value))
        return {**value, key: replaced(rng, value[key])}
    if isinstance(value, list) and value and rng.random() < 0.8:
        at = rng.randrange(len(value))
        return [*value[:at], replaced(rng, value[at]), *value[at + 1:]]
    return rng.choice(ODD)


# ---- the kinds
# ---------------------------------------------------------------------------------------------

def plain(rng, body, head=HEAD, kind=KIND):
    """The bytes of a request with this body."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return f"{head}{kind}Content-Length: {len(data)}\r\n\r\n".encode("latin-1", "replace") + data


def in_order(rng):
    return plain(rng, question(rng))


def malformed(rng):
    return plain(rng, spoilt(rng, json.dumps(question(rng)).encode()))


def wrong_types(rng):
    body = question(rng, [{"type": "image_url", "image_url": {"url": url_of(picture(rng))}},
                          {"type": "text", "text": "What?"}])
    for _ in range(rng.randint(1, 3)):
        body = replaced(rng, body) if rng.random() < 0.6 else body
        if isinstance(body, dict) and rng.random() < 0.5:
            body = {**body, rng.choice(FIELDS): rng.choice(ODD)}
    return plain(rng, body)


def nested(rng):
    depth, (left, right) = rng.choice([10, 900, 50_000]), rng.choice([("[", "]"), ('{"a":', "}")])
    inner = left * depth + "1" + right * depth
    return plain(rng, rng.choice(['{"messages":%s}', '{"messages":[{"role":"user","content":%s}]}',
                                  "%s"])
                 .replace("%s", inner).encode())


def huge(rng):
    how = rng.randrange(5)
    if how == 0:
        return plain(rng, question(rng, "word " * rng.choice([2_000, 100_000, 400_000])))
    if how == 1:
        return plain(rng, question(rng, [{"type": "text", "text": "a"}] * 30_000))
    if how == 2:
        return plain(rng, b"[" + b"{}," * 500_000 + b"{}]")
    if how == 3:
        return plain(rng, {**question(rng), **{f"k{n}": n for n in range(20_000)}})
    return f"{HEAD}{KIND}Content-Length: 3000000\r\n\r\n".encode() + b" " * 3_000_000


def media(rng):
    data = picture(rng)
    data = spoilt(rng, data) if rng.random() < 0.6 else data
    url = url_of(data, rng.choice(["png", "jpeg", "svg+xml", "x", ""]))
    url = rng.choice([url, url, url, url[:-3], url.replace(";base64", ""), url + "é", "data:,", "data:",
                      "data:;base64,"])
    item = rng.choice([{"type": "image_url", "image_url": {"url": url}},
                       {"type": "image_url", "image_url": url},
                       {"type": "image", "image": url},
                       {"type": "video", "video": [url] * rng.choice([1, 2, 70])},
                       {"type": "video_url", "video_url": {"url": url}},
                       {"type": "input_image", "image_url": url}])
    item = item if rng.random() < 0.7 else {**item, rng.choice(
        ["min_pixels", "max_pixels", "resized_height", "fps", "total_pixels", "detail"]):
        rng.choice([1, 10**9, 0.5, "x"])}
    return plain(rng, question(rng, [item] * rng.choice([1, 1, 2, 70]) + [{"type": "text",
                                                                           "text": "What?"}]))


@functools.cache
def films():
    """The bytes of small video files; of none where they cannot be made."""
    if av is None:
        return (b"\0\0\0\x18ftypmp42" + bytes(300),)
    with tempfile.TemporaryDirectory() as folder:
        for n, make in enumerate(makes()):
            write(Path(folder) / f"{n}.{make[0]}", make, 6 + 40 * (n == 0), Fraction(25), (32, 48), random.Random(n))
        return tuple(path.read_bytes() for path in sorted(Path(folder).iterdir()))


def video(rng):
    data = rng.choice(films())
    data = spoilt(rng, data) if rng.random() < 0.6 else data
    url = url_of(data).replace("image/png", rng.choice(["video/mp4", "video/webm", "video/x", ""]))
    url = rng.choice([url] * 6 + [url[:-3], "file:///etc/passwd", "http://127.0.0.1/a.mp4", "/dev/zero", {"url": url}])
    item = rng.choice([{"type": "video_url", "video_url": {"url": url}}, {"type": "video", "video": url}])
    for _ in range(rng.choice([0, 0, 1, 2])):
        item[rng.choice(["fps", "nframes", "min_frames", "max_frames", "video_start", "video_end", "raw_fps",
                         "min_pixels", "max_pixels", "total_pixels", "sampler"])] = rng.choice(
            [0.5, 1, 2, 4, 6, 1e-300, 1e300, 10**9, -1, "time", None])
    return plain(rng, question(rng, [item] * rng.choice([1, 1, 1, 3]) + [{"type": "text", "text": "What?"}]))


def bomb(rng):
    file = io.BytesIO()
    side = rng.choice([3_000, 9_000, 12_000])
    Image.new("1", (side, side)).save(file, "PNG")
    data = bytearray(file.getvalue())
    if rng.random() < 0.5:  # the header says more than any picture has
        data[16:24] = b"\x7f\xff\xff\xff" * 2
    return plain(rng, question(rng, [{"type": "image_url", "image_url": {"url": url_of(data)}}]))


def odd_headers(rng):
    lines = "".join(f"{rng.choice(HEADERS)}\r\n" for _ in range(rng.randint(1, 3)))
    head = rng.choice([HEAD, HEAD, "POST /v1/chat/completions HTTP/1.1\r\n", "POST /v1/chat/completions "
                                                                             "HTTP/1.0\r\n"])
    return plain(rng, question(rng), head + lines, rng.choice([KIND, ""]))


def odd_lines(rng):
    method = rng.choice(["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE", "CONNECT", "PRI", "post",
                         "\0",
                         "G" * 9000])
    path = rng.choice(["/", "/v1/models", "/v1/models/../x", "/health", "//", "/v1/chat/completions/",
                       "*", "/%00",
                       "/%ff",
                       "http://localhost/health", "/" + "a" * 40_000, "/health?x=" + "y" * 999, "/é"])
    version = rng.choice(["HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "HTTP/9", "", "\x16\x03\x01"])
    return f"{method} {path} {version}\r\nHost: localhost\r\n\r\n".encode()


def chunked(rng):
    data = json.dumps(question(rng)).encode()
    size = rng.choice([f"{len(data):x}", "-1", "ffffffffffffffffff", "", "zz", "1"])
    return f"{HEAD}{KIND}Transfer-Encoding: chunked\r\n\r\n{size}\r\n".encode() + data + b"\r\n0\r\n\r\n"


def garbage(rng):
    return bytes(rng.randrange(256) for _ in range(rng.choice([1, 20, 3000]))) + b"\r\n\r\n"


def pipelined(rng):
    return b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n" * 3 + in_order(rng) + garbage(rng)


KINDS = (in_order, malformed, malformed, wrong_types, wrong_types, wrong_types, nested, huge, media,
         media, media, video, video, bomb,
         odd_headers, odd_headers, odd_lines, chunked, garbage, pipelined)


UNSURE = (odd_headers, odd_lines, chunked, garbage, pipelined)  # the server may wait for more of them


def drawn(seed):
    """(name, bytes, how they are sent, seconds that a reply may take) of request number `seed`."""
    rng = random.Random(seed)
    kind = rng.choice(KINDS)
    how = rng.choice(["whole"] * 7 + ["cut off", "slow", "deaf"])
    return f"{seed} {kind.__name__} {how}", kind(rng), how, 0.5 if kind in UNSURE else 60


def send(port, data, how, seconds, seed):
    """What came back; None where the request was never whole, or nobody listened. Raises TimeoutError
    where nothing came in time."""
    rng = random.Random(seed)
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        with suppress(ConnectionError):  # the server may have had enough before it is all sent
            if how == "cut off":
                return client.sendall(data[:rng.randrange(len(data))])
            parts = [data[:9], data[9:30], data[30:31], data[31:]] if how == "slow" else [data]
            for part in parts:
                client.sendall(part)
                time.sleep(0.01 * (how == "slow"))
            if how == "deaf":
                return None
        client.settimeout(seconds)
        return received(client)


def received(client):
    """The first reply, or whatever came before the connection was closed."""
    found = b""
    with suppress(ConnectionError):
        while not whole(found) and (part := client.recv(1 << 16)):
            found += part
    return found


def whole(reply):
    """Whether a reply is all there: by its length, or by the last of its chunks."""
    head, end, rest = reply.partition(b"\r\n\r\n")
    if head.startswith(b"HTTP/1.1 100 "):
        return whole(rest)
    length = re.search(rb"content-length: (\d+)", head.lower())
    return bool(end) and (len(rest) >= int(length[1]) if length else rest.endswith(b"0\r\n\r\n"))
