"""`minivl serve`: its test is the official client of the protocol, and the client that `minivl triage
--url` asks with.

Expected answers are those of `vlm.generate` and of scores in one pass; a server must change nothing of
them.
"""

import base64
import http.client
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image, ImageFile
from typer.testing import CliRunner

import minivl
from minivl.cli import words as cli
from minivl.cli.serve.limits import ServerLimits
from minivl.cli.serve.places import AllowedPlaces
from minivl.kernels.definition import log_softmax
from minivl.show.samples import load_samples

from .serving import serving

openai = pytest.importorskip("openai", reason="the package openai is not installed")
SAMPLE = load_samples()[0]
PICTURE = Path(SAMPLE.paths[0])
DATA = "data:image/png;base64," + base64.b64encode(PICTURE.read_bytes()).decode()


@pytest.fixture(scope="module")
def vlm():
    return minivl.load()


@pytest.fixture(scope="module")
def url(vlm):
    with serving(vlm) as url:
        yield url


@pytest.fixture(scope="module")
def client(url):
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)


def about(question, url=DATA):
    return [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}},
                                         {"type": "text", "text": question}]}]


def greedy(vlm, question, most=32):
    """(ids, text) of the answer, asked of the model itself."""
    inputs = vlm.prepare([{"role": "user", "content": [{"type": "image", "image": str(PICTURE)},
                                                       {"type": "text", "text": question}]}])
    ids = vlm.generate(inputs, most)
    return inputs, ids, vlm.tokenizer.decode(ids)


def ask(client, messages, **options):
    return client.chat.completions.create(model="tiny", messages=messages,
                                          **{"temperature": 0, **options})


# ---- answers
# -----------------------------------------------------------------------------------------------

def test_an_answer_is_the_models_own_with_its_scores(client, vlm):
    inputs, ids, text = greedy(vlm, "Describe the image.")
    found = ask(client, about("Describe the image."), logprobs=True, top_logprobs=3)
    choice, stop = found.choices[0], vlm.generation.eos_token_ids
    assert choice.message.content == text and choice.message.role == "assistant"
    assert choice.finish_reason == "stop" and found.usage.completion_tokens == len(ids)
    assert found.usage.prompt_tokens == len(inputs.input_ids)
    rows = log_softmax(vlm.on("float64", "definition").logits(inputs, ids).astype(np.float64))
    said = [(bytes(one.bytes), one.logprob) for one in choice.logprobs.content]
    assert [data for data, _ in said] == [vlm.tokenizer.bytes_of(id) for id in ids if id not in stop]
    np.testing.assert_allclose([n for _, n in said],
                               [row[id] for row, id in zip(rows, ids, strict=True)][:len(said)],
                               atol=1e-3)
    for one, row in zip(choice.logprobs.content, rows, strict=False):
        best = np.sort(row)[::-1][:3]
        np.testing.assert_allclose([other.logprob for other in one.top_logprobs], best, atol=1e-3)


def test_scores_of_a_prompt_that_goes_through_in_chunks(client, vlm):
    words = "Read the number. " * 250                                     # more rows than one chunk has
    inputs = vlm.prepare([{"role": "user", "content": words}])
    assert len(inputs.input_ids) > 1100
    found = ask(client, [{"role": "user", "content": words}], logprobs=True, max_tokens=2)
    ids = vlm.generate(inputs, 2)
    rows = log_softmax(vlm.logits(inputs, ids).astype(np.float64))
    said = found.choices[0].logprobs.content
    np.testing.assert_allclose([one.logprob for one in said],
                               [row[id] for row, id in zip(rows, ids, strict=True)][:len(said)],
                               atol=1e-3)
    assert found.usage.prompt_tokens == len(inputs.input_ids) and said


def test_a_stream_is_the_same_answer_in_pieces_and_then_counted(client, vlm):
    _, ids, text = greedy(vlm, "Describe the image.")
    chunks = list(ask(client, about("Describe the image."), stream=True,
                      stream_options={"include_usage": True},
                      logprobs=True))
    *parts, last = chunks
    assert "".join(one.choices[0].delta.content or "" for one in parts) == text and len(parts) > 3
    assert parts[0].choices[0].delta.role == "assistant" and parts[-1].choices[0].finish_reason == "stop"
    assert last.choices == [] and last.usage.completion_tokens == len(ids)
    assert len({one.id for one in chunks}) == 1 and not any(one.usage for one in parts)
    tokens = [token for one in parts if one.choices[0].logprobs
              for token in one.choices[0].logprobs.content]
    assert b"".join(bytes(one.bytes) for one in tokens).decode() == text
    assert all(one.usage is None for one in ask(client, about("Describe the image."), stream=True))


