"""Laws that hold without an oracle: of the order of rows, of who sees whom, of the cache, of packing, of positions."""

import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import minivl
from minivl import model as forward
from minivl.door import stage as door
from minivl.door.contract import outputs
from minivl.door.watch import relative_error
from minivl.passes.positions import inverse_frequencies, mrope, mrope_angles, patch_coordinates
from minivl.passes.windows import order_by_window, restore_order, schedule, window_order

from .worlds import IMAGE, VIDEO, configs, grids, media, model, prompts, video_grids, worlds

EPS = float(np.finfo(np.float32).eps)
several = st.lists(st.one_of(grids, video_grids), min_size=1, max_size=4).map(np.array)


def cells_by_hand(grids):
    """(medium, time, row, column) of every merged cell in prompt order, with loops."""
    return [(n, t, r, c) for n, (ts, hs, ws) in enumerate(grids)
            for t in range(ts) for r in range(hs // 2) for c in range(ws // 2)]


# ---- order ---------------------------------------------------------------------------------------------------------

@given(configs(), several)
def test_window_order_is_a_bijection_that_groups_windows(config, grids):
    order, side = window_order(grids, config.vision), config.vision.window_cells
    cells = cells_by_hand(grids)
    assert sorted(order.tolist()) == list(range(len(cells)))
    key = [(n, t, r // side, c // side, r, c) for n, t, r, c in (cells[i] for i in order)]
    assert key == sorted(key)                       # window after window in reading order, reading order inside


@given(configs(), several, st.integers(1, 3))
def test_restoring_undoes_ordering(config, grids, width):
    order = window_order(grids, config.vision)
    rows = np.arange(4 * len(order) * width).reshape(-1, width)
    ordered = order_by_window(rows, order)
    back = restore_order(ordered.reshape(len(order), -1), order).reshape(rows.shape)
    assert np.array_equal(back, rows)
    assert all(np.array_equal(ordered[4 * j : 4 * j + 4], rows[4 * i : 4 * i + 4]) for j, i in enumerate(order))


@given(configs(), several)
def test_segments_cover_each_row_once_and_never_cross_frames_or_windows(config, grids):
    order, side = window_order(grids, config.vision), config.vision.window_cells
    cells = cells_by_hand(grids)
    tables = schedule(grids, config.vision)
    assert len(tables) == config.vision.depth
    for block, table in enumerate(tables):
        assert [row for q0, q1, _, _ in table for row in range(q0, q1)] == list(range(4 * len(cells)))
        full, groups = block in config.vision.fullatt_block_indexes, []
        for q0, q1, k0, k1 in table:
            assert (q0, q1) == (k0, k1) and q0 < q1
            inside = {cells[order[row // 4]] for row in range(q0, q1)}
            groups.append({(n, t) if full else (n, t, r // side, c // side) for n, t, r, c in inside})
            assert len(groups[-1]) == 1
        assert len({next(iter(g)) for g in groups}) == len(groups)               # none is split in two


@given(several)
def test_patch_coordinates_come_in_blocks_of_four(grids):
    at = patch_coordinates(grids, 2).reshape(-1, 4, 2)
    cells = np.array([(r, c) for _, _, r, c in cells_by_hand(grids)])
    assert np.array_equal(at[:, 0], 2 * cells)
    assert np.array_equal(at - at[:, :1], np.broadcast_to([[0, 0], [0, 1], [1, 0], [1, 1]], at.shape))


# ---- the tower ---------------------------------------------------------------------------------------------------

@given(configs(), video_grids.filter(lambda g: g[0] > 1), st.data())
def test_changing_one_frame_pair_leaves_the_others_bit_identical(config, grid, data):
    vlm, rng = model(config), np.random.default_rng(1)
    rows = rng.normal(size=(int(np.prod(grid)), 1176)).astype(np.float32)
    frame = data.draw(st.integers(0, grid[0] - 1))
    changed = rows.copy().reshape(grid[0], -1)
    changed[frame] += 1
    a, b = (forward.vision(x.reshape(rows.shape), np.array([grid]), vlm.weights.vision).reshape(grid[0], -1)
            for x in (rows, changed))
    moved = (a != b).any(axis=1)
    assert moved[frame] and moved.sum() == 1


@given(worlds(items=media.filter(bool)), st.data())
def test_a_bright_patch_moves_exactly_the_rows_that_provenance_names(world, data):
    config, (inputs,) = world
    vlm, at = model(config), minivl.provenance(inputs, config)
    grids, patches = inputs.grids, inputs.patches
    p = data.draw(st.integers(0, len(patches) - 1))
    bright = patches.copy()
    bright[p] += 3
    with minivl.session(record="vision.*") as dark_run:
        forward.vision(patches, grids, vlm.weights.vision)
    with minivl.session(record="vision.*") as bright_run:
        forward.vision(bright, grids, vlm.weights.vision)

    def moved(key):
        a, b = dark_run.trace[key], bright_run.trace[key]
        return set(np.flatnonzero((a != b).reshape(len(a), -1).any(axis=1)).tolist())
    here = at["p"][p]
    assert moved("vision.embed_patches") == {p}
    rows = {i for i, row in enumerate(at["w"]) if (row == here).all()}
    assert len(rows) == 1 and moved("vision.order_by_window") == rows
    for block, table in enumerate(schedule(grids, config.vision)):
        rows = {r for q0, q1, _, _ in table if rows & set(range(q0, q1)) for r in range(q0, q1)}
        assert moved(f"vision.blocks.{block}.attend") == rows
    last = {tuple(at["w"][r]) for r in rows}
    cells = {m for m, four in enumerate(at["m"]) if last & {tuple(row) for row in four}}
    assert moved("vision.restore_order") == cells
    assert moved("vision.merge_2x2") == {c for c, four in enumerate(at["c"]) if last & {tuple(row) for row in four}}


@given(worlds(items=media.filter(bool)))
def test_provenance_of_the_sequence_puts_tokens_in_reading_order(world):
    config, (inputs,) = world
    at = minivl.provenance(inputs, config)
    cells = cells_by_hand(inputs.grids)
    assert at["m"].min(axis=1).tolist() == [[n, t, 2 * r, 2 * c] for n, t, r, c in cells]
    visual = np.isin(inputs.input_ids, (IMAGE, VIDEO))
    assert np.array_equal(at["s"][visual], at["m"]) and (at["s"][~visual] == -1).all()


@given(worlds(items=media.filter(bool)), st.data())
def test_every_token_is_found_again_from_its_pixels(world, data):
    config, (inputs,) = world
    sizes = [((14 * m.grid[1] * 3, 14 * m.grid[2] * 2), (14 * m.grid[1], 14 * m.grid[2])) for m in inputs.media]
    inputs = inputs.with_sizes(sizes)
    token = data.draw(st.integers(0, len(minivl.provenance(inputs, config)["m"]) - 1))
    where = minivl.where_token(inputs, config, token)
    x0, y0, x1, y1 = where.source_box
    assert (x1 - x0, y1 - y0) == (28 * 2, 28 * 3)
    for x, y in ((x0, y0), (x1 - 1, y1 - 1)):
        assert minivl.where_pixel(inputs, config, x, y, where.medium, where.time) == where
    assert inputs.input_ids[where.sequence] in (IMAGE, VIDEO)


# ---- the decoder ---------------------------------------------------------------------------------------------------

@given(worlds(), st.integers(1, 6))
def test_cached_decoding_equals_the_full_pass(world, steps):
    config, (inputs,) = world
    vlm = model(config)
    with minivl.session(record="decoder.logits") as s:
        tokens = vlm.generate(inputs, steps, stop_ids=(), repetition_penalty=1.0)
    assume(not set(tokens) & {IMAGE, VIDEO})            # a placeholder that the model wrote has no feature to take
    ids = np.append(inputs.input_ids, np.array(tokens[:-1], np.int64))
    following = 1 + inputs.position_ids[:, -1:] + np.arange(len(tokens) - 1)
    whole = minivl.run.inputs.replace(inputs, input_ids=ids, position_ids=np.hstack([inputs.position_ids, following]))
    full = vlm.logits(whole)[len(inputs.input_ids) - 1 :]
    cached = np.concatenate(list(s.trace.values()))
    assert cached.shape == full.shape
    assert relative_error(cached, full) < 200 * EPS
    gaps = np.diff(np.sort(full, axis=1)[:, -2:])[:, 0]
    assert all(a == b for a, b, gap in zip(cached.argmax(1), full.argmax(1), gaps, strict=True) if gap > 1e-4)


@given(worlds(conversations=3))
def test_packed_conversations_equal_each_alone(world):
    config, conversations = world
    vlm = model(config)
    with minivl.session(record="*") as packed:
        together = vlm.generate(conversations, 5, stop_ids=(), repetition_penalty=1.1)
    at = 0
    for n, inputs in enumerate(conversations):
        with minivl.session(record="*") as alone:
            assert vlm.generate(inputs, 5, stop_ids=(), repetition_penalty=1.1) == together[n]
        rows = slice(at, at + len(inputs.input_ids))
        at = rows.stop
        last = f"decoder.layers.{config.text.num_hidden_layers - 1}.add_mlp"
        assert relative_error(packed.trace[last][rows], alone.trace[last]) < 200 * EPS
        assert relative_error(packed.trace["decoder@3.logits"][n], alone.trace["decoder@3.logits"][0]) < 200 * EPS


@given(worlds(conversations=2))
def test_a_stopped_conversation_takes_no_further_rows(world):
    vlm, conversations = model(world[0]), world[1]
    free = vlm.generate(conversations, 6, stop_ids=())
    stop = free[0][1]
    with minivl.session(record="decoder.embed_tokens") as s:
        both = vlm.generate(conversations, 6, stop_ids=(stop,))
    for a, b in zip(both, free, strict=True):
        assert a == (b[: b.index(stop) + 1] if stop in b else b)
    running = [sum(len(answer) > n for answer in both) for n in range(1, max(map(len, both)))]
    assert [len(x) for x in s.trace.values()][1:] == running


@given(configs(), st.integers(1, 40))
def test_text_only_mrope_is_ordinary_rotary_embedding(config, length):
    ids = np.zeros(length, np.int64)
    positions = mrope(ids, np.zeros((0, 3), np.int64), np.zeros(0, np.float32), (IMAGE, VIDEO), 2, "max_plus_one")
    assert np.array_equal(positions, np.tile(np.arange(length), (3, 1)))
    frequency = inverse_frequencies(config.text.head_dim, config.text.rope_theta)
    ordinary = np.arange(length, dtype=np.float32)[:, None] * frequency
    assert np.array_equal(mrope_angles(positions, config.text), ordinary)


@given(worlds(items=media.filter(bool)))
def test_positions_by_hand(world):
    """Both rules for text after a video, with loops over tokens."""
    inputs = world[1][0]
    for rule in ("max_plus_one", "tf5"):
        ticks = np.array([m.ticks for m in inputs.media], np.float32)
        got = mrope(inputs.input_ids, inputs.grids, ticks, (IMAGE, VIDEO), 2, rule)
        p, wanted, token, grids = 0, [], 0, list(zip(inputs.grids, ticks, strict=True))
        while token < len(inputs.input_ids):
            if inputs.input_ids[token] not in (IMAGE, VIDEO):
                wanted.append((p, p, p))
                p, token = p + 1, token + 1
                continue
            (t, h, w), tick = grids.pop(0)
            cells = [(p + int(np.float32(i) * tick), p + j, p + k) for i in range(t) for j in range(h // 2)
                     for k in range(w // 2)]
            wanted += cells
            token += len(cells)
            p = max(max(c) for c in cells) + 1 if rule == "max_plus_one" else p + max(h, w) // 2
        assert got.T.tolist() == [list(c) for c in wanted]


# ---- the door on the real model --------------------------------------------------------------------------------------

@pytest.mark.filterwarnings("ignore:nothing was met by kernel")         # after the last leaf no kernel is left to run
@given(worlds(), st.data())
def test_resuming_at_any_leaf_gives_the_rest_bit_for_bit_and_runs_no_earlier_kernel(world, data):
    config, (inputs,) = world
    vlm = model(config)
    started: Counter = Counter()

    def count(original):
        def counted(*args):
            started[door._session.get().chain[0].frames[-1].key] += 1
            return original(*args)
        return counted
    run = lambda: vlm.generate(inputs, 4, do_sample=True, top_k=9, seed=3, stop_ids=(), repetition_penalty=1.2)  # noqa: E731
    with minivl.session(record="*", replace={"kernel.*": count}) as whole:
        tokens = run()
    all_kernels = Counter(started)
    key = data.draw(st.sampled_from(list(whole.trace)))
    given_ = minivl.until(whole.trace, key)
    started.clear()
    with minivl.session(record="*", given=given_, replace={"kernel.*": count}) as resumed:
        assert run() == tokens
    assert list(resumed.trace) == list(whole.trace)
    for name, value in whole.trace.items():
        pairs = zip(outputs(value), outputs(resumed.trace[name]), strict=True)
        assert all(a.dtype == b.dtype and a.tobytes() == b.tobytes() for a, b in pairs)
    assert started == Counter({name: n for name, n in all_kernels.items() if name not in given_})


@settings(max_examples=6)                                               # each runs the model once for every label
@given(worlds(items=media.filter(bool)))
def test_every_label_can_be_replaced_and_its_replacement_is_what_runs(world):
    config, (inputs,) = world
    vlm = model(config)
    run = lambda: vlm.generate(inputs, 2, do_sample=True, stop_ids=(), repetition_penalty=1.1)  # noqa: E731
    labels: dict[str, int] = {}

    def note(label):
        return lambda original: lambda *args: [labels.__setitem__(label, labels.get(label, 0) + 1), original(*args)][1]
    with minivl.session(record="*") as s:
        run()
    every = sorted({re.sub(r"@\d+", "", key) for key in s.trace})
    composites = {label.rsplit(".", n)[0] for label in every for n in range(1, label.count(".") + 1)}
    composites -= {"vision.blocks", "decoder.layers", "sampling", "positions"}
    for label in [*every, *composites]:
        with minivl.session(replace={label: note(label)}):
            run()
        assert labels[label] >= 1


@given(worlds())
def test_a_verified_run_breaks_no_contract(world):
    config, (inputs,) = world
    with minivl.session(verify=True):
        model(config).generate(inputs, 2)
        model(config).logits(inputs)


@given(worlds(conversations=1), st.integers(0, 5))
def test_the_same_seed_writes_the_same_text(world, seed):
    config, (inputs,) = world
    vlm = model(config)
    options = {"do_sample": True, "temperature": 1.3, "top_p": 0.9, "seed": seed, "stop_ids": ()}
    alone = vlm.generate(inputs, 4, **options)
    assert alone == vlm.generate(inputs, 4, **options)
    assert vlm.generate([inputs, inputs], 4, **options) == [alone, alone]


@given(st.data())
def test_prompts_keep_media_in_prompt_order(data):
    config = data.draw(configs())
    inputs = data.draw(prompts(config))
    held = {"image": inputs.image_grid_thw.tolist(), "video": inputs.video_grid_thw.tolist()}
    kinds = {"image": IMAGE, "video": VIDEO}
    seen = [int(i) for i in inputs.input_ids if i in (IMAGE, VIDEO)]
    wanted = []
    for m in inputs.media:
        assert list(m.grid) == held[m.kind].pop(0)
        wanted += [kinds[m.kind]] * (m.patches // 4)
    assert seen == wanted and not held["image"] and not held["video"]
