"""Variants of the port: healthy ones in several arithmetics, ones with a relative of a known fault, and ones with a
fault that no catalogue has.

Relatives have other parameters than the museum's exhibits: another type, plus instead of minus one, another axis, other
blocks. None is to be recognised by its numbers.

    for variant in variants(): variant.port("MODEL_DIR").run(given)

Read next: `port.py`, whose methods are spoilt; `dumps.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np

from .port import Arithmetic, Port, cut

HEALTHY, RELATIVE, UNKNOWN = "healthy", "relative", "unknown"
FLOAT32 = Arithmetic()


@dataclass(frozen=True)
class Variant:
    """One port. `guilty`: patterns of the passes that are wrong, by minivl's labels; `kin`: the museum's fault it is a
    relative of; `shows`, `hides`: names of `scenes.SCENES` on which it is seen, and on which it makes no difference."""
    name: str
    kind: str
    make: type[Port] = Port
    arithmetic: Arithmetic = FLOAT32
    guilty: tuple[str, ...] = ()
    kin: str = ""
    shows: str = "ragged"
    hides: str = ""

    def port(self, folder) -> Port:
        return self.make(folder, self.arithmetic)

    def is_guilty(self, label: str) -> bool:
        return any(fnmatchcase(label, pattern) for pattern in self.guilty)

    @property
    def precision(self) -> str:
        """The roughest type that it computes in."""
        kinds = (self.arithmetic.tower, self.arithmetic.of("decoder"))
        return next(kind for kind in ("bfloat16", "float16", "float32") if kind in kinds)


VARIANTS = [
    Variant("float32", HEALTHY),
    Variant("bf16", HEALTHY, arithmetic=Arithmetic("bfloat16")),
    Variant("int8", HEALTHY, arithmetic=Arithmetic(matrices="int8")),
    Variant("tower-bf16", HEALTHY, arithmetic=Arithmetic("bfloat16", decoder="float32")),
    Variant("stream-f32", HEALTHY, arithmetic=Arithmetic("bfloat16", stream="float32")),
    Variant("f16", HEALTHY, arithmetic=Arithmetic("float16")),
]


def faulty(kind: str, guilty: str, kin: str = "", shows: str = "ragged", hides: str = "",
           arithmetic: Arithmetic = FLOAT32) -> Callable[[type[Port]], type[Port]]:
    """Note a port with a fault; its name is the class's in lower case with hyphens, its story the class's text."""
    def note(made: type[Port]) -> type[Port]:
        name = "".join("-" + c.lower() if c.isupper() else c for c in made.__name__).lstrip("-")
        VARIANTS.append(Variant(name, kind, made, arithmetic, tuple(guilty.split()), kin, shows, hides))
        return made
    return note


# ---- relatives -----------------------------------------------------------------------------------------------------

@faulty(RELATIVE, "vision.merge_2x2", "norm-plus-one", hides="text")
class MergerNormPlusOne(Port):
    """The merger's norm alone has a one too much."""
    def tensor(self, name, part):
        found = super().tensor(name, part)
        return found + np.float32(1) if name == "visual.merger.ln_q.weight" else found


@faulty(RELATIVE, "decoder.layers.*.normalise decoder.layers.*.add_mlp decoder.normalise", "eps-outside-the-root")
class DecoderEpsTooLarge(Port):
    """The decoder's norms have an epsilon of a thousandth."""
    def eps_of(self, name):
        return 1e-3 if name.startswith("model") else super().eps_of(name)


@faulty(RELATIVE, "vision.merge_2x2", "gelu-by-tanh", hides="text")
class GeluBySigmoid(Port):
    """The quick approximation by a logistic function."""
    def gelu(self, x):
        return x / (1 + np.exp(-1.702 * x))


@faulty(RELATIVE, "vision.blocks.*.rotate vision.blocks.*.attend", "rotary-pairs-interleaved", hides="text")
class TowerPairsInterleaved(Port):
    """Neighbours are turned, in the tower alone."""
    def turn(self, x, cos, sin, part):
        if part == "decoder":
            return super().turn(x, cos, sin, part)
        a, b, c, s = x[..., 0::2], x[..., 1::2], cos[:, None], sin[:, None]
        return cut(np.stack([a * c - b * s, b * c + a * s], axis=-1).reshape(x.shape), self.math.tower)


@faulty(RELATIVE, "vision.blocks.*.project_qkv", "qkv-bias-dropped", hides="text")
class TowerBiasDropped(Port):
    """The tower's packed projection lost its bias."""
    def times(self, x, name, part, bias=True):
        return super().times(x, name, part, bias and not name.endswith("attn.qkv"))


