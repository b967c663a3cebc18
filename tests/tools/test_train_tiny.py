"""The maker of the embedded model: its network is the reference's, its rows are minivl's, a kill loses nothing."""

from __future__ import annotations

import itertools
import json
import re
import shutil
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="the maker of the embedded model needs the extra `oracle`")

from safetensors.torch import load_file  # noqa: E402

import minivl  # noqa: E402
from minivl.config import OFFICIAL_PICTURES  # noqa: E402
from minivl.passes.picture import target_size  # noqa: E402
from minivl.show.figures import form_of, kind_of  # noqa: E402
from tools.pages.article.training import preference_loss  # noqa: E402
from tools.train_tiny import (  # noqa: E402
    attending,
    card,
    documents,
    evaluate,
    focus,
    fused,
    going_on,
    layout,
    looking,
    network,
    packing,
    preference,
    reading,
    record,
    tasks,
    world,
)
from tools.train_tiny import train as training  # noqa: E402
from tools.train_tiny.ablate import CHANGES, PAGE, page, tower_of  # noqa: E402
from tools.train_tiny.curve import points, stretches  # noqa: E402
from tools.train_tiny.export import blend, export  # noqa: E402
from tools.train_tiny.grade import grade  # noqa: E402
from tools.train_tiny.network import Lean, config_for, new_model, tensors  # noqa: E402
from tools.train_tiny.packing import Packer, Sample, collate  # noqa: E402
from tools.train_tiny.phases import ALL_KINDS, SCHEDULE, Phase, draw  # noqa: E402
from tools.train_tiny.preference import slip  # noqa: E402
from tools.train_tiny.release import all_or_nothing, check, history  # noqa: E402
from tools.train_tiny.rows import messages  # noqa: E402
from tools.train_tiny.targets import GLYPH_COUNT, LINE, UNASKED, targets  # noqa: E402
from tools.train_tiny.tasks import KINDS_OF_SAMPLE  # noqa: E402
from tools.train_tiny.tokens import load_tokenizer  # noqa: E402
from tools.train_tiny.train import Run, train  # noqa: E402


@pytest.fixture(scope="module")
def lean() -> Lean:
    return Lean(new_model(config_for(load_tokenizer()), seed=3)).eval()


@pytest.fixture(autouse=True)
def few_are_looked_at(monkeypatch):
    monkeypatch.setattr(looking, "SAMPLES", 6)


@pytest.fixture(scope="module")
def packer() -> Packer:
    return Packer(load_tokenizer())


def pixels(lean: Lean, row: packing.Row) -> torch.Tensor:
    x = (torch.from_numpy(row.patches).view(len(row.patches), 3, -1).float() - lean.mean) * lean.scale
    return x.view(len(x), -1)


def reference_logits(lean: Lean, row: packing.Row, number: int) -> torch.Tensor:
    """Logits of the class itself on one branch of a row, as a conversation of its own."""
    kept = (row.branch == 0) | (row.branch == number + 1)
    return reference(lean, row, kept).logits[0][torch.from_numpy(row.target[kept]) >= 0]


def reference(lean: Lean, row: packing.Row, kept: np.ndarray, **asked):
    """What the class itself gives on some tokens of a row."""
    ids = torch.from_numpy(row.ids[kept])[None]
    config = lean.model.config
    types = (ids == config.image_token_id).int() + 2 * (ids == config.video_token_id).int()
    video = bool((types == 2).any())
    media = {f"pixel_values{'_videos' * video}": pixels(lean, row),
             f"{'video' if video else 'image'}_grid_thw": torch.tensor(row.grids)}
    positions = torch.from_numpy(np.ascontiguousarray(row.positions[:, kept]))[:, None]
    return lean.model(input_ids=ids, mm_token_type_ids=types, attention_mask=torch.ones_like(ids),
                      position_ids=positions, **media, **asked)


def attentions(lean: Lean, row: packing.Row, kept: np.ndarray) -> tuple[torch.Tensor, ...]:
    """Attention (1, heads, s, s) of every layer of the class itself on some tokens of a row."""
    return reference(lean, row, kept, output_attentions=True).attentions


def within_box(point: list[int], box: world.Box) -> bool:
    return box[0] <= point[0] <= box[2] and box[1] <= point[1] <= box[3]


def text_of(ids: list[int]) -> str:
    return load_tokenizer().decode(ids, skip_special_tokens=False)


@pytest.mark.parametrize("kind", KINDS_OF_SAMPLE)
def test_the_lean_network_gives_the_logits_of_the_class_itself(kind, lean, packer):
    rng = np.random.default_rng(5)
    samples = [KINDS_OF_SAMPLE[kind](rng) for _ in range(3)]
    rows = [packer.pack(sample) for sample in samples]
    b, c = tensors(collate(rows)), fused.tensors(layout.lay(rows), lean)
    with torch.no_grad():
        ours, own = lean.read(b, lean.see(b))[0], fused.read(lean, c, fused.see(lean, c))[0]
        theirs = torch.cat([reference_logits(lean, row, number) for row in rows for number in range(len(row.tasks))])
    assert ours.shape == theirs.shape == own.shape
    assert float((ours - theirs).abs().max()) < 2e-4 * float(theirs.abs().max())
    assert float((own - theirs).abs().max()) < 2e-4 * float(theirs.abs().max())


def losses_and_gradients(lean: Lean, b: dict, features, read) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
    logits, left = read(lean, b, features)
    losses = lean.dense(b, features) | lean.dense_early(b, left) | lean.looks(b, left)
    losses |= {"answer": network.answer_loss(logits, b), "distance": network.distance_loss(logits, b)}
    lean.zero_grad()
    sum(losses.values()).backward()
    return ({name: float(loss.detach()) for name, loss in losses.items()},
            {name: p.grad.clone() for name, p in lean.named_parameters()})


def test_own_functions_have_the_losses_and_gradients_of_the_plain_network(lean, packer):
    """Every parameter, on rows of every kind: ragged windows, videos, several pictures, dialogues, long answers."""
    rng = np.random.default_rng(12)
    rows = [packer.pack(draw(rng)) for draw in ALL_KINDS.values() for _ in range(2)]
    b, c = tensors(collate(rows)), fused.tensors(layout.lay(rows), lean)
    plain, expected = losses_and_gradients(lean, b, lean.see(b), Lean.read)
    own, found = losses_and_gradients(lean, c, fused.see(lean, c), fused.read)
    assert own == pytest.approx(plain, rel=1e-5)
    assert len(found) == len(expected) > 100
    for name, gradient in expected.items():
        assert float((found[name] - gradient).abs().max()) <= 1e-4 * float(gradient.abs().max()), name


@pytest.mark.parametrize("kind", ["shapes", "pairs", "odds", "document", "written", "forms", "tables", "video",
                                  "screens", "differs"])
