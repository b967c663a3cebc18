"""`minivl triage --url`: a server on this machine is asked a plan of questions, and the same ones otherwise.

The server is `tools/truth/triage/peer.py`: the package itself, on a small random model, healthy or with a fault.
"""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest
from typer.testing import CliRunner

import minivl
from minivl.cli.words import app
from minivl.truth.museum import get
from minivl.truth.museum.world import world
from minivl.truth.served import MOST_QUESTIONS, Server, ask, plan, write
from minivl.truth.served.client import ServerError, read_reply
from minivl.truth.served.invariance import variations, with_variations
from minivl.truth.triage.cache import Cache
from minivl.truth.triage.lines import LinesError, read_lines
from minivl.truth.triage.triage import triage
from tools.truth.triage.peer import Peer
from tools.truth.triage.served import in_pieces, moved

QUESTIONS = plan(world(), 20)
SAME_AS = {one.name: one.same_as for one in QUESTIONS if one.same_as}


@pytest.fixture(scope="module")
def kept():
    return Cache()


def found_of(peer, tmp_path, kept, questions=QUESTIONS):
    with peer:
        rows, notes = ask(Server(peer.url), questions, world(), "float32")
    write(rows, tmp_path / "served.jsonl")
    found = triage(read_lines(tmp_path / "served.jsonl"), world(), "float32", cache=kept)
    return with_variations(found, {one.name: one.same_as for one in questions if one.same_as}), rows, notes


def test_the_plan_is_bounded_and_covers_what_differs():
    for most in (8, 24, MOST_QUESTIONS):
        questions = plan(world(), most)
        assert len(questions) <= most and len({one.name for one in questions}) == len(questions)
        assert {one.asked for one in questions} == {"alone", "again", "together"}
    questions = plan(minivl.load())
    shapes = [[item["image"].shape[:2] for item in one.messages[0]["content"] if "image" in item] for one in questions]
    assert any(len(each) > 1 for each in shapes) and any(not each for each in shapes)
    assert any(side % 28 for each in shapes for shape in each for side in shape) and any(q.has_video for q in questions)
    again = plan(minivl.load())
    assert all(np.array_equal(a.messages[0]["content"][0].get("image", 0), b.messages[0]["content"][0].get("image", 0))
               for a, b in zip(questions, again, strict=True))


@pytest.mark.parametrize(("batch", "pieces"), [(1, 0), (3, 16)])
def test_a_healthy_server_is_the_same(batch, pieces, tmp_path, kept):
    found, rows, notes = found_of(Peer(world(), in_pieces(pieces) if pieces else {}, batch), tmp_path, kept)
    assert len(rows) == len(QUESTIONS) and not notes and not found.different, found.cause
    assert [note.partition(":")[0] for note in found.notes] == ["asked again", "asked together"]
    assert all("the same within rounding" in note for note in found.notes)


@pytest.mark.parametrize(("name", "kind"), [
    ("resize-bilinear", "pixels"),
    *(pytest.param(*one, marks=pytest.mark.full) for one in [
        ("windows-missing", "arithmetic"), ("pictures-before-text", "settings"), ("qkv-bias-dropped", "arithmetic")])])
def test_the_kind_of_a_fault_is_told(name, kind, tmp_path, kept):
    found, _, _ = found_of(Peer(world(), get(name).table()), tmp_path, kept)
    assert found.cause.kind == kind, found.cause


def test_answers_that_depend_on_other_requests_are_told(tmp_path, kept):
    found, rows, _ = found_of(Peer(world(), get("offset-of-another-request").table(), batch=3), tmp_path, kept)
    assert found.cause.kind == "arithmetic" and found.cause.name == "answers change when asked together"
    again, together = variations(found.samples, SAME_AS, found.limits)
    assert not again.differing and together.differing and "in a batch" in together.words
    assert moved(rows, [{**row, "text": ""} for row in rows])


def beginning_lost(right):
    """A prompt is read 512 rows at a time, and a later piece does not see what the first one left."""
    def attend(q, k, v, segments, *rest):
        rows = [part for q0, q1, k0, k1 in segments.tolist() for part in (
            [(q0, q0 + 512, k0, k0 + 512), (q0 + 512, q1, k0 + 512, k1)] if q1 - q0 > 512 else [(q0, q1, k0, k1)])]
        return right(q, k, v, np.array(rows), *rest)
    return attend


