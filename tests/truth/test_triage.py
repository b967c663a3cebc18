"""`minivl triage`: the file of a candidate, the statistics, the scores, the words. What it says of faults is in
`test_triage_faults.py`."""

import json
import math
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

import minivl
from minivl import model as forward
from minivl.api import TINY
from minivl.cli.triage import tell
from minivl.cli.words import app
from minivl.config import read_generation
from minivl.kernels.definition import log_softmax
from minivl.run.inputs import Medium
from minivl.truth.museum.world import world
from minivl.truth.trace.format import Trace
from minivl.truth.triage import cause as causes
from minivl.truth.triage import inputs as beside
from minivl.truth.triage import report
from minivl.truth.triage import scorer as scorer_module
from minivl.truth.triage.cache import Cache, digest
from minivl.truth.triage.cause import FEWEST, FEWEST_DRAWN, Cause, Tried, only_resized, weighed
from minivl.truth.triage.choosing import by_sampler, last_decimal
from minivl.truth.triage.hypotheses import ARITHMETIC, PIXELS, SETTINGS, UNDECIDED, hypotheses
from minivl.truth.triage.lines import FIELDS, LinesError, read_lines, told_length
from minivl.truth.triage.lines import SETTINGS as SETTINGS_OF_A_LINE
from minivl.truth.triage.loss import MEASURES, OUTLIERS, UNEVEN, UNITS, Measured, Sample, distance, right, uneven
from minivl.truth.triage.properties import Shared, named, properties, shared
from minivl.truth.triage.samplers import Choice, Sampler, choice, may_have_drawn, samplers
from minivl.truth.triage.scorer import GOLDEN, SAME, Score, Scorer
from minivl.truth.triage.smallest import Smallest
from minivl.truth.triage.statistics import Interval, at_least, fisher_exact, holm, paired_interval, uniform
from minivl.truth.triage.triage import Triage, precision_of, refuse_certainties, triage

PAGE = Path(__file__).parent.parent.parent / "docs" / "guide" / "triage.md"
NOISE = np.random.default_rng(2).integers(0, 256, (60, 90, 3), np.uint8)


@pytest.fixture
def folder(tmp_path):
    Image.fromarray(NOISE).save(tmp_path / "a.png")
    return tmp_path


def written(folder: Path, *rows, name: str = "candidate.jsonl") -> Path:
    path = folder / name
    path.write_bytes(b"\n".join(row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows) + b"\n")
    return path


ROW = {"image": "a.png", "prompt": "What is it?", "text": "4071"}


# ---- the file -------------------------------------------------------------------------------------------------

def test_the_short_form_is_one_turn_of_a_conversation(folder):
    (line, other, film, none) = read_lines(written(
        folder, {"id": 7, **ROW}, b"", {"images": ["a.png", "a.png"], "prompt": "Both?", "text": "", "id": "b"},
        {"video": ["a.png"] * 2, "fps": 4, "prompt": "When?", "text": "now"}, {"prompt": "Hello", "text": "you"}))
    assert (line.name, line.number, line.text) == ("7", 1, "4071")
    assert line.messages == [{"role": "user", "content": [{"type": "image", "image": str(folder / "a.png")},
                                                          {"type": "text", "text": "What is it?"}]}]
    assert [item["type"] for item in other.messages[0]["content"]] == ["image", "image", "text"] and other.number == 3
    assert film.messages[0]["content"][0]["fps"] == 4 and len(film.messages[0]["content"][0]["video"]) == 2
    assert [item["type"] for item in none.messages[0]["content"]] == ["text"]


def test_a_grid_may_stand_alone_and_a_number_that_is_none_is_kept_as_such(folder):
    (line,) = read_lines(written(folder, {**ROW, "grid": [1, 4, 6], "ids": [1, 2], "logprobs": [None, -0.5]}))
    assert line.grid == ((1, 4, 6),)
    assert math.isnan(line.logprobs[0]) and line.logprobs[1] == -0.5


def test_the_recorder_of_the_docs_writes_what_is_read(folder, monkeypatch):
    code = PAGE.read_text(encoding="utf-8").partition("```python\n")[2].partition("```")[0]
    monkeypatch.chdir(folder)

    def ask(picture, question, max_new_tokens):
        return {"text": "4071", "ids": [5, 6], "logprobs": [-0.1, -0.2]}
    exec(code, {"samples": [("a.png", "What is it?")] * 2, "ask": ask})
    (first, _) = read_lines(folder / "candidate.jsonl")
    assert (first.name, first.text, first.ids, first.max_new_tokens) == ("0", "4071", (5, 6), 64)


def test_the_docs_list_every_field():
    page = PAGE.read_text(encoding="utf-8")
    assert [name for name in (*FIELDS, *SETTINGS_OF_A_LINE) if f"`{name}`" not in page] == []


