"""Students' versions of the passes that stand between kernels: embedding of patches, blocks, merger."""

import math

import numpy as np

from .versions import right, wrong
from .versions_arithmetic import mapped, numbers, rms

# ---- embed_patches

right("embed_patches")(lambda p, w, dtype: (p @ numbers(w.weight).T).astype(dtype))
right("embed_patches")(lambda p, w, dtype: np.einsum("px,dx->pd", p, numbers(w.weight)))
right("embed_patches")(lambda p, w, dtype: np.array([[sum(a * b for a, b in zip(row, line, strict=True))
                                                      for line in w.weight.dense(np.float64)] for row in p]))
wrong("embed_patches", "reshaped to fit")(lambda p, w, dtype: p @ numbers(w.weight).reshape(p.shape[1], -1))
wrong("embed_patches", "not a mean")(lambda p, w, dtype: np.einsum("px,dx->pd", p, numbers(w.weight)) / len(p[0]))
wrong("embed_patches", "backwards")(lambda p, w, dtype: np.flip(p, 1) @ numbers(w.weight).T)
wrong("embed_patches", "(d, p)")(lambda p, w, dtype: np.einsum("px,dx->dp", p, numbers(w.weight)))
wrong("embed_patches", "activation")(lambda p, w, dtype: (p @ numbers(w.weight).T).clip(0))


# ---- merge_2x2

def gelu(x):
    return x * np.vectorize(lambda v: 0.5 * math.erfc(-v / math.sqrt(2)), otypes=[float])(x)


def merged(x, m, cells=None, act=gelu, last=lambda y: y, norm=rms):
    y = norm(x, m.norm) if norm else x
    y = cells(y) if cells else np.hstack([y[n::4] for n in range(4)])
    return last(mapped(act(mapped(y, m.inner)), m.outer))


right("merge_2x2")(lambda x, m: merged(x, m).astype(np.float32))


@right("merge_2x2")
def _(x, m):
    out = []
    for c in range(len(x) // 4):
        row = np.concatenate([rms(x[4 * c + n:4 * c + n + 1], m.norm)[0] for n in range(4)])
        inner = numbers(m.inner.weight) @ row + numbers(m.inner.bias)
        out.append(numbers(m.outer.weight) @ gelu(inner) + numbers(m.outer.bias))
    return np.array(out)


@right("merge_2x2")
def _(x, m):
    d = x.shape[1]
    y = rms(x.astype(np.float64), m.norm).reshape(-1, 4, d)
    h = np.einsum("cnd,ond->co", y, numbers(m.inner.weight).reshape(-1, 4, d)) + numbers(m.inner.bias)
    return np.einsum("co,po->cp", gelu(h), numbers(m.outer.weight)) + numbers(m.outer.bias)


wrong("merge_2x2", "raster order")(lambda x, m: merged(x, m, lambda y: np.hstack(np.split(y, 4))))
wrong("merge_2x2", "interleave")(lambda x, m: merged(x, m, lambda y: np.stack([y[n::4] for n in range(4)], -1)
                                                     .reshape(len(y) // 4, -1)))
wrong("merge_2x2", "norm is missing")(lambda x, m: merged(x, m, norm=None))
wrong("merge_2x2", "GELU between", "missing")(lambda x, m: merged(x, m, act=np.copy))
wrong("merge_2x2", "tanh")(lambda x, m: merged(x, m, act=lambda y: y / 2 * (1 + np.tanh(
    (2 / np.pi) ** 0.5 * (y + 0.044715 * y**3)))))
wrong("merge_2x2", "GELU too many")(lambda x, m: merged(x, m, last=gelu))
wrong("merge_2x2", "in your norm", "outside the root")(lambda x, m: merged(
    x, m, norm=lambda x, norm: rms(x, norm, eps_inside=False)))
wrong("merge_2x2", "in your GELU", "erf of x itself")(lambda x, m: merged(
    x, m, act=lambda y: y * np.vectorize(lambda v: 0.5 * math.erfc(-v), otypes=[float])(y)))


# ---- project_qkv

def projected(x, w, config, order=(0, 1, 2), cut=None, y=None):
    y = mapped(x, w) if y is None else y
    a, k = config.heads, config.kv_heads
    e = config.hidden_size // a
    parts = np.split(y, [a * e, (a + k) * e], axis=1)
    cut = cut or (lambda part: part.reshape(len(x), part.shape[1] // e, e))
    return tuple(cut(parts[n]) for n in order)


right("project_qkv")(projected)


@right("project_qkv")
def _(x, w, config):
    a, k, e = config.heads, config.kv_heads, config.head_dim
    W = w.weight.dense(np.float64).reshape(a + 2 * k, e, -1)
    y = np.einsum("nd,aed->nae", x, W)
    y = y if w.bias is None else y + numbers(w.bias).reshape(-1, e)
    return y[:, :a], y[:, a:-k], y[:, -k:]


@right("project_qkv")
def _(x, w, config):
    e, out = config.head_dim, []
    y = mapped(x, w)
    for start, heads in ((0, config.heads), (config.heads, config.kv_heads),
                         (config.heads + config.kv_heads, config.kv_heads)):
        part = np.zeros((len(x), heads, e), np.float32)
        for h in range(heads):
            part[:, h] = y[:, (start + h) * e:(start + h + 1) * e]
        out.append(part)
    return tuple(out)


wrong("project_qkv", "key and value are swapped")(lambda x, w, c: projected(x, w, c, (0, 2, 1)))
wrong("project_qkv", "cut across")(lambda x, w, c: projected(
    x, w, c, cut=lambda part: part.reshape(len(x), c.head_dim, -1).transpose(0, 2, 1)))
wrong("project_qkv", "bias is missing")(lambda x, w, c: projected(x, w, c, y=x @ numbers(w.weight).T))
wrong("project_qkv", "heads come first")(lambda x, w, c: projected(
    x, w, c, cut=lambda part: part.reshape(len(x), -1, c.head_dim).transpose(1, 0, 2)))


@wrong("project_qkv", "three equal thirds")
def _(x, w, c):
    y = mapped(x, w)
    n = y.shape[1] // 3
    return tuple(y[:, i * n:(i + 1) * n].reshape(len(x), -1, c.head_dim) for i in range(3))


@wrong("project_qkv", "repeated")
def _(x, w, c):
    q, k, v = projected(x, w, c)
    times = q.shape[1] // k.shape[1]
    return q, k.repeat(times, 1), v.repeat(times, 1)


# ---- add_attended

right("add_attended")(lambda x, y, w: x + mapped(y.reshape(len(x), -1), w))
right("add_attended")(lambda x, y, w: mapped(np.hstack([y[:, a] for a in range(y.shape[1])]), w) + x.astype(float))


@right("add_attended")
def _(x, y, w):
    W = numbers(w.weight).reshape(-1, *y.shape[1:])
    return np.einsum("nae,oae->no", y, W) + (0 if w.bias is None else numbers(w.bias)) + x


wrong("add_attended", "x is not added")(lambda x, y, w: mapped(y.reshape(x.shape), w))
wrong("add_attended", "interleaved")(lambda x, y, w: x + mapped(np.einsum("nae->nea", y).reshape(x.shape), w))
wrong("add_attended", "matrix is left out")(lambda x, y, w: x + y.reshape(x.shape))
wrong("add_attended", "bias is missing")(lambda x, y, w: x + y.reshape(x.shape) @ numbers(w.weight).T)
wrong("add_attended", "x goes through")(lambda x, y, w: mapped(x + y.reshape(x.shape), w))
