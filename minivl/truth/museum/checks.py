"""Laws that a right model obeys, each in a few lines, and what ports commonly test instead. Both are
run on a small random model, as it is and with each fault in it; `score.py` writes down which law finds
which fault.

A law takes a model and raises when it is broken. What it expects comes from loops, from float64 or
from Pillow, never from the pass that it looks at. The tests of this project state most of them more
generally (`tests/properties/`).

    for name, check in CHECKS.items():
        check.holds(world())

Read next: `score.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np

from ...api import VLM
from ...door.contract import outputs
from ...door.stage import Session, unwatched
from ...door.watch import relative_error
from ...kernels import definition as kernels
from ...run.generation import NotFiniteError
from ...run.provenance import provenance
from . import cases
from .cases import CELL, Case, noise, picture, said, unlimited, user, video
from .fault import check_words
from .hunt import ordinary, seen
from .world import world

EXACT, CLOSE = 1e-6, 2e-5                # of float32: the same operations, and another order of them
APART = 5e-3                    # far above what another order does in 16 bits, far below another's words


@dataclass(frozen=True)
class Check:
    """A law, or an ordinary check, by name; `words` is what it says."""
    name: str
    words: str
    holds: Callable[[VLM], None]
    law: bool = True


CHECKS: dict[str, Check] = {}


def law(function: Callable[[VLM], None]) -> Callable[[VLM], None]:
    """Enter a law under its name."""
    name = function.__name__.replace("_", " ")
    CHECKS[name] = Check(name, " ".join((function.__doc__ or "").split()).rstrip("."), function)
    return function


def talk(*conversations: Any, tokens: int = 1) -> Case:
    """A case without a name, of these conversations."""
    return Case("", lambda vlm: list(conversations), tokens)


def traced(vlm: VLM, case: Case) -> dict[str, Any]:
    """Every leaf of a run of the case; of one that ended for scores that are no numbers, those before."""
    with Session(record="*", quiet=True) as s, suppress(NotFiniteError):
        case.run(vlm)
    return s.trace


def near(found, wanted, tolerance: float = CLOSE) -> None:
    """Raise AssertionError unless two arrays are the same up to rounding."""
    found = np.asarray(found)
    distance = relative_error(found, np.asarray(wanted))
    assert distance <= tolerance, f"off by {distance:.3g}"


# ---- ordinary checks: what ports commonly test -------------------------------------------------

def _ordinary(name: str, check: str, case: Case) -> None:
    def holds(vlm: VLM) -> None:
        with unwatched():
            right = seen(vlm, case, {})
        assert ordinary(check, right, seen(vlm, case, {})), check
    words = check_words(check, case)
    CHECKS[name] = Check(name, words[0].upper() + words[1:], holds, False)


_ordinary("it runs", "smoke", cases.small)
_ordinary("text is right", "same", cases.text)
_ordinary("a small picture is right", "same", cases.one_window)


# ---- pixels and prompt -------------------------------------------------------------------------

@law
def resizing_is_pillows(vlm: VLM) -> None:
    """Every resized picture is what Pillow makes of it, bit for bit."""
    from PIL import Image
    for rows, size in ((100, 56), (40, 84), (180, 56)):  # one axis: older Pillows differ in their order
        pixels = noise(rows, 56)
        item = unlimited("image", pixels, resized_height=size, resized_width=56)
        got = traced(vlm, talk(user(item)))["picture.resize"]
        wanted = Image.fromarray(pixels).resize((56, size), Image.Resampling.BICUBIC)
        assert np.array_equal(got, np.asarray(wanted))


@law
def a_size_that_fits_is_kept(vlm: VLM) -> None:
    """A picture of whole cells within the limits keeps its size."""
    for rows, columns in ((1, 2), (3, 2), (4, 4)):
        item = {"type": "image", "image": noise(CELL * rows, CELL * columns), "min_pixels": CELL**2,
                "max_pixels": 16 * CELL**2}
        inputs = vlm.prepare(user(item))
        assert inputs.image_grid_thw.tolist() == [[1, 2 * rows, 2 * columns]]


@law
def patches_are_cut_where_they_should_be(vlm: VLM) -> None:
    """Each number of each patch is the pixel that loops find."""
    trace = traced(vlm, talk(user(picture(2, 3))))
    frame, rows = trace["picture.normalise"], iter(trace["patches.patchify"])
    for row, column, inner_row, inner_column in product(range(2), range(3), range(2), range(2)):
        y, x = 28 * row + 14 * inner_row, 28 * column + 14 * inner_column
        square = frame[:, y : y + 14, x : x + 14]                        # 3 14 14
        assert np.array_equal(next(rows).reshape(3, 2, 14, 14), np.stack([square, square], axis=1))


@law
def the_prompt_keeps_the_order_of_the_message(vlm: VLM) -> None:
    """Text, picture, text come in the order in which they were said."""
    items = [said("one"), picture(1, 1), said("two"), picture(1, 1), said("three")]
    trace = traced(vlm, talk([{"role": "user", "content": items}]))
    words = trace["prompt.render"].tobytes().decode()
    places = [words.find("one"), words.find("image_pad"), words.find("two"), words.rfind("image_pad"),
              words.find("three")]
    assert places == sorted(places) and -1 not in places


# ---- positions ---------------------------------------------------------------------------------

MIXED = [picture(1, 2), said("and"), video(2, 2, 1, 1.0), said("and"), video(3, 1, 1, 4.0),
         said("and"), picture(2, 1)]
SECONDS = [None, 2.0, 0.5, None]                         # between the pairs of frames of each


def _places(vlm: VLM, ids: list[int], grids: list, seconds: list) -> Iterator[tuple[int, int, int]]:
    """Time, height and width of every token, one after the other."""
    free, waiting = 0, iter(zip(grids, seconds, strict=True))
    row, pads = 0, (vlm.config.image_token_id, vlm.config.video_token_id)
    while row < len(ids):
        if ids[row] not in pads:
            yield free, free, free
            free, row = free + 1, row + 1
            continue
        (frames, height, width), each = next(waiting)
        tick = 1 if each is None else vlm.config.vision.tokens_per_second * each
        cells = list(product(range(frames), range(height // 2), range(width // 2)))
        yield from ((free + math.floor(t * tick), free + h, free + w) for t, h, w in cells)
        free += 1 + max(max(math.floor(t * tick), h, w) for t, h, w in cells)
        row += len(cells)


@law
def positions_are_those_of_a_loop(vlm: VLM) -> None:
    """Pictures, videos at two rates and the text between them stand where loops put them."""
    inputs = vlm.prepare(user(*MIXED))
    wanted = list(_places(vlm, inputs.input_ids.tolist(), inputs.grids.tolist(), SECONDS))
    assert inputs.position_ids.T.tolist() == [list(place) for place in wanted]


@law
def the_answer_goes_on_by_one(vlm: VLM) -> None:
    """Each token of each answer stands one further than the one before it."""
    case = talk(user(picture(2, 2)), user(), user(picture(1, 1)), tokens=3)
    inputs = case.prepare(vlm)
    trace = traced(vlm, case)
    for step, key in enumerate(key for key in trace if key.startswith("positions.advance")):
        wanted = [one.position_ids[:, -1] + step + 1 for one in inputs]
        assert np.array_equal(trace[key], np.stack(wanted, axis=1))


@law
def angles_are_positions_times_frequencies(vlm: VLM) -> None:
    """Each rotary angle of the decoder is its axis times its frequency, for long texts too."""
    text = vlm.config.text
    axis = [0] * text.mrope_section[0] + [1] * text.mrope_section[1] + [2] * text.mrope_section[2]
    frequency = [text.rope_theta ** (-2 * n / text.head_dim) for n in range(text.head_dim // 2)]
    for case in (cases.long_text, cases.ragged):
        place = case.prepare(vlm)[0].position_ids
        wanted = [[place[axis[n], row] * frequency[n] for n in range(len(axis))]
                  for row in range(place.shape[1])]
        near(traced(vlm, case)["decoder.angles"], wanted, EXACT)


# ---- the tower ---------------------------------------------------------------------------------

PICTURES = [picture(3, 5), said("and"), video(2, 3, 2, 2.0), said("and"), picture(1, 1)]


def _cells(inputs, side: int) -> list[tuple[int, ...]]:
    """(medium, frame, window row, window column, row, column) of all cells, window after window."""
    return sorted((n, t, r // side, c // side, r, c)
                  for n, (frames, height, width) in enumerate(inputs.grids.tolist())
                  for t, r, c in product(range(frames), range(height // 2), range(width // 2)))


@law
def patches_see_their_window_or_their_frame(vlm: VLM) -> None:
    """Segments of every block are the windows, or in full blocks the frames, that loops find."""
    case = talk(user(*PICTURES))
    cells, tables = _cells(case.prepare(vlm)[0], cases.side(vlm)), traced(vlm, case)["vision.schedule"]
    for block, table in enumerate(tables):
        depth = 2 if block in vlm.config.vision.fullatt_block_indexes else 4
        wanted = [4 * sum(cell[:depth] == group for cell in cells) for group in
                  sorted({cell[:depth] for cell in cells})]
        ends = np.cumsum(wanted)
        assert np.array_equal(table, np.stack([ends - wanted, ends] * 2, axis=1))


@law
def frames_and_pictures_stay_apart(vlm: VLM) -> None:
    """Changing one frame changes no token of another, nor of another picture."""
    inputs = vlm.prepare(user(video(2, 2, 2, 2.0), said("and"), video(1, 2, 1, 2.0)))
    rows = [16, 16, 8]                                                   # patches of each frame
    before = vlm.vision(inputs)
    for frame, (start, count) in enumerate(zip(np.cumsum([0, *rows]), rows, strict=False)):
        changed = inputs.patches.copy()
        changed[start : start + count] += 1
        moved = (vlm.vision(replace(inputs, patches=changed)) != before).any(axis=1)
        assert moved.nonzero()[0].tolist() == list(range(start // 4, (start + count) // 4)), frame


@law
def cells_come_back_in_reading_order(vlm: VLM) -> None:
    """After the last block each cell stands where the prompt has its place."""
    case = talk(user(*PICTURES))
    trace, cells = traced(vlm, case), _cells(case.prepare(vlm)[0], cases.side(vlm))
    reading = sorted(range(len(cells)), key=lambda n: (*cells[n][:2], *cells[n][4:]))
    assert np.array_equal(trace["vision.restore_order"], trace["vision.merge_2x2"][reading])


@law
def one_bright_patch_moves_its_own_rows(vlm: VLM) -> None:
    """A changed patch changes the rows that it should, and no other: where it was cut, in its window,
    in its frame."""
    inputs = vlm.prepare(user(picture(3, 5)))
    at = provenance(inputs, vlm.config)
    for patch in (0, 17, 41):
        changed = inputs.patches.copy()
        changed[patch] += 1
        runs = []
        for values in (inputs.patches, changed):
            with Session(record="vision.*") as s:
                vlm.vision(replace(inputs, patches=values))
            runs.append(s.trace)
        rows = np.flatnonzero((at["w"] == at["p"][patch]).all(axis=1))
        window = (at["w"][:, 2:] // 4 == at["p"][patch][2:] // 4).all(axis=1)          # 4 patches a side
        for key, wanted in (("order_by_window", rows), ("blocks.0.attend", np.flatnonzero(window))):
            a, b = (run[f"vision.{key}"] for run in runs)
            assert np.array_equal(np.flatnonzero((a != b).reshape(len(a), -1).any(axis=1)), wanted), key


@law
def the_tower_is_as_exact_as_its_type(vlm: VLM) -> None:
    """Visual tokens differ from those of a float64 model by the rounding of float32, for patches out
    of range too."""
    for case in (cases.ragged, cases.bright):
        inputs = case.prepare(vlm)[0]
        with unwatched():
            exact = world().on("float64", "definition").vision(inputs)
        near(vlm.vision(inputs), exact)


# ---- arithmetic --------------------------------------------------------------------------------

@law
def norms_divide_by_the_root_mean_square(vlm: VLM) -> None:
    """RMS norms of ordinary, tiny and huge rows are those of float64."""
    norm = vlm.weights.decoder.norm
    x = noise(5, 16).reshape(5, 48).astype(np.float32) - 100
    for scale in (0.01, 1e-5, 1e4):
        y = (x * np.float32(scale)).astype(np.float64)
        size = np.sqrt((y * y).mean(axis=1, keepdims=True) + norm.eps)
        wanted = y / size * norm.weight.dense(np.float64)
        near(kernels.rms_norm(x * np.float32(scale), norm), wanted)


@law
def gelu_is_the_exact_one(vlm: VLM) -> None:
    """GELU is x times the normal distribution's integral."""
    x = np.linspace(-4, 4, 33, dtype=np.float32)[None]
    near(kernels.gelu(x), [[v / 2 * (1 + math.erf(v / math.sqrt(2))) for v in x[0].tolist()]], EXACT)