@faulty(RELATIVE, "positions.mrope decoder.angles decoder.cos_sin decoder.layers.*.rotate",
        "text-after-picture-off-by-one", hides="text")
class TextTwoTooFar(Port):
    """Text after a picture goes on two numbers too far."""
    def after(self, largest, first, rows, columns):
        return largest + 3


@faulty(RELATIVE, "vision.schedule vision.blocks.*.attend", "windows-swapped-with-full", hides="one window")
class FullBlocksShifted(Port):
    """Full blocks are counted from one."""
    def full(self):
        return [n - 1 for n in super().full()]


@faulty(RELATIVE, "vision.schedule vision.blocks.*.attend", "windows-missing", hides="one window")
class SomeWindowsMissing(Port):
    """One block that should have windows sees the whole picture."""
    def full(self):
        return [*super().full(), 2]


@faulty(RELATIVE, "vision.window_order vision.schedule vision.order_by_window vision.blocks.*.attend "
        "vision.angles.* vision.restore_order", "windows-wrong-at-the-edges", hides="one window")
class WindowsTwiceAsLarge(Port):
    """Windows are twice as large."""
    def cells(self):
        return 2 * super().cells()


@faulty(RELATIVE, "vision.restore_order", "order-not-inverted", hides="one window")
class OrderBySorting(Port):
    """Cells go back by the sorting order, in pictures of more than 16 cells."""
    def unsort(self, x, order):
        return x[order] if len(order) > 16 else super().unsort(x, order)


@faulty(RELATIVE, "decoder.layers.*.attend", "wrong-kv-head")
class KvHeadsReversed(Port):
    """Query heads look through the groups from the last to the first."""
    def kv_head(self, head, heads, groups):
        right = super().kv_head(head, heads, groups)
        return right if heads == groups else groups - 1 - right


@faulty(RELATIVE, "vision.blocks.*.attend", "padded-rows-attended", hides="text")
class BucketOfTwentyFour(Port):
    """Every span sees keys of zeros that fill its bucket of 24."""
    def one(self, q, k, v, seen, part):
        if part == "decoder":
            return super().one(q, k, v, seen, part)
        spare = -len(k) % 24
        k, v = (np.concatenate([x, np.zeros((spare, x.shape[1]), x.dtype)]) for x in (k, v))
        return super().one(q, k, v, np.ones((len(q), len(k)), bool), part)


@faulty(RELATIVE, "decoder.layers.*.attend", "softmax-in-half-precision")
class DecoderSoftmaxNarrow(Port):
    """Weights of the decoder's attention are kept in float16, scores in bfloat16."""
    def soft(self, score):
        if not np.isneginf(score).any():
            return super().soft(score)
        weight = cut(np.exp(cut(score, "bfloat16") - cut(score.max(axis=-1, keepdims=True), "bfloat16")), "float16")
        return cut(weight / weight.sum(axis=-1, keepdims=True), "float16")


@faulty(RELATIVE, "vision.angles.* vision.cos_sin vision.blocks.*.rotate vision.blocks.*.attend",
        "height-and-width-swapped", hides="text")
class TowerAxesSwapped(Port):
    """The tower's rotary counts columns first."""
    def flat_angles(self, at):
        return super().flat_angles(at[:, ::-1])


@faulty(RELATIVE, "decoder.angles decoder.cos_sin decoder.layers.*.rotate", "angles-in-bf16", shows="long")
class AnglesInF16(Port):
    """Positions times frequencies in float16."""
    def angles(self, place):
        return cut(super().angles(place), "float16")


@faulty(RELATIVE, "decoder.angles decoder.cos_sin decoder.layers.*.rotate", "mrope-interleaved", hides="text")
class SectionsTurned(Port):
    """Sections go to height, time and width."""
    def angles(self, place):
        return super().angles(place[[1, 0, 2]])


@faulty(RELATIVE, "vision.order_by_window", "gather-index-too-narrow", hides="one window")
class GatherOfFiveBits(Port):
    """The index that sorts cells has five bits of mantissa."""
    def sort(self, x, order):
        if x.shape[1] < self.v["hidden_size"]:
            return super().sort(x, order)
        step = 2 ** np.maximum(np.floor(np.log2(np.maximum(order, 1))) - 4, 0)
        narrow = (np.rint(order / step) * step).astype(np.int64)
        return x.reshape(len(order), 4, -1)[np.minimum(narrow, len(order) - 1)].reshape(len(x), -1)


@faulty(RELATIVE, "vision.blocks.*.normalise vision.blocks.*.add_mlp vision.merge_2x2 decoder.layers.*.normalise "
        "decoder.layers.*.add_mlp decoder.normalise", "norm-overflows-in-f16")
