"""What is asked of the embedded model, in lessons, demonstration and README, is something it is mostly right about,
or its figure stands beside it: the figures are those of its card. The lessons run in test_lessons.py."""

from __future__ import annotations

import json
import re
from pathlib import Path

import minivl
from minivl.api import TINY, VLM
from minivl.show import demo, figures
from minivl.show.figures import Figure, figure_of, kind_of
from minivl.show.samples import load_samples

MEDIA = re.compile(r"<\|(?:vision_start|vision_end|image_pad|video_pad)\|>")


def trouble_with(question: str, said: str) -> str | None:
    """What is wrong with asking this where `said` is all that the reader is told."""
    row = kind_of(question)
    if row is None:
        return f"{question!r} is asked by no row of the card"
    figure = figure_of(question)
    if figure.figure is not None and figure.fails and figure.sentence() not in said:
        return f"{question!r} is mostly answered wrongly, and its figure is not said: {figure.sentence()}"
    return None


def questions(monkeypatch) -> set[str]:
    """What the embedded model, with its own weights, will be asked about pictures and videos from now on. A run that
    nothing stops (the museum's cases) is no answer."""
    asked, write = set(), VLM._write

    def listen(self, conversations, settings, keeping):
        for one in conversations:
            turns = self.tokenizer.decode(one.input_ids.tolist(), False).split("<|im_start|>user\n")
            if self.folder == TINY and settings.stop_ids and len(turns) > 1 and len(one.media):
                asked.add(MEDIA.sub("", turns[-1].split("<|im_end|>")[0]))
        return write(self, conversations, settings, keeping)
    monkeypatch.setattr(VLM, "_write", listen)
    return asked


def test_questions_are_heard(monkeypatch):
    asked = questions(monkeypatch)
    (sample,) = [one for one in load_samples() if one.name == "number"]
    with minivl.load() as vlm:
        vlm.chat(sample.messages(), 1)
        vlm.generate([vlm.prepare(sample.messages())], max_new_tokens=1)
    assert asked == {sample.question} and trouble_with(sample.question, "") is None


def test_a_kind_that_is_mostly_wrong_is_noticed(monkeypatch):
    shares = {"relations": (0.58, 0.56), "count": (0.49, 0.2), "read short words": (0.9, 0.0)}
    rows = {name: {"name": name, "measure": "right", "figure": right, "blind": blind, "samples": 1000}
            for name, (right, blind) in shares.items()}
    monkeypatch.setattr(figures, "rows", lambda folder=TINY: rows)
    left, count = "Is the red star left of the blue ring?", "How many stars are there?"
    assert "mostly" in trouble_with(left, "") and "mostly" in trouble_with(count, "")
    assert trouble_with(left, figure_of(left).sentence()) is None
    assert trouble_with("Read the word.", "") is None
    assert "no row" in trouble_with("Why?", "")
    assert Figure("x").fails and figure_of("Why?").figure is None


def test_a_sentence_says_the_figure_of_the_record():
    row = next(one for one in json.loads((TINY / "training.json").read_text(encoding="utf-8"))["evaluation"]
               if one["name"].startswith("find one"))
    share = f"right in {100 * row['figure']:.0f} of 100 questions of this kind"
    assert figure_of("Find the red star.").sentence().startswith(share)
    assert figure_of("Find the red star.").short() == f"{100 * row['figure']:.0f} of 100"
    always = Figure("relations", "right", 0.5, 0.5, 9, "No.").sentence()
    assert always.endswith("To questions in these words it nearly always says 'No.'")
    assert Figure("detect all", "f1", 0.318).sentence().startswith("F1 0.32")


def test_a_checkpoint_without_a_record_has_no_figures(tmp_path):
    assert figure_of("Describe the image.", folder=tmp_path).figure is None


def test_the_constant_of_a_form_is_told_with_its_figure(monkeypatch):
    row = {"name": "relations", "measure": "right", "figure": 0.58, "blind": 0.5, "samples": 9,
           "constants": {"Is the ... below the ...?": "No."}}
    monkeypatch.setattr(figures, "rows", lambda folder=TINY: {"relations": row})
    assert figure_of("Is the red star below the orange ring?").always == "No."
    assert figure_of("Is the red star above the orange ring?").always == ""


def test_the_demonstrations_gallery_shows_kinds_that_it_can_answer():
    samples = {sample.name: sample for sample in load_samples()}
    assert all(name in samples for name in demo.GALLERY)
    assert not [name for name in demo.GALLERY if figure_of(samples[name].question, samples[name].answer).fails]


README = (Path(minivl.__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def test_readme_names_the_card_beside_a_question_that_is_mostly_failed():
    for found in re.finditer(r'"((?:Is|What|Find|Describe|How|Read|Click|Detect|When)\b[^"\n]*[.?])"', README):
        if kind_of(found[1]) and figure_of(found[1]).fails:
            assert "minivl/tiny/README.md" in README[found.end():found.end() + 300], found[1]
