"""Students' versions of the stages of pictures, patches, positions and windows."""

import math
from itertools import pairwise

import numpy as np

from .versions import right, wrong

# ---- target_size

def sized(shape, config, nearest=round, up=math.ceil, down=math.floor, order=1, factor=None, limits=(True, True)):
    f = factor or config.patch_size * config.merge_size
    y, b = shape[0], shape[1]
    h, u = nearest(y / f) * f, nearest(b / f) * f
    if h * u > config.max_pixels and limits[1]:
        beta = (y * b / config.max_pixels) ** 0.5
        h, u = max(f, down(y / beta / f) * f), max(f, down(b / beta / f) * f)
    elif h * u < config.min_pixels and limits[0]:
        beta = (config.min_pixels / (y * b)) ** 0.5
        h, u = up(y * beta / f) * f, up(b * beta / f) * f
    return np.array([h, u][::order])


right("target_size")(lambda shape, config: sized(shape, config))


@right("target_size")
def _(shape, config):
    f = config.factor
    sides = np.array(shape[:2], float)
    out = np.round(sides / f).astype(int) * f
    if out.prod() > config.max_pixels:
        return np.maximum(1, np.floor(sides / np.sqrt(sides.prod() / config.max_pixels) / f).astype(int)) * f
    if out.prod() < config.min_pixels:
        return np.ceil(sides * np.sqrt(config.min_pixels / sides.prod()) / f).astype(int) * f
    return out


@right("target_size")
def _(shape, config):
    return sized(tuple(shape), config).astype(np.int32)


wrong("target_size", "halves")(lambda s, c: sized(s, c, nearest=lambda n: int(n + 0.5)))
wrong("target_size", "round up")(lambda s, c: sized(s, c, nearest=math.ceil))
wrong("target_size", "round down")(lambda s, c: sized(s, c, nearest=int))
wrong("target_size", "width, height")(lambda s, c: sized(s, c, order=-1))
wrong("target_size", "patch alone")(lambda s, c: sized(s, c, factor=c.patch_size))
wrong("target_size", "smallest area")(lambda s, c: sized(s, c, limits=(False, True)))
wrong("target_size", "largest area")(lambda s, c: sized(s, c, limits=(True, False)))


# ---- resize

def taps(n, m, a=-0.5, antialias=True):
    """The matrix of one axis, number by number."""
    table = np.zeros((m, n))
    scale = n / m
    wide = max(scale, 1) if antialias else 1.0
    for i in range(m):
        for j in range(n):
            d = abs((j + 0.5 - (i + 0.5) * scale) / wide)
            table[i, j] = ((a + 2) * d**3 - (a + 3) * d**2 + 1 if d < 1 else
                           a * (d**3 - 5 * d**2 + 8 * d - 4) if d < 2 else 0)
    return np.eye(n) if n == m else table / table.sum(1, keepdims=True)


def resized(pixels, size, table=taps, clip=np.clip):
    rows, columns = table(pixels.shape[0], size[0]), table(pixels.shape[1], size[1])
    out = np.rint(np.einsum("yi,ijc->yjc", rows, pixels.astype(float)))
    return np.rint(clip(np.einsum("xj,yjc->yxc", columns, clip(out, 0, 255)), 0, 255)).astype(int).astype(np.uint8)


@right("resize")
def _(pixels, size):
    if pixels.shape[0] == size[0]:
        return resized(pixels, size)
    return resized(pixels.swapaxes(0, 1), size[::-1]).swapaxes(0, 1)


@right("resize")
def _(pixels, size):
    from PIL import Image
    return np.array(Image.fromarray(np.ascontiguousarray(pixels)).resize(tuple(size.tolist()[::-1]),
                                                                         Image.Resampling.BICUBIC))


@right("resize")
def _(pixels, size):
    return resized(pixels, size).copy(order="F")


def linear_taps(n, m):
    table = np.array([[max(0, 1 - abs(j + 0.5 - (i + 0.5) * n / m) / max(n / m, 1)) for j in range(n)]
                      for i in range(m)])
    return np.eye(n) if n == m else table / table.sum(1, keepdims=True)