def test_what_an_answer_seeks_is_the_share_of_attention_of_the_class_itself(kind, lean, packer):
    """Two pictures of one kind: the share of their thing's cells among those of the picture, by eager attention."""
    rng = np.random.default_rng(8)
    samples = [ALL_KINDS[kind](rng) for _ in range(2)]
    rows = [packer.pack(sample) for sample in samples]
    attention = lean.model.config.text_config._attn_implementation
    lean.model.set_attn_implementation("eager")
    shares, away_from = {name: list[float]() for name in network.LOOKS}, list[int]()
    for row in rows:
        things = np.concatenate([np.where(one.thing < 0, -1, packing.IN_CLIP * j + one.thing)
                                 for j, one in enumerate(row.targets)])
        places = np.concatenate([one.place.astype(int) for one in row.targets])
        holders = np.concatenate([np.where(one.holder < 0, -1, packing.IN_CLIP * j + one.holder)
                                  for j, one in enumerate(row.targets)])
        for number in range(1, len(row.tasks) + 1):
            kept = (row.branch == 0) | (row.branch == number)
            with torch.no_grad():
                out = attentions(lean, row, kept)
            told = dict.fromkeys(network.LOOKS, row.sought[kept]) | {"named": named(row.sought[kept])}
            for name, token in ((name, t) for name, one in told.items() for t in np.flatnonzero(one.max(axis=1) >= 0)):
                each = [cells for one in told[name][token] if one >= 0
                        and len(cells := np.flatnonzero((things == one) | (holders == one).any(axis=1)))]
                if spot := row.spot[kept][token] * (name != "named"):
                    away = np.where(holders == told[name][token][0], np.abs(places - spot), 99).min(axis=1)
                    each = [np.flatnonzero(away == away.min())] if away.min() <= 1 else each
                    away_from.append(away.min())
                layer, head = network.LOOKS[name]
                on_picture = out[layer][0, head, token].double()[torch.from_numpy(row.visual)]
                if each:
                    found = [float(on_picture[cells].sum() / on_picture.sum()) for cells in each]
                    shares[name].append(np.exp(np.log(found).mean()) * len(found))
    lean.model.set_attn_implementation(attention)
    b, c = tensors(collate(rows)), fused.tensors(layout.lay(rows), lean)
    with torch.no_grad():
        found = [lean.looks(one, read(lean, one, see(lean, one))[1])
                 for one, see, read in ((b, Lean.see, Lean.read), (c, fused.see, fused.read))]
    assert (0 in away_from) == (kind in READ)             # a character itself was looked for
    for name, seen in shares.items():
        assert len(seen) > 10 or (name == "named" and kind not in LISTS)
        assert not seen or [float(one[name]) for one in found] == pytest.approx([-np.log(seen).mean()] * 2, rel=1e-4)


READ = ("document", "written", "forms", "tables")      # kinds whose answers are read character by character
LISTS = ("odds", "forms", "tables", "differs")      # kinds whose answers name one thing after the other


def named(sought: np.ndarray) -> np.ndarray:
    """(s, 1) Of each token the thing that was named last, if it is not the one that is being named; -1 for none."""
    out, last = np.full((len(sought), 1), -1), -1
    for token, (one, *more) in enumerate(sought.tolist()):
        if last not in (-1, one):
            out[token] = last
        last = one if one >= 0 and max(more) < 0 else last
    return out


def test_what_was_named_last_is_the_last_name_that_has_been_said(lean, packer):
    rng, seen = np.random.default_rng(4), 0
    for _ in range(20):
        clip = world.fitted(world.picture_of_shapes(rng))
        turn = tasks.describe(rng, clip)
        b = fused.tensors(layout.lay([packer.pack(Sample([clip], [turn]))]), lean)
        ids, known = b["target"].tolist(), network.named_last(b)[:, 0].tolist()
        for token, thing in enumerate(known[1:], 1):
            said = text_of(ids[:token])
            names = [t.label for t in tasks.left_to_right(clip.things)]
            whole = sum(said.count(one) for one in set(names))          # names so far
            begun = whole < len(names) and said.endswith(names[whole].split()[0])
            assert (thing >= 0) == (whole > 0 and not begun), (said, thing)
            assert thing < 0 or clip.things[thing].label == names[whole - 1]
            seen += thing >= 0
    assert seen > 60


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_an_answer_is_told_the_thing_that_it_speaks_of(kind, packer):
    """What it says there, its question or the point it names is the thing's; tokens of nothing else are marked."""
    rng, marked = np.random.default_rng(9), 0
    for _ in range(6):
        sample = ALL_KINDS[kind](rng)
        things = {packing.IN_CLIP * j + i: thing for j, clip in enumerate(sample.clips)
                  for i, thing in enumerate(world.fitted(clip).things)}
        for turn in sample.turns:
            ids, _, sought, spots = packer.said(turn)
            assert turn.task != "count" or len(set(turn.shows)) == int(turn.answer)
            assert turn.task != "relation" or len({number for *_, number in turn.shows}) == 2
            for start, stop, number in turn.shows:
                thing, said = things[number], turn.answer[start:stop]
                known = re.findall(r"[\w./-]+", f"{turn.question} {turn.before} {said}".lower())
                known += [word.removesuffix(end) for word in known for end in ("s", "es") if turn.task == "count"]
                at = [int(n) for n in re.findall(r"(?<=[(, ])\d+(?=[,)])", turn.question)]
                assert any(word in thing.label.lower() for word in known) or thing.label in said or (
                    len(at) == 2 and within_box(at, thing.box)) or "How many objects" in turn.question, (turn, thing)
            assert all(one[0] >= 0 or max(one) < 0 for one in sought)
            told = text_of([i for i, one in zip(ids, sought, strict=True) if one[0] >= 0])
            spans = list(dict.fromkeys((start, stop) for start, stop, _ in turn.shows))
            assert re.findall(r"\w", told) == re.findall(r"\w", "".join(          # one token is `"}, {"`
                (turn.answer + packing.STOP)[start:stop] for start, stop in spans))
            assert all(one in (0, LINE) or text_of([i]) in {said[one - 1:one] for said in (
                turn.answer[a:b] for a, b in turn.read)} for i, one in zip(ids, spots, strict=True))
            assert sum(one > 0 for one in spots) == sum(stop - start for start, stop in turn.read)
            marked += len(turn.shows)
    assert marked


def agree(function, definition, *inputs) -> None:
    """Values and gradients of an own function against plain autograd on its definition in float64."""
    given = [x.clone().requires_grad_() if isinstance(x, torch.Tensor) and x.is_floating_point() else x for x in inputs]
    exact = [x.detach().double().requires_grad_() if isinstance(x, torch.Tensor) and x.is_floating_point() else x
             for x in given]
    y, truth = function(*given), definition(*exact)
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
    (y * weights).sum().backward()
    (truth * weights.double()).sum().backward()
    pairs = [(y, truth), *((a.grad, b.grad) for a, b in zip(given, exact, strict=True) if isinstance(a, torch.Tensor))]
    for own, wanted in pairs:
        bound = 2e-2 if network.ROUND else 2e-5
        assert float((own - wanted).detach().abs().max()) < bound * float(wanted.detach().abs().max())


@pytest.fixture(params=[False, True], ids=["float32", "bfloat16"])
def narrow(request, monkeypatch):
    """Products of matrices by float32, and by bfloat16 as where the processor has it."""
    monkeypatch.setattr(network, "ROUND", request.param)


def unit(x: torch.Tensor, gain: torch.Tensor) -> torch.Tensor:
    return x / (x.pow(2).mean(dim=-1, keepdim=True) + 1e-6).sqrt() * gain


