"""Drawings say what the arrays say: every number, bar, block and colour stands where a plain loop would put it."""

import io
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.path import Path as Outline
from PIL import Image

import minivl
from minivl.config import PreprocessorConfig, VisionConfig
from minivl.door.watch import Cost
from minivl.passes.patches import patchify
from minivl.passes.picture import bicubic_weights, normalise
from minivl.passes.windows import window_order
from minivl.run.provenance import provenance
from minivl.show import plot

FEW = settings(max_examples=15)
PATCH, CELL = 14, 28
PREPROCESSOR = PreprocessorConfig(3136, 12845056, PATCH, 2, 2, (0.48, 0.46, 0.41), (0.27, 0.26, 0.28))
VISION = VisionConfig(depth=2, hidden_size=8, num_heads=2, intermediate_size=8, in_channels=3, patch_size=PATCH,
                      temporal_patch_size=2, spatial_merge_size=2, window_size=56, fullatt_block_indexes=(1,),
                      tokens_per_second=2, out_hidden_size=8)
GRIDS = st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 5)).map(lambda g: (g[0], 2 * g[1], 2 * g[2]))
SHAPES = [(1, 2, 2), (1, 10, 14), (1, 2, 12), (3, 6, 8), (2, 14, 2)]        # a cell, ragged, thin, video, narrow video


