"""The page of a run: its numbers are the trace's, its places those of provenance, it asks for nothing, and a keyboard
and a phone are enough. What needs a browser is skipped by name where there is none.
"""

import base64
import gzip
import json
import re
from time import monotonic

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import minivl
from minivl.cli import words as cli
from minivl.kernels.definition import attend, log_softmax, softmax_weights
from minivl.run.provenance import where_pixel, where_token
from minivl.show import explorer, plot
from minivl.show.explorer.attention import all_attention, attention_of, pool_cells
from minivl.show.explorer.document import Pack, counterparts
from minivl.show.explorer.lens import lens_of
from minivl.show.explorer.stages import door_of, stages_of
from minivl.show.plot import row_values
from minivl.show.plot.text import token_text
from minivl.show.samples import load_samples

from ..browser import Opened, chromium, faint_texts

SAMPLES = load_samples()
VIDEO = next(sample for sample in SAMPLES if sample.fps)
STILLS = {sample.name: sample for sample in SAMPLES if not sample.fps}
PICTURE, TALL = (STILLS.get(name, next(iter(STILLS.values()))) for name in ("ragged", "tall"))
FEW = settings(max_examples=20)
HALF = 1e-3                                               # float16 has 11 bits: half a step is 2**-11 of the value
HOSTILE = "</script><img src=x onerror=document.title='broken'><!--\u2028@SCRIPT@"


@pytest.fixture(scope="module")
def vlm():
    with minivl.load() as model:
        yield model


@pytest.fixture(scope="module")
def run(vlm):
    """A picture whose windows are cut off at two edges."""
    return explorer.follow(vlm, PICTURE.messages(), name="ragged")


@pytest.fixture(scope="module")
def video(vlm):
    return explorer.follow(vlm, VIDEO.messages(), name="video")


@pytest.fixture(scope="module")
def between(vlm):
    """Text before, between and behind two pictures; some of its characters are no token of their own."""
    media = [{"type": "image", "image": str(sample.paths[0])} for sample in (PICTURE, TALL)]
    content = [said("\u732b caf\u00e9 first"), media[0], said("then \U0001f600"), media[1], said("What is this?")]
    return explorer.follow(vlm, [{"role": "user", "content": content}], 4)


def said(words):
    return {"type": "text", "text": words}


@pytest.fixture(scope="module")
def other(vlm):
    """Another question about the same picture."""
    messages = PICTURE.messages()
    messages[0]["content"][-1]["text"] = HOSTILE
    return explorer.follow(vlm, messages, 4, HOSTILE)


def unpacked(page):
    """The document of a page with its arrays, read without the page's own reader."""
    def text(name):
        return re.search(f'id="{name}">(.*?)</script>', page, re.DOTALL)[1]
    raw = gzip.decompress(base64.b64decode(text("packed")))

    def filled(value):
        if isinstance(value, list):
            return [filled(one) for one in value]
        if not isinstance(value, dict):
            return value
        if value.keys() == {"at", "kind", "shape"}:
            size = int(np.prod(value["shape"]))
            return np.frombuffer(raw, f"<{value['kind']}", size, value["at"]).reshape(value["shape"])
        return {key: filled(one) for key, one in value.items()}
    return filled(json.loads(text("document")))


# ---- numbers -----------------------------------------------------------------------------------------------

@FEW
@given(st.integers(1, 7), st.integers(1, 5), st.booleans(), st.integers(0, 2**32 - 1))
def test_softmax_weights_are_those_that_give_attend(rows, width, causal, seed):
    q, k, v = np.random.default_rng(seed).normal(size=(3, rows, 1, width)) * 3
    weights = softmax_weights(q[:, 0], k[:, 0], causal)
    for i, row in enumerate(weights):
        powers = [np.exp(q[i, 0] @ key / width**0.5) for key in k[: i + 1 if causal else rows, 0]]
        assert np.allclose(row, [*powers, *[0] * (rows - len(powers))] / np.sum(powers))
    assert np.allclose(weights @ v[:, 0], attend(q, k, v, np.array([[0, rows, 0, rows]]), causal)[:, 0])


@FEW
@given(st.integers(1, 4), st.integers(1, 4), st.sampled_from([1, 4, 9]), st.integers(0, 2**32 - 1))
def test_pooled_weights_are_means_over_queries_of_sums_over_keys(n, m, size, seed):
    weight = np.random.default_rng(seed).random((n * size, m * size))
    weight /= weight.sum(axis=1, keepdims=True)
    pooled = pool_cells(weight, size)
    for i in range(n):
        for j in range(m):
            block = weight[i * size : (i + 1) * size, j * size : (j + 1) * size]
            assert np.isclose(pooled[i, j], sum(row.sum() for row in block) / size)
    assert np.allclose(pooled.sum(axis=1), 1)