WRONG = [
    (b"{", "no JSON"), (b"[1]", "is a list"), (b"\xff{}", "not UTF-8"), ({"prompt": "a"}, "'text' is missing"),
    ({**ROW, "answer": "a"}, "'answer' is not known; fields are id"), ({**ROW, "prompt": 3}, "'prompt' is missing"),
    ({**ROW, "image": "b.png"}, "picture b.png is not there"), ({**ROW, "images": ["a.png"]}, "give one"),
    ({"text": "a"}, "give either 'messages'"), ({**ROW, "messages": []}, "give either 'messages'"),
    ({"messages": [{"role": "me", "content": ""}], "text": "a"}, "'role'"), ({**ROW, "ids": [1.5]}, "'ids' should"),
    ({**ROW, "ids": [True]}, "'ids' should"), ({**ROW, "prompt_ids": "1"}, "'prompt_ids' should"),
    ({**ROW, "logprobs": [-1.0]}, "'ids' are missing"), ({**ROW, "ids": [1], "logprobs": [-1, -2]}, "'ids' are 1"),
    ({**ROW, "ids": [1], "logprobs": [0.5]}, "at most 0"),
    ({**ROW, "ids": [1], "logprobs": ["x"]}, "'logprobs' should"),
    ({**ROW, "grid": [[1, 2]]}, "'grid' should"), ({**ROW, "grid": [[1, 2, 2]] * 2}, "2 rows for 1"),
    ({**ROW, "settings": []}, "'settings' should"), ({**ROW, "settings": {"heat": 1}}, "'heat'; it can have"),
    ({**ROW, "settings": {"temperature": -1}}, "settings.temperature is -1"),
    ({**ROW, "settings": {"precision": "fp8"}}, "settings.precision is 'fp8'"),
    ({**ROW, "teacher_forced": True}, "'logprobs', with 'ids', say anything of it, and they are missing"),
    ({**ROW, "settings": {"temperature": "0"}}, "settings.temperature is '0'; it should be a number"),
    ({**ROW, "expected": 4}, "'expected' should"), ({**ROW, "teacher_forced": 1}, "'teacher_forced' should"),
    ({"video": "a.mp4", "prompt": "a", "text": "a"}, "'video' should be a list"),
    ({"images": "a.png", "prompt": "a", "text": "a"}, "'images' should be a list"),
    ({**ROW, "image": "iVBORw0KGgo/" * 500}, "field 'image': picture iVBORw0KGgo/"),
    ({**ROW, "image": "iVBORw0KGgo/" * 9}, "base64 needs `data:image/png;base64,` in front"),
    ({**ROW, "image": "a\0b"}, "field 'image': picture"), ({**ROW, "image": 3}, "field 'image': a picture is a int"),
    ({"messages": [{"role": "user", "content": [{"type": "image", "image": "A" * 900}]}], "text": "a"},
     "field 'messages': picture AAAA"),
    ({**ROW, "settings": {"temperature": 10**400}}, "'settings' holds 1000"),
    ({**ROW, "ids": [1], "logprobs": [-10**400]}, "'logprobs' holds -1000"), ({**ROW, "ids": [2**40]}, "'ids' should"),
    ({"video": ["a.png"], "fps": 10**400, "prompt": "a", "text": "a"}, "'fps' holds 1000"),
    ({**ROW, "grid": [[1, 2, 2**40]]}, "'grid' should"),
    ({**ROW, "settings": {"max_new_tokens": 2.5}}, "settings.max_new_tokens is 2.5; it should be a whole number"),
    ({**ROW, "settings": {"top_k": 0.5}}, "field 'settings': settings.top_k is 0.5"),
    ({**ROW, "settings": {"seed": [1]}}, "field 'settings': settings.seed is [1]"),
    ({"video": [], "prompt": "a", "text": "a"}, "'video' should be a list of frames, at least one"),
    ({"messages": [{"role": "user", "content": [{"type": "video", "video": []}]}], "text": "a"}, "at least one"),
    ({**ROW, "text": "a\ud83d"}, "field 'text' holds half of a surrogate pair, '\\ud83d'"),
    ({**ROW, "prompt": "\udc00"}, "field 'prompt' holds half")]


@pytest.mark.parametrize(("row", "said"), WRONG, ids=[said for _, said in WRONG])
def test_a_malformed_line_is_named_with_its_field(row, said, folder):
    with pytest.raises(LinesError) as error:
        read_lines(written(folder, {**ROW, "id": "first"}, row))
    assert "line 2" in str(error.value) and said in str(error.value) and len(str(error.value)) < 500


def test_no_id_is_the_lines_number_and_a_byte_order_mark_is_none(folder):
    path = written(folder, {**ROW, "id": None}, {**ROW, "id": None})
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert [line.name for line in read_lines(path)] == ["1", "2"]


def test_an_empty_file_and_an_id_twice_are_refused(folder):
    with pytest.raises(LinesError, match="holds no sample"):
        read_lines(written(folder, b""))
    with pytest.raises(LinesError, match="line 2: id 'x' is line 1's too"):
        read_lines(written(folder, {**ROW, "id": "x"}, {**ROW, "id": "x"}))


def test_two_precisions_in_one_file_are_refused(folder):
    lines = read_lines(written(folder, *({**ROW, "id": n, "settings": {"precision": p}}
                                         for n, p in enumerate(("float16", "bfloat16")))))
    with pytest.raises(LinesError, match="one file for each"):
        precision_of(lines, None)
    assert precision_of(lines[:1], None) == "float16" and precision_of(lines[:1], "float32") == "float32"


@pytest.mark.parametrize("bad", [["--precision", "fp8"], ["--precision", "float32", "--golden", "float16"],
                                 ["-o", "{}/a.png"]])
def test_options_out_of_range_are_wrong_input(bad, folder, monkeypatch):
    monkeypatch.setattr("minivl.cli.triage.open_model", lambda *a: pytest.fail("it ran"))
    bad = [word.format(folder) for word in bad]
    result = CliRunner().invoke(app, ["triage", str(written(folder, ROW)), *bad])
    assert result.exit_code == 2 and "Traceback" not in result.stderr


@pytest.mark.parametrize("row", [b"{", {**ROW, "ids": [10**6]}, {"messages": [{"role": "user", "content": [
    {"type": "image", "image": "nowhere.png"}]}], "text": "a"}])
def test_what_cannot_be_compared_is_exit_code_2_in_one_line(row, folder):
    result = CliRunner().invoke(app, ["triage", str(written(folder, row)), "-o", str(folder / "out")])
    assert result.exit_code == 2, result.output
    assert "line 1" in result.stderr and "Traceback" not in result.stderr and len(result.stderr.splitlines()) == 1
    assert not (folder / "out").exists()


# ---- statistics -----------------------------------------------------------------------------------------------

