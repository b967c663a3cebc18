"""The maker of the embedded model: its network is the reference's, its rows are minivl's, a kill loses nothing."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="the maker of the embedded model needs the extra `oracle`")

import minivl  # noqa: E402
from minivl.config import OFFICIAL_PICTURES  # noqa: E402
from minivl.passes.picture import target_size  # noqa: E402
from tools.pages.article.training import preference_loss  # noqa: E402
from tools.train_tiny import card, evaluate, network, packing, preference, world  # noqa: E402
from tools.train_tiny.ablate import CHANGES, PAGE, page, tower_of  # noqa: E402
from tools.train_tiny.curve import points  # noqa: E402
from tools.train_tiny.export import export  # noqa: E402
from tools.train_tiny.grade import grade  # noqa: E402
from tools.train_tiny.network import Lean, config_for, new_model, tensors  # noqa: E402
from tools.train_tiny.packing import Packer, Sample, collate  # noqa: E402
from tools.train_tiny.phases import Phase  # noqa: E402
from tools.train_tiny.preference import slip  # noqa: E402
from tools.train_tiny.release import all_or_nothing, check, history  # noqa: E402
from tools.train_tiny.rows import messages  # noqa: E402
from tools.train_tiny.targets import LINE, UNASKED, targets  # noqa: E402
from tools.train_tiny.tasks import KINDS_OF_SAMPLE  # noqa: E402
from tools.train_tiny.tokens import load_tokenizer  # noqa: E402
from tools.train_tiny.train import Run, train  # noqa: E402


@pytest.fixture(scope="module")
def lean() -> Lean:
    return Lean(new_model(config_for(load_tokenizer()), seed=3)).eval()


@pytest.fixture(scope="module")
def packer() -> Packer:
    return Packer(load_tokenizer())


def pixels(lean: Lean, row: packing.Row) -> torch.Tensor:
    x = (torch.from_numpy(row.patches).view(len(row.patches), 3, -1).float() - lean.mean) * lean.scale
    return x.view(len(x), -1)


def reference_logits(lean: Lean, sample: Sample, row: packing.Row, number: int) -> torch.Tensor:
    """Logits of the class itself on one branch of a row, as a conversation of its own."""
    kept = (row.branch == 0) | (row.branch == number + 1)
    ids = torch.from_numpy(row.ids[kept])[None]
    video = sample.clips[0].fps is not None
    kind = "video" if video else "image"
    config = lean.model.config
    types = (ids == config.image_token_id).int() + 2 * (ids == config.video_token_id).int()
    media = {f"pixel_values{'_videos' * video}": pixels(lean, row), f"{kind}_grid_thw": torch.tensor(row.grids)}
    positions = torch.from_numpy(np.ascontiguousarray(row.positions[:, kept]))[:, None]
    out = lean.model(input_ids=ids, mm_token_type_ids=types, attention_mask=torch.ones_like(ids),
                     position_ids=positions, **media)
    return out.logits[0][torch.from_numpy(row.target[kept]) >= 0]


@pytest.mark.parametrize("kind", KINDS_OF_SAMPLE)
def test_the_lean_network_gives_the_logits_of_the_class_itself(kind, lean, packer):
    rng = np.random.default_rng(5)
    samples = [KINDS_OF_SAMPLE[kind](rng) for _ in range(3)]
    rows = [packer.pack(sample) for sample in samples]
    b = tensors(collate(rows))
    with torch.no_grad():
        ours = lean.read(b, lean.see(b))[0]
        theirs = torch.cat([reference_logits(lean, sample, row, number)
                            for sample, row in zip(samples, rows, strict=True) for number in range(len(row.tasks))])
    assert ours.shape == theirs.shape
    assert float((ours - theirs).abs().max()) < 2e-4 * float(theirs.abs().max())


@given(st.integers(20, 900), st.integers(20, 900))
@settings(deadline=None)
def test_the_size_is_that_of_the_pass(h, w):
    if max(h, w) > 100 * min(h, w):
        return
    config = replace(OFFICIAL_PICTURES, min_pixels=world.MIN_PIXELS, max_pixels=world.MAX_PIXELS)
    assert world.target((h, w)) == tuple(target_size((h, w, 3), config))


@pytest.fixture(scope="module")
def vlm(tmp_path_factory, lean):
    """A checkpoint of untrained weights, exported and loaded as a user's would be."""
    folder = tmp_path_factory.mktemp("made")
    torch.save(lean.state_dict(), folder / "weights.pt")
    export(folder / "weights.pt", folder / "checkpoint")
    with minivl.load(folder / "checkpoint") as loaded:
        yield loaded