@pytest.mark.parametrize("fault", [{}, {"decoder.layers.*.attend": beginning_lost}])
def test_a_prompt_that_is_read_in_pieces_is_told_by_lengths_around_a_piece(fault, tmp_path, kept):
    questions = plan(world(), 16, pieces=(512,))
    lengths = [len(world().prepare(one.messages).input_ids) for one in questions if one.asked == "long"]
    assert lengths == [513, 511, 512, 513]
    found, _, _ = found_of(Peer(world(), fault), tmp_path, kept, questions)
    said = found.notes[-1]
    if fault:
        assert found.cause.kind == "arithmetic" and found.cause.name == "answers are wrong in long prompts alone"
        assert said.startswith("long prompts: of 513, 513 tokens wrong, of 511, 512 right")
        assert found.cause.because == said
    else:
        assert not found.different and said == "long prompts, of 511, 512, 513, 513 tokens: right within rounding"


def test_a_server_that_keeps_log_probabilities_and_videos_to_itself_is_asked_what_it_takes(tmp_path, kept):
    peer = Peer(world(), shows_logprobs=False, shows_counts=False, takes_videos=False)
    with peer:
        rows, notes = ask(Server(peer.url), QUESTIONS, world(), "float32")
        assert peer.asked == len(QUESTIONS)
    films = sum(one.has_video for one in QUESTIONS)
    assert films and len(rows) == len(QUESTIONS) - films and "were not taken by the server" in notes[0]
    assert not any({"ids", "logprobs", "prompt_tokens"} & row.keys() for row in rows)
    write(rows, tmp_path / "served.jsonl")
    try:
        notes = triage(read_lines(tmp_path / "served.jsonl"), world(), "float32", cache=kept).notes
    except LinesError as error:
        notes = [str(error)]
    assert "texts that do not say which tokens" in notes[0]                           # a vocabulary of bytes


def test_the_command_asks_writes_and_judges(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Peer(minivl.load(kernels="definition")) as peer:
        ran = CliRunner().invoke(app, ["triage", "--url", peer.url, "--questions", "8", "--precision", "float32",
                                       "--json"])
        assert ran.exit_code == 0, ran.output
        document = json.loads(ran.stdout)
        assert document["verdict"] == "same" and document["samples"] == 8 == peer.asked
        assert any(note.startswith("asked together") for note in document["notes"])
    assert len(read_lines(tmp_path / "minivl-triage-served.jsonl")) == 8


@pytest.mark.parametrize(("words", "said"), [
    (["triage"], "give a file of answers, or --url"), (["triage", "--url", "localhost"], "should be the address"),
    (["triage", "--url", "http://127.0.0.1:9/v1"], "cannot be asked")])
def test_what_cannot_be_asked_is_refused_in_a_line(words, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ran = CliRunner().invoke(app, words)
    assert ran.exit_code == 2 and said in " ".join(ran.stderr.split()) and "Traceback" not in ran.stderr


@pytest.mark.parametrize("reply", [{}, [], {"choices": []}, {"choices": [{"message": {}}]}, {"choices": [{"message": {
    "content": "a"}, "logprobs": {"content": [{"token": "a"}]}}]}, "text"])
def test_a_reply_that_is_none_of_the_protocols_is_refused(reply):
    with pytest.raises(ServerError, match="none of the protocol's"):
        read_reply(reply, "http://x")


def test_a_reply_that_sends_elsewhere_is_not_followed():
    class Elsewhere(BaseHTTPRequestHandler):
        asked = 0

        def do_POST(self):
            Elsewhere.asked += 1
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(307)
            self.send_header("Location", "/v1/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *words):
            pass
    server = HTTPServer(("127.0.0.1", 0), Elsewhere)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        with pytest.raises(ServerError, match="answers 307"):
            Server(f"http://127.0.0.1:{server.server_address[1]}").answer([], 1)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert Elsewhere.asked == 1