@given(*[st.integers(0, 7)] * 4)
def test_fishers_test_is_the_sum_over_tables(a, b, c, d):
    """Every way to choose which samples are bad, counted in whole numbers."""
    n, bad, having = a + b + c + d, a + c, a + b

    def share(k):
        return Fraction(math.comb(having, k) * math.comb(n - having, bad - k), math.comb(n, bad))
    every = [share(k) for k in range(max(0, bad - (n - having)), min(bad, having) + 1)]
    assert sum(every) == 1
    assert fisher_exact(a, b, c, d) == pytest.approx(float(sum(p for p in every if p <= share(a))), rel=1e-6)


def test_holm_corrects_for_all_that_are_left():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == pytest.approx([1.0, 1.0]) and holm([]) == []


def test_an_interval_is_seeded_and_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    draws = [paired_interval(rng.normal(0.3, 1, 60), seed=n) for n in range(60)]
    assert 55 <= sum(one.low <= 0.3 <= one.high for one in draws) <= 60
    values = rng.normal(size=20)
    assert paired_interval(values, 1) == paired_interval(values, 1) != paired_interval(values, 2)
    assert paired_interval([2.0, 2.0]) == Interval(2.0, 2.0, 2.0)


def test_uniform_numbers_are_told_from_others():
    rng = np.random.default_rng(0)
    assert np.mean([uniform(rng.random(50)) < 0.05 for _ in range(200)]) == pytest.approx(0.05, abs=0.04)
    assert uniform(rng.random(200) ** 2) < 1e-6 and uniform([]) == 1.0


# ---- the cache ------------------------------------------------------------------------------------------------

def test_what_was_run_before_is_not_run_again_and_a_torn_line_is_dropped(tmp_path):
    path = tmp_path / "cache.jsonl"
    Cache(path).get(("a", np.arange(2)), lambda: [1, 2.5])
    with path.open("a") as file:
        file.write('{"key": "torn')
    again = Cache(path)
    assert again.get(("a", np.arange(2)), lambda: pytest.fail("was known")) == [1, 2.5]
    assert again.get(("a", np.arange(2.0)), lambda: 3) == 3
    assert (again.hits, again.misses) == (1, 1)
    assert len(Cache(path).known) == 2
    assert digest("a", ("b",)) != digest("a", "b") != digest("ab")


def test_a_file_that_is_no_cache_is_left_alone(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("mine\n")
    with pytest.raises(ValueError, match="is no cache"):
        Cache(path)
    assert path.read_text() == "mine\n"


# ---- samplers -------------------------------------------------------------------------------------------------

def test_regret_under_a_penalty_is_that_of_loops():
    rng = np.random.default_rng(3)
    logits, prompt, tokens = rng.normal(size=(4, 6)), np.array([1, 2]), np.array([5, 1, 5, 0])
    for on_prompt in (True, False):
        found = choice(Sampler("x", 1.5, on_prompt), logits, prompt, tokens, 0)
        for row in range(4):
            seen = set(tokens[:row].tolist()) | (set(prompt.tolist()) if on_prompt else set())
            scores = [x if n not in seen else x / 1.5 if x > 0 else x * 1.5 for n, x in enumerate(logits[row])]
            assert found.regret[row] == pytest.approx(max(scores) - scores[tokens[row]], abs=1e-9)


def test_answers_that_a_sampler_drew_are_told_from_those_of_another():
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(300, 12)) * 3
    share = np.exp(log_softmax(logits))
    drawn = np.array([rng.choice(12, p=row / row.sum()) for row in share])
    cold, warm = Sampler("cold", temperature=0.3), Sampler("warm", temperature=1.0)
    nothing = np.zeros(0, np.int64)

    def fits(sampler, tokens):
        return may_have_drawn([choice(sampler, logits, nothing, tokens, 7)])
    assert fits(warm, drawn) and not fits(cold, drawn)
    assert not fits(warm, logits.argmax(axis=1))
    assert not fits(warm, rng.integers(0, 12, 300))
    assert not fits(Sampler("few", temperature=1.0, top_k=2), drawn)         # some are none of the two


def test_samplers_begin_with_the_checkpoints_own_and_hold_what_the_candidate_declares():
    own = read_generation(TINY, minivl.load().config)
    names = [one.name for one in samplers(own, [{"temperature": 0.6, "repetition_penalty": 1.07}])]
    assert names[0] == "as the checkpoint says" and len(set(names)) == len(names)
    assert "repetition penalty 1.07, temperature 0.6, as the candidate says" in names


# ---- scores ---------------------------------------------------------------------------------------------------

def scorer_of(precision="float32", cache=None):
    vlm = world()
    return Scorer(vlm, precision, "float64", samplers(vlm.generation), cache or Cache())


def test_one_pass_over_an_answer_scores_it_as_decoding_does():
    scorer = scorer_of()
    inputs = scorer.vlm.prepare([{"role": "user", "content": [{"type": "image", "image": NOISE},
                                                            {"type": "text", "text": "What is it?"}]}])
    tokens = scorer.answer(inputs, GOLDEN, 4)
    decoded = scorer.score(inputs, tokens, GOLDEN)                             # kept while it was written
    assert scorer.cache.misses == 2
    fresh = scorer_of().score(inputs, tokens, GOLDEN)
    np.testing.assert_allclose(decoded.logprobs, fresh.logprobs, atol=1e-8)
    assert decoded.regret == 0 and fresh.regret == pytest.approx(0, abs=1e-9)
    other = scorer.score(inputs, [(n + 1) % 7 for n in tokens], GOLDEN)
    assert other.regret > 0.1