@pytest.mark.parametrize("kind", KINDS_OF_SAMPLE)
def test_a_row_is_what_a_user_would_prepare(kind, vlm, packer):
    """Ids, positions and grids of every branch against messages through the template."""
    rng = np.random.default_rng(8)
    for _ in range(6):
        sample = KINDS_OF_SAMPLE[kind](rng)
        row = packer.pack(sample)
        for number, turn in enumerate(sample.turns):
            inputs = vlm.prepare(messages(sample.clips, turn))
            first = int(np.flatnonzero(row.answer == number)[0]) + 1              # the answer starts here
            kept = (row.branch == 0) | ((row.branch == number + 1) & (np.arange(len(row.ids)) < first))
            assert row.ids[kept].tolist() == inputs.input_ids.tolist()
            assert row.positions[:, kept].tolist() == inputs.position_ids.tolist()
            assert [tuple(m.grid) for m in inputs.media] == row.grids


@pytest.mark.parametrize("fps", [*world.FPS, *world.FPS_UNSEEN])
def test_a_video_stands_where_minivl_puts_it(fps, vlm, packer):
    sample = KINDS_OF_SAMPLE["video"](np.random.default_rng(2), fps=fps)
    row = packer.pack(sample)
    inputs = vlm.prepare(messages(sample.clips, sample.turns[0]))
    shared = row.branch == 0
    assert row.positions[:, shared].tolist() == inputs.position_ids[:, :shared.sum()].tolist()


def test_truth_lies_where_it_is_said_to():
    """Owners, boxes and dense targets of a picture agree, also after resizing."""
    rng = np.random.default_rng(4)
    for _ in range(20):
        clip = world.fitted(world.picture_of_shapes(rng, most=1))
        (thing,), owner = clip.things, clip.owner[0]
        ys, xs = np.nonzero(owner == 0)
        box = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
        assert np.abs(box - thing.box).max() <= 2
        made = targets(clip)
        assert set(np.unique(made.kind)) <= {0, world.SHAPES.index(thing.kind) + 1}
        assert set(np.unique(made.edges[made.edges[:, 0] >= 0] - np.array([0, 0, -1, -1]), axis=0).ravel()) \
            == set(thing.box) or not (made.edges[:, 0] >= 0).any()


def test_the_writing_of_a_cell_is_that_of_the_line_that_runs_through_it():
    """Characters, their places and the whole line, from the drawn text alone."""
    rng = np.random.default_rng(6)
    for text in ("7", "1234", "Zubo"):
        made = targets(world.fitted(world.picture_of_text(rng, text)))
        slots = set(zip(made.place.ravel().tolist(), made.glyph.ravel().tolist(), strict=True)) - {(0, 0)}
        assert slots <= {(i + 1, world.CHARACTERS.index(c) + 1) for i, c in enumerate(text)}
        assert {place for place, _ in slots} >= {1} and len(slots) >= len(text) - 1
        (line,) = {tuple(row) for row in made.line.tolist()} - {(UNASKED,) * LINE}
        assert line == (*(world.CHARACTERS.index(c) + 1 for c in text), *[0] * (LINE - len(text)))
    clip = world.picture_of_shapes(rng)
    assert (targets(world.fitted(clip)).line == UNASKED).all()