def test_an_answer_is_cut_at_its_length_and_at_a_stop(client, vlm):
    _, _, text = greedy(vlm, "Describe the image.")
    found = ask(client, about("Describe the image."), max_tokens=2)
    assert found.choices[0].finish_reason == "length"
    assert text.startswith(found.choices[0].message.content)
    assert found.usage.completion_tokens == 2 and len(found.choices[0].message.content) < len(text)
    assert ask(client, about("Describe the image."),
               max_completion_tokens=2).usage.completion_tokens == 2
    for stop in (text[4:7], [text[4:7], "never said"]):
        found = ask(client, about("Describe the image."), stop=stop)
        assert found.choices[0].message.content == text[:4] and found.choices[0].finish_reason == "stop"
        pieces = list(ask(client, about("Describe the image."), stop=stop, stream=True))
        assert "".join(one.choices[0].delta.content or "" for one in pieces) == text[:4]


def test_a_seed_draws_the_same_and_without_one_it_is_drawn(client, monkeypatch):
    from minivl.cli.serve import writing

    def drawn(**options):
        return ask(client, about("Describe the image."), temperature=2, top_p=1, max_tokens=12,
                   extra_body={"top_k": 0}, **options).choices[0].message.content
    answers = [drawn(seed=n) for n in range(8)]
    assert len(set(answers)) > 2 and drawn(seed=3) == answers[3]
    seeds = iter([3, 4])
    monkeypatch.setattr(writing.secrets, "randbits", lambda bits: next(seeds))
    assert [drawn(), drawn()] == answers[3:5]


def test_history_and_several_pictures_go_in(client, vlm):
    messages = [{"role": "developer", "content": "Be brief."}, *about("What is it?"),
                {"role": "assistant", "content": "A cross."}, *about("And its colour?")]
    pictures = {"type": "image", "image": str(PICTURE)}
    same = [{"role": "system", "content": "Be brief."},
            {"role": "user", "content": [pictures, {"type": "text", "text": "What is it?"}]},
            {"role": "assistant", "content": "A cross."},
            {"role": "user", "content": [pictures, {"type": "text", "text": "And its colour?"}]}]
    found = ask(client, messages)
    assert found.choices[0].message.content == vlm.chat(same, temperature=0)
    assert found.usage.prompt_tokens == len(vlm.prepare(same).input_ids)


def test_models_and_health(client, url):
    assert [one.id for one in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").id == "tiny"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt")
    assert json.loads(call(url, "GET", "/health")[1]) == {"status": "ok", "asked": 0}


def test_the_triage_of_its_answers_says_healthy(url, tmp_path):
    words = ["triage", str(tmp_path / "served.jsonl"), "--url", f"{url}/v1", "--questions", "10",
             "--cache", str(tmp_path / "cache.jsonl"), "--precision", "float32"]
    result = CliRunner().invoke(cli.app, words)
    assert result.exit_code == 0, result.output
    rows = [json.loads(line) for line in (tmp_path / "served.jsonl").read_text().splitlines()]
    assert len(rows) == 10 and all("logprobs" in row for row in rows)  # the question with a video too


# ---- refusals
# ----------------------------------------------------------------------------------------------

def call(url, method, path, body=b"", headers=None, port=None):
    """(status, body) of a request by hand."""
    where = urlsplit(url)
    connection = http.client.HTTPConnection(where.hostname, where.port, timeout=60)
    connection.request(method, path, body, {"Content-Type": "application/json", **(headers or {})})
    reply = connection.getresponse()
    found = reply.status, reply.read()
    connection.close()
    return found


def refused(url, status, code=None, **fields):
    """The message of a refused request."""
    body = {"messages": [{"role": "user", "content": "How many?"}], "max_tokens": 1, **fields}
    found, raw = call(url, "POST", "/v1/chat/completions", json.dumps(body).encode())
    error = json.loads(raw)["error"]
    assert found == status and error.keys() == {"message", "type", "param", "code"}, raw
    assert code is None or error["code"] == code, raw
    return error["message"]