def test_the_tower_runs_once_for_the_same_pictures(monkeypatch):
    """Whatever is asked about them; other pictures are looked at anew, and a good many are kept."""
    scorer, ran = scorer_of(), []
    monkeypatch.setattr(scorer_module, "MOST_BYTES", 1)                  # the last alone
    real = forward.vision.definition
    monkeypatch.setattr(forward.vision, "definition", lambda *args: ran.append(1) or real(*args))

    def asked(pixels, words):
        return scorer.vlm.prepare([{"role": "user", "content": [{"type": "image", "image": pixels},
                                                              {"type": "text", "text": words}]}])
    kept = [scorer.score(asked(NOISE, words), [5, 6], GOLDEN).logprobs for words in ("What is it?", "Who?")]
    assert len(ran) == 1
    alone = [scorer_of().score(asked(NOISE, words), [5, 6], GOLDEN).logprobs for words in ("What is it?", "Who?")]
    assert np.array_equal(kept, alone) and not np.array_equal(*kept)
    rounded = scorer.score(asked(NOISE, "Who?"), [5, 6], SAME).logprobs          # by its own rounding of the pictures
    assert len(ran) == 4 and not np.array_equal(rounded, kept[1])
    other = scorer.score(asked(NOISE[::-1], "Who?"), [5, 6], SAME).logprobs
    assert len(ran) == 5 and not np.array_equal(other, rounded) and len(scorer.features) == 1


def test_an_answer_may_hold_placeholders():
    """A broken runtime does write them."""
    scorer = scorer_of()
    inputs = scorer.vlm.prepare([{"role": "user", "content": [{"type": "image", "image": NOISE}]}])
    assert np.isfinite(scorer.score(inputs, [scorer.vlm.config.image_token_id] * 3, GOLDEN).logprobs).all()


def test_distances_are_bounded_and_what_is_no_number_counts_in_full():
    assert distance((-1.0, -2.0), np.array([-1.5, -2.0, -9.0])) == pytest.approx(0.25)
    assert distance((math.nan, -1e9), np.array([-1.0, -1.0])) == 10
    assert right(" 4071.<|im_end|>", "4071") and not right("407", "4071")


@pytest.mark.parametrize("hypothesis", hypotheses(), ids=lambda one: one.name)
def test_every_hypothesis_changes_some_sample(hypothesis, folder):
    Image.fromarray(np.dstack([NOISE, np.full(NOISE.shape[:2], 90, np.uint8)])).save(folder / "b.png")
    Image.fromarray(np.repeat(np.repeat(NOISE, 5, 0), 5, 1)).save(folder / "c.png")
    vlm = world()
    line, film = read_lines(written(
        folder, {"messages": [{"role": "user", "content": [
            {"type": "text", "text": "First this:"}, *({"type": "image", "image": f"{n}.png"} for n in "abc"),
            {"type": "text", "text": "What is it?"}]}], "text": ""},
        {"video": ["a.png"] * 10, "fps": 0.5, "prompt": "When?", "text": ""}))
    assert hypothesis.kind in (PIXELS, SETTINGS, ARITHMETIC)
    prints = [digest(*(np.asarray(x) for x in vars(source).values() if isinstance(x, np.ndarray)))
              for one in (line, film) for source in (vlm.prepare(one.messages), hypothesis.prepare(vlm, one))]
    assert prints[0] != prints[1] or prints[2] != prints[3]


# ---- evidence -------------------------------------------------------------------------------------------------

def sample(**given) -> Sample:
    """A sample as if it had been measured."""
    media = tuple(Medium("image", grid, 1.0, 0, (grid[1] * 14 + given.get("off", 0), grid[2] * 14),
                         (grid[1] * 14, grid[2] * 14)) for grid in given.get("grids", ()))
    line = SimpleNamespace(grid=None, prompt_ids=None, ids=None, logprobs=None, teacher_forced=False, settings={},
                           text="", name="s", max_new_tokens=None, messages=given.get("messages", []),
                           prompt_tokens=None, asked="", number=0)
    vars(line).update({name: value for name, value in given.items() if hasattr(line, name)})
    losses = dict.fromkeys(MEASURES, (0.0, 0.0)) | given.get("losses", {})
    return Sample(line, np.array(given.get("ours", [1, 2]), np.int64), media, np.zeros(0, np.int64),
                  given.get("answer", ""), None, losses)


def told(**given):
    vlm = world()
    return beside.told_of(sample(**given), (vlm.config.image_token_id, vlm.config.video_token_id), vlm)


def test_grids_counts_and_prompts_are_told_apart():
    vlm = world()
    pad = vlm.config.image_token_id
    prompt = vlm.tokenizer.encode("What is it?")
    ours = [*prompt[:2], *[pad] * 4, *prompt[2:]]
    assert told(grids=[(1, 4, 4)], grid=((1, 4, 4),), ours=ours, prompt_ids=tuple(ours)) is None
    assert told(grids=[(1, 4, 4)], grid=((1, 4, 6),))[:2] == (PIXELS, beside.GRIDS)
    more = (*prompt[:2], *[pad] * 6, *prompt[2:])
    assert told(grids=[(1, 4, 4)], ours=ours, prompt_ids=more)[:2] == (PIXELS, beside.COUNTS)
    assert told(grids=[(1, 4, 4)], grid=((1, 4, 4),), ours=ours, prompt_ids=more)[:2] == (SETTINGS, beside.COUNTS)
    kind, what, words = told(grids=[(1, 4, 4)], ours=ours, prompt_ids=tuple(ours[1:]))
    assert (kind, what) == (SETTINGS, beside.PROMPTS) and words.startswith("at token 0 is missing")
    assert "10000000" in told(ours=ours, prompt_ids=(10**7, *ours))[2]


def test_answers_that_are_ours_but_cut_are_settings():
    vlm, stop = world(), world().generation.eos_token_ids[0]
    cut = [sample(text="12", answer="1234", ids=(1, 2)) for _ in range(3)]
    (found,) = beside.cut_off(cut, vlm)
    assert found.kind == SETTINGS and "cut at 2 tokens" in found.words and found.samples == (0, 1, 2)
    (on,) = beside.cut_off([sample(text="1234", answer="12", ids=(1, stop, 2))], vlm)
    assert "behind the stop id" in on.words
    early = [sample(text="12", answer="1234", ids=(1, stop)), sample(text="123456", answer="1", ids=(1,) * 5)]
    assert beside.cut_off(early, vlm) == []                                  # it stopped by itself: no matter of length