def test_every_weight_is_checked_against_what_attend_gave(run):
    found = all_attention(run, 10**9)
    assert len(found) == run.vlm.config.vision.depth + run.vlm.config.text.num_hidden_layers
    assert all(one.error < 1e-5 and not one.pooled and one.heads > 1 for one in found)
    wrong = {**run.trace, "decoder.layers.0.attend": run.trace["decoder.layers.0.attend"] * 1.5}
    assert attention_of(explorer.Run(wrong, run.inputs, run.vlm), "decoder", 0).error > 0.1


def test_a_small_budget_pools_and_then_averages_and_says_so(run):
    exact = all_attention(run, 10**9)
    full = run.vlm.config.vision.fullatt_block_indexes
    between = 2 * sum(one.weights.size for one in exact) - 1
    pooled, least = all_attention(run, between), all_attention(run, 0)
    assert [one.pooled for one in pooled if one.room == "vision"] == [
        n in full for n in range(run.vlm.config.vision.depth)]
    assert all(one.heads > 1 for one in pooled) and all(one.heads == 1 for one in least)
    cells = len(run.at["c"])
    mean = least[full[0]].weights.reshape(1, cells, cells).astype(float)
    heads = pooled[full[0]].weights.reshape(-1, cells, cells).astype(float)
    assert np.allclose(mean, heads.mean(axis=0), atol=1e-3) and np.allclose(mean.sum(axis=2), 1, atol=5e-3)


def test_after_the_last_layer_the_lens_is_the_model(run, vlm):
    lens = lens_of(run)
    with minivl.session(record="decoder.logits") as s:
        vlm.logits(run.inputs)
    chances = np.exp(log_softmax(s.trace["decoder.logits"].astype(np.float64)))
    prompt = len(run.inputs.input_ids)
    shown = np.take_along_axis(chances, lens.ids[-1, :prompt].astype(int), 1)
    assert np.allclose(shown, lens.chances[-1, :prompt], atol=1e-5)
    first = np.exp(log_softmax(run.trace["decoder.logits"].astype(np.float64)))[0]
    assert lens.chosen[prompt - 1] == np.float32(first[run.written[0]])
    assert np.isnan(lens.chosen[: prompt - 1]).all() and not np.isnan(lens.chosen[prompt - 1 :]).any()


def test_a_lens_that_costs_too_much_reads_what_wrote_the_answer(run, monkeypatch):
    monkeypatch.setattr("minivl.show.explorer.lens.AFFORDABLE", 0)
    lens, prompt = lens_of(run), len(run.inputs.input_ids)
    assert lens.rows.tolist() == list(range(prompt - 1, len(run.ids)))
    assert lens.ids[-1, 0, 0] == run.written[0]


def test_stages_are_listed_in_the_order_of_the_trace_with_a_number_for_each_row(run):
    stages = stages_of(run)
    assert [stage.label for stage in stages] == list(run.runs)
    for stage in stages:
        outputs = minivl.door.stage.contracts.outputs(run.trace[stage.label])
        assert stage.contract and len(stage.arrays) == len(outputs)
        for array, out in zip(stage.arrays, outputs, strict=True):
            assert array.shape == out.shape and sum(array.bins) == out.size
            assert array.rows is None or len(array.rows) == len(run.at[array.letter])
    rows = {(stage.label, n): array.letter for stage in stages for n, array in enumerate(stage.arrays)}
    assert rows["vision.embed_patches", 0] == "p" and rows["vision.blocks.0.rotate", 1] == "w"
    assert rows["vision.merge_2x2", 0] == "c" and rows["vision.restore_order", 0] == "m"
    assert rows["decoder.layers.0.add_mlp", 0] == "s" and rows["decoder.logits", 0] == ""


def test_a_label_finds_its_own_contract(run):
    with minivl.session() as s:
        met = {}
        s.watchers.append(lambda visit: met.update({visit.label: visit.door.contract}))
        run.vlm.generate(run.vlm.prepare(VIDEO.messages()), 2)
    assert {label: door_of(label).contract for label in met} == met
    assert door_of("something.else") is None


@FEW
@given(st.lists(st.integers(1, 3), min_size=1, max_size=3), st.integers(0, 2**32 - 1))
def test_one_number_a_row_is_its_root_mean_square(shape, seed):
    array = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    for row, value in zip(array, row_values(array), strict=True):
        assert np.isclose(value, row if array.ndim == 1 else np.sqrt((row.astype(float) ** 2).mean()))


def test_steps_of_decoding_follow_the_prompt(video):
    prompt, said = len(video.inputs.input_ids), video.written
    assert video.ids[prompt:].tolist() == said[:-1] and video.positions.shape == (3, len(video.ids))
    last = video.inputs.position_ids[:, -1]
    assert (video.positions[:, prompt:] == last[:, None] + 1 + np.arange(len(said) - 1)).all()
    assert len(video.rows("decoder.layers.0.add_mlp")) == len(video.at["s"]) == len(video.ids)