@pytest.mark.parametrize(("field", "value"), [
    ("n", 2), ("n", True), ("response_format", {"type": "json_object"}), ("tools", [{}]),
    ("logit_bias", {"1": 1}),
    ("frequency_penalty", 0.5), ("functions", []), ("reasoning_effort", "low"), ("audio", {}),
    ("anything", 1)])
def test_what_is_not_done_is_refused_by_name(url, field, value):
    assert field in refused(url, 400, **{field: value})


@pytest.mark.parametrize("fields", [
    {"n": 1}, {"response_format": {"type": "text"}}, {"frequency_penalty": 0.0}, {"logit_bias": {}},
    {"user": "me"},
    {"stop": None}, {"tools": []}, {"seed": 0}, {"temperature": 0, "top_p": 0.5}, {"model": "tiny"},
    {"top_k": 3}])
def test_what_asks_for_nothing_is_taken(url, fields):
    body = {"messages": [{"role": "user", "content": "How many?"}], "max_tokens": 1, **fields}
    assert call(url, "POST", "/v1/chat/completions", json.dumps(body).encode())[0] == 200


@pytest.mark.parametrize(("field", "value"), [
    ("max_tokens", 0), ("max_tokens", 5000), ("max_tokens", 1.5), ("max_tokens", "1"),
    ("temperature", -1),
    ("temperature", 1e-9), ("temperature", True), ("temperature", 10**400), ("top_p", 0), ("top_p", 1.5),
    ("seed", -1),
    ("stop", ""), ("stop", ["a"] * 9), ("stop", 5), ("stream", 1), ("logprobs", 3), ("top_logprobs", 2),
    ("stream_options", {"include_usage": True}), ("stream_options", []), ("messages", []),
    ("messages", "hello"),
    ("messages", [[]]), ("messages", [{"role": "user", "content": "a", "name": "b"}]),
    ("messages", [{"role": "nobody", "content": "a"}]), ("max_completion_tokens", 2)])
def test_what_is_out_of_range_is_refused_by_name(url, field, value):
    said = refused(url, 400, **{field: value})
    assert field in said or "temperature" in said, said


def test_another_model_is_not_there(url):
    assert "tiny" in refused(url, 404, "model_not_found", model="gpt-4o")


def image(url, **keys):
    return [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}, **keys}]}]


def test_no_file_and_no_url_is_opened(url, tmp_path):
    for name in (str(PICTURE), PICTURE.as_uri(), "file:///etc/passwd", "~/x.png", "\\\\host\\share"):
        refused(url, 403, "file_not_allowed", messages=image(name))
    for name in ("http://127.0.0.1:1/a.png", "https://example.org/a.png", "HTTP://example.org/"):
        refused(url, 403, "url_not_allowed", messages=image(name))
    assert "picture" in refused(url, 400, "invalid_image", messages=image("data:image/png;base64,AAAA"))
    for item in ({"type": "image", "image": str(PICTURE)}, {"type": "image", "path": str(PICTURE)}):
        refused(url, 403, "file_not_allowed", messages=[{"role": "user", "content": [item]}])


def png(width, height, mode="1"):
    file = io.BytesIO()
    Image.new(mode, (width, height)).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def test_pixels_are_counted_before_they_are_decoded(url, monkeypatch):
    def decoded(*args):
        raise AssertionError("a pixel was decoded")
    bomb, small, cell = png(9000, 9000), png(8, 8), png(28, 28)     # 81 million pixels in 10 kB
    monkeypatch.setattr(ImageFile.ImageFile, "load", decoded)
    assert len(bomb) < 20_000 and "pixels" in refused(url, 413, "too_many_pixels", messages=image(bomb))
    assert "pixels" in refused(url, 413, "too_many_pixels", messages=image(bomb) * 3)
    many = [{"type": "image_url", "image_url": {"url": small}}] * 65
    assert "pictures" in refused(url, 413, messages=[{"role": "user", "content": many}])
    film = {"type": "video", "video": [small] * 65, "fps": 1}
    assert "pictures" in refused(url, 413, messages=[{"role": "user", "content": [film]}])
    assert "resized_height" in refused(url, 400, messages=image(cell, resized_height=28_000,
                                                               resized_width=28_000))
    assert refused(url, 413, messages=image(cell, min_pixels=80_000_000, max_pixels=80_000_000))
    assert refused(url, 413, messages=image(cell, min_pixels=7_000_000, max_pixels=8_000_000))