def measured_as(numbers: bool, words: bool) -> list[Measured]:
    return [Measured(name, 9, 0.1, 0.0, Interval(0, 0, 0), lost)
            for name, lost in zip(MEASURES, (numbers, words), strict=False)]


def test_what_no_hypothesis_explains_is_arithmetic_unless_the_numbers_say_otherwise():
    row = Tried("bilinear", PIXELS, 9, 1.0, 0.9, 0.1, 0.05)
    whole = [sample(grids=[(1, 4, 4)]) for _ in range(9)]
    bad = np.arange(9) < 4
    assert weighed(whole, bad, measured_as(True, True), [row])[0] == ARITHMETIC
    assert weighed(whole, bad, measured_as(False, True), [row])[0] == SETTINGS
    holds = Tried("bilinear", PIXELS, 9, 1.0, 0.1, 0.9, 0.5)
    assert weighed(whole, bad, measured_as(True, True), [holds])[:2] == (PIXELS, "bilinear")
    unsure = Tried("bilinear", PIXELS, 9, 1.0, 0.1, 0.9, -0.1)
    spoils = Tried("bilinear", PIXELS, 9, 1.0, 0.1, 0.9, 0.5, "it spoils right samples")
    assert weighed(whole, bad, measured_as(True, True), [unsure, spoils])[0] == ARITHMETIC


def test_one_bad_sample_alone_chooses_no_hypothesis_by_chance():
    assert not Tried("one more line break", SETTINGS, 1, 1.2, 0.4, 0.69, 0.8).holds
    assert Tried("one more line break", SETTINGS, 9, 1.2, 0.4, 0.69, 0.3).holds
    assert Tried("one more line break", SETTINGS, 1, 1.2, 0.0, 1.0, 1.2).holds


@pytest.mark.parametrize("count", [1, FEWEST - 1, FEWEST, FEWEST_DRAWN - 1, FEWEST_DRAWN, 24])
@pytest.mark.parametrize("drawn", [False, True])
@pytest.mark.parametrize("kind", [SETTINGS, PIXELS])
@pytest.mark.parametrize("numbers", [None, (-0.5,)])
def test_a_kind_is_named_by_likelihood_from_a_number_of_samples_on(count, drawn, kind, numbers):
    holds, least = Tried("no system turn", kind, count, 1.0, 0.0, 1.0, 0.9, "", drawn), (FEWEST, FEWEST_DRAWN)[drawn]
    few = [sample(logprobs=numbers) for _ in range(count + 3)]
    found = weighed(few, np.arange(count + 3) < count, measured_as(True, True), [holds])
    if numbers is None and count < least:
        assert found[:2] == (UNDECIDED, None)
        assert f"no system turn would explain it, but to fewer than {least} bad samples (here {count})" in found[2]
    else:
        assert found[:2] == (kind, "no system turn")


def test_loss_in_resized_pictures_alone_speaks_for_pixels():
    samples = [sample(grids=[(1, 4, 4)], off=n % 2) for n in range(40)]
    odd = np.arange(40) % 2 == 1
    assert only_resized(samples, odd)
    assert not only_resized(samples, np.ones(40, bool)) and not only_resized(samples[:8], odd[:8])
    assert weighed(samples, odd, measured_as(True, True), [])[0] == PIXELS


def test_a_hypothesis_is_not_tried_against_what_the_candidate_reports():
    line = sample(grid=((1, 4, 4),), prompt_ids=(1, 2)).line
    assert not causes.contradicted(line, np.array([1, 2]), ((1, 4, 4),))
    assert causes.contradicted(line, np.array([1, 3]), ((1, 4, 4),))
    assert causes.contradicted(line, np.array([1, 2]), ((1, 4, 6),))


# ---- what bad samples share -----------------------------------------------------------------------------------

def said(*items):
    return [{"role": "user", "content": [{"type": "text", "text": "a"} if one == "t" else {"image": "a"}
                                         for one in items]}]


def test_properties_are_those_of_the_words():
    vision = world().config.vision
    side = 2 * vision.window_cells                                           # patches along a window
    tests = properties([sample(grids=[(1, side, side)])], vision)

    def has(name, **given):
        return tests[name](sample(**given))
    assert not has("several windows", grids=[(1, side, side)]) and has("several windows", grids=[(1, side, 2 * side)])
    assert not has("ragged windows", grids=[(1, side, 2 * side)]) and has("ragged windows", grids=[(1, side, side + 2)])
    assert has("several pictures", grids=[(1, 2, 2)] * 2) and not has("picture or video")
    assert has("text after picture", messages=said("p", "t")) and not has("text after picture", messages=said("t", "p"))
    assert has("picture after text", messages=said("t", "p", "t")) and not has("picture after text", messages=said("t"))
    assert has("digits", answer="a 7") and not has("digits", answer="seven")
    assert has("resized", grids=[(1, 2, 2)], off=3) and not has("resized", grids=[(1, 2, 2)])
    assert has("several turns", messages=said("t") * 2) and not has("several turns", messages=said("t"))
    assert has(f"many patches (more than {side * side})", grids=[(1, side, side + 2)])


def test_the_true_property_is_named_and_not_its_companions():
    """Bad where windows are ragged; most of these have several windows too."""
    vision, rng = world().config.vision, np.random.default_rng(0)
    samples = [sample(grids=[(1, *(2 * rng.integers(1, 7, 2)).tolist())], answer="7" if rng.random() < 0.5 else "a")
               for _ in range(80)]
    ragged = properties(samples, vision)["ragged windows"]
    bad = np.array([ragged(one) and rng.random() < 0.9 for one in samples])
    assert named(shared(samples, bad, vision)) == ["ragged windows"]
    assert named(shared(samples, rng.random(80) < 0.3, vision)) == []
    assert named(shared(samples, np.ones(80, bool), vision)) == []