def drawn(*shapes: tuple[int, ...]) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    return [torch.randn(shape, generator=generator) * shape[-1] ** -0.5 for shape in shapes]


def test_the_gradients_of_a_linear_map_and_of_the_gated_mlp_are_those_of_plain_autograd(narrow):
    d, m = network.WIDTH, network.MLP
    agree(fused.Linear.apply, lambda x, w, b: x @ w.T + b, *drawn((13, 20), (7, 20), (7,)))
    x, gain, gate, up, down, *biases = drawn((11, d), (d,), (m, d), (m, d), (d, m), (m,), (m,), (d,))

    def gated(x, gain, gate, gate_bias, up, up_bias, down, down_bias):
        g = unit(x, gain) @ gate.T + gate_bias
        return x + (g * g.sigmoid() * (unit(x, gain) @ up.T + up_bias)) @ down.T + down_bias
    agree(fused.GatedMLP.apply, gated, x, gain, gate, biases[0], up, biases[1], down, biases[2])


def attention(q, k, v, mask=None) -> torch.Tensor:
    """(n, heads, e) each; mask (n, n) of what is seen."""
    scores = torch.einsum("qhe,khe->hqk", q, k) * fused.HEAD ** -0.5
    scores = scores if mask is None else scores.masked_fill(~mask, -torch.inf)
    return torch.einsum("hqk,khe->qhe", scores.softmax(dim=-1), v).reshape(len(q), -1)


def turned(x: torch.Tensor, angle: torch.Tensor) -> torch.Tensor:
    """(n, heads, e): the two halves of each head turned against each other by (n, e/2)."""
    a, b = x.chunk(2, dim=-1)
    c, s = angle.double().cos()[:, None], angle.double().sin()[:, None]
    return torch.cat([a * c - b * s, b * c + a * s], dim=-1)


@pytest.mark.parametrize("full", [False, True])
def test_the_gradients_of_the_towers_attention_are_those_of_plain_autograd(full, lean, packer, narrow):
    """By loops over windows or frames; a ragged picture and a video."""
    rng, d = np.random.default_rng(3), network.WIDTH
    clips = [world.picture_of_shapes(rng, size=(84, 140)), world.video_of_shapes(rng)]
    b = fused.tensors(layout.lay([packing.see(Sample([clip])) for clip in clips]), lean)
    angle = torch.cat([at[:, None] * lean.vision_turn for at in b["at"]], dim=1)
    spans = [(start + t * n + (0 if full else first + i * size), n if full else size)
             for start, count, n, windows in b["frames"] for t in range(count)
             for first, many, size in windows for i in range(many) if not full or first + i == 0]
    assert len(angle) % layout.PATCHES == 0 and sum(n for _, n in spans) == len(angle)

    def definition(x, gain, qkv, qkv_bias, proj, proj_bias):
        q, k, v = (unit(x, gain) @ qkv.T + qkv_bias).view(len(x), 3, network.HEADS, -1).unbind(1)
        q, k = turned(q, angle), turned(k, angle)
        o = torch.cat([attention(*(part[a:a + n] for part in (q, k, v))) for a, n in sorted(spans)])
        return x + o @ proj.T + proj_bias
    agree(lambda *inputs: fused.SeeingAttention.apply(*inputs, b["seeing_turn"], b["seeing"][full]), definition,
          *drawn((len(angle), d), (d,), (3 * d, d), (3 * d,), (d, d), (d,)))