@law
def rotations_turn_halves_of_a_head(vlm: VLM) -> None:
    """A rotation multiplies number i plus i times number i + half by a phase."""
    x = noise(3, 16).reshape(3, 4, 12).astype(np.float32)
    angle = np.linspace(0.1, 3, 18, dtype=np.float32).reshape(3, 6)
    turned = (x[..., :6] + 1j * x[..., 6:]) * np.exp(1j * angle[:, None].astype(np.float64))
    near(kernels.rotate(x, np.cos(angle), np.sin(angle)),
         np.concatenate([turned.real, turned.imag], axis=-1), EXACT)


def _attended(q, k, v, seen_by: list[range]) -> np.ndarray:
    """Attention in float64, row by row and head by head; row i sees the keys seen_by[i]."""
    out = np.zeros(q.shape)
    q, k, v = (x.astype(np.float64) for x in (q, k, v))
    for row, head in product(range(q.shape[0]), range(q.shape[1])):
        keys, shared = list(seen_by[row]), head // (q.shape[1] // k.shape[1])
        score = np.exp(k[keys, shared] @ q[row, head] / math.sqrt(q.shape[2]))
        out[row, head] = score @ v[keys, shared] / score.sum()
    return out


@law
def tokens_see_all_before_them_and_patches_their_segment(vlm: VLM) -> None:
    """Attention of both parts is what loops in float64 make of its own queries, keys and values."""
    case = talk(user(said("look"), picture(2, 3)))
    trace = traced(vlm, case)
    (q, k), v = trace["decoder.layers.1.rotate"], trace["decoder.layers.1.project_qkv"][2]
    near(trace["decoder.layers.1.attend"], _attended(q, k, v, [range(row + 1) for row in range(len(q))]))
    (q, k), v = trace["vision.blocks.0.rotate"], trace["vision.blocks.0.project_qkv"][2]
    windows = [range(16)] * 16 + [range(16, 24)] * 8       # 2 x 3 cells: one whole window and half a one
    near(trace["vision.blocks.0.attend"], _attended(q, k, v, windows))