def test_a_long_prompt_is_refused_before_it_runs(url):
    refused(url, 400, "context_length_exceeded", messages=[{"role": "user", "content": "a b " * 10_000}])
    refused(url, 400, "context_length_exceeded", messages=[{"role": "user", "content": "x" * 600_000}])


def test_who_may_ask(url):
    for host in ("evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "a@127.0.0.1",
                 "[::1", "", "1:x"):
        assert call(url, "GET", "/v1/models", headers={"Host": host})[0] == 403, host
    for host in ("localhost", "localhost:1", "127.0.0.1", "[::1]:80", "LOCALHOST"):
        assert call(url, "GET", "/v1/models", headers={"Host": host})[0] == 200, host
    for origin in ("http://evil.example", "null", url):
        assert call(url, "GET", "/v1/models", headers={"Origin": origin})[0] == 403
    assert call(url, "OPTIONS", "/v1/chat/completions")[0] == 405
    for kind in ("text/plain", "multipart/form-data", "application/x-www-form-urlencoded", ""):
        assert call(url, "POST", "/v1/chat/completions", b"{}", {"Content-Type": kind})[0] == 415
    assert call(url, "POST", "/v1/chat/completions", b"{}", {"Content-Encoding": "gzip"})[0] == 415


def test_a_key_is_asked_for(vlm):
    with serving(vlm, key="a-key-of-16-characters", names=["vision.example"]) as url:
        for given in ({}, {"Authorization": "Bearer wrong"},
                      {"Authorization": "Basic a-key-of-16-characters"},
                      {"Authorization": "Bearer é"}):
            assert call(url, "GET", "/v1/models", headers=given)[0] == 401
        right = {"Authorization": "Bearer a-key-of-16-characters", "Host": "vision.example:80"}
        assert call(url, "GET", "/v1/models", headers=right)[0] == 200 and call(url, "GET",
                                                                                "/health")[0] == 200
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="wrong", max_retries=0)
        with pytest.raises(openai.AuthenticationError):
            client.models.list()


# ---- what is allowed
# ---------------------------------------------------------------------------------------

@pytest.mark.skipif(os.name == "nt", reason="links and pipes of another system")
def test_files_of_a_folder_and_no_others(vlm, tmp_path):
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    (inside / "deep").mkdir(parents=True), outside.mkdir()
    for folder in (inside / "deep", outside):
        (folder / "a b.png").write_bytes(PICTURE.read_bytes())
    (inside / "link.png").symlink_to(outside / "a b.png")
    (inside / "folder").symlink_to(outside)
    (inside / "note.png").write_text("not a picture")
    os.mkfifo(inside / "pipe.png")
    with serving(vlm, places=AllowedPlaces.of([], [inside])) as url:
        def status(name):
            body = {"messages": image(name), "max_tokens": 1}
            found, raw = call(url, "POST", "/v1/chat/completions", json.dumps(body).encode())
            return found, json.loads(raw).get("error", {}).get("code")
        good = inside / "deep" / "a b.png"
        assert status(str(good))[0] == status(good.as_uri())[0] == status(f"file://{good}")[0] == 200
        assert status(str(inside / "deep" / ".." / "deep" / "a b.png"))[0] == 200
        for name in ("link.png", "folder/a b.png", "../outside/a b.png", "none.png", "deep", "pipe.png",
                     "a\0b"):
            assert status(f"{inside}/{name}") == (403, "file_not_allowed"), name
        for name in (outside / "a b.png", f"file://other/{good}", f"{inside}2/a.png", "deep/a b.png",
                     "file://%2e%2e"):
            assert status(str(name)) == (403, "file_not_allowed"), name
        assert status(str(inside / "note.png")) == (400, "invalid_image")
    with serving(vlm, ServerLimits(body=400), AllowedPlaces.of([], [inside])) as url:
        assert status(str(good)) == (413, "too_large")