@pytest.mark.parametrize("plan", [0, 1])
def test_the_gradients_of_the_decoders_attention_are_those_of_plain_autograd(plan, lean, packer, narrow):
    """By a mask over all tokens, made from rows alone; plan 1 asks only the tokens before those of an answer."""
    rng, d, c = np.random.default_rng(3), network.WIDTH, fused.KEYS
    rows = [packer.pack(ALL_KINDS[kind](rng)) for kind in ("pairs", "video", "boxes")]
    b = fused.tensors(layout.lay(rows), lean)
    shared = layout.start_of_all(rows)
    whose = torch.cat([torch.full((shared,), -1), *(torch.full((len(row.ids) - shared,), i)
                                                    for i, row in enumerate(rows))])
    blank = len(b["ids"]) - len(whose)                    # tokens that fill the batch up see each other
    whose = torch.cat([whose, torch.full((blank,), len(rows))])
    branch = torch.cat([torch.zeros(shared), *(torch.from_numpy(row.branch[shared:]) for row in rows),
                        torch.zeros(blank)])
    order = torch.arange(len(whose))
    seen = (order[:, None] >= order) & ((whose == -1) | (whose[:, None] == whose) & ((branch == 0) |
                                                                                  (branch[:, None] == branch)))
    cos, sin = b["reading_turn"]
    angle = torch.atan2(sin.double(), cos.double())
    asked = b["asking"] if plan else None

    def definition(x, gain, q_w, q_b, k_w, k_b, v_w, v_b, o_w):
        h = unit(x, gain)
        q, k, v = (turned((h @ w.T + bias).view(len(x), -1, fused.HEAD), angle * turns)
                   for w, bias, turns in ((q_w, q_b, 1), (k_w, k_b, 1), (v_w, v_b, 0)))
        k, v = (part.repeat_interleave(network.HEADS // network.KV_HEADS, dim=1) for part in (k, v))
        y = x + attention(q, k, v, seen) @ o_w.T
        return y[asked] if plan else y
    agree(lambda *inputs: fused.ReadingAttention.apply(*inputs, b["reading_turn"], b["reading"][plan], asked),
          definition,
          *drawn((len(whose), d), (d,), (d, d), (d,), (c, d), (c,), (c, d), (c,), (d, d)))


def random_plan(rng: np.random.Generator, wide: bool) -> attending.Plan:
    """Ragged segments with and without a shared start: a prompt with two branches each, perhaps of no token; of all
    tokens some are asked, or all."""
    shared = int(rng.choice([0, 1, 9]))
    ends = shared + np.concatenate([[0], np.cumsum(rng.integers(1, 40, rng.integers(1, 6)))])
    tokens = np.arange(ends[-1])
    until, own = tokens + 1, np.full(ends[-1], attending.NOWHERE)
    for first, last in itertools.pairwise(ends):
        prompt = rng.integers(first + 1, last + 1)
        branch = rng.integers(prompt, last + 1)
        until[prompt:last], own[prompt:branch], own[branch:last] = prompt, prompt, branch
    asked = np.flatnonzero(rng.random(ends[-1]) < rng.choice([0.4, 1.0]))
    spans = np.stack([ends[:-1], ends[1:]], axis=1)
    spans = np.concatenate([[[0, shared]], spans]) if shared else spans
    return attending.Plan(np.concatenate([spans, np.searchsorted(asked, spans)], axis=1),
                          np.stack([tokens, until, own], axis=1)[asked], shared, wide)


def seen_in(plan: attending.Plan) -> torch.Tensor:
    """Which keys each query of a plan sees: (queries, tokens)."""
    token, until, own = (torch.from_numpy(column)[:, None] for column in plan.queries.T)
    key = torch.arange(plan.segments[-1, 1])
    segment = torch.zeros(len(key))
    for i, (first, last) in enumerate(plan.segments[:, :2]):
        segment[first:last] = i
    near = (key < plan.shared) | (segment == segment[token])
    return near & ((key < until) | (key >= own) & (key <= token))


@pytest.mark.parametrize("halves", [False, True])
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.1, 3.0, 100.0]), st.booleans(), st.sampled_from([1, 2]))
@settings(deadline=None, max_examples=40)
def test_compiled_attention_and_its_gradients_are_those_of_float64(halves, seed, size, wide, group):
    """Scores of any size: what lanes without a query hold must never be seen."""
    plan, e, heads = random_plan(np.random.default_rng(seed), wide), fused.HEAD, 4
    form = attending.Heads(heads * e, 2 * heads // group * e, 0, heads // group * e, heads, heads // group, e)
    count, asked, draw = int(plan.segments[-1, 1]), len(plan.queries), torch.Generator().manual_seed(seed)
    shapes = (asked, form.q_line), (count, form.kv_line), (asked, heads * e), (count, e // 2)
    q, kv, d_out, angle = (torch.randn(shape, generator=draw) for shape in shapes)
    sides = [(size**0.5 * x, torch.randn(x.shape[1], generator=draw)) for x in (q, kv)]
    if halves:
        sides, d_out = [(x.bfloat16(), bias) for x, bias in sides], d_out.bfloat16()
    turn = angle.cos(), angle.sin()
    out, logs = attending.attend(*sides, turn, plan, form)
    found = attending.attend_back(*sides, turn, plan, form, d_out, logs)
    exact = [tuple(x.double().requires_grad_() for x in side) for side in sides]
    mine, theirs = (sum(side).view(len(side[0]), -1, e) for side in exact)
    k, v = (part.repeat_interleave(group, dim=1) for part in theirs.chunk(2, dim=1))
    truth = attention(turned(mine, angle[plan.queries[:, 0]]), turned(k, angle), v, seen_in(plan))
    (truth * d_out.double()).sum().backward()
    pairs = [(out, truth), *((a, b.grad) for side, known in zip(found, exact, strict=True)
                             for a, b in zip(side, known, strict=True))]
    for own, wanted in pairs:
        assert own.shape == wanted.shape and bool(torch.isfinite(own).all())
        most = float(wanted.detach().abs().amax()) if wanted.numel() else 0.0
        assert bool(((own - wanted).detach().abs() <= (2e-2 if halves else 1e-3) * (1 + most)).all())


@pytest.mark.parametrize("level", range(-136, -120))
def test_what_a_lane_held_before_reaches_no_gradient(level):
    """Four queries whose scores are 2 to `level`, then one alone: a power of two may overflow in lanes without one."""
    e = fused.HEAD
    spans = np.array([[0, 4], [4, 5]])
    queries = np.array([[i, 4 + (i == 4), attending.NOWHERE] for i in range(5)])
    plan, form = attending.Plan(np.hstack([spans, spans]), queries, 0, False), attending.Heads(e, 2 * e, 0, e, 1, 1, e)
    kv = torch.ones(5, 2 * e)
    kv[:, :e] = level * np.log(2) * e**-0.5
    sides = [(x, torch.zeros(x.shape[1])) for x in (torch.ones(5, e), kv)]
    turn = torch.ones(5, e // 2), torch.zeros(5, e // 2)
    out, logs = attending.attend(*sides, turn, plan, form)
    assert logs[:, 0].tolist() == pytest.approx([level + 2.0] * 4 + [level], abs=1e-3)
    for side in attending.attend_back(*sides, turn, plan, form, torch.ones_like(out), logs):
        assert all(bool(torch.isfinite(one).all()) for one in side)


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


def test_a_character_as_wide_as_a_slot_is_asked_wherever_it_lies():
    """Also on the border of two rows of slots; by the pixels of the character's own box alone."""
    rng, seen, split = np.random.default_rng(12), 0, 0
    for number in range(60):
        clip = world.fitted((documents.table, documents.invoice)[number % 2](rng).clip)
        made, places = targets(clip), np.minimum(clip.glyphs[1], LINE)
        asked = set(zip(made.holder.ravel().tolist(), made.place.ravel().tolist(), strict=True))
        for i, thing in enumerate(clip.things):
            for place in range(1, min(len(thing.label), LINE - 1) + 1):
                ys, xs = np.nonzero((clip.glyphs[2] == i + 1) & (places == place))
                if len(ys) and np.ptp(ys) >= 7 and np.ptp(xs) >= 6:
                    assert (i, place) in asked, (thing, place)
                    seen, split = seen + 1, split + (np.ptp(ys // 14) > 0)
    assert seen > 1000 and split > 700


def test_a_cell_is_told_how_many_things_stand_before_and_after_its_own():
    """From the description, which names them in that order, and the owners of pixels alone."""
    rng, told = np.random.default_rng(9), 0
    for _ in range(40):
        clip = world.fitted(world.picture_of_shapes(rng))
        names = [name.split(" ", 1)[1] for name in re.split(", | and ", tasks.describe(rng, clip).answer.rstrip("."))]
        table = targets(clip).beside
        for (y, x), pair in zip(np.ndindex(*(n // world.FACTOR for n in clip.size)), table.tolist(), strict=True):
            here = Counter(clip.owner[0, 28 * y:28 * y + 28, 28 * x:28 * x + 28].ravel().tolist())
            most = max((count for i, count in here.items() if i >= 0), default=0)
            assert (pair == [UNASKED] * 2) == (most < 20)
            if most >= 20:
                before, after = pair
                assert before + after + 1 == len(clip.things)
                assert names[before] in [clip.things[i].label for i, count in here.items() if count == most and i >= 0]
                told += 1
    assert told > 200
    for other in (world.video_of_shapes(rng), world.picture_of_text(rng, "Zubo")):
        assert (targets(world.fitted(other)).beside == UNASKED).all()


def test_a_cell_is_told_how_many_other_things_are_like_its_own():
    """By the answers to questions of how many, of pictures with one thing in a cell at most."""
    rng, told = np.random.default_rng(10), Counter[str]()
    while min(told[name] for name in ("colour", "kind", "objects")) < 60:
        clip = world.fitted(world.picture_of_shapes(rng))
        turn, table = tasks.count(rng, clip), targets(clip).alike
        name = turn.question.removeprefix("How many ").removesuffix(" are there?").removesuffix(" objects")
        column = "objects" if name == "objects" else "colour" if name in world.COLOUR_NAMES else "kind"
        owners = clip.owner[0].reshape(clip.size[0] // 28, 28, -1, 28).swapaxes(1, 2).reshape(len(table), -1)
        for here, others in zip(owners.tolist(), table.tolist(), strict=True):
            only = set(here) - {-1}
            if len(only) == 1 and len(here) - here.count(-1) >= 20:
                label = clip.things[only.pop()].label
                if column == "objects" or name in label or name.removesuffix("es") in label.split() or \
                        name.removesuffix("s") in label.split():
                    assert others[("colour", "kind", "objects").index(column)] == int(turn.answer) - 1
                    told[column] += 1
    for other in (world.video_of_shapes(rng), world.picture_of_text(rng, "Zubo")):
        assert (targets(world.fitted(other)).alike == UNASKED).all()


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


def test_a_second_picture_is_told_what_was_there_and_is_not():
    """From the pixels: at least 20 of a cell show what is told to have left it in the first picture, not in the second,
    or, where a thing stayed, in both."""
    rng, happened = np.random.default_rng(8), 0
    for _ in range(30):
        sample = KINDS_OF_SAMPLE["differ"](rng)
        first, second = (world.fitted(clip) for clip in sample.clips)
        assert (targets(first).event == UNASKED).all()
        h, w = (n // world.FACTOR for n in second.size)
        names = [np.array([*(f"{t.colour} {t.kind}" for t in clip.things), ""])[clip.owner[0]]
                 for clip in (first, second)]
        for (y, x), (which, moment, colour, kind) in zip(np.ndindex(h, w), targets(second).event.tolist(), strict=True):
            was, now = (cell[28 * y:28 * y + 28, 28 * x:28 * x + 28] for cell in names)
            assert moment == UNASKED and which in (0, 2)
            said = "" if colour == UNASKED else f"{world.COLOUR_NAMES[colour - 1]} {world.SHAPES[kind - 1]}"
            assert (was == said).sum() >= 20
            if which:
                assert ((was == said) & (now != said)).sum() >= 20
                happened += 1
            else:
                assert not said or (now == said).sum() >= 20
    assert happened > 30


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
    monkeypatch.setattr(preference, "log_probabilities", lambda *_: next(said))
    found = preference.Preference(lean)(lean, {}, torch.zeros(0), Lean.read)
    pairs = [preference_loss(float(now[i]), float(now[i + 1]), float(start[i]), float(start[i + 1]), preference.BETA)
             for i in (0, 2)]
    assert float(found["preference"]) == pytest.approx(np.mean(pairs), rel=1e-5)
    assert float(found["gained"]) == 0.5


SHORT = Phase("short", 99, "a test", "all", 6, {"shapes": 0.5, "video": 0.5}, dense=0.1, batch=4, matrix_rate=1e-3,
              plain_rate=1e-3)


@pytest.mark.parametrize(("changes", "device"), [
    pytest.param({}, None, marks=pytest.mark.full), ({"trains": "decoder", "again": 3}, None),
    pytest.param({"trains": "decoder", "again": 3}, "cpu", marks=pytest.mark.full)])
def test_a_killed_run_ends_where_an_unbroken_one_does(changes, device, tmp_path, monkeypatch):
    """Stopped after three of six steps and started again: the same weights, bit for bit. Workers are started anew after
    four steps; with features that are kept, a pool of two batches is broken while it is asked for the second time."""
    monkeypatch.setattr(network, "ROUND", False)          # training sets it; the other tests are in float32
    monkeypatch.setattr(training, "SPAN", 4)
    monkeypatch.setattr(training, "POOL", 2)
    monkeypatch.setattr(Run, "rates", lambda run: (1e-4 * (run.step + 1), 1e-4 * (run.step + 1)))
    phase = replace(SHORT, **changes)
    train(replace(phase, steps=3), tmp_path / "broken", device=device)
    broken = torch.load(train(phase, tmp_path / "broken", device=device), weights_only=True)
    whole = torch.load(train(phase, tmp_path / "whole", device=device), weights_only=True)
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


def test_one_device_takes_the_step_of_two_processes(tmp_path, monkeypatch):
    """Whole batches in the plain form against two halves in the own functions, where every loss is a mean over as many
    in both halves: none is dense, and each answer is one token long and weighs alike."""
    monkeypatch.setattr(network, "ROUND", False)
    monkeypatch.setattr(training, "FAST_HALVES", False)           # rounding would hide what is compared
    monkeypatch.setattr(training, "distance_loss", lambda logits, b: logits.sum() * 0)
    monkeypatch.setattr(Lean, "looks", lambda lean, b, left: {})              # not all speak of a thing
    monkeypatch.setitem(ALL_KINDS, "yes", yes_or_no)
    phase = replace(SHORT, steps=2, dense=0.0, mix={"yes": 1.0})
    two, one = (torch.load(train(phase, tmp_path / str(device), device=device), weights_only=True)
                for device in (None, "cpu"))
    start = Run(phase, tmp_path / "start", None, 2, 4, 1).lean.state_dict()
    name = "model.model.language_model.layers.0.mlp.up_proj.weight"
    assert float((two[name] - start[name]).abs().max()) > 1e-5
    assert float((two[name] - one[name]).abs().max()) < 0.02 * float((two[name] - start[name]).abs().max())


def yes_or_no(rng: np.random.Generator, easy: bool = False, turns: int = 1) -> Sample:
    clip = world.picture_of_shapes(rng, most=2, size=(84, 84))
    return Sample([clip], [tasks.exists(rng, clip)])


def test_the_average_follows_the_weights_and_is_what_is_written(tmp_path):
    """After one step a tenth of the way stays behind; the files of a phase hold the average."""
    phase = replace(SHORT, steps=1, rate_start=50.0, rate_end=50.0)
    written = torch.load(train(phase, tmp_path / "run"), weights_only=True)
    flat = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["flat"]
    begun = Run(phase, tmp_path / "other", None, 1, 4, 1)
    expected = begun.flat.values + (flat["values"] - begun.flat.values) * 10 / 11
    assert torch.allclose(flat["average"], expected, atol=1e-6) and not torch.equal(flat["values"], expected)
    begun.flat.restore({"average": flat["average"]})
    assert all(torch.equal(value, written[name]) for name, value in begun.flat.state_of_average().items())


TINY_SCHEDULE = (replace(SHORT, name="places", trains="decoder", steps=2), replace(SHORT, name="lines", steps=3))


def test_the_schedule_goes_on_from_a_kill_and_from_what_another_machine_kept(tmp_path, monkeypatch):
    """Killed in the second phase; kept, and taken up in an empty run, where the first phase is not done again."""
    asked, plain_train = [], going_on.train

    def counted(phase, folder, start, **options):
        asked.append((phase.name, start))
        if len(asked) == 2:
            plain_train(replace(phase, steps=2), folder, start, **options).unlink()
            raise KeyboardInterrupt
        return plain_train(phase, folder, start, **options)
    monkeypatch.setattr(going_on, "train", counted)
    run, state = tmp_path / "run", tmp_path / "state"
    with pytest.raises(KeyboardInterrupt):
        going_on.go_on(run, "cpu", state, TINY_SCHEDULE)
    assert going_on.keep(run, state, TINY_SCHEDULE) < going_on.MOST_BYTES
    last = going_on.go_on(run, "cpu", state, TINY_SCHEDULE)
    first = run / "places" / "checkpoint.pt"
    assert [name for name, _ in asked] == ["places", "lines", "lines"] and asked[1][1] == asked[2][1] == first
    assert last.exists() and json.loads((run / "lines" / "log.jsonl").read_text().splitlines()[-1])["step"] == 3

    kept = torch.load(run / "lines" / "checkpoint.pt", weights_only=True)
    assert kept["step"] == 3 and kept["since"] < 0        # the moments of the first phase went on
    other = tmp_path / "other"
    going_on.go_on(other, "cpu", state, TINY_SCHEDULE)
    taken = torch.load(other / "lines" / "checkpoint.pt", weights_only=True)
    assert [name for name, _ in asked[3:]] == ["lines"] and taken["step"] == 3 and taken["since"] == 2


def test_one_command_trains_the_whole_schedule_on_one_device(tmp_path):
    """One step of a phase of each part, as `go-on --device` takes thousands of them."""
    few = tuple({phase.trains: replace(phase, batch=4, turns=2) for phase in SCHEDULE}.values())
    assert len(few) == 3
    last = going_on.go_on(tmp_path / "run", "cpu", tmp_path / "nothing", few, scale=1e-5)
    assert last == tmp_path / "run" / few[-1].name / "weights.pt"
    looks = [json.loads((tmp_path / "run" / phase.name / "log.jsonl").read_text().splitlines()[-1]) for phase in few]
    assert [look["step"] for look in looks] == [1] * len(few) and all(look["held_out"] for look in looks)


@pytest.mark.parametrize("phase", SCHEDULE, ids=lambda phase: phase.name)
def test_every_phase_draws_all_that_its_mix_names(phase):
    for kind in phase.mix:
        assert draw(np.random.default_rng(3), replace(phase, mix={kind: 1.0})).turns
    assert len({one.number for one in SCHEDULE}) == len(SCHEDULE)


def test_a_blend_lies_between_its_two_weights(lean, tmp_path):
    first, second = lean.state_dict(), {name: value + 1 for name, value in lean.state_dict().items()}
    for name, state in (("a.pt", first), ("b.pt", second)):
        torch.save(state, tmp_path / name)
    blend(tmp_path / "a.pt", tmp_path / "b.pt", tmp_path / "made", 0.25)
    mixed = load_file(tmp_path / "made" / "model.safetensors")
    key = next(name for name in mixed if name.endswith("embed_tokens.weight"))
    wanted = lean.model.model.language_model.embed_tokens.weight.detach() + 0.25
    assert torch.allclose(mixed[key].float(), wanted, rtol=2**-8, atol=2**-9)


def test_what_is_kept_is_the_average_with_the_heads(tmp_path):
    run = Run(SHORT, tmp_path / "run" / "short", None, 6, 4, 1)
    run.flat.average.mul_(2)
    run.step = 4
    run.save()
    going_on.keep(tmp_path / "run", tmp_path / "state", (SHORT,))
    going_on.unpack(tmp_path / "new", tmp_path / "state", (SHORT,), 1)
    new = Run(SHORT, tmp_path / "new" / "short", None, 6, 4, 1)
    assert new.step == 4 and torch.equal(new.flat.average, new.flat.values) and not new.flat.first.any()
    assert torch.allclose(new.flat.values, run.flat.average, rtol=2**-8)
    assert (new.lean.heads["glyph"].weight != 0).any()


def test_weights_of_before_a_head_was_added_load_and_those_of_another_network_are_named(tmp_path):
    old = Lean(new_model(config_for(load_tokenizer()), 3)).state_dict()
    state = {name: value for name, value in old.items() if not name.startswith("heads.beside")}
    torch.save(state, tmp_path / "weights.pt")
    read = reading.load(tmp_path / "weights.pt")
    assert all(torch.equal(value, read.state_dict()[name]) for name, value in state.items())
    export(tmp_path / "weights.pt", tmp_path / "folder")
    assert (tmp_path / "folder" / "model.safetensors").is_file()
    del state["model.model.visual.merger.mlp.0.weight"]
    torch.save(state | {"model.more": torch.zeros(1)}, tmp_path / "other.pt")
    for load in (reading.load, lambda path: training.load_weights(read, path), lambda path: export(path, path.parent)):
        with pytest.raises(ValueError, match=r"other.pt holds another network: model.model.vis.*, model.more in one"):
            load(tmp_path / "other.pt")


@pytest.mark.parametrize("kind", ["shapes", "video", "pairs"])
def test_rows_are_filled_up_to_few_numbers(kind, packer):
    """Ragged batches have whole blocks of patches, tokens and asked tokens, and what fills them up is in no answer."""
    rng = np.random.default_rng(4)
    rows = [packer.pack(ALL_KINDS[kind](rng)) for _ in range(3)]
    b = layout.lay(rows)
    assert len(b["still"]) % layout.PATCHES == len(b["moving"]) % layout.PATCHES == 0
    assert b["at"].shape[1] == len(b["still"]) + len(b["moving"]) > sum(row.patches.any(axis=(1, 2, 3, 4)).sum() // 2
                                                                        for row in rows)
    assert len(b["ids"]) % layout.TOKENS == len(b["asking"]) % layout.ASKED == 0
    assert len(b["target"]) == sum((row.target >= 0).sum() for row in rows) <= len(b["asking"])
    assert len(b["places"]) == sum(len(row.visual) for row in rows) == len(set(b["places"].tolist()))


def test_pictures_of_a_still_tower_are_sent_once_a_pool(packer):
    """Also where a run goes on in the middle of a pool, with the questions that it has not asked yet."""
    phase = replace(SHORT, trains="decoder", again=2, mix={"pairs": 1.0}, turns=3)
    steps = training.pool(phase, 0, 1, packer, 4)
    sent = list(training.halves(phase, 0, steps, 0))
    assert len(sent) == len(steps) == 2 * training.POOL
    assert ["frames" in half for half, _ in sent] == [True] * training.POOL + [False] * training.POOL
    assert {half["key"][1] for half, _ in sent[:training.POOL]} == set(range(training.POOL))
    late = list(training.halves(phase, 0, steps, training.POOL + 1))
    assert len(late) == training.POOL - 1 and all("frames" in half for half, _ in late)
    parts = steps[:training.POOL], steps[training.POOL:]
    first, second = (next(rows for i, rows in part if i == 0) for part in parts)
    assert first[0].patches is second[0].patches and not np.array_equal(first[0].ids, second[0].ids)


@pytest.mark.parametrize("kind", focus.FOCUS)
def test_focused_samples_ask_much_about_one_picture(kind, packer):
    rng = np.random.default_rng(4)
    for easy in (True, False, False):
        sample = focus.FOCUS[kind](rng, easy=easy, turns=8)
        assert 1 <= len(sample.turns) <= 9 and len(sample.clips) == 1 + (kind == "differs")
        assert len(packer.pack(sample).tasks) == len(sample.turns)


def test_no_training_sees_the_rates_of_the_evaluation():
    rng = np.random.default_rng(0)
    rates = {sample.clips[0].fps for kind in ("video", "rates") for sample in (ALL_KINDS[kind](rng) for _ in range(90))}
    assert rates == {*world.FPS, *world.FPS_MORE} and not rates & set(world.FPS_UNSEEN)


def test_every_count_is_true_and_some_are_of_what_is_not_there():
    """By the labels of the things alone; no question is asked twice about a picture."""
    rng, seen = np.random.default_rng(8), set()
    for _ in range(12):
        sample = focus.counts_sample(rng)
        assert len({turn.question for turn in sample.turns}) == len(sample.turns)
        for turn in sample.turns:
            of = re.fullmatch(r"How many (\w+)( objects)? are there\?", turn.question)[1]
            names = [name for thing in sample.clips[0].things for name in thing.label.split()]
            assert turn.answer == str(len(names) // 2 if of == "objects" else
                                      sum(of in (name, f"{name}s", f"{name}es") for name in names))
            seen.add(turn.answer)
    assert seen >= {"0", "1", "2", "5"}


def test_a_question_and_its_opposite_have_opposite_answers():
    """By the boxes alone; what is told before an answer is where the things are."""
    rng, seen = np.random.default_rng(5), set()
    for _ in range(40):
        sample = focus.told_sample(rng)
        things = {thing.label: thing for thing in world.fitted(sample.clips[0]).things}
        for turn in sample.turns:
            other = tasks.opposite(turn)
            assert (other is None) == (" inside the " in turn.question)
            if other is not None:
                assert tasks.opposite(other) == packing.about(
                    replace(other, question=turn.question, answer=_flipped(other.answer)),
                    *(("", number) for *_, number in turn.shows))
            for side, axis, sign in (("left of", 0, 1), ("right of", 0, -1), ("above", 1, 1), ("below", 1, -1)):
                if f" {side} the " in turn.question:
                    one, two = turn.question[len("Is the "):-1].split(f" {side} the ")
                    yes = sign * (things[two].centre[axis] - things[one].centre[axis]) > 0
                    assert turn.answer.endswith(": yes." if yes else ": no.")
                    assert "The {} is at ({:.0f}, {:.0f})".format(one, *things[one].centre) in turn.answer
                    seen.add((side, yes))
    assert len(seen) == 8


def _flipped(answer: str) -> str:
    return {"Yes.": "No.", "No.": "Yes."}[answer]


def test_a_digit_nearby_costs_less_than_one_far_off():
    b = {"digit": torch.tensor([-1, 5])}
    ids, logits = network.digit_ids(), torch.zeros(2, 640)
    costs = []
    for said in (5, 6, 9):
        logits[1] = 0
        logits[1, ids[said]] = 50.0
        costs.append(float(network.distance_loss(logits, b)))
    assert costs == pytest.approx([0, 1, 4], abs=1e-4)


def test_digits_of_coordinates_alone_are_marked(packer):
    clip = world.picture_of_text(np.random.default_rng(1), "47")
    row = packer.pack(Sample([clip], [packing.Turn("number", "Read the number.", "47"),
                                      packing.Turn("x", "Where?", tasks.point_json((105, 8), "47"))]))
    assert row.digit[row.digit >= 0].tolist() == [1, 0, 5, 8]                   # not those of "point_2d" and of "47"
    assert row.target[row.digit >= 0].tolist() == [network.digit_ids()[d] for d in (1, 0, 5, 8)]


READING = ("number", "word", "document", "characters", "written", "forms", "tables")


@pytest.mark.parametrize("kind", READING)
def test_what_is_read_is_spelled_and_weighs_as_an_answer_of_its_own(kind, packer):
    """One character a token, whatever pairs of letters the vocabulary has; the text stays the same."""
    rng, found = np.random.default_rng(9), 0
    for _ in range(8):
        sample = ALL_KINDS[kind](rng)
        row = packer.pack(sample)
        for number, turn in enumerate(sample.turns):
            ids, weights = row.target[row.answer == number].tolist(), row.weight[row.answer == number].tolist()
            said = [load_tokenizer().decode([i], skip_special_tokens=False) for i in ids]
            assert "".join(said) == turn.answer + packing.STOP
            ends = np.cumsum([0, *map(len, said)]).tolist()
            for start, stop in turn.read:
                for at in range(start, stop):
                    token = ends.index(at)
                    assert said[token] == turn.answer[at]
                    assert weights[token] == pytest.approx((stop - start + 1) ** -0.75)
                    found += 1
    assert found


def test_a_box_among_many_weighs_as_one_alone(packer):
    rng = np.random.default_rng(2)
    for _ in range(10):
        clip = world.picture_of_shapes(rng)
        things = list(clip.things)
        rows = [packer.pack(Sample([clip], [packing.Turn("detect", "Detect all objects.", tasks.box_json(some))]))
                for some in (things, *([thing] for thing in things))]
        whole, *each = (float(row.weight[row.digit >= 0].sum()) for row in rows)
        assert whole == pytest.approx(sum(each), rel=0.1)


@pytest.mark.parametrize("draw", [world.picture_of_lines, documents.figures,
                                  lambda rng: focus.forms_sample(rng).clips[0],
                                  lambda rng: focus.tables_sample(rng).clips[0]],
                         ids=("lines", "figures", "form", "table"))
def test_every_text_of_a_page_stands_in_its_box(draw):
    """By the map of characters alone, row by row through the middle of each box; boxes do not meet."""
    rng = np.random.default_rng(3)
    for _ in range(8):
        clip = draw(rng)
        for i, thing in enumerate(clip.things):
            x0, y0, x1, y1 = thing.box
            letters, places = clip.glyphs[:2, (y0 + y1) // 2, x0:x1].astype(int)
            read = {int(place): int(letter) for letter, place in zip(letters, places, strict=True) if place}
            wanted = {n: world.CHARACTERS.find(c) + 1 for n, c in enumerate(thing.label, 1)}
            assert read == wanted or (read.items() <= wanted.items() and len(read) >= len(wanted) - 1)
            assert not any(world.overlap(thing.box, other.box) for other in clip.things[:i])


def test_values_asked_one_by_one_are_those_of_the_whole_page():
    """Of the page itself (its answer as JSON or as HTML), and what stands at a point is what has its box around it."""
    rng = np.random.default_rng(6)
    for _ in range(8):
        form, table = focus.forms_sample(rng), focus.tables_sample(rng, turns=12)
        (truth,) = (json.loads(turn.answer) for turn in form.turns if turn.task == "form")
        said = {turn.question: turn.answer for turn in form.turns if turn.task == "field"}
        assert said == {f"What is the {name}?": value for name, value in truth.items()}
        rows = [re.findall("<td>(.*?)</td>", row) for row in table.turns[-1].answer.split("</tr>")[:-1]]
        cells = {f"What is in row {i}, column {j}?": cell
                 for i, row in enumerate(rows, 1) for j, cell in enumerate(row, 1)}
        assert {turn.question: turn.answer for turn in table.turns[:-1]} == cells
        for sample in (form, focus.written_sample(rng)):
            things = world.fitted(sample.clips[0]).things
            for turn in (turn for turn in sample.turns if turn.task == "read_at"):
                x, y = map(int, re.findall(r"\d+", turn.question))
                around = [t for t in things if t.box[0] <= x < t.box[2] and t.box[1] <= y < t.box[3]]
                assert turn.answer in [thing.label for thing in around]


def test_questions_about_controls_and_bars_are_true():
    """By the things of the page alone: boxes, labels, colours and heights of bars."""
    rng, seen = np.random.default_rng(7), set()
    for easy in (True, False) * 8:
        sample = focus.screens_sample(rng, easy, turns=20)
        buttons = {t.label: t.box for t in world.fitted(sample.clips[0]).things if t.kind == "button"}
        assert len(buttons) == 2 if easy else len(buttons) >= 2
        for turn in sample.turns:
            if turn.task == "control":
                assert (turn.answer == "Yes.") == (re.findall(r"\w+", turn.question)[-1] in buttons)
            else:
                x, y = map(int, re.findall(r"\((\d+), (\d+)\)|\[(\d+), (\d+)\]", turn.question + turn.answer)[0][
                    0 if turn.task == "says" else 2:][:2])
                label = turn.answer[:-1] if turn.task == "says" else json.loads(turn.answer)[0]["label"]
                assert turn.task == "says" or label.lower() in turn.question.lower()
                box = buttons[label]
                assert box[0] <= x < box[2] and box[1] <= y < box[3]
            seen.add((turn.task, turn.answer if turn.task == "control" else ""))
        chart = focus.charts_sample(rng)
        bars = {t.colour: t.box[3] - t.box[1] for t in chart.clips[0].things if t.kind == "bar"}
        said = {turn.question.split()[-2]: int(turn.answer) for turn in chart.turns}
        assert set(said) == set(bars)
        assert sorted(said, key=lambda colour: (said[colour], colour)) \
            == sorted(bars, key=lambda colour: (bars[colour], colour))
    assert seen == {("says", ""), ("click", ""), ("control", "Yes."), ("control", "No.")}


@pytest.mark.parametrize("wrong", [None, "read", "said"])
def test_reading_tells_the_tower_from_the_decoder(lean, monkeypatch, wrong):
    """A decoder that knows all answers but what is read, or but the last token; a tower that knows one character."""
    def read(lean, b, features):
        logits = torch.nn.functional.one_hot(b["target"], 640).float()
        stop, one = load_tokenizer().token_to_id("<|im_end|>"), network.digit_ids()[1]
        if wrong is not None:
            logits[b["target"] == (stop if wrong == "said" else one)] = 0.0
        return logits, features
    monkeypatch.setattr(reading.fused, "read", read)
    seven = world.CHARACTERS.index("7") + 1
    head = torch.nn.Linear(network.WIDTH, 8 * GLYPH_COUNT)
    torch.nn.init.zeros_(head.weight)
    head.bias.data = torch.nn.functional.one_hot(torch.full((8,), seven), GLYPH_COUNT).float().reshape(-1)
    monkeypatch.setitem(lean.heads._modules, "glyph", head)
    monkeypatch.setattr(reading, "KINDS", {name: reading.KINDS[name] for name in ("form", "number, larger")})
    for row in reading.measure(lean, 20):
        assert 0.02 < row.slots < 0.3 and row.asked > 0.9
        assert (0.6 < row.characters < 1) if wrong == "read" else row.characters == 1
        assert {None: row.answers == 1, "said": row.answers == 0, "read": row.answers < 1}[wrong]


class Parrot:
    """A program that says one thing; prompts are what they ask."""

    class tokenizer:
        @staticmethod
        def decode(ids: str) -> str:
            return ids

    @staticmethod
    def prepare(messages):
        return type("Prompt", (), {"input_ids": messages[0]["content"][-1]["text"]})


def test_a_row_names_an_answer_that_is_given_to_all_and_counts_pairs():
    """A constant is right on one of each pair and never on both; who knows the truth is right on both."""
    row = next(row for row in evaluate.ROWS if row.name == "relations")
    samples = row.samples(30, 0)
    truth = {turn.question: turn.answer for sample in samples for turn in (sample.turns[0], tasks.opposite(
        sample.turns[0])) if turn}
    found = evaluate.row_of(row, samples, Parrot, {
        "no": lambda inputs: ["No." for _ in inputs], "all": lambda inputs: [truth[one.input_ids] for one in inputs]})
    pairs = sum(tasks.opposite(sample.turns[0]) is not None for sample in samples)
    assert found["constant"] == {"no": "No."}
    assert found["pairs"] == {"no": {"both": 0.0, "pairs": pairs}, "all": {"both": 1.0, "pairs": pairs}}
    said = evaluate.line(found | {"seconds": 0})
    assert "no ALWAYS SAYS 'No.'" in said and f"all both of {pairs} pairs 1.000" in said


OTHERS = {"when, at frame rates never seen": "video: when, within 0.5 s"}     # the words of another row


@pytest.mark.parametrize("row", evaluate.ROWS, ids=lambda row: row.name)
def test_every_question_of_the_card_is_known_by_its_words(row):
    wanted = {OTHERS.get(row.name, row.name)}
    if row.name.startswith("deny"):
        wanted.add("find one: IoU above 0.5; mean IoU")                      # the same words, of what is there
    for sample in row.samples(30, 4):
        turn = sample.turns[0]
        assert kind_of(turn.question, turn.answer) in wanted
        left = re.findall(r"[a-z]+", form_of(turn.question))
        assert not {*world.COLOUR_NAMES, *world.SHAPES} & set(left)


def test_a_form_of_question_with_one_answer_is_named():
    """Who says No to "below" alone is a constant there; who is right is none, nor is an answer that is always right."""
    row = next(row for row in evaluate.ROWS if row.name == "relations")
    samples = row.samples(200, 0)
    truth = {sample.turns[0].question: sample.turns[0].answer for sample in samples}

    def half(inputs):
        return ["No." if " below " in one.input_ids else truth.get(one.input_ids, "Yes.") for one in inputs]
    found = evaluate.row_of(row, samples, Parrot, {"minivl": half}) | {"seconds": 0}
    form = "Is the ... below the ...?"
    assert evaluate.constants(found) == {form: "No."} and sum(
        one["samples"] for one in found["forms"]["minivl"].values()) == len(samples)
    below = [truth[question] == "No." for question in truth if " below " in question]
    assert found["forms"]["minivl"][form]["figures"]["right"] == pytest.approx(sum(below) / len(below), abs=1e-4)
    assert f"to {form!r} ALWAYS SAYS 'No.'" in evaluate.line(found)
    assert record._row(found)["constants"] == {form: "No."} and "both" in record._row(found)["pairs"]
    page = card.constants([found])
    assert f"| {form} | relations | `No.` |" in page and page.count("| relations |") == 1
    assert "both of a pair of opposites" in card.table([found]) and "always says" not in card.table([found])
    everything = evaluate.row_of(row, samples, Parrot, {"minivl": lambda inputs: ["No." for _ in inputs]})
    assert "**always says** `No.`" in card.table([everything])
    assert card.constants([{"name": "old"}]) == ""
    knows = evaluate.row_of(row, samples, Parrot, {
        "minivl": lambda inputs: [truth.get(one.input_ids, "Yes.") for one in inputs]})
    assert card.constants([knows]).startswith("\n\nNo form")


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_reaches_no_weight(bad, tmp_path):
    run = Run(replace(SCHEDULE[0], steps=1), tmp_path, None, 1, 2, 1)
    training.check(run, 0)
    run.flat.gradients[0][7] = bad
    with pytest.raises(FloatingPointError, match="every gradient must be finite, and one of step 1 is not"):
        training.check(run, 0)
    training.check(run, 1)


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


def test_a_curve_has_a_gap_where_a_phase_did_not_measure():
    lines = [{"phase": phase, "of": 10 * i, **({} if phase == "lines" else {"answer": 1.0 + i})}
             for i, phase in enumerate(["places", "places", "mend", "lines", "told"])]
    x, y = stretches(lines, "answer")
    assert np.array_equal(x, [0, 10, 20, np.nan, 40], equal_nan=True)
    assert np.array_equal(y, [1, 2, 3, np.nan, 5], equal_nan=True)
    looks = [{"phase": "told", "of": 7, "held_out": {"word": 0.5}}]
    assert stretches(looks, "word") == ([7], [0.5]) and stretches(looks, "answer") == ([], [])