@law
def projections_have_their_biases(vlm: VLM) -> None:
    """Queries, keys and values are matrix times row plus bias, in float64."""
    trace, qkv = traced(vlm, cases.text), vlm.weights.decoder.layers[0].qkv
    assert qkv.bias is not None
    x = trace["decoder.layers.0.normalise"].astype(np.float64)
    found = np.concatenate(trace["decoder.layers.0.project_qkv"], axis=1)
    near(found.reshape(len(x), -1), x @ qkv.weight.dense(np.float64).T + qkv.bias.dense(np.float64))


@law
def gathering_is_indexing(vlm: VLM) -> None:
    """Row i of what is gathered is the row that was asked for, however many there are."""
    index = np.arange(4999, -1, -1)
    assert np.array_equal(kernels.take_rows(np.arange(5000), index), index)


# ---- the decoder -------------------------------------------------------------------------------

@law
def features_stand_at_their_placeholders(vlm: VLM) -> None:
    """Visual token i takes the row of placeholder i, and no other row changes."""
    trace, (inputs,) = traced(vlm, cases.video_first), cases.video_first.prepare(vlm)
    wanted = trace["decoder.embed_tokens"].copy()
    pads = (vlm.config.image_token_id, vlm.config.video_token_id)
    rows = [row for row, id in enumerate(inputs.input_ids) if id in pads]
    wanted[rows] = trace["vision.restore_order"]
    assert np.array_equal(trace["decoder.place_features"], wanted)