def test_a_second_property_is_named_where_the_first_does_not_reach():
    vision = world().config.vision
    samples = [sample(grids=[(1, 4, 4)] * (1 + n % 2), answer="7" if n % 3 == 0 else "a") for n in range(120)]
    bad = np.array([n % 2 == 1 or (n % 3 == 0 and n % 12 != 6) for n in range(120)])
    assert named(shared(samples, bad, vision)) == ["several pictures", "digits"]


# ---- evidence against samplers --------------------------------------------------------------------------------

def written_as(regret, numbers=None, told=None, places=None, media=(), n=0):
    """A bad sample whose tokens have this regret under the checkpoint's sampler, drawn at 0.7 or penalised by 1.1."""
    k = len(regret)
    none, own = np.zeros(0), np.full(k, -0.1)
    greedy = Choice(own, np.array(regret), none, none, none, none)
    right_under = Choice(own, np.zeros(k), none, none, none, none)
    at = np.random.default_rng(n).random(k) if places is None else np.array(places)
    warm = Choice(own, none, at, np.zeros(k), np.full(k, 0.1), 1 - at)
    mine = Score(own, {"own": greedy, "warm": warm, "penalty": right_under})
    losses = dict.fromkeys(MEASURES, (math.nan, math.nan))
    losses["regret"] = (float(sum(regret)), 0.0)
    if numbers is not None:
        losses["log-probabilities"] = (abs(numbers), 1e-3)
    one = sample(logprobs=None if numbers is None else tuple(own + numbers), settings=told or {}, losses=losses,
                 grids=media, messages=said("p", "t"))
    return replace(one, mine=mine, tokens=np.arange(k))


WARM = Sampler("warm", temperature=0.7)
PENALTY = Sampler("penalty", 1.1)


def row_of(sampler, bad, fine=(), pictures=None):
    return by_sampler(sampler, bad, bad, list(fine), pictures or {}, 0.1)


def test_a_sampler_explains_tokens_and_moves_no_log_probabilities():
    ours = [written_as([0.5, 0.2, 0.4], 1e-4) for _ in range(6)]
    assert row_of(WARM, ours).holds and row_of(PENALTY, ours).holds
    off = [written_as([0.5, 0.2, 0.4], 0.2) for _ in range(6)]
    for sampler in (WARM, PENALTY):
        assert row_of(sampler, off).against == "log-probabilities are off by 0.2 nats, and no sampler moves those"


def test_declared_settings_are_believed_unless_log_probabilities_contradict_them():
    told = {"temperature": 0, "repetition_penalty": 1.0}
    words = [written_as([0.5, 0.2, 0.4], told=told) for _ in range(6)]
    assert row_of(WARM, words).against == "the candidate was told temperature 0"
    assert row_of(PENALTY, words).against == "the candidate was told repetition_penalty 1"
    assert not row_of(WARM, words).holds
    numbers = [written_as([0.5, 0.2, 0.4], 1e-4, told) for _ in range(6)]
    assert row_of(WARM, numbers).holds and row_of(PENALTY, numbers).holds
    assert row_of(WARM, [written_as([0.5, 0.2], told={"temperature": 0.7}) for _ in range(6)]).holds
    cold = row_of(Sampler("warm", temperature=0.3), [written_as([0.5, 0.2]) for _ in range(6)])
    assert cold.against == "no program draws so cold by default, and nobody says that this one does"


def test_a_temperature_is_considered_where_it_can_explain_what_is_seen():
    bad = [written_as([0.5, 0.2, 0.4], places=[0.9999, 0.9999, 0.9999]) for _ in range(6)]
    assert row_of(WARM, bad).against == "the tokens are not those that it would have drawn"


def test_what_goes_with_a_property_of_the_picture_is_no_sampler():
    pictures = {"ragged windows": lambda one: bool(one.media)}
    bad = [written_as([0.5, 0.2, 0.4], media=[(1, 4, 6)], n=n) for n in range(8)]
    fine = [written_as([0.0, 0.0, 0.0], n=n) for n in range(8, 38)]
    said_against = row_of(WARM, bad, fine, pictures).against
    assert said_against == "the bad samples go with a property of the picture: ragged windows"
    anywhere = [written_as([0.5, 0.2, 0.4], media=[(1, 4, 6)] * (n % 2), n=n) for n in range(8)]
    assert not row_of(WARM, anywhere, [written_as([0.0] * 3, media=[(1, 4, 6)] * (n % 2), n=n) for n in range(8, 38)],
                      pictures).against


def test_a_penalty_that_spoils_right_samples_is_none():
    fine = [written_as([0.0, 0.0]) for _ in range(6)]
    for one in fine:
        one.mine.choices["penalty"] = replace(one.mine.choices["penalty"], regret=np.array([0.5, 0.0]))
    assert row_of(PENALTY, [written_as([0.5, 0.2])] * 6, fine).against == (
        "it would not have chosen 6 of 6 answers that are right")


@given(st.integers(0, 12), st.integers(0, 12), st.fractions(Fraction(1, 50), Fraction(49, 50), max_denominator=50))
def test_at_least_is_the_binomials_tail(k, n, share):
    k = min(k, n)
    exact = sum(math.comb(n, m) * share**m * (1 - share) ** (n - m) for m in range(k, n + 1))
    assert at_least(k, n, float(share)) == pytest.approx(float(exact), rel=1e-6)


# ---- texts, lengths -------------------------------------------------------------------------------------------

def test_a_text_that_lost_bytes_says_no_tokens_and_alone_is_refused(folder):
    """A vocabulary of bytes decodes to U+FFFD, and encoding that anew would make up tokens that nobody wrote."""
    lost = {**ROW, "text": "a\ufffdb", "settings": {"precision": "float32", "max_new_tokens": 3}}
    vlm = world()
    with pytest.raises(LinesError, match="2 of 2 answers are texts that do not say which tokens .*give 'ids'"):
        triage(read_lines(written(folder, {**lost, "id": 1}, {**lost, "id": 2})), vlm, "float32")
    assert scorer_of().tokens(read_lines(written(folder, lost))[0]) is None
    ids = vlm.generate(vlm.prepare(read_lines(written(folder, lost))[0].messages), 3)
    known = {**lost, "id": 2, "ids": ids, "text": vlm.tokenizer.decode(ids)}
    found = triage(read_lines(written(folder, {**lost, "id": 1}, known)), vlm, "float32")
    assert "1 of 2 answers are texts" in found.notes[0] and found.samples[1].tokens_known
    assert math.isnan(found.samples[0].losses["regret"][0]) and not found.different


