"""What the comparisons are run on: whole configurations, grids and prompts, drawn so that the known bugs show.

Small square pictures hide most of them. So grids are ragged both ways, exact multiples of a window, or smaller than
one; several pictures of different sizes and videos with odd frame rates stand in one prompt, with text before, between
and after; both kinds of blocks, or one kind only; heads tied or not; MRoPE sections of any split.

A `Case` is plain data and prints itself: a failing one can be pasted into a test.
Read next: `test_stages.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from .reference import Inputs

VOCABULARY = 300
SPECIAL = {"image_token_id": 290, "video_token_id": 291, "vision_start_token_id": 292, "vision_end_token_id": 293}
BOS, EOS = 298, 299
TEXT = 290                                      # text ids are below
FRAMES_PER_SECOND = (2.0, 1.0, 3.0, 4.0, 24.0, 29.97, 0.7, 5.5)


def examples(share: int) -> settings:
    """So many times fewer examples than the profile asks for: each one builds three models. A failing case is printed
    as it was drawn; making it smaller would take longer than all the rest."""
    return settings(max_examples=max(1, settings().max_examples // share),
                    phases=(Phase.explicit, Phase.reuse, Phase.generate))


@dataclass(frozen=True)
class Medium:
    """A picture (seconds None) or a video with its seconds per pair of frames, and how much text stands before it."""
    grid: tuple[int, int, int]
    seconds: float | None = None
    text_before: int = 2


@dataclass(frozen=True)
class Case:
    """One model and one prompt; `inputs()` makes the arrays, `config()` the reference's configuration."""
    media: tuple[Medium, ...] = ()
    text_after: int = 5
    seed: int = 0
    depth: int = 4                              # vision tower
    vision_heads: int = 3
    vision_head_dim: int = 16
    vision_intermediate: int = 100
    window_size: int = 112                      # pixels
    full: tuple[int, ...] = (1, 3)
    layers: int = 3                             # decoder
    kv_heads: int = 2
    queries_per_kv: int = 2
    mrope_section: tuple[int, int, int] = (2, 3, 3)
    intermediate: int = 160
    rms_norm_eps: float = 1e-6
    rope_theta: float = 1e6
    tokens_per_second: int = 2
    tied: bool = False
    flat: bool = False                          # config.json as on the hub
    after_video: str = "max_plus_one"           # how text after a video is counted

    def config(self) -> dict:
        """The reference's configuration, nested."""
        heads = self.kv_heads * self.queries_per_kv
        hidden = heads * 2 * sum(self.mrope_section)
        vision = {"depth": self.depth, "hidden_size": self.vision_heads * self.vision_head_dim,
                  "num_heads": self.vision_heads, "intermediate_size": self.vision_intermediate, "in_channels": 3,
                  "patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2, "out_hidden_size": hidden,
                  "window_size": self.window_size, "fullatt_block_indexes": list(self.full), "hidden_act": "silu",
                  "tokens_per_second": self.tokens_per_second}
        rope = {"rope_type": "default", "rope_theta": self.rope_theta, "mrope_section": list(self.mrope_section)}
        text = {"hidden_size": hidden, "intermediate_size": self.intermediate, "num_hidden_layers": self.layers,
                "num_attention_heads": heads, "num_key_value_heads": self.kv_heads, "vocab_size": VOCABULARY,
                "rms_norm_eps": self.rms_norm_eps, "rope_parameters": rope, "hidden_act": "silu",
                "max_position_embeddings": 4096, "use_sliding_window": False,
                "bos_token_id": BOS, "eos_token_id": EOS}
        return {"text_config": text, "vision_config": vision, "tie_word_embeddings": self.tied, **SPECIAL}

    def inputs(self) -> Inputs:
        """Token ids and unit-normal pixels of the prompt."""
        random = np.random.default_rng(self.seed)
        parts = [part for medium in self.media for part in _tokens(medium, random)]
        ids = np.concatenate([*parts, random.integers(0, TEXT, self.text_after)]).astype(np.int64)
        pictures = [m for m in self.media if m.seconds is None]
        videos = [m for m in self.media if m.seconds is not None]
        seconds = np.array([m.seconds for m in videos], np.float32) if videos else None
        return Inputs(ids, *_pixels(pictures, random), *_pixels(videos, random), seconds)