@law
def a_tied_head_is_the_embedding(vlm: VLM) -> None:
    """Scores of a tied model are products with the embedding table."""
    trace = traced(vlm, cases.text)
    table = vlm.weights.decoder.embed.dense(np.float64)                                             # v d
    near(trace["decoder.logits"], trace["decoder.normalise"] @ table.T)


@law
def writing_equals_reading(vlm: VLM) -> None:
    """Scores of an answer that is written token by token are those of reading it at once."""
    case = talk(user(picture(2, 2)), tokens=4)
    (inputs,) = case.prepare(vlm)
    with Session(record="decoder.logits") as s:
        tokens = vlm.generate(inputs, 4, stop_ids=(), repetition_penalty=1.0)
    near(np.concatenate(list(s.trace.values())), vlm.logits(inputs, tokens))


@law
def conversations_do_not_hear_each_other(vlm: VLM) -> None:
    """Several conversations at once get the scores that each gets alone."""
    together = talk(user(), user(picture(2, 2)), user(picture(1, 2)), tokens=3)
    trace = traced(vlm, together)
    for n, inputs in enumerate(together.prepare(vlm)):
        alone = traced(vlm, talk(inputs, tokens=3))
        for key in ("decoder.logits", "decoder@1.logits"):
            near(trace[key][n], alone[key][0], APART)