def test_a_byte_that_is_no_character_is_shown_by_its_number(vlm, between):
    texts = unpacked(explorer.html(between))["runs"][0]["tokens"]
    for character in "\u732b\u00e9\U0001f600":
        by_number = [f"<0x{byte:02X}>" for byte in character.encode()]
        assert "".join(by_number) in "".join(texts)
    tokenizer = vlm.tokenizer
    for token in range(tokenizer.vocab_size):
        text = token_text(tokenizer, token)
        whole = tokenizer.decode([token], skip_special_tokens=False)
        assert ("<0x" in text) == ("\ufffd" in whole) and "\ufffd" not in text and text
    assert token_text(tokenizer, 10**6) == "#1000000"


# ---- traces ------------------------------------------------------------------------------------------------

def test_a_recorded_folder_makes_the_same_page(video, vlm, tmp_path):
    with minivl.session(dump=tmp_path / "dump"):
        vlm.generate(vlm.prepare(VIDEO.messages()), 64)
    ours = unpacked(explorer.html(video))["runs"][0]
    theirs = unpacked(explorer.html(explorer.from_trace(minivl.read_dump(tmp_path / "dump"), vlm, "video")))["runs"][0]
    assert ours["media"][0].pop("source") and not theirs["media"][0].pop("source")       # a trace does not hold these
    assert ours["media"][0].pop("seconds") and theirs["media"][0].pop("seconds") is None
    assert ours["answer"] and str(ours) == str(theirs)
    for a, b in zip(ours["attention"], theirs["attention"], strict=True):
        assert (a["weights"] == b["weights"]).all()


def test_what_is_no_run_of_the_model_is_refused(run, vlm):
    trace = dict(run.trace)
    for key in ("prompt.expand", "positions.mrope", "patches.patchify", "picture.resize", "vision.schedule",
                "decoder.layers.0.add_mlp", "vision.blocks.1.rotate"):
        with pytest.raises(ValueError, match="record every stage"):
            explorer.html(explorer.from_trace({k: v for k, v in trace.items() if k != key}, vlm))
    with pytest.raises(ValueError, match="several conversations"):
        explorer.from_trace({**trace, "prompt.expand@1": trace["prompt.expand"]}, vlm)
    last = f"decoder.layers.{vlm.config.text.num_hidden_layers - 1}.add_mlp"
    with pytest.raises(ValueError, match="name the model"):
        explorer.from_trace({**trace, last: trace[last][:, 1:]}, vlm)
    with pytest.raises(ValueError, match="every stage of one run"):
        explorer.from_trace({**trace, f"decoder@9.{last.partition('.')[2]}": trace[last]}, vlm)
    with pytest.raises(ValueError, match="no picture"):
        explorer.follow(vlm, [{"role": "user", "content": "hello"}], 2)


def test_the_page_shows_a_run_with_other_passes(run, vlm):
    """A student's stage is in the run that is shown, because the page is made of what came through the door."""
    with minivl.using({"vision.order_by_window": lambda rows, order: rows}):
        changed = explorer.follow(vlm, PICTURE.messages(), 2)
    label = "vision.order_by_window"
    assert (changed.rows(label) == run.rows("vision.embed_patches")).all()
    assert not (changed.rows(label) == run.rows(label)).all()


# ---- two runs ----------------------------------------------------------------------------------------------

def test_counterparts_are_equal_tokens_and_picture_tokens_do_not_see_the_question(run, other):
    pairs = counterparts(run, other)
    inside = [(a, b) for a, b in enumerate(pairs) if 0 <= b < len(other.inputs.input_ids)]
    assert all(run.ids[a] == other.ids[b] for a, b in inside)
    assert pairs[len(run.inputs.input_ids) - 1] == len(other.inputs.input_ids) - 1
    visual = (run.at["s"] >= 0).all(axis=(1, 2))
    assert (pairs[visual] == np.flatnonzero(visual)).all()
    pair = unpacked(explorer.html(run, other))["pair"]
    assert (pair["vision"] == 0).all() and (pair["decoder"][:, visual[: pair["decoder"].shape[1]]] == 0).all()
    assert pair["decoder"][-1, len(run.inputs.input_ids) - 1] > 0
    messages = TALL.messages()
    messages[0]["content"][-1]["text"] = PICTURE.question
    tall = explorer.follow(run.vlm, messages, 2)                           # another grid: other places
    pairs, prompt = counterparts(run, tall), np.arange(len(run.ids)) < len(run.inputs.input_ids)
    assert (pairs[visual] == -1).all() and (pairs[prompt & ~visual] >= 0).all()
    assert (counterparts(run, run) == np.arange(len(run.ids))).all()