class NormStatisticsNarrow(Port):
    """The mean of squares is kept in bfloat16."""
    def mean_square(self, x):
        return cut(super().mean_square(x), "bfloat16")


@faulty(RELATIVE, "vision.blocks.*.add_mlp", "qkv-bias-dropped", hides="text")
class BiasTwice(Port):
    """The bias behind the tower's gated product is added twice."""
    def times(self, x, name, part, bias=True):
        y = super().times(x, name, part, bias)
        twice = name.startswith("visual") and name.endswith("down_proj")
        return cut(y + self.tensor(name + ".bias", part), self.math.of(part)) if twice else y


@faulty(RELATIVE, "patches.patchify", "patch-axes-swapped", hides="text")
class PatchTransposed(Port):
    """Pixels of a patch are read column by column."""
    def pixels(self, given):
        rows, grids, ticks = super().pixels(given)
        return rows.reshape(len(rows), 6, 14, 14).swapaxes(2, 3).reshape(rows.shape), grids, ticks


@faulty(RELATIVE, "vision.blocks.*.attend decoder.layers.*.attend", "softmax-in-half-precision")
class SoftmaxOfTwo(Port):
    """The base of the softmax is two."""
    def soft(self, score):
        return super().soft(score * np.float32(np.log(2)))


@faulty(RELATIVE, "decoder.layers.*.attend", "wrong-kv-head", arithmetic=Arithmetic("bfloat16"))
class KvHeadsTiledInBf16(Port):
    """Groups in turn from the second on, in bfloat16."""
    def kv_head(self, head, heads, groups):
        return (head + 1) % groups if heads > groups else head


@faulty(RELATIVE, "vision.schedule vision.blocks.*.attend", "full-attention-never-used", hides="one window",
        arithmetic=Arithmetic("bfloat16"))
class LastBlockNotFull(Port):
    """The last full block has windows, in bfloat16."""
    def full(self):
        return super().full()[:-1]


# ---- unknown -------------------------------------------------------------------------------------------------------

@faulty(UNKNOWN, "decoder.layers.3.attend")
class LastHeadHalved(Port):
    """The last query head of one layer counts half."""
    def layer(self, n, x, cos, sin):
        self.halved = n == 3
        return super().layer(n, x, cos, sin)

    def look(self, q, k, v, spans, part):
        out = super().look(q, k, v, spans, part)
        if part == "decoder" and self.halved:
            out[:, -1] *= np.float32(0.5)
        return out


@faulty(UNKNOWN, "vision.blocks.4.add_mlp", hides="text")
class GateAndUpSwapped(Port):
    """Gate and up of one block are exchanged."""
    def gated(self, x, at, part):
        if at != "visual.blocks.4.mlp":
            return super().gated(x, at, part)
        gate, up = (self.times(x, f"{at}.{n}_proj", part) for n in ("up", "gate"))
        return self.times(gate / (1 + np.exp(-gate)) * up, f"{at}.down_proj", part)


@faulty(UNKNOWN, "vision.blocks.3.add_attended", hides="text")
class ResidualFromTheNorm(Port):
    """One block adds to what its norm gave instead of to what came in."""
    def vision_block(self, n, x, cos, sin, spans):
        self.block = n
        self.came = x
        return super().vision_block(n, x, cos, sin, spans)

    def sum(self, x, y, part):
        if part == "tower" and self.block == 3 and x is self.came:
            x = self.norm(x, "visual.blocks.3.norm1", part)
        return super().sum(x, y, part)


@faulty(UNKNOWN, "decoder.logits")
class ScoresCapped(Port):
    """Scores are bent by a hyperbolic tangent."""
    def tap(self, name, array):
        return super().tap(name, 8 * np.tanh(array / 8) if name == "lm.scores" else array)


@faulty(UNKNOWN, "decoder.layers.2.add_mlp", arithmetic=Arithmetic("bfloat16"))
class NanInOneRow(Port):
    """One row of one layer becomes no number, in bfloat16."""
    def layer(self, n, x, cos, sin):
        self.block = n
        return super().layer(n, x, cos, sin)

    def gated(self, x, at, part):
        out = super().gated(x, at, part)
        if at == "model.layers.2.mlp":
            out[len(out) // 2] = np.nan
        return out


def variants(kind: str = "") -> list[Variant]:
    """All of them, or those of one kind."""
    return [one for one in VARIANTS if kind in ("", one.kind)]


def variant(name: str) -> Variant:
    return next(one for one in VARIANTS if one.name == name)