@law
def the_penalty_counts_prompt_and_answer(vlm: VLM) -> None:
    """Every id of the prompt and of the answer so far is made less likely, once."""
    trace, (inputs,) = traced(vlm, cases.penalised), cases.penalised.prepare(vlm)
    seen_ids = set(inputs.input_ids.tolist())
    keys = [key for key in trace if key.startswith("decoder") and key.endswith(".logits")]
    assert len(keys) == 2
    for step, key in enumerate(keys):
        scores = trace[key][0].astype(np.float64)
        wanted = [(x * 1.3 if x < 0 else x / 1.3) if id in seen_ids else x
                  for id, x in enumerate(scores.tolist())]
        again = f"@{step}" if step else ""
        near(trace[f"sampling.penalise{again}"][0], wanted, EXACT)
        seen_ids.add(int(trace[f"sampling.most_likely{again}"][0]))


@law
def boxes_grow_with_the_picture(vlm: VLM) -> None:
    """A box of an answer covers the same part of the picture that was sent as of the one that was
    seen."""
    for case, sides in ((cases.located, (45, 45)), (cases.located_as_it_is, (56, 56))):
        (box,), (height, width) = traced(vlm, case)["answer.boxes_to_original"], sides
        near(box, [7 * width / 56, 14 * height / 56, 28 * width / 56, 49 * height / 56], EXACT)


@law
def every_number_is_finite(vlm: VLM) -> None:
    """No pass gives an infinity or something that is no number."""
    for case in (cases.ragged, cases.two_frames, cases.bright):
        for key, value in traced(vlm, case).items():
            assert all(np.isfinite(array).all() for array in outputs(value)
                       if array.dtype.kind == "f"), key