def test_a_text_is_our_tokens_where_it_is_our_text(folder):
    """However the tokenizer would write it."""
    scorer = scorer_of()
    (line,) = read_lines(written(folder, {**ROW, "text": "ab"}))
    a, b = (scorer.vlm.tokenizer.encode(c)[0] for c in "ab")
    stop = scorer.vlm.generation.eos_token_ids[0]
    assert scorer.tokens(line, ([a, b, stop],)).tolist() == [a, b, stop]
    whole = scorer.vlm.tokenizer.encode("ab")
    assert scorer.tokens(line, (whole[::-1],)).tolist() == [*whole, stop] and whole != [a, b]


def test_the_length_on_the_command_line_means_what_it_means_in_a_line(folder):
    """An answer of that many tokens was cut, and has no stop id to miss."""
    vlm = world()
    (line,) = read_lines(written(folder, ROW))
    ids = vlm.generate(vlm.prepare(line.messages), 3)
    row = {**ROW, "ids": ids, "text": vlm.tokenizer.decode(ids), "settings": {"precision": "float32"}}
    said_in_line = read_lines(written(folder, {**row, "settings": {"precision": "float32", "max_new_tokens": 3}}))
    found = [triage(said_in_line, vlm, "float32"), triage(read_lines(written(folder, row)), vlm, "float32",
                                                          max_new_tokens=3)]
    assert [one.samples[0].tokens.tolist() for one in found] == [list(ids)] * 2
    assert not any(one.different for one in found)
    assert told_length(said_in_line, 3) == said_in_line and told_length(said_in_line, None) == said_in_line
    with pytest.raises(LinesError, match="line 1: settings.max_new_tokens is 3, and --max-new-tokens is 4; leave"):
        told_length(said_in_line, 4)