def test_an_event_is_told_where_and_when_the_pixels_change():
    """From the owners of pixels alone: a told cell holds the thing in one frame and not in the one beside it."""
    rng = np.random.default_rng(8)
    for _ in range(30):
        clip = world.fitted(world.video_of_shapes(rng))
        made, (h, w) = targets(clip).event, (n // world.FACTOR for n in clip.size)
        table = made.reshape(-1, h, w, 4)
        told = {tuple(row) for row in made[made[:, 0] > 0].tolist()}
        for pair, y, x in np.argwhere(table[..., 0] > 0):
            which, moment, colour, kind = table[pair, y, x]
            frame = round(moment / 4 * clip.fps)
            assert frame // 2 == pair
            cell = clip.owner[:, 28 * y:28 * y + 28, 28 * x:28 * x + 28]
            before, after = (set(cell[t].ravel().tolist()) for t in (frame - 1, frame))
            changed = [clip.things[i] for i in (after - before, before - after)[which - 1] - {-1}]
            assert (world.COLOUR_NAMES[colour - 1], world.SHAPES[kind - 1]) in [(t.colour, t.kind) for t in changed]
        assert len(told) >= any(t.spans and t.size > 24 for t in clip.things)
    assert (targets(world.fitted(world.picture_of_shapes(rng))).event == UNASKED).all()


@pytest.mark.parametrize(("task", "said", "truth", "right"), [
    ("describe", "A red star and a blue ring.", "A blue ring and a red star.", 1),
    ("describe", "A red star.", "A red star and a red star.", 0),
    ("describe", "", "A red star.", 0), ("describe", "There is no red star.", "A red star.", 0),
    ("deny", "There is no red star.", "There is no red star.", 1), ("deny", "There is no", "There is no red star.", 0),
    ("deny", "There is no red star.", '[{"bbox_2d": [0, 0, 9, 9], "label": "x"}]', 0), ("deny", "[1]", "[2]", 1),
    ("find", '[{"bbox_2d": [0, 0, 10, 10], "label": "x"}]', '[{"bbox_2d": [0, 0, 10, 19], "label": "x"}]', 1),
    ("find", '[{"bbox_2d": [0, 0, 10, 10], "label": "x"}]', '[{"bbox_2d": [0, 0, 10, 20], "label": "x"}]', 0),
    ("find", '[{"bbox_2d": [0, 0, 10', '[{"bbox_2d": [0, 0, 10, 20], "label": "x"}]', 0),
    ("detect", '[{"bbox_2d": [0, 0, 9, 9], "label": "y"}]', '[{"bbox_2d": [0, 0, 9, 9], "label": "x"}]', 0),
    ("when", "At 1.5 s.", "At 2.0 s.", 1), ("when", "At 1.4 s.", "At 2.0 s.", 0), ("when", "soon", "At 2.0 s.", 0),
    ("click", '[{"point_2d": [5, 5], "label": "a"}]', '[{"bbox_2d": [0, 0, 6, 6], "label": "a"}]', 1),
    ("click", '[{"point_2d": [6, 5], "label": "a"}]', '[{"bbox_2d": [0, 0, 6, 6], "label": "a"}]', 0),
    ("form", '{"date": "1", "number": "2"}', '{"number": "2", "date": "1"}', 1),
    ("number", " 12", "12", 1), ("number", "1 2", "12", 0)])
def test_grades(task, said, truth, right):
    assert grade(task, said, truth)["right"] == right


def test_a_slip_changes_one_detail_and_stays_an_answer():
    rng = np.random.default_rng(0)
    for answer in ("Yes.", "3", "An orange star and a red ring.", '[{"bbox_2d": [1, 22, 3, 4], "label": "red ring"}]'):
        wrong = {slip(rng, answer) for _ in range(40)}
        assert answer not in wrong and len(wrong) >= (1 if answer == "Yes." else 4)
        assert not any("a orange" in text.lower() or "an red" in text.lower() for text in wrong)
        assert all('"bbox_2d"' in text for text in wrong) or "bbox" not in answer


def test_the_loss_of_preferences_is_the_formula_of_its_pairs(lean, monkeypatch):
    """Right and wrong answers in turn; the four log probabilities of each pair, against the article page's formula."""
    now, start = torch.tensor([-1.0, -2.0, -3.0, -1.5]), torch.tensor([-1.5, -1.0, -2.0, -2.5])
    said = iter([start, now])
    monkeypatch.setattr(preference, "log_probabilities", lambda network, batch, features: next(said))
    monkeypatch.setattr(Lean, "see", lambda network, batch: None)
    found = preference.Preference(lean)(lean, {})
    pairs = [preference_loss(float(now[i]), float(now[i + 1]), float(start[i]), float(start[i + 1]), preference.BETA)
             for i in (0, 2)]
    assert float(found["preference"]) == pytest.approx(np.mean(pairs), rel=1e-5)
    assert float(found["gained"]) == 0.5


SHORT = Phase("short", 99, "a test", "all", 6, {"shapes": 0.5, "video": 0.5}, dense=0.1, batch=4, matrix_rate=1e-3,
              plain_rate=1e-3)


def test_a_killed_run_ends_where_an_unbroken_one_does(tmp_path, monkeypatch):
    """Stopped after three of six steps and started again: the same weights, bit for bit."""
    monkeypatch.setattr(network, "ROUND", False)          # training sets it; the other tests are in float32
    monkeypatch.setattr(Run, "rates", lambda run: (1e-4 * (run.step + 1), 1e-4 * (run.step + 1)))
    train(replace(SHORT, steps=3), tmp_path / "broken")
    broken = torch.load(train(SHORT, tmp_path / "broken"), weights_only=True)
    whole = torch.load(train(SHORT, tmp_path / "whole"), weights_only=True)
    assert all(torch.equal(weight, whole[name]) for name, weight in broken.items())
    start = torch.load(train(replace(SHORT, steps=1), tmp_path / "start"), weights_only=True)
    assert not all(torch.equal(weight, start[name]) for name, weight in broken.items())


@pytest.mark.parametrize(("changes", "tower", "decoder"), [
    ({"trains": "all"}, True, True), ({"trains": "tower"}, True, False), ({"trains": "decoder"}, False, True),
    ({"trains": "decoder", "preference": True}, False, True)])
def test_a_phase_moves_what_it_trains_and_nothing_else(tmp_path, changes, tower, decoder):
    phase = replace(SHORT, steps=1, **changes)
    before = {name: value.clone() for name, value in Run(phase, tmp_path / "a", None, 1, 4, 1).lean.named_parameters()}
    after = torch.load(train(phase, tmp_path / "b"), weights_only=True)
    moved = {name for name in before if not torch.equal(before[name], after[name]) and not name.startswith("heads.")}
    assert any("visual" in name for name in moved) == tower
    assert any("visual" not in name for name in moved) == decoder


def test_the_pairs_networks_have_the_tower_and_nothing_else_of_the_start(tmp_path, vlm, lean):
    """Matrices only: norms and biases begin alike in every network."""
    found = tower_of(vlm.folder)
    given = {name: p for name, p in lean.state_dict().items() if p.ndim > 1 and not name.startswith("heads.")}
    same = {name for name in given if torch.allclose(found[name], given[name], atol=0.02)}
    assert same == {name for name in given if "visual" in name}


def test_without_the_time_axis_a_row_is_numbered_as_the_ablation_numbers_it(vlm):
    """What one network of the pair is trained on is what it is asked on: `no_time`, laid over the pass."""
    still, rng = Packer(load_tokenizer(), time_axis=False), np.random.default_rng(6)
    for _ in range(8):
        sample = KINDS_OF_SAMPLE["video"](rng)
        row = still.pack(sample)
        with minivl.using(CHANGES["no time axis"]):
            inputs = vlm.prepare(messages(sample.clips, sample.turns[0]))
        shared = row.branch == 0
        assert row.positions[:, shared].tolist() == inputs.position_ids[:, :shared.sum()].tolist()


def test_a_rate_scales_both_rules(tmp_path):
    half = Run(SHORT.at_rate(0.5), tmp_path / "a", None, 6, 4, 1).rates()
    assert half == pytest.approx([rate / 2 for rate in Run(SHORT, tmp_path / "b", None, 6, 4, 1).rates()])


def test_nothing_is_left_of_a_run_that_starts_from_nothing(tmp_path):
    with pytest.raises(FileNotFoundError):
        Run(SHORT, tmp_path / "run", tmp_path / "absent.pt", 6, 4, 1)
    assert not (tmp_path / "run").exists()


def test_the_page_of_ablations_is_that_of_the_results():
    assert PAGE.read_text(encoding="utf-8") == page(card.kept("ablations"), card.kept("pair"))


def test_a_damaged_export_is_refused_before_anything_is_touched(tmp_path, vlm):
    folder = tmp_path / "spoilt"
    shutil.copytree(vlm.folder, folder)
    check(folder)
    (folder / "merges.txt").unlink()
    with pytest.raises(ValueError, match=r"lacks merges\.txt"):
        check(folder)


@pytest.mark.parametrize(("phase", "seed", "said"), [
    (SHORT, 2, "'seed': 1.*asks for .*'seed': 2"), (replace(SHORT, name="long"), 1, "'phase': 'short'.*asks for"),
    (SHORT.at_rate(2), 1, r"'rate': 0\.001.*asks for .*'rate': 0\.002")])
def test_a_run_is_not_gone_on_with_by_another(tmp_path, phase, seed, said):
    Run(SHORT, tmp_path, None, 6, 4, seed=1).save()
    Run(SHORT, tmp_path, None, 6, 4, seed=1)
    with pytest.raises(ValueError, match=f"begun with .*{said}"):
        Run(phase, tmp_path, None, 6, 4, seed)


def test_the_history_keeps_the_runs_that_a_run_goes_on_from(tmp_path, monkeypatch):
    monkeypatch.setattr(card, "RESULTS", tmp_path / "results")
    for name, samples in (("first", 10), ("second", 20), ("second", 30)):
        folder = tmp_path / name / "joint"
        folder.mkdir(parents=True, exist_ok=True)
        row = {"phase": "joint", "step": 1, "samples": samples, "minutes": 1.0}
        (folder / "log.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
        rows = history(tmp_path / name)
    assert [(row["run"], row["samples"]) for row in rows] == [("first", 10), ("second", 30)]
    assert [row["run"] for row in history(tmp_path / "second", anew=True)] == ["second"]


def test_a_release_that_fails_leaves_everything_as_it_was(tmp_path):
    one, folder = tmp_path / "page.md", tmp_path / "folder"
    folder.mkdir()
    one.write_text("old", encoding="utf-8")
    (folder / "a").write_text("old", encoding="utf-8")
    with pytest.raises(KeyboardInterrupt), all_or_nothing([one, folder]):
        one.unlink()
        (folder / "a").write_text("new", encoding="utf-8")
        (folder / "b").write_text("new", encoding="utf-8")
        raise KeyboardInterrupt
    assert one.read_text(encoding="utf-8") == "old"
    assert {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()} == {"a": "old"}
    with all_or_nothing([one]):
        one.write_text("new", encoding="utf-8")
    assert one.read_text(encoding="utf-8") == "new"


def test_an_evaluation_that_was_killed_goes_on(tmp_path, monkeypatch):
    """Rows of the same weights and questions are taken from the file; others, and half a line, are not."""
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    kept, asked = tmp_path / "rows.jsonl", []

    class Here:                                           # in place of the processes
        def __init__(self, *_, **__): pass
        def __enter__(self): return self
        def __exit__(self, *_): pass
        def map(self, work, jobs): return map(work, jobs)

    monkeypatch.setattr(evaluate, "ProcessPoolExecutor", Here)
    monkeypatch.setattr(evaluate, "_row_in_a_process", lambda job: asked.append(job[-1]) or {"name": job[-1]})
    begun = evaluate.evaluate(tmp_path, 3, ["minivl"], kept=kept)
    first, second = next(begun), next(begun)
    begun.close()
    with kept.open("a", encoding="utf-8") as file:
        file.write('\n{"weights": "')
    rows = list(evaluate.evaluate(tmp_path, 3, ["minivl"], kept=kept))
    assert rows[:2] == [first, second] and asked == [row["name"] for row in rows]
    assert list(evaluate.evaluate(tmp_path, 3, ["minivl"], kept=kept)) == rows and len(asked) == len(rows)
    list(evaluate.evaluate(tmp_path, 4, ["minivl"], kept=kept))
    assert asked[len(rows):] == [row["name"] for row in rows]


def test_points_of_a_curve_are_thinned_and_end_where_the_phase_ended():
    lines = [{"phase": "visual", "at": n / 2, "samples": 10 * n, "kind": 1 / (n + 1), "rate": 1.0} for n in range(100)]
    lines += [{"phase": "dpo", "at": 60.0, "samples": 5, "preference": 0.6}]            # none of the losses drawn
    found = points(lines, most=30)
    assert len(found) == 25 and found[-1] == {"phase": "visual", "minutes": 49.5, "samples": 990, "kind": 0.01}
    assert [one["samples"] for one in found] == sorted(one["samples"] for one in found)