def _tokens(medium: Medium, random: np.random.Generator) -> list:
    t, h, w = medium.grid
    pad = SPECIAL["image_token_id" if medium.seconds is None else "video_token_id"]
    return [random.integers(0, TEXT, medium.text_before), [SPECIAL["vision_start_token_id"]],
            [pad] * (t * h * w // 4), [SPECIAL["vision_end_token_id"]]]


def _pixels(media: list[Medium], random: np.random.Generator) -> tuple[np.ndarray | None, np.ndarray | None]:
    if not media:
        return None, None
    grids = np.array([m.grid for m in media], np.int64)
    return random.standard_normal((grids.prod(1).sum(), 1176), np.float32), grids


# The fixed ones: every kind of grid by name, on a model with both kinds of blocks.

def _video(*grid: int, fps: float = 2.0) -> Medium:
    return Medium(grid, 2 / fps)                            # type: ignore[arg-type]


FIXTURES = {
    "one window exactly": Case((Medium((1, 8, 8)),)),
    "two windows exactly": Case((Medium((1, 16, 8)),)),
    "ragged both ways": Case((Medium((1, 10, 14)),)),
    "smaller than a window": Case((Medium((1, 4, 6)),), tied=True),
    "two pictures": Case((Medium((1, 10, 14)), Medium((1, 4, 6), text_before=0)), text_after=2),
    "video": Case((_video(3, 4, 4),)),
    "ragged video": Case((_video(2, 8, 12, fps=3.0),)),
    "picture, video, picture": Case((Medium((1, 6, 4)), _video(5, 4, 10, fps=8 / 3), Medium((1, 12, 4)))),
    "text only": Case(text_after=23),
}


# The drawn ones

sides = st.sampled_from([2, 4, 6, 8, 10, 12, 14, 16])       # patches; a window is 2, 4, 6 or 8 of them
kinds_of_media = st.lists(st.booleans(), max_size=4)        # True is a video


@st.composite
def media(draw, kinds=kinds_of_media, patches: int = 320) -> tuple[Medium, ...]:
    """Up to four pictures and videos that fit into so many patches together, each with text or none before it."""
    return reduce(lambda chosen, kind: (*chosen, draw(_medium(kind, patches // 4))), draw(kinds), ())


@st.composite
def _medium(draw, video: bool, patches: int) -> Medium:
    h = draw(sides)
    w = draw(sides.filter(lambda side: side * h <= 2 * patches))
    t = draw(st.integers(1, max(1, min(5, patches // (h * w))))) if video else 1
    fps = draw(st.sampled_from(FRAMES_PER_SECOND)) if video else None
    return Medium((t, h, w), fps and 2 / fps, text_before=draw(st.integers(0, 4)))


# A stream narrower than this divides by a root mean square of so few numbers that rounding is amplified by chance, and
# two correct programs part by any factor.
NARROWEST = 16


@st.composite
def sections(draw, total: int) -> tuple[int, int, int]:
    """MRoPE sections: any three numbers, zeros too, whose sum is half a head."""
    first = draw(st.integers(0, total))
    second = draw(st.integers(0, total - first))
    return first, second, total - first - second


def heads_of(width: int, *ranges: range) -> st.SearchStrategy[tuple[int, ...]]:
    """Numbers of heads (key-value heads, queries for each) that make a stream of at least NARROWEST."""
    return st.tuples(*[st.sampled_from(r) for r in ranges]).filter(lambda n: math.prod(n) * width >= NARROWEST)


@st.composite
def cases(draw, **kwargs) -> Case:
    """Any model with any prompt."""
    depth = draw(st.integers(1, 4))
    head, half = draw(st.sampled_from([4, 8, 16, 20])), draw(st.sampled_from([2, 4, 7, 8]))
    vision_heads, = draw(heads_of(head, range(1, 5)))
    kv_heads, queries = draw(heads_of(2 * half, range(1, 4), range(1, 4)))
    return Case(
        media=draw(media(**kwargs)), text_after=draw(st.integers(1, 9)), seed=draw(st.integers(0, 999)),
        depth=depth, vision_heads=vision_heads, vision_head_dim=head,
        vision_intermediate=draw(st.sampled_from([20, 67])),
        window_size=draw(st.sampled_from([28, 56, 84, 112])),
        full=tuple(sorted(draw(st.sets(st.integers(0, depth - 1))))),
        layers=draw(st.integers(1, 4)), kv_heads=kv_heads, queries_per_kv=queries,
        mrope_section=draw(sections(half)), intermediate=draw(st.sampled_from([24, 75])),
        rms_norm_eps=draw(st.sampled_from([1e-6, 1e-5])), rope_theta=draw(st.sampled_from([1e6, 1e4, 1e3])),
        tokens_per_second=draw(st.sampled_from([2, 4])), tied=draw(st.booleans()), flat=draw(st.booleans()),
        after_video=draw(st.sampled_from(["max_plus_one", "tf5"])))


def each_case(count: int, look: Callable[[Case, int], object], first: int | None = None) -> None:
    """Call `look` with so many cases, none drawn twice, and with their numbers, from 1 on. first: the seed; without it
    each call draws others."""
    seen: set[Case] = set()

    @settings(max_examples=20 * count, deadline=None, database=None, derandomize=False, phases=[Phase.generate],
              suppress_health_check=list(HealthCheck))
    @given(cases())
    def draw(case: Case) -> None:
        if len(seen) < count and case not in seen:
            seen.add(case)
            look(case, len(seen))
    (draw if first is None else seed(first)(draw))()