def counted(gap, media=1, patches=16, n=0):
    grids = [(1, 4, patches // 4)] * media
    pad = world().config.image_token_id
    ours = [1, 2, *[pad] * (patches // 4 * media), 3]
    return sample(grids=grids, ours=ours, prompt_tokens=len(ours) + gap)


def test_lengths_of_prompts_tell_template_from_size():
    vlm = world()
    assert beside.by_count([counted(0), counted(0, 0)], vlm) == []
    brief = sample(grids=[(1, 4, 4)], ours=[1, *[vlm.config.image_token_id] * 4, 2], prompt_tokens=3)
    assert beside.by_count([brief], vlm) == []                              # a program that counts a picture as one
    (one,) = beside.by_count([counted(-2), counted(-2, 0), counted(-2, patches=24)], vlm)
    assert one.kind == SETTINGS and one.samples == (0, 1, 2) and "the same everywhere" in one.words
    (one,) = beside.by_count([counted(4), counted(0, 0), counted(9, patches=24)], vlm)
    assert one.kind == PIXELS and one.samples == (0, 2)
    (one,) = beside.by_count([counted(-2), counted(-4, 2), counted(-2, patches=24)], vlm)
    assert one.kind == SETTINGS


# ---- the report -----------------------------------------------------------------------------------------------

EVERY = [Measured(name, 9, 0.1, 0.01, Interval(0.1, 0.05, 0.2), lost)
         for name in (*MEASURES, OUTLIERS, UNEVEN) for lost in (True, False)]
TABLE = [Shared("several windows", 7, 9, 0, 9, 0.001, 0.5), Shared("digits", 3, 9, 4, 9, 1.0)]
TRIALS = [Tried("bilinear", PIXELS, 9, 1.0, 0.1, 0.9, 0.5), Tried("no system turn", SETTINGS, 9, 1.0, 0.9, 0.1, 0.0),
          Tried("temperature 0.3", SETTINGS, 9, 1.0, 0.0, 1.0, 0.5, "log-probabilities are off by 0.2 nats")]


@pytest.mark.parametrize("table", [TABLE, TABLE[1:], []])
@pytest.mark.parametrize("share", [0, 4, 9])
@pytest.mark.parametrize("cause", [
    Cause(None), Cause(PIXELS, "bilinear", "because", tried=TRIALS), Cause(SETTINGS, None, "because", tried=TRIALS[1:]),
    Cause(ARITHMETIC, None, "because", [beside.Evidence(PIXELS, "grids differ", (1, 2))], [], ["a note"])])
def test_every_branch_of_the_report_can_be_said(table, share, cause, capsys, monkeypatch):
    """On the terminal and as JSON: every measure, every cause, no bad samples, some and all, any table."""
    monkeypatch.setenv("COLUMNS", "200")
    samples = [sample(name=str(n), losses={"regret": (0.5, 0.0)}) for n in range(9)]
    found = Triage("bfloat16", "float32", samples, np.arange(9) < share, {"regret": 0.1}, EVERY, cause, table, ["said"])
    where = Smallest("3", 40, "out", share == 4, ("minivl diff a b", "minivl diff a b --local"))
    tell(found, "candidate.jsonl", where if found.different else None)
    out = capsys.readouterr().out
    assert all(one.name in out for one in EVERY) and "beyond the other samples (nats a token)" in out
    assert ("the same within rounding" in out) == (cause.kind is None) and "note: said" in out
    assert ("minivl diff a b --local" in out) == (cause.kind is not None)
    document = json.loads(json.dumps(report.document(found, "candidate.jsonl", where), allow_nan=False))
    assert document["verdict"] == (cause.kind or "same") and document["notes"] == ["said"]
    for row in document["cause"]["tried"]:
        assert row["holds"] == (row["name"] == "bilinear")


def test_every_measure_has_a_unit():
    assert set(UNITS) == {*MEASURES, OUTLIERS, UNEVEN}


# ---- from end to end ------------------------------------------------------------------------------------------

def test_triage_of_the_models_own_answers_and_of_wrong_ones(folder):
    """On the command line: a healthy candidate is 0, one without its system turn 1, with all that is promised."""
    vlm = minivl.load()
    messages = [{"role": "user", "content": [{"type": "image", "image": NOISE},
                                             {"type": "text", "text": "What is it?"}]}]
    ids = vlm.generate(vlm.prepare(messages), 3)
    row = {**ROW, "text": vlm.tokenizer.decode(ids), "ids": ids,
           "settings": {"max_new_tokens": 3, "precision": "float32"}}
    healthy = written(folder, row)
    ran = CliRunner().invoke(app, ["triage", str(healthy), "-o", str(folder / "out")])
    assert ran.exit_code == 0 and "the same within rounding" in ran.stdout, ran.output
    assert not (folder / "out").exists()

    whole = vlm.prepare(messages).input_ids
    start = int(np.flatnonzero(whole == vlm.tokenizer.id("<|im_start|>"))[1])
    wrong = written(folder, {**row, "prompt_ids": whole[start:].tolist()}, name="wrong.jsonl")
    ran = CliRunner().invoke(app, ["triage", str(wrong), "--json", "-o", str(folder / "out")])
    assert ran.exit_code == 1, ran.output
    found = json.loads(ran.stdout)
    assert found["verdict"] == "settings" and "just those of: no system turn" in found["cause"]["because"]
    assert found["smallest"]["commands"][0].startswith("minivl diff ")
    with Trace(folder / "out" / "golden.safetensors") as trace:
        assert trace.precision == "float64" and "decoder.logits" in trace.recorded()
    assert "were known" in ran.stderr                                        # the first triage's runs


def test_an_answer_without_a_token_is_recorded_as_any_other(folder):
    asked = {**ROW, "prompt": "Describe the image."}                     # to which the model has something to say
    path = written(folder, {**asked, "text": "", "ids": [], "logprobs": [], "settings": {"max_new_tokens": 2}})
    ran = CliRunner().invoke(app, ["triage", str(path), "--precision", "float32", "-o", str(folder / "out")])
    assert ran.exit_code == 1 and "different: undecided" in ran.stdout and "minivl diff" in ran.stdout
    assert (folder / "out" / "golden.safetensors").exists()


def test_teacher_forced_lines_are_judged_by_their_numbers_alone(folder):
    vlm = world()
    row = {**ROW, "ids": [5, 6], "text": "x", "teacher_forced": True}
    (line,) = read_lines(written(folder, ROW))
    ours = scorer_of().score(vlm.prepare(line.messages), np.array([5, 6]), GOLDEN).logprobs
    lines = read_lines(written(folder, {**row, "logprobs": ours.round(4).tolist()}))
    found = triage(lines, vlm, "float32", max_new_tokens=3)
    assert [one.name for one in found.measured] == ["log-probabilities", "beyond any rounding"] and not found.different
    lines = read_lines(written(folder, {**row, "logprobs": (ours - 0.4).tolist()}))
    assert triage(lines, vlm, "float32", max_new_tokens=3).cause.kind == ARITHMETIC


def test_scores_after_the_sampler_are_no_models(folder):
    """vllm-project/vllm#11397, QwenLM/Qwen3-VL#154: 0 for each written token. One number of the model's, and the file
    is judged; a model that is as sure as that is believed."""
    vlm, row = world(), {**ROW, "ids": [5, 6], "text": "x", "teacher_forced": True}
    with pytest.raises(LinesError, match="'logprobs' holds 0 for each of 2 tokens.*after the sampler"):
        triage(read_lines(written(folder, {**row, "logprobs": [0, -0.0]})), vlm, "float32", max_new_tokens=3)
    (line,) = read_lines(written(folder, {**row, "logprobs": [0, -1e-3]}))
    assert triage([line], vlm, "float32", max_new_tokens=3).cause.kind == ARITHMETIC
    sure = [SimpleNamespace(line=SimpleNamespace(logprobs=(0.0, 0.0)))]
    refuse_certainties(sure, [Measured("log-probabilities", 1, 0.0, 0.0, Interval(0, 0, 0), False)])


def test_what_follows_a_property_is_no_rounding():
    """A candidate that rounds twice as much everywhere loses nothing; one that does so with a property alone does."""
    rng = np.random.default_rng(3)
    ours, has = rng.exponential(0.01, 200), np.arange(200) < 60
    spread = rng.uniform(0.8, 1.2, 200)

    def judged(factor):
        return uneven([SimpleNamespace(losses={MEASURES[0]: pair}) for pair in zip(ours * factor * spread, ours,
                                                                                   strict=True)], has, "bfloat16")
    assert not judged(2.0).lost and not judged(0.5).lost
    assert judged(np.where(has, 2.0, 1.0)).lost and not judged(np.where(has, 1.0, 2.0)).lost
    nothing = [SimpleNamespace(losses={MEASURES[0]: (np.nan, np.nan)})] * 200
    assert uneven(nothing, has, "bfloat16") is None


def test_numbers_that_were_shortened_are_off_by_their_last_decimal():
    """Four decimals move a log-probability by 5e-5 at most, which is many times what float32 moves it by."""
    def scored(*numbers):
        return SimpleNamespace(line=SimpleNamespace(logprobs=numbers))
    assert last_decimal([scored(-0.1234, 0.0), scored(-2.5,)]) == pytest.approx(5e-5)
    assert last_decimal([scored(-0.25,), scored(-1.5,)]) == pytest.approx(5e-3)
    assert last_decimal([scored(-0.12345678)]) == last_decimal([scored(0.0)]) == last_decimal([scored()]) == 0