class Pictures(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        if self.path.startswith("/elsewhere"):
            self.send_response(302)
            self.send_header("Location", "http://127.0.0.1:1/")
            return self.end_headers()
        self.send_response(200)
        self.end_headers()
        with suppress(OSError):
            self.wfile.write(PICTURE.read_bytes() if self.path.startswith("/a.png")
                             else b"x" * 2_000_000)

    def log_message(self, *words):
        pass


def test_urls_of_a_host_and_no_others(vlm):
    pictures = HTTPServer(("127.0.0.1", 0), Pictures)
    pictures.asked, host = [], f"127.0.0.1:{pictures.server_address[1]}"
    threading.Thread(target=pictures.serve_forever, daemon=True).start()
    with serving(vlm, ServerLimits(body=1_000_000), AllowedPlaces.of([host], [])) as url:
        def status(name):
            body = {"messages": image(name), "max_tokens": 1}
            found, raw = call(url, "POST", "/v1/chat/completions", json.dumps(body).encode())
            return found, json.loads(raw).get("error", {}).get("code")
        assert status(f"http://{host}/a.png?b=1")[0] == 200 and pictures.asked == ["/a.png?b=1"]
        assert status(f"http://{host}/elsewhere") == (400, "url_not_fetched")
        assert status(f"http://{host}/large") == (413, "too_large")
        known = len(pictures.asked)
        for name in (f"http://localhost:{host[-5:]}/", "http://127.0.0.1/", f"http://me:x@{host}/",
                     f"ftp://{host}/",
                     f"https://{host}.evil.example/", f"http://evil.example/@{host}/",
                     f"http://{host}:1/",
                     f"http://{host}\\@evil.example/", f"http://{host}/a\nb"):
            assert status(name)[0] == 403, name
        assert len(pictures.asked) == known
    pictures.shutdown(), pictures.server_close()


def test_a_name_that_leads_into_a_private_network_is_not_asked(monkeypatch):
    from minivl.cli.serve import places
    pictures = HTTPServer(("127.0.0.1", 0), Pictures)
    pictures.asked = []
    threading.Thread(target=pictures.serve_forever, daemon=True).start()
    port = pictures.server_address[1]
    found = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *rest,
                        **named: found("127.0.0.1", *rest, **named))
    allowed = AllowedPlaces.of([f"pictures.example:{port}", f"localhost:{port}"], [])
    with pytest.raises(places.Refused, match="could not be fetched"):
        allowed.fetch(f"http://pictures.example:{port}/a.png", 1 << 20)
    assert pictures.asked == [] and allowed.fetch(f"http://localhost:{port}/a.png",
                                                  1 << 20) == PICTURE.read_bytes()
    pictures.shutdown(), pictures.server_close()


# ---- many, slow, and gone
# ----------------------------------------------------------------------------------

class Slow:
    """A model whose every layer takes a while, and counts, and which never comes to an end."""

    def __init__(self, vlm, seconds):
        self.blocks, self.seconds = 0, seconds
        self.table = {f"decoder.layers.{n}": self.wrap for n in range(vlm.config.text.num_hidden_layers)}
        again = np.array([vlm.tokenizer.id("a")])
        self.table["sampling.most_likely"] = lambda choose: lambda logits: again

    def wrap(self, block):
        def slow(*args):
            self.blocks += 1
            time.sleep(self.seconds)
            return block(*args)
        return slow


@pytest.fixture
def slow(vlm, monkeypatch):
    """Every step of the server runs a slow model."""
    from minivl.run import together
    made = Slow(vlm, 0.05)
    monkeypatch.setattr(together, "Session",
                        lambda **options: minivl.Session(replace=made.table, **options))
    return made


BODY = json.dumps({"messages": [{"role": "user", "content": "How many?"}], "max_tokens": 900,
                   "temperature": 0}).encode()


