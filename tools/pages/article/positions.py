"""Claims 10 to 13, 16 and 17: what the model knows of place and time."""

from __future__ import annotations

import numpy as np

from minivl.kernels.definition import rotate
from minivl.passes.positions import (
    cos_sin,
    inverse_frequencies,
    mrope_angles,
    patch_coordinates,
    spatial_angles,
)
from minivl.run.inputs import Inputs

from .finding import LOOSE, TRUE, WRONG, Finding, claim, verdict, yes
from .setting import CONFIG, TRAINED, blank, embedded, seeded


def tower_scores(at: np.ndarray) -> np.ndarray:
    """Attention scores of one head of the official tower between seeded rows at `at`: w 2 -> w w."""
    rng, width = seeded(), CONFIG.vision.head_dim
    q, k = rng.normal(size=(2, len(at), 1, width))                                   # w a e, w a e
    turn = cos_sin(spatial_angles(at, CONFIG.vision), np.float64)
    return rotate(q, *turn)[:, 0] @ rotate(k, *turn)[:, 0].T                         # w e, e w -> w w


def video_times(fps: float, pairs: int) -> np.ndarray:
    """Time positions of a video's frame pairs, from the video's start, one token a pair."""
    ids = [0, CONFIG.vision_start_token_id, *[CONFIG.video_token_id] * pairs, CONFIG.vision_end_token_id, 0]
    inputs = Inputs.from_ids(ids, CONFIG, pixel_values_videos=blank(4 * pairs, CONFIG.vision.patch_values),
                             video_grid_thw=np.array([[pairs, 2, 2]]), second_per_grid_ts=[2 / fps])
    return inputs.position_ids[0, 2 : 2 + pairs] - 2


def span(numbers: np.ndarray) -> str:
    """`16..39`, or `none`."""
    return f"{numbers[0]}..{numbers[-1]}" if len(numbers) else "none"


@claim(10, "absolute pixel dimensions are kept in the spatial encodings")
def absolute_pixels() -> Finding:
    """The tower's rotary embedding tells two patches how many rows and columns lie *between* them, and no
    more; neither the size of the picture nor a pixel coordinate enters it. The decoder's positions count
    visual tokens of 28 pixels from where the picture starts in the prompt. What is true, and was probably
    meant: nothing is rescaled to 0..1 or 0..1000, so that an object of 100 pixels covers as many patches
    in a small picture as in a large one (up to the limit of claim 1), and the boxes that the model
    *writes* are in pixels of the resized picture.
    """
    small, large = (patch_coordinates(np.array([[1, side, side]]), 2) for side in (4, 16))
    same = np.array_equal(spatial_angles(small[:4], CONFIG.vision), spatial_angles(large[:4], CONFIG.vision))
    scores, shifted = tower_scores(small), tower_scores(small + np.array([40, 70]))
    one_moved = small.copy()
    one_moved[0] += [4, 7]
    scale = np.abs(scores).max()
    relative = bool(np.abs(shifted - scores).max() < 1e-4 * scale)
    felt = bool(np.abs(tower_scores(one_moved) - scores).max() > 1e-2 * scale)
    figures = (f"all patches moved by 40 rows, 70 columns: scores equal to rounding (1e-4): {yes(relative)}",
               f"one patch moved by 4 rows and 7 columns: scores differ: {yes(felt)}",
               f"the first cell has the same angles in a picture of 56 x 56 and of 224 x 224: {yes(same)}")
    return Finding(WRONG if relative and felt and same else LOOSE, figures)


@claim(11, "MRoPE gives pictures a two-dimensional rotary embedding")
def two_mechanisms() -> Finding:
    """Two mechanisms are taken for one. The vision tower has a two-dimensional rotary embedding, over
    patches. MRoPE belongs to the decoder and has three axes, over tokens: time, height and width; within
    a still picture time stands still, so that two of the three vary. The two differ in their frequencies
    and in how these are shared out.
    """
    place = np.array([[3, 5]])
    rows, columns = (np.flatnonzero((spatial_angles(place, CONFIG.vision)
                                     != spatial_angles(place + step, CONFIG.vision))[0])
                     for step in ([1, 0], [0, 1]))
    at = np.array([[9], [3], [5]])
    axes = [np.flatnonzero((mrope_angles(at, CONFIG.text) != mrope_angles(at + step, CONFIG.text))[0])
            for step in np.eye(3, dtype=np.int64)[:, :, None]]
    tower = f"rows turn angles {span(rows)}, columns {span(columns)}"
    names = ("time", "height", "width")
    decoder = ", ".join(f"{name} {span(axis)}" for name, axis in zip(names, axes, strict=True))
    figures = (f"the tower's rotary ({CONFIG.vision.head_dim // 2} angles, base "
               f"{CONFIG.vision.rope_theta:,.0f}): {tower}",
               f"MRoPE ({CONFIG.text.head_dim // 2} angles, base {CONFIG.text.rope_theta:,.0f}): {decoder}")
    return Finding(LOOSE if len(axes[0]) else TRUE, figures)