@FEW
@given(st.lists(st.tuples(st.sampled_from(["int32", "float16", "float32"]), st.integers(0, 5)), max_size=6))
def test_equal_arrays_are_packed_once_and_come_back(kinds):
    pack, arrays = Pack(), [np.arange(size, dtype=kind) for kind, size in kinds]
    entries = [pack.add(array) for array in arrays]
    raw = gzip.decompress(base64.b64decode(pack.text()))
    for array, entry in zip(arrays, entries, strict=True):
        assert entry["at"] % 4 == 0
        assert (np.frombuffer(raw, f"<{entry['kind']}", array.size, entry["at"]) == array).all()
    assert len({entry["at"] for entry, array in zip(entries, arrays, strict=True) if array.size}) \
        == len({kind for kind in kinds if kind[1]})


# ---- the file ----------------------------------------------------------------------------------------------

def test_texts_of_a_run_stay_texts(run, other):
    page = explorer.html(run, other)
    assert "<img src=x" not in page and page.count("</script>") == 3 and page.count("@SCRIPT@") == 2
    assert unpacked(page)["runs"][1]["name"] == HOSTILE
    assert not re.search(r"https?://", re.sub(r'id="packed">.*?<', "", page))


def test_a_large_picture_stays_small(vlm, tmp_path):
    """448 x 448 of noise, which no PNG can compress; the model's own limit of pixels is lifted."""
    pixels = np.random.default_rng(0).integers(0, 256, (448, 448, 3), np.uint8)
    item = {"type": "image", "image": pixels, "max_pixels": 448 * 448}
    large = explorer.follow(vlm, [{"role": "user", "content": [item, {"type": "text", "text": "What is this?"}]}], 8)
    assert large.inputs.grids.tolist() == [[1, 32, 32]]
    assert explorer.save(tmp_path / "large.html", large).stat().st_size < 5_000_000


def test_nothing_is_left_of_a_page_that_cannot_be_written(run, tmp_path):
    with pytest.raises(OSError):
        explorer.save(tmp_path / "none" / "run.html", run)
    assert not list(tmp_path.iterdir())


# ---- the command -------------------------------------------------------------------------------------------

def command(*words):
    return CliRunner().invoke(cli.app, ["explore", *map(str, words)], env={"COLUMNS": "200"})


def test_the_command_takes_pictures_frames_dumps_and_a_second_run(tmp_path):
    picture, tall = PICTURE.paths[0], TALL.paths[0]
    dump, page = tmp_path / "dump", tmp_path / "run.html"
    CliRunner().invoke(cli.app, ["run", str(picture), "What is this?", "--dump", str(dump), "--max-new-tokens", "2"])
    few = ("-o", page, "--max-new-tokens", 2)
    for words, kinds in [((picture, "What is this?"), [["image"]]),
                         ((picture, tall, "What is this?"), [["image", "image"]]),
                         ((*VIDEO.paths, "What appears?", "--fps", 2), [["video"]]),
                         ((picture, "What is this?", "--beside", tall), [["image"], ["image"]]),
                         ((dump,), [["image"]]), ((dump, "--beside", dump), [["image"], ["image"]])]:
        result = command(*words, *few)
        assert result.exit_code == 0 and result.stdout.splitlines() == [str(page)], result.stderr
        runs = unpacked(page.read_text(encoding="utf-8"))["runs"]
        assert [[medium["kind"] for medium in run["media"]] for run in runs] == kinds
        assert str(tmp_path) not in json.dumps([run["name"] for run in runs])
        page.unlink()