def test_beyond_the_line_requests_are_turned_away(vlm, slow):
    with serving(vlm, ServerLimits(waiting=1, together=1, seconds=3)) as url:
        found = []
        threads = [threading.Thread(target=lambda: found.append(call(url, "POST", "/v1/chat/completions",
                                                                     BODY)))
                   for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    statuses = sorted(status for status, _ in found)
    assert statuses == [429, 429, 504, 504]
    assert {json.loads(raw)["error"]["code"] for status, raw in found if status == 429} == {"queue_full"}


def still(slow):
    """Whether the model runs no more."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        before = slow.blocks
        time.sleep(0.5)
        if slow.blocks == before:
            return True
    return False


def test_a_request_that_takes_too_long_stops_the_model(vlm, slow):
    with serving(vlm, ServerLimits(seconds=1)) as url:
        status, raw = call(url, "POST", "/v1/chat/completions", BODY)
        assert status == 504 and json.loads(raw)["error"]["code"] == "timeout"
        assert slow.blocks and still(slow)
        streamed = json.dumps({**json.loads(BODY), "stream": True}).encode()
        status, raw = call(url, "POST", "/v1/chat/completions", streamed)
        assert status == 200 and json.loads(raw.split(b"data: ")[-1])["error"]["code"] == "timeout"
        assert still(slow)


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_hangs_up_stops_the_model(vlm, slow, stream):
    with serving(vlm) as url:
        where = urlsplit(url)
        body = json.dumps({**json.loads(BODY), "stream": stream}).encode()
        with socket.create_connection((where.hostname, where.port)) as client:
            client.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
                           b"application/json"
                           b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            while slow.blocks < 3:
                time.sleep(0.01)
        assert still(slow)
        assert json.loads(call(url, "GET", "/health")[1])["asked"] == 0


def test_what_comes_too_slowly_or_is_too_large_is_cut_off(vlm):
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with serving(vlm, ServerLimits(body=1000, reading=0.5)) as url:
        where = urlsplit(url)

        def sent(data):
            with socket.create_connection((where.hostname, where.port), timeout=20) as client:
                client.sendall(data)
                return client.recv(4096)
        assert b" 408 " in sent(head + b"Content-Length: 900\r\n\r\n{").splitlines()[0]
        assert b" 413 " in sent(head + b"Content-Length: 1001\r\n\r\n" + b"x" * 1001).splitlines()[0]
        many = b"".join(b"%x\r\n%s\r\n" % (100, b"x" * 100) for _ in range(30)) + b"0\r\n\r\n"
        assert b" 413 " in sent(head + b"Transfer-Encoding: chunked\r\n\r\n" + many).splitlines()[0]
        assert b" 400 " in sent(b"no HTTP\r\n\r\n").splitlines()[0]
        assert b"connection: close" in sent(head + b"Content-Length: 900\r\n\r\n{").splitlines()
        assert call(url, "GET", "/health")[0] == 200


def test_headers_that_do_not_come_are_not_waited_for(vlm, monkeypatch):
    from minivl.cli.serve import listening
    monkeypatch.setattr(listening, "HEADING", 0.5)
    monkeypatch.setattr(listening, "CONNECTIONS", 5)
    with serving(vlm) as url:
        where = urlsplit(url)
        opened = [socket.create_connection((where.hostname, where.port), timeout=20) for _ in range(8)]
        opened[0].sendall(b"GET /health HT")
        for one in opened:
            with suppress(ConnectionResetError):
                assert one.recv(100) == b""
            one.close()
        assert call(url, "GET", "/health")[0] == 200


# ---- the command
# -------------------------------------------------------------------------------------------

def test_what_the_command_refuses(tmp_path):
    for words, said in ((["--host", "0.0.0.0"], "MINIVL_SERVER_KEY"),
                        (["--host", "example.org"], "address"),
                        (["--allow-files", str(tmp_path / "none")], "no folder"),
                        (["--allow-urls", "http://a/"], "host"), (["--port", "-1"], "--port")):
        result = CliRunner().invoke(cli.app, ["serve", *words], env={"MINIVL_SERVER_KEY": ""})
        assert result.exit_code == 2 and said in result.stderr, result.stderr
    taken = socket.create_server(("127.0.0.1", 0))
    result = CliRunner().invoke(cli.app, ["serve", "--port", str(taken.getsockname()[1])])
    assert result.exit_code == 2 and "another --port" in result.stderr
    taken.close()


@pytest.mark.skipif(os.name == "nt", reason="signals of another system")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_it_cleanly(how):
    command = [sys.executable, "-m", "minivl.cli", "serve", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        for line in server.stderr:
            if line.startswith("http://"):
                break
        url = line.split("/v1")[0]
        with socket.create_connection(("127.0.0.1", urlsplit(url).port)):  # a client that says nothing
            assert call(url, "GET", "/health")[0] == 200
            server.send_signal(how)
            assert server.wait(30) == 0
        rest = server.stderr.read()
    assert "stopped" in rest and "Traceback" not in rest