@claim(12, "temporal ids follow absolute time, so that an event at 00:01:23 can be named")
def absolute_time() -> Finding:
    """The mechanism is as described: second 83 is always id 166 after the start of the video. Its
    resolution is half a second; and since two frames share a patch, at the usual 2 frames a second the
    model sees one step for each second. There is no time in the vision tower and no timestamp in the
    prompt (that came with Qwen3-VL): the ids are the only clock. That the trained model can then *say*
    00:01:23 rests on the technical report (arXiv 2502.13923).
    """
    second, times = 83, video_times(2, 100)
    fast = video_times(8, 5).tolist()
    pair = np.array([[2, 4, 4]])
    angles = spatial_angles(patch_coordinates(pair, 2), CONFIG.vision).reshape(2, -1)
    timeless = np.array_equal(angles[0], angles[1])
    figures = (f"at 2 frames a second, the pair that starts at second {second} has time id {times[second]}",
               f"ids a second: {CONFIG.vision.tokens_per_second}; at 8 frames a second pairs have ids {fast}",
               f"the tower's angles are the same for both pairs of frames: {yes(timeless)}")
    return Finding(verdict(times[second] == 2 * second and fast == [0, 0, 1, 1, 2]), figures)


@claim(13, "two frame rates of the same video align in real time")
def frame_rates() -> Finding:
    """At every rate that was tried the id of a pair of frames is its start in half seconds, rounded down.
    So the same moment has the same id, however densely the video was sampled. It holds as long as the
    program in front of the model passes the frame rate on: when it is missing, transformers assumes 24 a
    second, and the clock of a video of 2 a second runs 12 times too slow.
    """
    rates, seconds = (1, 2, 3, 4), 24
    agree, lines = True, []
    for fps in rates:
        times = video_times(fps, seconds * fps // 2)
        starts = np.arange(len(times)) * 2 / fps                                     # seconds
        agree &= np.array_equal(times, np.floor(2 * starts + 1e-6).astype(np.int64))
        whole = np.flatnonzero(starts % 2 == 0)
        lines.append(f"{fps} a second: the pairs at seconds 0, 2, 4, 6 have ids {times[whole][:4].tolist()}")
    return Finding(verdict(bool(agree)), tuple(lines))


@claim(16, "one sequence of tokens for text and pictures; MRoPE for text too")
def one_sequence() -> Finding:
    """Text has the same number on all three axes, which makes MRoPE the ordinary rotary embedding; the
    report says so too. Visual tokens stand among the words, in the order in which they were given, and
    the decoder attends backwards only, to pictures as to words.
    """
    n = 1000
    positions = np.tile(np.arange(n), (3, 1))                                        # 3 s
    frequencies = inverse_frequencies(CONFIG.text.head_dim, CONFIG.text.rope_theta)
    plain = np.arange(n, dtype=np.float32)[:, None] * frequencies                    # s f
    same = np.array_equal(mrope_angles(positions, CONFIG.text), plain)
    vlm = embedded()
    picture = np.full((56, 84, 3), 128, np.uint8)
    content = [{"type": "text", "text": "Before."}, {"type": "image", "image": picture},
               {"type": "text", "text": "After."}]
    inputs = vlm.prepare([{"role": "user", "content": content}])
    pads = np.flatnonzero(inputs.input_ids == vlm.config.image_token_id)
    together = (np.diff(pads) == 1).all() and pads[0] > 0 and pads[-1] < len(inputs.input_ids) - 1
    figures = (f"angles of {n:,} text tokens, MRoPE and ordinary rotary embedding identical to the last bit: "
               f"{yes(same)}",
               f"a picture of 56 x 84 takes {len(pads)} consecutive places inside the one row of ids")
    return Finding(verdict(same and bool(together)), figures)


@claim(17, "contexts of 8K to 32K tokens")
def context_length() -> Finding:
    """8,192 and 32,768 are the lengths of the training sequences (technical report), not limits of the
    model: the configuration names 128,000 positions, and no table ends there, because rotary angles are
    computed. How good answers are beyond 32,768 tokens is another matter: the authors' notes on
    stretching the context warn that it harms the sense of place and time.
    """
    far = mrope_angles(np.full((3, 1), 200_000), CONFIG.text)
    text = CONFIG.text
    row = 2 * text.num_hidden_layers * text.kv_heads * text.head_dim * 2      # k and v, two bytes a number
    figures = (f"max_position_embeddings in the official configuration: {text.max_position_embeddings:,}",
               f"angles at position 200,000 can be formed: {yes(np.isfinite(far).all())}",
               f"the 7B keeps {row:,} bytes for each token, {row * TRAINED / 2**30:.2f} GiB at {TRAINED:,}")
    return Finding(verdict(text.max_position_embeddings == TRAINED, LOOSE), figures)
