"""The model once more, as somebody else would write it: loops over NumPy arrays, own names, own storage.

Written from the published description of the architecture. Nothing of minivl is imported here, so that what the tools
say of it is said of code that they have never seen. `variants.py` spoils one method at a time; `dumps.py` leaves its
arrays behind as toolchains do.

    port = Port("MODEL_DIR", Arithmetic("bfloat16"))
    port.run({"input_ids": ..., "pixel_values": ..., "image_grid_thw": ...})["lm.scores"]
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import erf
from pathlib import Path

import numpy as np

BF16, F16, F32 = "bfloat16", "float16", "float32"
_erf = np.frompyfunc(erf, 1, 1)


def cut(x, kind):
    """Numbers as a type keeps them, in float32."""
    if kind == F32:
        return np.asarray(x, np.float32)
    if kind == F16:
        with np.errstate(over="ignore"):
            return np.asarray(x, np.float32).astype(np.float16).astype(np.float32)
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)


@dataclass(frozen=True)
class Arithmetic:
    """Types of the tower, of the decoder, of the sums that go from block to block, and of the matrices ("" as stored,
    or "int8": one scale for each row)."""
    tower: str = F32
    decoder: str = ""
    stream: str = ""
    matrices: str = ""

    def of(self, part):
        return self.tower if part == "tower" else self.decoder or self.tower


class File:
    """Tensors of a folder of .safetensors by name."""

    def __init__(self, folder):
        self.at = {}
        for path in sorted(Path(folder).glob("*.safetensors")):
            raw = np.memmap(path, np.uint8, "r")
            size = int(raw[:8].view("<u8")[0])
            for name, row in json.loads(bytes(raw[8:8 + size])).items():
                if name != "__metadata__":
                    a, b = row["data_offsets"]
                    name = name.replace("model.language_model.", "model.").replace("model.visual.", "visual.")
                    self.at[name] = (raw[8 + size + a:8 + size + b], row["dtype"], row["shape"])

    def __getitem__(self, name):
        raw, kind, shape = self.at[name]
        if kind == "BF16":
            return (np.frombuffer(raw.tobytes(), np.uint16).astype(np.uint32) << 16).view(np.float32).reshape(shape)
        return np.frombuffer(raw.tobytes(), {"F32": "<f4", "F16": "<f2"}[kind]).astype(np.float32).reshape(shape)

    def __contains__(self, name):
        return name in self.at


class Port:
    """The model. Every method is a step that a variant may spoil; `run` puts them in order and notes what they give."""
    eps = 1e-6

    def __init__(self, folder, arithmetic=None):
        read = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
        self.c = {**read, **read.get("text_config", {})}
        self.v = read["vision_config"]
        self.math = arithmetic or Arithmetic()
        self.file, self.kept = File(folder), {}
        self.heads, self.vheads = self.c["num_attention_heads"], self.v["num_heads"]
        self.kv, self.width = self.c["num_key_value_heads"], self.c["hidden_size"] // self.c["num_attention_heads"]
        rope = self.c.get("rope_scaling") or self.c.get("rope_parameters")
        self.sections = rope["mrope_section"]
        self.theta = float(self.c.get("rope_theta") or rope["rope_theta"])
        self.pads = (read.get("image_token_id", -1), read.get("video_token_id", -1))
        self.tapped, self.given = {}, {}

    # ---- numbers ---------------------------------------------------------------------------------------------------
    def tap(self, name, array):
        """Note what a step made; the run goes on with it, or with what was given in its place."""
        self.tapped[name] = np.array(array)
        given = self.given.get(name)
        return array if given is None else np.asarray(given, np.float32).reshape(array.shape)

    def tensor(self, name, part):
        key = (name, part)
        if key not in self.kept:
            found = self.file[name]
            if self.math.matrices == "int8" and found.ndim > 1 and "embed" not in name:
                flat = found.reshape(len(found), -1)
                scale = np.maximum(np.abs(flat).max(1, keepdims=True), 1e-12) / 127
                found = (np.rint(flat / scale) * scale).reshape(found.shape)
            self.kept[key] = cut(found, self.math.of(part))
        return self.kept[key]

    def times(self, x, name, part, bias=True):
        """x W' + b."""
        w = self.tensor(name + ".weight", part)
        y = x @ w.reshape(len(w), -1).T
        if bias and name + ".bias" in self.file:
            y = y + self.tensor(name + ".bias", part)
        return cut(y, self.math.of(part))

    def sum(self, x, y, part):
        return cut(x + y, self.math.stream or self.math.of(part))

    def norm(self, x, name, part):
        kind = self.math.of(part)
        y = x / np.sqrt(self.mean_square(x) + np.float32(self.eps_of(name)))
        return cut(cut(y, kind) * self.tensor(name + ".weight", part), kind)

    def mean_square(self, x):
        return np.mean(x * x, axis=-1, keepdims=True, dtype=np.float32)

    def eps_of(self, name):
        return self.eps if name.startswith("visual") else self.c.get("rms_norm_eps", self.eps)

    def gated(self, x, at, part):
        kind = self.math.of(part)
        gate, up = (self.times(x, f"{at}.{n}_proj", part) for n in ("gate", "up"))
        swish = cut(gate / (1 + np.exp(-gate)), kind)
        return self.times(cut(swish * up, kind), f"{at}.down_proj", part)

    def gelu(self, x):
        return 0.5 * x * (1 + _erf(x.astype(np.float64) / np.sqrt(2)).astype(np.float64))

    def turn(self, x, cos, sin, part):
        """Rotate pairs that lie half a head apart: n a e."""
        kind, half = self.math.of(part), x.shape[-1] // 2
        c, s = cos[:, None], sin[:, None]
        if part == "decoder":
            c, s = cut(c, kind), cut(s, kind)
            a, b = x[..., :half], x[..., half:]
            first, second = cut(a * c, kind) + cut(-b * s, kind), cut(b * c, kind) + cut(a * s, kind)
        else:
            a, b = x[..., :half], x[..., half:]
            first, second = a * c - b * s, b * c + a * s
        return cut(np.concatenate([first, second], axis=-1), kind)

    def look(self, q, k, v, spans, part):
        """Attention of every span of rows to itself: n a e, n k e -> n a e."""
        out = np.zeros_like(q)
        for a, b in spans:
            for head in range(q.shape[1]):
                g = self.kv_head(head, q.shape[1], k.shape[1])
                seen = np.tri(b - a, dtype=bool) if part == "decoder" else np.ones((b - a, b - a), bool)
                out[a:b, head] = self.one(q[a:b, head], k[a:b, g], v[a:b, g], seen, part)
        return cut(out, self.math.of(part))

    def one(self, q, k, v, seen, part):
        return self.soft(np.where(seen, self.scores(q, k, part), -np.inf)) @ v

    def scores(self, q, k, part):
        return q @ k.T * np.float32(q.shape[-1] ** -0.5)

    def soft(self, score):
        weight = np.exp(score - score.max(axis=-1, keepdims=True))
        return weight / weight.sum(axis=-1, keepdims=True)

    def kv_head(self, head, heads, groups):
        return head // (heads // groups)

    # ---- places ----------------------------------------------------------------------------------------------------
    def pixels(self, given):
        """Patches of all pictures and videos in the order of the prompt, their grids, and steps of time."""
        ids, found = given["input_ids"].reshape(-1), []
        at = {"image": [0, 0], "video": [0, 0]}
        runs = [i for i in range(len(ids)) if ids[i] in self.pads and (i == 0 or ids[i - 1] not in self.pads)]
        for start in runs:
            kind = "image" if ids[start] == self.pads[0] else "video"
            rows = given["pixel_values" if kind == "image" else "pixel_values_videos"]
            n, row = at[kind]
            grid = given[f"{kind}_grid_thw"][n]
            tick = 1.0 if kind == "image" else self.v.get("tokens_per_second", 2) * given["second_per_grid_ts"][n]
            size = int(np.prod(grid))
            found.append((rows[row:row + size], grid, np.float32(tick)))
            at[kind] = [n + 1, row + size]
        rows = [one[0] for one in found] or [np.zeros((0, 1176), np.float32)]
        return np.concatenate(rows), [tuple(map(int, one[1])) for one in found], [one[2] for one in found]

    def stem(self, x):
        return self.times(cut(x, self.math.tower), "visual.patch_embed.proj", "tower", False)

    def cells(self):
        return self.v["window_size"] // 2 // self.v["patch_size"]

    def windows(self, grids):
        """Cells window by window, and how many patches each window has."""
        order, sizes, start, side = [], [], 0, self.cells()
        for t, gh, gw in grids:
            rows, columns = gh // 2, gw // 2
            for frame in range(t):
                for y in range(0, rows, side):
                    for x in range(0, columns, side):
                        own = [start + (frame * rows + r) * columns + c
                               for r in range(y, min(y + side, rows)) for c in range(x, min(x + side, columns))]
                        order += own
                        sizes.append(4 * len(own))
            start += t * rows * columns
        return np.array(order, np.int64), sizes

    def spans(self, grids, sizes):
        """For each block, which rows see each other."""
        def ends(lengths):
            stop = np.cumsum(lengths).tolist() if len(lengths) else []
            return list(zip([0, *stop[:-1]], stop, strict=True)) if stop else []
        frames = [gh * gw for t, gh, gw in grids for _ in range(t)]
        return [ends(frames if n in self.full() else sizes) for n in range(self.v["depth"])]

    def full(self):
        return self.v["fullatt_block_indexes"]

    def where(self, grids):
        """Row and column of each patch as cut: p 2."""
        found = [(2 * y + dy, 2 * x + dx) for t, gh, gw in grids for _ in range(t) for y in range(gh // 2)
                 for x in range(gw // 2) for dy in (0, 1) for dx in (0, 1)]
        return np.array(found, np.int64).reshape(-1, 2)

    def frequencies(self, width, theta):
        exponent = np.arange(0, width, 2).astype(np.float32) / np.float32(width)
        return np.float32(1) / np.power(theta, exponent.astype(np.float64)).astype(np.float32)

    def flat_angles(self, at):
        """p 2 -> p e/2: rows, then columns."""
        f = self.frequencies(self.v["hidden_size"] // self.vheads // 2, 10000.0)
        return np.concatenate([at[:, n:n + 1].astype(np.float32) * f for n in (0, 1)], axis=1)

    def sort(self, x, order):
        return x.reshape(len(order), 4, -1)[order].reshape(len(x), -1)

    def unsort(self, x, order):
        out = np.zeros_like(x)
        out[order] = x
        return out

    def axes(self, ids, grids, ticks):
        """Time, height and width of every token: 3 s."""
        place, p, at, n = np.zeros((3, len(ids)), np.int64), 0, 0, 0
        while at < len(ids):
            if ids[at] not in self.pads:
                place[:, at], p, at = p, p + 1, at + 1
                continue
            (t, gh, gw), tick, first = grids[n], ticks[n], p
            for frame in range(t):
                for y in range(gh // 2):
                    for x in range(gw // 2):
                        step = int(np.float32(frame) * np.float32(tick))
                        place[:, at], at = (first + step, first + y, first + x), at + 1
            p, n = self.after(int(place[:, at - 1].max()), first, gh // 2, gw // 2), n + 1
        return place

    def after(self, largest, first, rows, columns):
        return largest + 1

    def angles(self, place):
        f = self.frequencies(self.width, self.theta)
        axis = np.repeat([0, 1, 2], self.sections)
        return place[axis].T.astype(np.float32) * f

    # ---- the run ---------------------------------------------------------------------------------------------------
    def run(self, given, instead=None):
        """Everything that was noted, by the port's own names. instead: values to go on with, by these names."""
        self.tapped, self.given = {}, instead or {}
        ids = np.asarray(given["input_ids"]).reshape(-1)
        x, grids, ticks = self.pixels(given)
        seen = self.tower(x, grids) if grids else None
        self.decoder(ids, seen, self.axes(ids, grids, ticks))
        return self.tapped

    def tower(self, x, grids):
        x = self.tap("px", x)
        order, sizes = self.windows(grids)
        spans = self.spans(grids, sizes)
        angles = self.sort(self.flat_angles(self.where(grids)), order)
        cos, sin = np.cos(angles), np.sin(angles)
        x = self.stem(x)
        x = self.tap("tower.stem", x)
        x = self.sort(x, order)
        x = self.tap("tower.sorted", x)
        for n in range(self.v["depth"]):
            x = self.vision_block(n, x, cos, sin, spans[n])
        x = self.join(x)
        x = self.tap("bridge.cells", x)
        x = self.unsort(x, order)
        x = self.tap("bridge.out", x)
        return x

    def vision_block(self, n, x, cos, sin, spans):
        at, name, e = f"visual.blocks.{n}", f"tower.{n}", x.shape[1] // self.vheads
        y = self.norm(x, f"{at}.norm1", "tower")
        qkv = self.times(y, f"{at}.attn.qkv", "tower")
        qkv = self.tap(f"{name}.qkv", qkv)
        q, k, v = (part.reshape(len(x), self.vheads, e) for part in np.split(qkv, 3, axis=1))
        q, k = self.turn(q, cos, sin, "tower"), self.turn(k, cos, sin, "tower")
        y = self.look(q, k, v, spans, "tower").reshape(len(x), -1)
        y = self.tap(f"{name}.ctx", y)
        x = self.sum(x, self.times(y, f"{at}.attn.proj", "tower"), "tower")
        x = self.tap(f"{name}.mid", x)
        x = self.sum(x, self.gated(self.norm(x, f"{at}.norm2", "tower"), f"{at}.mlp", "tower"), "tower")
        x = self.tap(f"{name}.out", x)
        return x

    def join(self, x):
        """Four rows of a cell into one token."""
        x = self.norm(x, "visual.merger.ln_q", "tower").reshape(len(x) // 4, -1)
        x = cut(self.gelu(self.times(x, "visual.merger.mlp.0", "tower")), self.math.tower)
        return self.times(x, "visual.merger.mlp.2", "tower")

    def decoder(self, ids, seen, place):
        kind = self.math.of("decoder")
        angles = self.angles(place)
        cos, sin = np.cos(angles), np.sin(angles)
        x = self.tensor("model.embed_tokens.weight", "decoder")[ids]
        x = self.tap("lm.words", x)
        if seen is not None:
            x = self.lay(x, ids, cut(seen, kind))
        x = self.tap("lm.in", x)
        for n in range(self.c["num_hidden_layers"]):
            x = self.layer(n, x, cos, sin)
        x = self.norm(x, "model.norm", "decoder")
        x = self.tap("lm.norm", x)
        tied = "lm_head.weight" not in self.file
        self.tap("lm.scores", self.times(x, "model.embed_tokens" if tied else "lm_head", "decoder", False))

    def lay(self, x, ids, seen):
        x = np.array(x)
        x[np.isin(ids, self.pads)] = seen
        return x

    def layer(self, n, x, cos, sin):
        at, name = f"model.layers.{n}", f"lm.{n}"
        y = self.norm(x, f"{at}.input_layernorm", "decoder")
        parts = [self.times(y, f"{at}.self_attn.{p}_proj", "decoder") for p in "qkv"]
        qkv = self.tap(f"{name}.qkv", np.concatenate(parts, axis=1))
        parts = np.split(qkv, np.cumsum([p.shape[1] for p in parts])[:-1], axis=1)
        q, k, v = (p.reshape(len(x), -1, self.width) for p in parts)
        q, k = self.turn(q, cos, sin, "decoder"), self.turn(k, cos, sin, "decoder")
        q = self.tap(f"{name}.q", q)
        k = self.tap(f"{name}.k", k)
        y = self.look(q, k, v, [(0, len(x))], "decoder").reshape(len(x), -1)
        y = self.tap(f"{name}.ctx", y)
        x = self.sum(x, self.times(y, f"{at}.self_attn.o_proj", "decoder"), "decoder")
        x = self.tap(f"{name}.mid", x)
        y = self.norm(x, f"{at}.post_attention_layernorm", "decoder")
        x = self.sum(x, self.gated(y, f"{at}.mlp", "decoder"), "decoder")
        x = self.tap(f"{name}.out", x)
        return x


# What the port's names are called here. `*` is the number of a block.
LABELS = {
    "px": "patches.patchify", "tower.stem": "vision.embed_patches", "tower.sorted": "vision.order_by_window",
    "tower.*.qkv": "vision.blocks.*.project_qkv", "tower.*.ctx": "vision.blocks.*.attend",
    "tower.*.mid": "vision.blocks.*.add_attended", "tower.*.out": "vision.blocks.*.add_mlp",
    "bridge.cells": "vision.merge_2x2", "bridge.out": "vision.restore_order",
    "lm.words": "decoder.embed_tokens", "lm.in": "decoder.place_features",
    "lm.*.qkv": "decoder.layers.*.project_qkv", "lm.*.q": "decoder.layers.*.rotate:0",
    "lm.*.k": "decoder.layers.*.rotate:1", "lm.*.ctx": "decoder.layers.*.attend",
    "lm.*.mid": "decoder.layers.*.add_attended", "lm.*.out": "decoder.layers.*.add_mlp",
    "lm.norm": "decoder.normalise", "lm.scores": "decoder.logits",
}


def label_of(name):
    """The label of one of the port's names."""
    number = next((part for part in name.split(".") if part.isdecimal()), "")
    star = ".".join("*" if part.isdecimal() else part for part in name.split("."))
    return LABELS[star].replace("*", number)
