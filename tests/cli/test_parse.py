"""`minivl parse`, end to end: the embedded model's own answers, and answers written here in its
place."""

import json

import pytest
from typer.testing import CliRunner

import minivl
from minivl.cli import words as cli
from minivl.cli.parse import LINES, PAGE, SYSTEM
from minivl.show.samples import load_samples

PICTURE = str(load_samples()[0].paths[0])


def parse(*words, code=0):
    result = CliRunner().invoke(cli.app, ["parse", *map(str, words)])
    assert result.exit_code == code, (result.exit_code, result.stdout, result.stderr)
    assert "Traceback" not in result.stderr
    return result.stdout, result.stderr


@pytest.fixture
def says(monkeypatch):
    """Let the model answer what a test wants; what it was asked is kept."""
    asked = []

    def answering(text, ended=True):
        def tokens(self, inputs, most, temperature, **keeping):
            asked.append(self.tokenizer.decode(inputs.input_ids, skip_special_tokens=True))
            ids = self.tokenizer.encode(text)
            yield from [*ids, self.generation.eos_token_ids[0]] if ended else ids
        monkeypatch.setattr(minivl.VLM, "tokens", tokens)
        return asked
    return answering


def test_the_embedded_model_is_asked_whatever_it_says():
    out, err = parse(PICTURE, code=1)
    assert out == "" and "nothing is written" in err
    out, _ = parse(PICTURE, "--format", "json", "--question", "Find the pink cross.")
    (found,) = json.loads(out)
    with minivl.load() as vlm:
        (place,) = vlm.ground(PICTURE, "Find the pink cross.")
    assert found["label"] == "pink cross" and found["bbox_2d"] == [round(n, 2) for n in place.box]


def test_each_form_is_printed_and_asked_for_in_the_official_words(says):
    # the whole picture, as the model sees it
    asked = says('<p data-bbox="0 0 196 140">Hello <b>you</b></p>')
    assert '<p data-bbox="0 0 203 150">Hello <b>you</b></p>' in parse(PICTURE)[0]
    assert parse(PICTURE, "--format", "markdown")[0] == "Hello **you**\n"
    assert all(PAGE in one and SYSTEM in one for one in asked)
    says('[{"bbox_2d": [0, 0, 196, 140], "text_content": "é"}]')
    assert json.loads(parse(PICTURE, "--format", "json")[0]) == [{"bbox_2d": [0, 0, 203, 150],
                                                                  "text_content": "é"}]
    assert LINES in asked[-1] and SYSTEM not in asked[-1]
    parse(PICTURE, "--format", "json", "--question", "Something else?")
    assert "Something else?" in asked[-1] and LINES not in asked[-1]


def test_a_cut_answer_writes_nothing_and_says_so(says, tmp_path):
    says('[{"bbox_2d": [0, 0, 196, 140], "text_con', ended=False)
    out, err = parse(PICTURE, "--format", "json", "-o", tmp_path / "a.json", code=1)
    assert out == "" and "cut short" in err and "--max-new-tokens" in err
    assert not list(tmp_path.iterdir())
    document = json.loads(parse(PICTURE, "--format", "json", "--json", code=1)[0])
    assert document["valid"] is False and document["document"] is None
    assert document["answer"].startswith('[{"bbox_2d"')
    assert document.keys() == {"image", "format", "valid", "problems", "notes", "document", "elements",
                               "answer"}


def test_a_file_is_written_and_a_schema_held(says, tmp_path):
    pytest.importorskip("jsonschema", reason="the package jsonschema is not installed")
    says('[{"label": "a"},]')
    schema, output = tmp_path / "schema.json", tmp_path / "out.json"
    schema.write_text('{"items": {"required": ["label"]}}')
    out, err = parse(PICTURE, "--format", "json", "--schema", schema, "-o", output)
    assert out == "" and "comma" in err and json.loads(output.read_text()) == [{"label": "a"}]
    schema.write_text('{"items": {"required": ["box"]}}')
    assert "$[0]" in parse(PICTURE, "--format", "json", "--schema", schema, code=1)[1]


def test_wrong_words_are_refused_before_the_model_is_asked(monkeypatch, tmp_path):
    monkeypatch.setattr(minivl.VLM, "tokens", None)
    (tmp_path / "a.json").write_text("{")
    (tmp_path / "b.json").write_text('{"type": 5}')
    for words in (["--format", "pdf"], ["--schema", tmp_path / "b.json"],
                  ["--format", "json", "--schema", tmp_path / "a.json"],
                  ["--format", "json", "--schema", tmp_path / "b.json"],
                  ["-o", tmp_path / "none" / "a.html"],
                  ["--format", "json", "--schema", tmp_path / "none.json"]):
        out, err = parse(PICTURE, *words, code=2)
        assert out == "" and err.count("\n") == 1
    parse(tmp_path / "none.png", code=2)