def frames_of(grid, seed=0):
    """Two frames for each pair, noise."""
    shape = (2 * grid[0], grid[1] * PATCH, grid[2] * PATCH, 3)
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def patch_order(grid):
    """(t, row, column) of every patch as cut, by loops."""
    return [(t, 2 * cr + r, 2 * cc + c) for t in range(grid[0]) for cr in range(grid[1] // 2)
            for cc in range(grid[2] // 2) for r in range(2) for c in range(2)]


def cell_order(grid, side=2):
    """(t, cell row, cell column) in window order, and how many cells each window has, by loops."""
    cells, counts = [], []
    for t in range(grid[0]):
        for top in range(0, grid[1] // 2, side):
            for left in range(0, grid[2] // 2, side):
                inside = [(t, r, c) for r in range(top, min(top + side, grid[1] // 2))
                          for c in range(left, min(left + side, grid[2] // 2))]
                cells, counts = cells + inside, [*counts, len(inside)]
    return cells, counts


def inputs_of(grid):
    """What provenance asks of Inputs, for one video or picture."""
    cells = grid[0] * grid[1] * grid[2] // 4
    config = SimpleNamespace(vision=VISION, image_token_id=1, video_token_id=2)
    return SimpleNamespace(grids=np.array([grid]), input_ids=np.array([0, *[2] * cells, 0])), config


# ---- pictures ----------------------------------------------------------------------------------------------

@FEW
@given(GRIDS)
def test_frames_stand_side_by_side(grid):
    frames = frames_of(grid)
    drawn = np.asarray(plot.picture(frames).images[0].get_array())
    for n, frame in enumerate(frames):
        left = n * (frames.shape[2] + plot.GAP)
        assert (drawn[:, left : left + frames.shape[2]] == frame).all()


def test_normalised_pixels_come_back():
    pixels = frames_of((1, 4, 6))[0]
    drawn = plot.picture(normalise(pixels, PREPROCESSOR), PREPROCESSOR).images[0].get_array()
    assert (np.asarray(drawn) == pixels).all()


@pytest.mark.parametrize("grid", SHAPES)
def test_grid_lines_lie_between_patches(grid):
    ax = plot.patch_grid(frames_of(grid), np.array(grid), VISION)
    upright = {segment[0][0] for lines in ax.collections for segment in lines.get_segments()
               if segment[0][0] == segment[1][0]}
    left = [t * (grid[2] * PATCH + plot.GAP) for t in range(grid[0])]
    assert upright == {x + column * PATCH - 0.5 for x in left for column in range(grid[2] + 1)}
    assert f"{grid[1]} x {grid[2]} patches" in ax.get_title()


@FEW
@given(GRIDS, st.data())
def test_each_number_stands_on_its_patch(grid, data):
    frames = np.zeros_like(frames_of(grid))
    bright = data.draw(st.integers(0, len(patch_order(grid)) - 1))
    t, row, column = patch_order(grid)[bright]
    frames[2 * t, row * PATCH : (row + 1) * PATCH, column * PATCH : (column + 1) * PATCH] = 255
    values = patchify(np.stack([normalise(frame, PREPROCESSOR) for frame in frames]), PREPROCESSOR)
    ax = plot.patches(values, np.array(grid), PREPROCESSOR, plot.board(size=(30, 20)).axes[0])
    x, y = {text.get_text(): text.get_position() for text in ax.texts}[str(bright)]
    drawn, (x, y) = np.asarray(ax.images[0].get_array()), (round(x + 0.5), round(y + 0.5))
    assert (drawn[y - 7 : y + 7, x - 7 : x + 7] == 255).all()
    dark = [text.get_position() for text in ax.texts if text.get_text() != str(bright)]
    assert len(dark) == len(values) - 1 and all((drawn[round(b + 0.5), round(a + 0.5)] == 0).all() for a, b in dark)


@FEW
@given(GRIDS)
def test_window_numbers_follow_the_order(grid):
    ax = plot.windows(frames_of(grid), np.array(grid), VISION, plot.board(size=(30, 20)).axes[0])
    cells, counts = cell_order(grid)
    width = grid[2] * PATCH + plot.GAP
    expected = {str(n): (t * width + c * CELL + 13.5, r * CELL + 13.5) for n, (t, r, c) in enumerate(cells)}
    assert {text.get_text(): tuple(text.get_position()) for text in ax.texts} == expected
    assert f"{len(counts)} windows" in ax.get_title() and len(ax.lines) == len(counts)


# ---- rows on the picture -----------------------------------------------------------------------------------

@FEW
@given(GRIDS)
def test_rows_lie_on_their_patches(grid):
    inputs, config = inputs_of(grid)
    at = provenance(inputs, config)
    cells, _ = cell_order(grid)
    maps = np.full(grid, np.nan)
    for n, (t, r, c) in enumerate(cells):                                     # rows `c`: one a cell, in window order
        maps[t, 2 * r : 2 * r + 2, 2 * c : 2 * c + 2] = n
    drawn = np.asarray(plot.rows(np.arange(len(cells)), "4w d -> c o", at).images[0].get_array().filled(np.nan))
    for t in range(grid[0]):
        assert (drawn[:, t * (grid[2] + 1) : t * (grid[2] + 1) + grid[2]] == maps[t]).all()
    assert np.isnan(drawn[:, grid[2] :: grid[2] + 1]).all()                   # the gaps between frames


@pytest.mark.parametrize("grid", SHAPES)
def test_the_window_order_drawn_by_its_own_contract_counts_cells_in_reading_order(grid):
    """Row j of the order is the j-th cell by window and says which number it has in the prompt, so on the picture the
    numbers run from left to right and down."""
    inputs, config = inputs_of(grid)
    at = provenance(inputs, config)
    maps = plot.on_grid(window_order(inputs.grids, VISION), at[plot.axis_letter(window_order)], at["p"])
    reading = np.arange(grid[0] * grid[1] * grid[2] // 4).reshape(grid[0], grid[1] // 2, grid[2] // 2)
    assert (maps == reading.repeat(2, axis=1).repeat(2, axis=2)).all()


def test_a_contract_given_as_an_example_is_a_stages():
    example = re.compile(r'"([a-z0-9_ ,]+ -> [a-z0-9_ ,]+)"').findall

    def source(room):
        files = Path(minivl.__file__).parent.joinpath(room).glob("*.py")
        return "".join(path.read_text(encoding="utf-8") for path in files)
    given = example(source("show/plot"))
    assert given and set(given) <= set(example(source("passes")))


@pytest.mark.parametrize("grid", SHAPES)
def test_rows_by_norm_and_by_channel(grid):
    inputs, config = inputs_of(grid)
    at, order = provenance(inputs, config), patch_order(grid)
    array = np.random.default_rng(1).normal(size=(len(order), 3, 2)).astype(np.float32)
    for channel, values in ((None, [float(np.sqrt(np.mean(r**2))) for r in array.astype(float)]),
                            (4, array[:, 2, 0].tolist())):
        maps = plot.on_grid(plot.row_values(array, channel), at["p"], at["p"])
        assert np.allclose([maps[place] for place in order], values, rtol=1e-12)
    ax = plot.rows(array, "p", at, pixels=frames_of(grid))
    assert len(ax.images) == grid[0] + 1                                      # grey frames below one map


def test_text_has_no_place():
    inputs, config = inputs_of((1, 4, 4))
    at = provenance(inputs, config)
    maps = plot.on_grid(np.array([9.0, 1, 2, 3, 4, 9]), at["s"], at["p"])
    assert maps[0].tolist() == [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]


def test_rows_that_do_not_fit_are_refused():
    at = provenance(*inputs_of((1, 4, 4)))
    with pytest.raises(ValueError, match="say which these are: p .*window order"):
        plot.rows(np.zeros((16, 3)), "n d, _ -> n d", at)
    with pytest.raises(ValueError, match="5 rows, but provenance places 16"):
        plot.rows(np.zeros((5, 3)), "w", at)
    with pytest.raises(ValueError, match="no picture 1"):
        plot.rows(np.zeros((16, 3)), "w", at, medium=1)
    with pytest.raises(ValueError, match="no channel 3"):
        plot.rows(np.zeros((16, 3)), "w", at, channel=3)


@FEW
@given(st.integers(1, 5), st.integers(0, 3), st.booleans(), st.integers(0, 99))
def test_attention_weights(rows, before, causal, seed):
    """Two segments of different lengths; the second one has keys from before its queries, as in decoding."""
    draw = np.random.default_rng(seed)
    q, k = draw.normal(size=(2 + rows, 4, 6)), draw.normal(size=(2 + before + rows, 2, 6))
    table = np.array([[0, 2, 0, 2], [2, 2 + rows, 2, 2 + before + rows]])
    for row in range(len(q)):
        weights = plot.attention_weights(q, k, table, row, causal)
        first, end = (0, 2) if row < 2 else (2, len(k))
        last = (row if row < 2 else row + before) if causal else end - 1
        for head in range(4):
            scores = np.array([np.exp(q[row, head] @ key[head // 2] / 6**0.5) for key in k])
            scores *= (np.arange(len(k)) >= first) & (np.arange(len(k)) <= last)
            assert np.allclose(weights[head], scores / scores.sum(), rtol=1e-12)


# ---- tables and lines --------------------------------------------------------------------------------------

@FEW
@given(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 3)), min_size=1, max_size=4), st.booleans())
def test_segments_cover_what_is_seen(lengths, causal):
    q_end, k_end = np.cumsum([n for n, _ in lengths]), np.cumsum([n + more for n, more in lengths])
    table = np.array([[q - n, q, k - n - more, k] for (n, more), q, k in zip(lengths, q_end, k_end, strict=True)])
    seen = np.zeros((q_end[-1], k_end[-1]), bool)
    for q0, q1, k0, k1 in table:
        for i in range(q1 - q0):
            for j in range(k1 - k0):
                seen[q0 + i, k0 + j] = not causal or j <= i + (k1 - k0) - (q1 - q0)
    centres = np.stack(np.indices(seen.shape)[::-1], axis=-1).reshape(-1, 2) + 0.5
    drawn = plot.segments(table, causal=causal).patches
    covered = [Outline(patch.get_xy()).contains_points(centres) for patch in drawn]
    assert (np.sum(covered, axis=0) == seen.reshape(-1)).all()


def test_positions_are_three_lines():
    place = np.array([[0, 1, 1, 1, 3], [0, 1, 1, 2, 3], [0, 1, 2, 1, 3]])
    drawn = {line.get_label(): line.get_ydata().tolist() for line in plot.positions(place).lines}
    assert drawn == {"time": place[0].tolist(), "height": place[1].tolist(), "width": place[2].tolist()}


@FEW
@given(GRIDS, st.integers(0, 30), st.booleans())
def test_three_positions_stand_on_their_cell(grid, start, with_pixels):
    places = [(start + 3 * t, start + r, start + c) for t in range(grid[0]) for r in range(grid[1] // 2)
              for c in range(grid[2] // 2)]
    ax = plot.cell_positions(np.array(places).T, grid, VISION, pixels=frames_of(grid) if with_pixels else None)
    drawn = {text.get_text(): text.get_position() for text in ax.texts}
    assert len(drawn) == len(places)
    for t, r, c in places:
        left = (t - start) // 3 * (grid[2] * PATCH + plot.GAP)
        x, y = drawn[f"{t} {r} {c}"]
        assert 0 <= x + 0.5 - left - (c - start) * CELL < CELL and 0 <= y + 0.5 - (r - start) * CELL < CELL


def test_positions_of_another_picture_are_refused():
    with pytest.raises(ValueError, match=r"its 6 cells need \[3, 6\]"):
        plot.cell_positions(np.zeros((3, 5), int), (1, 4, 6), VISION)


def test_positions_in_space_are_text_and_the_rest():
    place = np.array([[0, 1, 1, 1, 3], [0, 1, 1, 2, 3], [0, 1, 2, 1, 3]])
    ax = plot.position_space(place)
    time, width, height = (np.array(axis) for axis in ax.collections[1]._offsets3d)      # the ones that differ
    assert [time.tolist(), height.tolist(), width.tolist()] == place[:, 2:4].tolist()
    assert len(ax.collections[0]._offsets3d[0]) == 3
    ax.figure.savefig(io.BytesIO())


def test_pieces_are_as_wide_as_they_are_long():
    ax = plot.pieces([["a", "b", "c"], ["ab", " $"]], names=["bytes", "joined"])
    widths = [np.ptp(patch.get_xy()[:, 0]) for patch in ax.patches]
    heights = [round(patch.get_xy()[:, 1].mean()) for patch in ax.patches]
    assert (widths, heights) == ([1, 1, 1, 2, 2], [0, 0, 0, 1, 1])
    assert [text.get_text() for text in ax.texts] == ["a", "b", "c", "ab", "\N{OPEN BOX}\\$"]
    ax.figure.savefig(io.BytesIO())


def test_tokens_stand_in_reading_order_with_visual_tokens_numbered():
    names = SimpleNamespace(decode=lambda ids, skip_special_tokens: ["a", " b", "<|im_start|>", "?"][ids[0]],
                            special_ids={2})
    ax = plot.tokens(np.array([2, 0, 3, 3, 1]), names, [3], across=3)
    boxes = [tuple(np.floor(patch.get_xy().min(axis=0)).astype(int)) for patch in ax.patches]
    assert boxes == [(0, 0), (1, 0), (2, 0), (0, 1), (1, 1)]
    said = [text.get_text() for text in ax.texts]
    assert said[::2] == ["<|im_\nstart|>", "a", "visual\n0", "visual\n1", "\N{OPEN BOX}b"]
    assert said[1::2] == ["0", "1", "2", "3", "4"]
    assert len({patch.get_facecolor() for patch in ax.patches}) == 3 and "2 of them" in ax.get_title()


def test_likeliest_tokens():
    names = SimpleNamespace(decode=lambda ids, skip_special_tokens: ["a$", " b", "\n", "", "e"][ids[0]])
    row = np.array([1.0, 3.0, 1.0, 2.0, -np.inf], np.float32)
    ax = plot.logits(row, names, 4)
    total = sum(np.exp([1.0, 3.0, 1.0, 2.0]))
    assert np.allclose([bar.get_width() for bar in ax.patches], np.exp([3, 2, 1, 1]) / total, rtol=1e-12)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["\N{OPEN BOX}b", "#3", r"a\$", r"\n"]
    ax.figure.savefig(io.BytesIO())
    assert len(plot.logits(np.zeros(2), names, 8).patches) == 2               # fewer words than asked for
    with pytest.raises(ValueError, match="one row of logits"):
        plot.logits(row[None], names)


@pytest.mark.parametrize(("n_in", "n_out"), [(40, 28), (28, 84), (5, 28), (300, 28), (1, 28)])
def test_filter_matrix_is_pillows(n_in, n_out):
    """Row i of the matrix is what Pillow makes of one bright source pixel after the other."""
    ax = plot.resize_weights(*bicubic_weights(n_in, n_out))
    bright = Image.fromarray(np.eye(n_in, dtype=np.float32))
    expected = np.asarray(bright.resize((n_out, n_in), Image.Resampling.BICUBIC)).T
    assert np.allclose(np.asarray(ax.images[0].get_array()), expected, atol=1e-6)


@pytest.mark.parametrize("shape, rows, columns", [((5,), 1, 5), ((3, 4), 3, 4), ((3, 2, 2), 3, 4), ((1, 1), 1, 1)])
def test_heat_of_any_shape(shape, rows, columns):
    array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape) - 1
    image = plot.heat(array).images[0]
    assert image.get_array().shape == (rows, columns) and image.norm.vmin == -image.norm.vmax


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(ValueError, match="nothing to draw"):
        plot.heat(np.zeros((0, 4)))
    with pytest.raises(ValueError, match="is not a picture"):
        plot.picture(np.zeros((4, 4), np.uint8))
    with pytest.raises(ValueError, match="PreprocessorConfig"):
        plot.picture(np.zeros((3, 4, 4), np.float32))
    with pytest.raises(ValueError, match="5 frames do not fit a grid of 2 pairs"):
        plot.patch_grid(np.zeros((5, 28, 28, 3), np.uint8), np.array([2, 2, 2]), VISION)


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, encoding="utf-8", timeout=60)


def test_pyplot_stays_out():
    done = run("import sys, numpy as np; from minivl.show import plot; assert 'matplotlib' not in sys.modules\n"
               "png = plot.heat(np.eye(3)).figure._repr_png_(); assert png[:4] == b'\\x89PNG'\n"
               "assert 'matplotlib.pyplot' not in sys.modules")
    assert done.returncode == 0, done.stderr


def test_without_matplotlib_it_says_what_to_install():
    done = run("import sys; sys.modules['matplotlib'] = None\n"
               "from minivl.show import plot; plot.heat([[1.0]])")
    assert 'ImportError: plots need matplotlib: pip install "minivl[plot]"' in done.stderr


def test_takes_what_the_model_gives():
    """The embedded model's own run, straight from the trace: nothing to convert."""
    with minivl.load() as vlm, minivl.session(record="*") as s:
        picture = {"type": "image", "image": frames_of((1, 5, 9))[0]}
        inputs = vlm.prepare([{"role": "user", "content": [picture, {"type": "text", "text": "What?"}]}])
        vlm.generate(inputs, max_new_tokens=1)
        at = minivl.provenance(inputs, vlm.config)
        grid, pixels = inputs.grids[0], s.trace["picture.resize"]
        q, k = s.trace["decoder.layers.0.rotate"]
        figure = plot.board(3, 3, (9, 9))
        a = iter(figure.axes)
        plot.patch_grid(pixels, grid, vlm.config, next(a))
        plot.patches(inputs.pixel_values, grid, vlm.processor.preprocessor, next(a))
        plot.windows(pixels, grid, vlm.config, next(a))
        plot.segments(s.trace["vision.schedule"][0], next(a))
        plot.rows(s.trace["vision.restore_order"], "m", at, next(a))
        whole = np.array([[0, len(q), 0, len(k)]])
        plot.attention(q, k, whole, len(q) - 1, "s", at, next(a), causal=True, pixels=pixels)
        plot.positions(inputs.position_ids, next(a))
        plot.logits(s.trace["decoder.logits"][-1], vlm.tokenizer, 5, next(a))
        figure.savefig(io.BytesIO(), format="png")


# ---- small tables, angles, sizes ---------------------------------------------------------------------------

def texts_of(ax):
    """(column, row) -> text, of everything written at whole places."""
    return {tuple(map(round, text.get_position())): text.get_text() for text in ax.texts}


@FEW
@given(st.integers(1, 4), st.integers(1, 5), st.sampled_from([np.int64, np.float64]))
def test_a_table_writes_each_number_at_its_place(rows, columns, dtype):
    values = np.random.default_rng(rows).integers(-2, 3, (rows, columns)).astype(dtype)
    written = texts_of(plot.table(values, rows=range(rows), columns=range(columns)))
    for (row, column), value in np.ndenumerate(values):
        assert written[column, row] == (f"{value:.3g}" if value or dtype is np.int64 else "\N{MIDDLE DOT}")


def test_a_table_shows_no_minus_zero_and_refuses_what_cannot_be_read():
    assert texts_of(plot.table(np.array([[-0.0001, -0.5]]), form="{:.1f}")) == {(0, 0): "0.0", (1, 0): "-0.5"}
    with pytest.raises(ValueError, match="up to 400 numbers"):
        plot.table(np.zeros((30, 30)))


def test_likeness_of_rows_is_their_cosine():
    rows = np.array([[3.0, 0, 0], [-2, 0, 0], [1, 1, 0], [0, 0, 0]])
    drawn = np.asarray(plot.similarity(rows, "abcd").images[0].get_array())
    half = 0.5**0.5
    assert np.allclose(drawn, [[1, -1, half, 0], [-1, 1, -half, 0], [half, -half, 1, 0], [0, 0, 0, 0]])


@FEW
@given(st.integers(1, 9), st.integers(1, 4))
def test_filters_are_the_strongest_rows_as_pictures(count, across):
    small = PreprocessorConfig(3136, 12845056, 2, 2, 2, (0.5,) * 3, (0.5,) * 3)
    matrix = np.random.default_rng(count).standard_normal((7, 3 * 2 * 2 * 2)) * np.array([1, 7, 3, 2, 5, 6, 4])[:, None]
    sheet = np.asarray(plot.filters(matrix, small, count=count, across=across).images[0].get_array())
    across = min(across, count, 7)
    strongest = np.argsort(-np.abs(matrix).mean(axis=1))[:count]
    for place, row in enumerate(strongest):
        top, left = place // across * 4 + 1, place % across * 4 + 1
        frame = matrix[row].reshape(3, 2, 2, 2)[:, 0]                      # c y x of the first frame
        for c, y, x in np.ndindex(3, 2, 2):
            wanted = 0.5 + 0.5 * frame[c, y, x] / np.abs(frame).max()
            assert np.isclose(sheet[top + y, left + x, c], wanted)
    with pytest.raises(ValueError, match="no patch of 3 x 2 x 2 x 2"):
        plot.filters(matrix[:, 1:], small)


def test_angles_are_drawn_within_a_turn():
    values = np.array([[0.0, 1.0], [7.0, -4.0]])
    ax = plot.angles(values, sections=[("row", 1), ("column", 1)])
    assert np.allclose(ax.images[0].get_array(), [[0, 1], [7 - 2 * np.pi, 2 * np.pi - 4]])
    assert [text.get_text() for text in ax.texts] == ["row", "column"]


def test_a_turned_row_is_drawn_pair_by_pair():
    before, after = np.array([1.0, 2, 3, 4]), np.array([-3.0, 2, 1, 4])
    lines = [line.get_xydata().tolist() for line in plot.turned(before, after).lines if len(line.get_xdata()) == 2]
    for pair in ([[0, 0], [1, 3]], [[0, 0], [-3, 1]], [[0, 0], [2, 4]]):
        assert pair in lines


def test_the_stream_is_drawn_after_each_half_of_each_block():
    trace = {"vision.blocks.0.add_attended": np.array([[3.0, -4.0]]), "vision.blocks.0.attend": np.ones((1, 2)),
             "vision.blocks.0.add_mlp": np.array([[0.0, 10.0]]), "vision.blocks.1.add_mlp": np.array([[1.0, 1.0]])}
    ax = plot.stream(trace)
    assert ax.lines[0].get_ydata().tolist() == [4, 10, 1]
    assert np.allclose(ax.lines[1].get_ydata(), [12.5**0.5, 50**0.5, 1])
    assert [label.get_text() for label in ax.get_xticklabels()] == ["0 attn", "0 mlp", "1 mlp"]
    with pytest.raises(ValueError, match=r"record \"decoder.layers"):
        plot.stream(trace, "decoder.layers")


def test_channels_show_the_largest_number_and_name_outliers():
    array = np.array([[1.0, -90, 2, 1], [1, 3, -5, 1]])
    ax = plot.channels(array, name=2)
    assert [segment[1][1] for segment in ax.collections[0].get_segments()] == [1, 90, 5, 1]
    assert [text.get_text() for text in ax.texts] == ["1: 90", "2: 5"]


def test_costs_add_up_blocks_and_steps():
    profile = {"vision.blocks.0.attend": Cost(0, 3), "vision.blocks.1.attend": Cost(0, 4),
               "decoder@1.logits": Cost(0, 2), "decoder.logits": Cost(0, 1), "prompt.encode": Cost(1, 0)}
    ax = plot.costs(profile)
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names == ["vision.attend", "decoder.logits"] and [bar.get_width() for bar in ax.patches] == [7, 3]


def test_token_bars_are_pale_where_a_token_does_not_count():
    ax = plot.token_bars(["a", "b", "c"], np.array([1.0, 2.0, 3.0]), np.array([True, False, True]))
    found = {round(bar.get_x() + bar.get_width() / 2): (bar.get_height(), bar.get_alpha()) for bar in ax.patches}
    assert found == {0: (1, None), 1: (2, 0.15), 2: (3, None)}
    assert [label.get_text() for label in ax.get_xticklabels()] == ["a", "b", "c"]
    assert ax.get_title() == "2 of 3 tokens count"
    with pytest.raises(ValueError, match="2 names, 3 values"):
        plot.token_bars(["a", "b"], np.ones(3))


@pytest.mark.parametrize(("kind", "digits"), [
    (np.float16, "1 10001 1010000000"), (np.float32, f"1 10000001 101{'0' * 20}"),
    (np.float64, f"1 10000000001 101{'0' * 49}"), ("bfloat16", "1 10000001 1010000")])
def test_bits_are_those_of_the_number(kind, digits):
    kind = pytest.importorskip("ml_dtypes").bfloat16 if kind == "bfloat16" else kind
    number = kind(-6.5)                                                    # -1.101 (binary) times 2^2
    found, colours = plot.bits_of(number)
    assert "".join(map(str, found)) == digits.replace(" ", "")
    assert [colours.count(c) for c in (plot.GREEN, plot.ORANGE, plot.BLUE)] == [len(part) for part in digits.split()]
    ax = plot.bits([number])
    assert [text.get_text() for text in ax.texts] == list(digits.replace(" ", "")) and "-6.5" in ax.get_yticklabels()[0
        ].get_text()
    with pytest.raises(ValueError, match="no single number of float16"):
        plot.bits_of(np.int32(3))


def test_errors_are_drawn_along_the_stages_of_the_first_run():
    runs = {"a": {"one": 1e-3, "two": 0.0, "three": np.inf}, "b": {"three": 2e-2, "one": 1e-7}}
    ax = plot.errors(runs)
    a, crosses, b, none = (line.get_xydata() for line in ax.lines)
    assert a[0].tolist() == [0, 1e-3] and np.isnan(a[1:, 1]).all()         # nothing at 0, infinity on the border
    assert crosses.tolist() == [[2, 1]] and none.tolist() == []
    assert b[[0, 2]].tolist() == [[0, 1e-7], [2, 2e-2]] and np.isnan(b[1, 1])
    assert ax.get_yscale() == "log" and [t.get_text() for t in ax.get_xticklabels()] == ["one", "two", "three"]


def test_a_roof_climbs_with_the_bandwidth_and_ends_at_each_peak():
    ax = plot.roofline(10e9, {"low": 50e9, "high": 200e9}, {"left": 1.0, "right": 100.0})
    low, high, left, right = (line.get_xydata() for line in ax.lines)
    for line, peak in ((low, 50), (high, 200)):
        assert np.allclose(line[:, 1], [min(peak, 10 * x) for x in line[:, 0]])          # in GFLOP/s
    assert left.tolist() == [[1.0, 10.0]] and right.tolist() == [[100.0, 200.0]]
    assert ax.get_xscale() == ax.get_yscale() == "log"
    with pytest.raises(ValueError, match="one peak or more, got 1e\\+10 and 0 peaks"):
        plot.roofline(10e9, {}, {})