wrong("resize", "antialiasing")(lambda p, s: resized(p, s, lambda n, m: taps(n, m, antialias=False)))
wrong("resize", "-0.75")(lambda p, s: resized(p, s, lambda n, m: taps(n, m, a=-0.75)))
wrong("resize", "bilinear")(lambda p, s: resized(p, s, linear_taps))
wrong("resize", "wrap")(lambda p, s: resized(p, s, clip=lambda x, a, b: x))


@wrong("resize", "nearest")
def _(pixels, size):
    return np.stack([[pixels[(2 * y + 1) * len(pixels) // (2 * size[0]), (2 * x + 1) * len(pixels[0]) // (2 * size[1])]
                      for x in range(size[1])] for y in range(size[0])])


# ---- picture.normalise

@right("picture.normalise")
def _(pixels, config):
    out = np.zeros((3, *pixels.shape[:2]), np.float32)
    for c in range(3):
        out[c] = (pixels[..., c] / 255 - config.image_mean[c]) / config.image_std[c]
    return out


@right("picture.normalise")
def _(pixels, config):
    mean, std = np.array(config.image_mean)[:, None, None], np.array(config.image_std)[:, None, None]
    return (np.einsum("yxc->cyx", pixels) * config.rescale_factor - mean) / std


@right("picture.normalise")
def _(pixels, config):
    scaled = pixels.astype(np.float32) / np.float32(255)
    return ((scaled - np.float32(config.image_mean)) / np.float32(config.image_std)).transpose(2, 0, 1)


def coloured(pixels, config, scale=255):
    return (pixels.astype(float) / scale - config.image_mean) / config.image_std


wrong("picture.normalise", "255 is missing")(lambda p, c: coloured(p, c, 1).transpose(2, 0, 1))
wrong("picture.normalise", "colour is still last")(lambda p, c: coloured(p, c))
wrong("picture.normalise", "reshape")(lambda p, c: coloured(p, c).reshape(3, p.shape[0], p.shape[1]))
wrong("picture.normalise", "transposed")(lambda p, c: coloured(p, c).transpose(2, 1, 0))
wrong("picture.normalise", "256")(lambda p, c: coloured(p, c, 256).transpose(2, 0, 1))
wrong("picture.normalise", "blue, green, red")(lambda p, c: coloured(np.flip(p, 2), c).transpose(2, 0, 1))


# ---- patchify

def patched(frames, config, cell="tyxvh", row="cspq", fill=lambda frames: frames[-1]):
    """Patch by patch: cell says how loops are nested, row in which order a patch is read."""
    n, pair, m = config.patch_size, config.temporal_patch_size, config.merge_size
    frames = list(frames)
    while len(frames) % pair:
        frames.append(fill(frames))
    frames = np.array(frames)
    size = {"t": len(frames) // pair, "y": frames.shape[2] // n // m, "x": frames.shape[3] // n // m, "v": m, "h": m}
    out = []
    for flat in range(math.prod(size.values())):
        at = dict(zip(cell, np.unravel_index(flat, [size[k] for k in cell]), strict=True))
        top, left = (at["y"] * m + at["v"]) * n, (at["x"] * m + at["h"]) * n
        cut = frames[at["t"] * pair:(at["t"] + 1) * pair, :, top:top + n, left:left + n]
        out.append(np.einsum(f"scpq->{row}", cut).ravel())
    return np.array(out)


right("patchify")(lambda frames, config: patched(frames, config))


@right("patchify")
def _(frames, config):
    n, pair, m = config.patch_size, config.temporal_patch_size, config.merge_size
    frames = np.concatenate([frames, np.repeat(frames[-1:], -len(frames) % pair, 0)])
    t, h, w = len(frames) // pair, frames.shape[2] // n, frames.shape[3] // n
    cut = np.einsum("tsCyvpxhq->tyxvhCspq", frames.reshape(t, pair, 3, h // m, m, n, w // m, m, n))
    return np.ascontiguousarray(cut).reshape(t * h * w, -1)


@right("patchify")
def _(frames, config):
    return patched(frames.astype(np.float64), config)


wrong("patchify", "raster")(lambda f, c: patched(f, c, cell="tyvxh"))
wrong("patchify", "inside a cell")(lambda f, c: patched(f, c, cell="tyxhv"))
wrong("patchify", "cells go down")(lambda f, c: patched(f, c, cell="txyvh"))
wrong("patchify", "frame comes before the colour")(lambda f, c: patched(f, c, row="scpq"))
wrong("patchify", "colour comes last")(lambda f, c: patched(f, c, row="spqc"))
wrong("patchify", "transposed")(lambda f, c: patched(f, c, row="csqp"))
wrong("patchify", "zeros")(lambda f, c: patched(f, c, fill=lambda frames: frames[-1] * 0))


# ---- mrope

def positions(ids, grids, ticks, pads, merge, rule, moment=lambda t, tick: math.floor(t * tick), swap=False, start=1,
              after=None):
    out = np.zeros((3, len(ids)), int)
    p = at = medium = 0
    while at < len(ids):
        if ids[at] not in pads:
            out[:, at] = p
            at, p = at + 1, p + 1
            continue
        t, h, w = grids[medium][0], grids[medium][1] // merge, grids[medium][2] // merge
        top = 0
        for n in range(t * h * w):
            spot = [moment(n // (h * w), float(ticks[medium])), n // w % h, n % w]
            spot = [spot[0], spot[2], spot[1]] if swap else spot
            out[:, at + n] = [start * p + s for s in spot]
            top = max(top, *spot)
        p += after(t, h, w, top) if after else top + 1 if rule == "max_plus_one" else max(h, w)
        at, medium = at + t * h * w, medium + 1
    return out


right("mrope")(positions)


@right("mrope")
def _(ids, grids, ticks, pads, merge, after_video):
    pieces, p, rest = [], 0, list(ids)
    for (t, h, w), tick in zip(grids // [1, merge, merge], ticks, strict=True):
        before = next(n for n, token in enumerate(rest) if token in pads)
        pieces.append(np.broadcast_to(p + np.arange(before), (3, before)))
        cells = np.mgrid[:t, :h, :w].reshape(3, -1)
        cells[0] = (cells[0] * np.float32(tick)).astype(int)
        pieces.append(p + before + cells)
        p += before + (cells.max() + 1 if after_video == "max_plus_one" else max(h, w))
        rest = rest[before + t * h * w:]
    pieces.append(np.broadcast_to(p + np.arange(len(rest)), (3, len(rest))))
    return np.hstack(pieces)


@right("mrope")
def _(*args):
    return positions(*args).T.copy().T


wrong("mrope", "one by one")(lambda ids, *rest: np.array([range(len(ids))] * 3))
wrong("mrope", "`ticks` is ignored")(lambda *a: positions(*a, moment=lambda t, tick: t))
wrong("mrope", "before the product")(lambda *a: positions(*a, moment=lambda t, tick: t * int(tick)))
wrong("mrope", "rows and columns are swapped")(lambda *a: positions(*a, swap=True))
wrong("mrope", "starts at 0")(lambda *a: positions(*a, start=0))
wrong("mrope", "number of its tokens")(lambda *a: positions(*a, after=lambda t, h, w, top: t * h * w))
wrong("mrope", "off by one")(lambda *a: positions(*a, after=lambda t, h, w, top: top))
wrong("mrope", "`after_video` is ignored")(lambda *a: positions(*a[:5], "max_plus_one"))


# ---- angles

def plane(at, config, theta=None, width=None, turn=lambda r, c: np.hstack([r, c]), sign=-1):
    width = width or config.head_dim // 2
    count = config.head_dim // 4
    f = np.array([(theta or config.rope_theta) ** (sign * 2 * i / width) for i in range(count)])
    return turn(np.outer(at[:, 0], f), np.outer(at[:, 1], f)).astype(np.float32)


right("spatial_angles")(lambda at, config: plane(at, config))


@right("spatial_angles")
def _(at, config):
    count = config.hidden_size // config.num_heads // 4
    out = np.zeros((len(at), 2 * count))
    for n, (row, col) in enumerate(at):
        for i in range(count):
            f = config.rope_theta ** (-i / count)
            out[n, i], out[n, count + i] = row * f, col * f
    return out


@right("spatial_angles")
def _(at, config):
    count = config.head_dim // 4
    f = np.exp(-np.log(config.rope_theta) * np.arange(count) / count)
    return np.einsum("na,f->naf", at, f).reshape(len(at), -1)


def zipped(r, c):
    return np.stack([r, c], -1).reshape(len(r), -1)


wrong("spatial_angles", "columns come before")(lambda at, c: plane(at, c, turn=lambda a, b: np.hstack([b, a])))
wrong("spatial_angles", "take turns")(lambda at, c: plane(at, c, turn=zipped))
wrong("spatial_angles", "whole head")(lambda at, c: plane(at, c, width=c.head_dim))
wrong("spatial_angles", "always 10000")(lambda at, c: plane(at, c, theta=1e4))
wrong("spatial_angles", "grow")(lambda at, c: plane(at, c, sign=1))


def sections(positions, config, owners=None, theta=None, restart=False, scale=2):
    count = config.head_dim // 2
    owners = owners or [axis for axis in range(3) for _ in range(config.mrope_section[axis])]
    out = np.zeros((positions.shape[1], count))
    for i, owner in enumerate(owners):
        n = owners[:i].count(owner) if restart else i
        out[:, i] = positions[owner] / (theta or config.rope_theta) ** (scale * n / config.head_dim)
    return out


right("mrope_angles")(lambda p, c: sections(p, c))


@right("mrope_angles")
def _(positions, config):
    f = config.rope_theta ** -(np.arange(0, config.head_dim, 2) / config.head_dim)
    every = positions[:, :, None] * f
    ends = np.cumsum(config.mrope_section)[:-1]
    return np.concatenate([part[n] for n, part in enumerate(np.split(every, ends, axis=-1))], -1).astype(np.float32)


@right("mrope_angles")
def _(positions, config):
    owner = np.eye(3)[np.repeat(np.arange(3), config.mrope_section)]
    f = config.rope_theta ** -(np.arange(len(owner)) / len(owner))
    return np.einsum("as,fa,f->sf", positions, owner, f)


def repeated(config, axes):
    return [a for a, n in zip(axes, config.mrope_section, strict=True) for _ in range(n)]


def in_turn(config):
    counts, out = list(config.mrope_section), []
    while sum(counts):
        out += [a for a in range(3) if counts[a] > 0]
        counts = [n - 1 if n else 0 for n in counts]
    return out


wrong("mrope_angles", "all frequencies turn by time")(lambda p, c: sections(p, c, [0] * (c.head_dim // 2)))
wrong("mrope_angles", "in turn")(lambda p, c: sections(p, c, in_turn(c)))
wrong("mrope_angles", "height and width are swapped")(lambda p, c: sections(p, c, repeated(c, (0, 2, 1))))
wrong("mrope_angles", "from the start again")(lambda p, c: sections(p, c, restart=True))
wrong("mrope_angles", "always 10000")(lambda p, c: sections(p, c, theta=1e4))
wrong("mrope_angles", "too slowly")(lambda p, c: sections(p, c, scale=1))


# ---- cos_sin, advance

right("cos_sin")(lambda a, dtype: (np.cos(a), np.sin(a)))
right("cos_sin")(lambda a, dtype: (np.exp(1j * a).real.astype(dtype), np.exp(1j * a).imag.astype(dtype)))
right("cos_sin")(lambda a, dtype: tuple(np.vectorize(f, otypes=[float])(a) for f in (math.cos, math.sin)))
wrong("cos_sin", "swapped")(lambda a, dtype: (np.sin(a), np.cos(a)))
wrong("cos_sin", "degrees")(lambda a, dtype: (np.cos(a * np.pi / 180), np.sin(a * np.pi / 180)))
wrong("cos_sin", "twice")(lambda a, dtype: tuple(f(np.concatenate([a, a], 1)) for f in (np.cos, np.sin)))
wrong("cos_sin", "sign changed")(lambda a, dtype: (np.exp(-1j * a).real, np.exp(-1j * a).imag))
wrong("cos_sin", "cosine twice")(lambda a, dtype: (np.cos(a),) * 2)

def after_last(version):
    return lambda rows, offsets: version(rows - 1 + offsets)


right("advance")(lambda rows, offsets: offsets + rows)
right("advance")(after_last(lambda last: 1 + last))
right("advance")(after_last(lambda last: np.array([[p + 1 for p in row] for row in last])))
right("advance")(after_last(lambda last: np.add(last, np.ones_like(last)).T.copy().T))
wrong("advance", "only time")(after_last(lambda last: np.stack([last[0] + 1, last[1], last[2]])))
wrong("advance", "largest of the three")(after_last(lambda last: np.array([[c.max() + 1 for c in last.T]] * 3)))
wrong("advance", "nothing moves")(after_last(lambda last: last.copy()))
wrong("advance", "go on at time")(after_last(lambda last: np.array([last[0] + 1] * 3)))
wrong("advance", "largest position")(after_last(lambda last: np.full(last.shape, last.max() + 1)))
wrong("advance", "offset is forgotten")(lambda rows, offsets: np.stack([rows] * 3))


# ---- windows

def window_by_window(grids, config, frame_first=True, down=False, inner_down=False, side=None, offset=True):
    side, out, start = side or config.window_size // config.patch_size // config.spatial_merge_size, [], 0
    m = config.spatial_merge_size
    for t, h, w in [(t, h // m, w // m) for t, h, w in grids]:
        cells = [(f, y, x) for f in range(t) for y in range(h) for x in range(w)]

        def key(cell):
            f, y, x = cell
            window = (x // side, y // side) if down else (y // side, x // side)
            return ((f, *window) if frame_first else (*window, f), (x, y) if inner_down else (y, x))
        out += [start + f * h * w + y * w + x for f, y, x in sorted(cells, key=key)]
        start += t * h * w if offset else 0
    return np.array(out)


right("window_order")(lambda g, c: window_by_window(g, c))


@right("window_order")
def _(grids, config):
    side, out, at = config.window_cells, [], 0
    for t, h, w in (grids // [1, 2, 2]).tolist():
        table = at + np.arange(t * h * w).reshape(t, h, w)
        for frame in table:
            for y in range(0, h, side):
                for x in range(0, w, side):
                    out.extend(frame[y:y + side, x:x + side].flat)
        at += t * h * w
    return np.array(out)


@right("window_order")
def _(grids, config):
    side, out, at = config.window_cells, [], 0
    for t, h, w in (grids // [1, 2, 2]).tolist():
        high, wide = -(-h // side) * side, -(-w // side) * side
        table = np.full((t, high, wide), -1)
        table[:, :h, :w] = np.arange(t * h * w).reshape(t, h, w)
        cut = table.reshape(t, high // side, side, wide // side, side).transpose(0, 1, 3, 2, 4).ravel()
        out.append(cut[cut >= 0] + at)
        at += t * h * w
    return np.concatenate(out)


wrong("window_order", "raster")(lambda g, c: np.arange(g.prod(1).sum() // 4))
wrong("window_order", "go down the columns", "windows")(lambda g, c: window_by_window(g, c, down=True))
wrong("window_order", "inside a window")(lambda g, c: window_by_window(g, c, inner_down=True))
wrong("window_order", "counts from 0")(lambda g, c: window_by_window(g, c, offset=False))
wrong("window_order", "across frames")(lambda g, c: window_by_window(g, c, frame_first=False))
wrong("window_order", "inverse")(lambda g, c: np.argsort(window_by_window(g, c)))
wrong("window_order", "always 4")(lambda g, c: window_by_window(g, c, side=4))


def seen_by(grids, config, full=None, patches=4, frames=True, edge=True, table=None):
    out = []
    for block in range(config.depth):
        lengths = []
        for t, h, w in grids:
            if full(block) if full else block in config.fullatt_block_indexes:
                lengths += [h * w] * t if frames else [t * h * w]
            else:
                side = config.window_cells
                for y in range(0, h // 2, side):
                    for x in range(0, w // 2, side):
                        tall, wide = (min(side, h // 2 - y), min(side, w // 2 - x)) if edge else (side, side)
                        lengths.append(tall * wide * patches)
                once = len(range(0, h // 2, side)) * len(range(0, w // 2, side))
                lengths += lengths[-once:] * (t - 1)
        ends = np.array([0, *np.cumsum(lengths)])
        rows = np.array([[a, b, a, b] for a, b in pairwise(ends)])
        out.append(table(rows) if table else rows)
    return tuple(out)


right("schedule")(lambda g, c: seen_by(g, c))


@right("schedule")
def _(grids, config):
    side, small, large = config.window_cells, [], []
    for t, h, w in (grids // [1, 2, 2]).tolist():
        tall = np.bincount(np.arange(h) // side)
        wide = np.bincount(np.arange(w) // side)
        small += [4 * np.outer(tall, wide).ravel()] * t
        large += [np.array([4 * h * w])] * t

    def table(parts):
        n = np.concatenate(parts)
        return np.einsum("gk->gk", np.stack([n.cumsum() - n, n.cumsum()] * 2, 1))
    return tuple(table(large if block in config.fullatt_block_indexes else small) for block in range(config.depth))


right("schedule")(lambda g, c: tuple(table.astype(np.int32) for table in seen_by(g, c)))

wrong("schedule", "swapped")(lambda g, c: seen_by(g, c, lambda b: b not in c.fullatt_block_indexes))
wrong("schedule", "no block is ever full")(lambda g, c: seen_by(g, c, lambda b: str(b) in c.fullatt_block_indexes))
wrong("schedule", "every block is full")(lambda g, c: seen_by(g, c, lambda b: True))
wrong("schedule", "across the frames")(lambda g, c: seen_by(g, c, frames=False))
wrong("schedule", "counted in cells")(lambda g, c: tuple(table // 4 for table in seen_by(g, c)))
wrong("schedule", "whole ones")(lambda g, c: seen_by(g, c, edge=False))
wrong("schedule", "count from 1")(lambda g, c: seen_by(g, c, lambda b: b + 1 in c.fullatt_block_indexes))


@right("order_by_window")
def _(rows, order):
    return np.concatenate([rows[4 * i:4 * i + 4] for i in order])


@right("order_by_window")
def _(rows, order):
    return rows[(4 * order[:, None] + np.arange(4)).ravel()]


@right("order_by_window")
def _(rows, order):
    out = np.empty((*rows.shape[:-1], 2 * rows.shape[-1]))[..., ::2]
    for i, j in enumerate(order):
        for n in range(4):
            out[4 * i + n] = rows[4 * j + n]
    return out


wrong("order_by_window", "raster")(lambda rows, order: np.array(rows))
wrong("order_by_window", "inverse")(lambda r, o: r[np.add.outer(4 * np.argsort(o), range(4)).ravel()])
wrong("order_by_window", "reverse")(lambda r, o: r[np.add.outer(4 * o, [3, 2, 1, 0]).ravel()])
wrong("order_by_window", "four quarters")(lambda r, o: np.concatenate([q[o] for q in np.split(r, 4)]))
wrong("order_by_window", "come apart")(lambda r, o: np.array([r[4 * i:4 * i + 4].ravel() for i in o]))


@right("restore_order")
def _(cells, order):
    out = np.empty_like(cells)
    out[order] = cells
    return out


@right("restore_order")
def _(cells, order):
    return np.array([cells[list(order).index(i)] for i in range(len(order))])


@right("restore_order")
def _(cells, order):
    return np.einsum("cm,cd->md", np.eye(len(order))[order], cells)


wrong("restore_order", "once more")(lambda cells, order: np.array([cells[i] for i in order]))
wrong("restore_order", "stay in window order")(lambda cells, order: np.array(cells))
wrong("restore_order", "reverse prompt order")(lambda cells, order: cells[np.argsort(order)][::-1])
wrong("restore_order", "sort the values")(lambda cells, order: np.sort(cells, 0))
wrong("restore_order", "no inverse")(lambda cells, order: np.array([cells[i] for i in reversed(order)]))