@pytest.mark.parametrize(("words", "said"), [
    (["no.png", "what?"], "no.png"), ([TALL.paths[0]], "and then a question"), ([], "IMAGE... QUESTION"),
    ([TALL.paths[0], "what?", "--beside", "no.png"], "no.png: no such file"),
    ([TALL.paths[0], "what?", "--beside", "a", "--beside", "b"], "two questions"),
    ([TALL.paths[0], "what?", "--fps", "0"], "fps"),
    ([TALL.paths[0], "what?", "-o", "page.png"], ".html"),
    ([TALL.paths[0], "what?", "-o", "none/page.html"], "folder is not there"),
])
def test_the_command_refuses_in_one_line(words, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = command(*words)
    assert result.exit_code == 2 and said in result.stderr and result.stderr.count("\n") == 1, result.stderr
    assert not list(tmp_path.iterdir())


# ---- in a browser ------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def browser():
    with chromium() as started:
        yield started


class Explored(Opened):
    """The explorer, and what one does with it."""

    def drawn(self, act):
        """Do something, and wait until all of it is drawn."""
        before, end = self.tab.evaluate("document.body.dataset.drawn"), monotonic() + 60
        act()
        while self.tab.evaluate("document.body.dataset.drawn") == before:    # `wait_for_function` needs an `eval`
            assert monotonic() < end, "nothing was drawn"
            self.tab.wait_for_timeout(10)

    def press(self, *keys):
        for key in keys:
            self.drawn(lambda key=key: self.tab.keyboard.press(key))

    def hover(self, x, y, size, view=0):
        """Point at pixel (x, y) of a resized picture of `size` (height, width)."""
        self.tab.evaluate(f"views[{view}].canvas.scrollIntoView({{block: 'center'}})")
        box = self.tab.locator("figure > canvas").nth(view).bounding_box()
        at = box["x"] + (x + 0.5) / size[1] * box["width"], box["y"] + (y + 0.5) / size[0] * box["height"]
        self.drawn(lambda: self.tab.mouse.move(*at))

    def facts(self, view=0):
        return dict(self.tab.evaluate(f"Array.from(views[{view}].facts.querySelectorAll('dt'),"
                                      "dt => [dt.textContent, dt.nextSibling.textContent])"))

    def map(self, view=0):
        """The numbers of the map that is drawn; NaN where nothing is seen."""
        found = self.tab.evaluate(f"Array.from(views[{view}].map.values, x => Number.isNaN(x) ? null : x)")
        return np.array([np.nan if one is None else one for one in found])

    def choose(self, name, value):
        self.drawn(lambda: self.tab.select_option(f"#{name}", value))


@pytest.fixture(scope="module")
def pages(run, video, other, between, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    return {"run": explorer.save(folder / "run.html", run), "video": explorer.save(folder / "video.html", video),
            "two": explorer.save(folder / "two.html", run, other),
            "between": explorer.save(folder / "between.html", between),
            "least": explorer.save(folder / "least.html", run, budget=0)}


def test_pointing_at_a_pixel_names_what_provenance_names(browser, pages, run):
    size = run.inputs.media[0].size
    rng = np.random.default_rng(1)
    with Explored(browser, pages["run"]) as page:
        for _ in range(8):
            x, y = int(rng.integers(size[1])), int(rng.integers(size[0]))
            page.hover(x, y, size)
            down, across = (a / b for a, b in zip(run.inputs.media[0].source_size, size, strict=True))
            where = where_pixel(run.inputs, run.vlm.config, (x + 0.5) * across, (y + 0.5) * down)
            facts, (x0, y0, x1, y1) = page.facts(), where.box
            assert facts["pixels"].startswith(f"x {x0}..{x1}, y {y0}..{y1} of")
            assert facts["patches (p)"] == f"rows {where.patches[0]}..{where.patches[-1]} as cut"
            assert facts["window order (w)"] == f"rows {where.window_rows[0]}..{where.window_rows[-1]}"
            assert facts["visual token (m)"] == str(where.token) and facts["sequence (s)"] == f"row {where.sequence}"
            assert facts["MRoPE"] == "time {}, height {}, width {}".format(*where.position)
            seen = {f"w {a}..{b - 1}" for a, b in where.segments}
            assert {words.split(": ")[1] for name, words in facts.items() if name.startswith("sees in")} == seen


def test_attention_on_the_page_is_that_of_the_trace(browser, pages, run):
    size, vision = run.inputs.media[0].size, run.vlm.config.vision
    where = where_token(run.inputs, run.vlm.config, len(run.at["m"]) - 1)
    with Explored(browser, pages["run"]) as page:
        page.hover(where.box[0] + 3, where.box[1] + 3, size)
        for block in {0, *vision.fullatt_block_indexes[:1]}:
            page.choose("place", f"vision {block}")
            q, k = run.trace[f"vision.blocks.{block}.rotate"]
            rows = [plot.attention_weights(q, k, run.trace["vision.schedule"][block], row) for row in where.window_rows]
            heads = np.mean(rows, axis=0)                                                  # a w
            for head in (-1, q.shape[1] - 1):
                page.choose("head", str(head))
                shown = page.map()
                expected = heads.mean(axis=0) if head < 0 else heads[head]
                q0, q1 = where.segments[block]
                assert np.isnan(shown[:q0]).all() and np.isnan(shown[q1:]).all()           # the window's border
                assert np.allclose(shown[q0:q1], expected[q0:q1], rtol=HALF, atol=1e-7)
            line = page.tab.locator("#weights li").first.inner_text().split()
            assert np.isclose(float(line[0]), expected.max(), rtol=2 * HALF)
            assert f"(w {expected.argmax()})" in " ".join(line)


def test_attention_of_the_decoder_and_to_a_token_is_that_of_the_trace(browser, pages, run):
    layer, row = run.vlm.config.text.num_hidden_layers - 1, len(run.inputs.input_ids) - 1
    q, k = run.rows(f"decoder.layers.{layer}.rotate", 0), run.rows(f"decoder.layers.{layer}.rotate", 1)
    whole = np.array([[0, len(q), 0, len(q)]])
    every = np.stack([plot.attention_weights(q, k, whole, n, True).mean(axis=0) for n in range(len(q))])
    with Explored(browser, pages["run"]) as page:
        page.choose("place", f"decoder {layer}")
        assert np.allclose(np.nan_to_num(page.map()), every[row], rtol=HALF, atol=1e-7)
        assert np.isnan(page.map()[row + 1 :]).all()                               # what comes later is not seen
        visual = int(np.flatnonzero((run.at["s"] >= 0).all(axis=(1, 2)))[3])
        where = where_token(run.inputs, run.vlm.config, 3)
        page.hover(where.box[0] + 3, where.box[1] + 3, run.inputs.media[0].size)
        page.choose("place", f"decoder {layer}")
        page.choose("map", "to")
        assert np.allclose(np.nan_to_num(page.map()), every[:, visual], rtol=HALF, atol=1e-7)


def test_patches_windows_and_pooled_cells_are_averaged_as_the_page_says(browser, pages, run):
    full = run.vlm.config.vision.fullatt_block_indexes[0]
    q, k = run.trace[f"vision.blocks.{full}.rotate"]
    table, size = run.trace["vision.schedule"][full], run.inputs.media[0].size
    every = np.stack([plot.attention_weights(q, k, table, n).mean(axis=0) for n in range(len(q))])      # w w
    where = where_token(run.inputs, run.vlm.config, len(run.at["m"]) - 1)
    first, (q0, q1) = where.window_rows[0], where.segments[0]
    with Explored(browser, pages["run"]) as page:
        page.hover(where.box[0] + 3, where.box[1] + 3, size)
        page.choose("place", f"vision {full}")
        for unit, expected in [("patch", every[first]), ("window", every[q0:q1].mean(axis=0))]:
            page.choose("unit", unit)
            assert np.allclose(page.map(), expected, rtol=HALF, atol=1e-6)
        assert f"mean of its {q1 - q0} queries" in page.tab.inner_text("figcaption")
    with Explored(browser, pages["least"]) as page:
        page.hover(where.box[0] + 3, where.box[1] + 3, size)
        page.choose("place", f"vision {full}")
        cell = first // run.vlm.config.vision.spatial_merge_size ** 2
        assert np.allclose(page.map(), pool_cells(every, 4)[cell], rtol=HALF, atol=1e-6)
        said = page.tab.inner_text("figcaption")
        assert "pooled to cells" in said and "heads averaged" in said


def test_a_stage_draws_its_rows_and_the_stream_its_numbers(browser, pages, run):
    label = "vision.blocks.1.add_mlp"
    with Explored(browser, pages["run"]) as page:
        page.hover(5, 5, run.inputs.media[0].size)
        page.drawn(lambda: page.tab.locator("#norms button", has_text=label).click())
        assert np.allclose(page.map(), row_values(run.trace[label]))
        assert page.tab.locator(f'button.stage[data-label="{label}"]').get_attribute("aria-pressed") == "true"
        assert page.tab.locator(f'details[data-block="vision.blocks.1"] .more[data-of="{label}"]').is_visible()
        rows = list(where_pixel(run.inputs, run.vlm.config, 5, 5).window_rows)
        rms = np.sqrt((run.trace[label][rows].astype(np.float64) ** 2).mean())
        shown = page.tab.locator("#norms button", has_text=label).locator("b").inner_text()
        assert np.isclose(float(shown), rms, rtol=1e-3)


def test_what_comes_next_is_what_the_logits_say(browser, pages, run):
    ids, chances = plot.top_tokens(run.trace["decoder.logits"][-1], 3)
    with Explored(browser, pages["run"]) as page:
        said = page.tab.locator("#lens .next li").first.inner_text().split()
        assert np.isclose(float(said[0]) / 100, chances[0], rtol=2e-3)
        assert run.vlm.tokenizer.decode([int(ids[0])]).strip() in said
        assert page.tab.locator("#lens .written").count() >= 1


def test_a_keyboard_is_enough(browser, pages, run):
    with Explored(browser, pages["run"]) as page:
        focus = "document.activeElement.tagName + ' ' + (document.activeElement.id || document.activeElement.className)"
        stops = []
        while "CANVAS" not in (stops or [""])[-1] and len(stops) < 30:
            page.tab.keyboard.press("Tab")
            stops.append(page.tab.evaluate(focus))
        assert {"SELECT map", "SELECT place", "SELECT head", "SELECT unit", "BUTTON pin"} <= set(stops)
        page.press("ArrowRight", "ArrowRight", "ArrowDown")
        token = run.inputs.media[0].grid[2] // 2 + 1                       # one row down, one column across
        assert page.facts()["visual token (m)"] == str(token)
        page.press("]")
        assert "tower block 1" in page.tab.inner_text("figcaption")
        page.press("h", "u")
        assert "head 0" in page.tab.inner_text("figcaption") and "window" in page.tab.inner_text("figcaption")
        page.press("u", "ArrowRight")
        assert page.facts()["patches (p)"].startswith("row ")
        page.press("Enter")
        assert page.tab.get_attribute("#pin", "aria-pressed") == "true"
        before = page.facts()
        page.tab.mouse.move(*(page.tab.locator("figure > canvas").bounding_box()[side] + 4 for side in "xy"))
        assert page.facts() == before                                      # held
        page.press("Escape", "m", "m")
        assert page.tab.input_value("#map") == "stage"
        while "chip" not in page.tab.evaluate(focus):
            page.tab.keyboard.press("Tab")
        page.press("End")
        assert page.facts()["sequence (s)"].endswith("written by the model")
        while "stage" not in page.tab.evaluate(focus):
            page.tab.keyboard.press("Tab")
        page.tab.keyboard.press("ArrowDown")
        page.press("Enter")
        assert page.tab.evaluate("state.stage") == list(run.runs)[1]
        while page.tab.evaluate("document.activeElement.tagName") != "SUMMARY":    # a block: shut, passed in one step
            page.tab.keyboard.press("ArrowDown")
        page.tab.keyboard.press("ArrowDown")
        assert page.tab.evaluate("document.activeElement.parentElement.dataset.block") == "vision.blocks.1"
        assert "Selected: " in page.tab.inner_text("#now")                 # and it is said for those who cannot see it


WALK = """maps => {
  const found = {}, run = page.runs[0], no_words = /Infinity|NaN|undefined|\\bnull\\b|\\ufffd/;
  const look = where => {
    const texts = [...document.querySelectorAll("body *")].flatMap(e => [...e.attributes].map(one => one.value));
    for (const text of [document.body.innerText, ...texts])
      if (no_words.test(text)) found[no_words.exec(text)[0]] = [where, text.slice(0, 200)];
  };
  for (const [s, map] of maps.flatMap(map => run.tokens.slice(0, run.count).map((_, s) => [s, map]))) {
    const medium = s % run.media.length;
    Object.assign(state, { map, medium, time: 0, decoder: s % 2, room: s % 3 ? "decoder" : "vision" });
    Object.assign(state, { stage: run.stages[s % run.stages.length].label, array: 0 });
    state.selection = isText(run, s) ? { kind: "text", s, run: 0 } : cellOfRow(run, s);
    draw();
    look([map, s]);
  }
  for (const [label, n] of run.stages.flatMap(one => one.arrays.map((_, n) => [one.label, n]))) {
    showStage(label, n);
    draw();
    look([label, n]);
  }
  return [run.count, found];
}"""


@pytest.mark.parametrize("name", ["between", "video"])
def test_no_token_and_no_stage_gives_a_number_that_is_none(browser, pages, name, between, video):
    with Explored(browser, pages[name]) as page:
        count, found = page.tab.evaluate(WALK, ["from", "to", "stage", "off"])
        assert count == len({"between": between, "video": video}[name].ids) and found == {}


def test_a_token_says_which_picture_it_cannot_see(browser, pages, run, between):
    visual = np.flatnonzero((between.at["s"] >= 0).all(axis=(1, 2)))
    gap = int(visual[np.flatnonzero(np.diff(visual) > 1)[0]]) + 1           # the first token behind the first picture
    last, layer = len(between.ids) - 1, "decoder 0"

    def caption(page, row, choice, medium=0):
        page.choose("map", choice)
        page.drawn(lambda: page.tab.evaluate(f"showFrame({medium}, 0); selectRow(views[0], {row})"))
        page.choose("place", layer)
        return page.tab.inner_text("figcaption"), page.tab.locator(".scale").is_visible()
    with Explored(browser, pages["between"]) as page:
        said, scale = caption(page, 3, "from")
        assert "it cannot see this picture: it stands before it" in said and not scale
        assert "it cannot see" in page.tab.inner_text("#now") and "mean of" in page.tab.inner_text("#weights")
        assert "cannot" not in caption(page, gap, "from")[0]
        assert "cannot see this picture" in caption(page, gap, "from", 1)[0]
        assert "nothing in this picture can look at it" in caption(page, last, "to", 1)[0]
        assert "nothing" not in caption(page, 3, "to")[0]
    with Explored(browser, pages["run"]) as page:
        assert "it cannot see the picture: it stands before it" in caption(page, 0, "from")[0]


def test_the_focus_stays_on_the_control_that_had_it(browser, pages):
    here = "[document.activeElement.closest('[id]').id, document.activeElement.dataset.key ?? '']"
    with Explored(browser, pages["run"]) as page:
        for box in ("weights", "norms"):
            page.tab.locator(f"#{box} button").nth(2).focus()
            key = page.tab.evaluate(here)[1]
            page.press("Enter" if box == "weights" else "]")
            assert page.tab.evaluate(here)[0] == box
            assert box == "weights" or page.tab.evaluate(here)[1] == key       # the same list: the same line of it
        page.press("Enter")                                                   # the stream's line draws its stage
        assert page.tab.evaluate(here) == ["norms", key] and page.tab.input_value("#map") == "stage"
        page.choose("map", "from")
        page.tab.locator("#weights button").first.focus()
        page.press("m", "m")                                                  # no weights are left: their box has it
        assert page.tab.evaluate(here)[0] == "weights" and page.tab.input_value("#map") == "stage"
        page.drawn(page.tab.locator('button.stage[data-label="vision.embed_patches"]').click)
        array = page.tab.locator("#stages button.array:visible").first
        array.focus()
        page.drawn(lambda: page.tab.emulate_media(color_scheme="dark"))
        assert page.tab.evaluate(here)[0] == "stages"                         # other colours, the same list
        page.press("m")                                                       # what it stood in is shut: its line
        assert page.tab.evaluate("document.activeElement.className") == "stage"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["run", "two", "video"])
def test_every_text_can_be_read(browser, pages, name, scheme):
    with Explored(browser, pages[name], color_scheme=scheme) as page:
        page.drawn(lambda: page.tab.evaluate("showStage(page.runs[0].stages[9].label, 0)"))
        assert faint_texts(page.tab) == {}
        page.choose("map", "from")
        assert faint_texts(page.tab) == {}


@pytest.mark.parametrize("width", [320, 390])
@pytest.mark.parametrize("name", ["run", "two", "video"])
def test_a_phone_is_enough(browser, pages, name, width):
    with Explored(browser, pages[name], (width, 700), has_touch=True, color_scheme="dark") as page:
        assert page.tab.evaluate("document.documentElement.scrollWidth") <= width
        canvas = page.tab.locator("figure > canvas").first
        canvas.scroll_into_view_if_needed()
        page.drawn(lambda: canvas.tap(position={"x": 10, "y": 10}))
        assert page.facts()["visual token (m)"] == "0"
        assert page.tab.evaluate("document.documentElement.scrollWidth") <= width
        assert page.tab.evaluate("Array.from(document.querySelectorAll('section')).every("
                                 "s => s.getBoundingClientRect().right <= innerWidth)")


def test_a_video_has_a_time_axis(browser, pages, video):
    t, second = video.inputs.media[0].grid[0], f"{2 / VIDEO.fps:g} s"
    with Explored(browser, pages["video"]) as page:
        frames = page.tab.locator("button.frame")
        assert frames.count() == t and frames.nth(1).inner_text().startswith(second)
        page.hover(2, 2, video.inputs.media[0].size)
        page.press(".")
        facts, where = page.facts(), where_token(video.inputs, video.vlm.config, len(video.at["m"]) // t)
        assert facts["MRoPE"] == "time {}, height {}, width {}".format(*where.position)
        assert facts["time"] == f"pair of frames 1 of 0..{t - 1}, {second}"
        pressed = [frames.nth(n).get_attribute("aria-pressed") for n in range(t)]
        assert pressed == [str(n == 1).lower() for n in range(t)]
        shares = [frames.nth(n).locator("small").inner_text() for n in range(t)]
        assert shares == ["1.00" if n == 1 else "not seen" for n in range(t)]              # no block crosses frames


def test_two_runs_stand_side_by_side(browser, pages, run, other):
    size = run.inputs.media[0].size
    with Explored(browser, pages["two"]) as page:
        assert page.tab.title() != "broken" and page.tab.locator("figure > canvas").count() == 2
        assert page.facts(1)["sequence (s)"] == f"row {len(other.inputs.input_ids) - 1}"
        page.hover(40, 40, size, view=1)
        page.choose("place", "decoder 0")
        a, b = page.facts(0), page.facts(1)
        assert a.pop("apart").startswith("0 after decoder layer 0") and a == b
        prompt = min(len(run.ids), len(other.ids))
        assert np.allclose(page.map(0)[:prompt], page.map(1)[:prompt], equal_nan=True)     # before the question
        page.choose("map", "apart")
        assert (page.map(0)[(run.at["s"] >= 0).all(axis=(1, 2))] == 0).all()


def test_in_a_notebook_it_runs_in_a_frame_of_its_own(browser, run, tmp_path):
    shown = explorer.show(run, height=700)._repr_html_()
    path = tmp_path / "notebook.html"
    path.write_text(f"<!doctype html><meta charset=utf-8><link rel=icon href=data:,>{shown}", encoding="utf-8")
    tab = browser.new_page()
    tab.goto(path.as_uri())
    frame = tab.frame_locator("iframe")
    frame.locator("body[data-ready]").wait_for(timeout=60_000)
    assert PICTURE.question in frame.locator("h1").inner_text()
    assert "allow-same-origin" not in shown                                # it cannot reach the notebook
    tab.close()
