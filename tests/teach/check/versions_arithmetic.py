"""Students' versions of the kernels."""

import math

import numpy as np

from .versions import right, wrong


def numbers(w):
    """A weight as its owner's float32 numbers."""
    return np.array(w.dense(np.float32))


def mapped(x, w):
    y = np.einsum("nd,od->no", x, numbers(w.weight))
    return y if w.bias is None else y + numbers(w.bias)


# ---- linear

right("linear")(mapped)


@right("linear")
def _(x, w):
    W = numbers(w.weight)
    out = np.zeros((len(x), len(W)), np.float32)
    for n in range(len(x)):
        for o in range(len(W)):
            out[n, o] = sum(x[n, d] * W[o, d] for d in range(x.shape[1]))
            if w.bias is not None:
                out[n, o] += numbers(w.bias)[o]
    return out


@right("linear")
def _(x, w):
    y = (numbers(w.weight).astype(np.float64) @ x.T).T
    return (y + numbers(w.bias)) if w.bias is not None else y


wrong("linear", "bias is missing")(lambda x, w: np.dot(x, numbers(w.weight).T))
wrong("linear", "subtracted")(lambda x, w: x @ numbers(w.weight).T - (numbers(w.bias) if w.bias else 0))
wrong("linear", "twice")(lambda x, w: mapped(x, w) + (numbers(w.bias) if w.bias else 0))
wrong("linear", "without a bias")(lambda x, w: x @ numbers(w.weight).T + numbers(w.bias))
wrong("linear", "without transposing")(lambda x, w: x @ numbers(w.weight) + (numbers(w.bias) if w.bias else 0))
wrong("linear", "(o, n)")(lambda x, w: np.transpose(mapped(x, w)))


# ---- rms_norm

def rms(x, norm, mean=lambda y: np.mean(y**2, -1, keepdims=True), eps_inside=True, weight=lambda w: w):
    m = mean(x)
    root = np.sqrt(m + norm.eps) if eps_inside else np.sqrt(m) + norm.eps
    return x / root * weight(numbers(norm.weight))


right("rms_norm")(rms)


@right("rms_norm")
def _(x, norm):
    out = np.empty_like(x)
    for n, row in enumerate(x):
        total = 0.0
        for value in row:
            total += float(value) * float(value)
        for d, value in enumerate(row):
            out[n, d] = value * (total / len(row) + norm.eps) ** -0.5 * norm.weight.dense(np.float64)[d]
    return out


@right("rms_norm")
def _(x, norm):
    y = x.astype(np.float64)
    scale = 1 / np.sqrt(np.einsum("nd,nd->n", y, y) / y.shape[1] + norm.eps)
    return np.einsum("nd,n,d->nd", y, scale, numbers(norm.weight))


wrong("rms_norm", "outside the root")(lambda x, norm: rms(x, norm, eps_inside=False))
wrong("rms_norm", "LayerNorm")(lambda x, norm: rms(x - np.mean(x, 1)[:, None], norm))
wrong("rms_norm", "sum of squares")(lambda x, norm: rms(x, norm, lambda y: np.sum(y**2, -1)[:, None]))
wrong("rms_norm", "1 + weight")(lambda x, norm: rms(x, norm, weight=lambda w: 1 + w))
wrong("rms_norm", "weight is missing")(lambda x, norm: rms(x, norm, weight=np.ones_like))
wrong("rms_norm", "axis 0")(lambda x, norm: rms(x, norm, lambda y: np.mean(y**2, 0)))
wrong("rms_norm", "whole array")(lambda x, norm: rms(x, norm, lambda y: np.mean(y**2)))


# ---- rotate

def turned(x, cos, sin, one=1, two=1):
    half = x.shape[-1] // 2
    out = np.zeros(x.shape, np.float32)
    for n in range(x.shape[0]):
        for i in range(half):
            a, b = x[n, :, i], x[n, :, half + i]
            out[n, :, i] = a * cos[n, i] - one * b * sin[n, i]
            out[n, :, half + i] = b * cos[n, i] + two * a * sin[n, i]
    return out


right("rotate")(turned)


@right("rotate")
def _(x, cos, sin):
    half = x.shape[2] // 2
    z = (x[..., :half] + 1j * x[..., half:]) * (cos + 1j * sin)[:, None]
    return np.concatenate([z.real, z.imag], -1)


@right("rotate")
def _(x, cos, sin):
    half = x.shape[2] // 2
    flipped = np.concatenate([-x[..., half:], x[..., :half]], -1)
    return np.einsum("nae,ne->nae", x, np.tile(cos, 2)) + np.einsum("nae,ne->nae", flipped, np.tile(sin, 2))


@wrong("rotate", "interleaved")
def _(x, cos, sin):
    z = (x[..., 0::2] + 1j * x[..., 1::2]) * (cos + 1j * sin)[:, None]
    return np.stack([z.real, z.imag], -1).reshape(x.shape)


wrong("rotate", "wrong way")(lambda x, c, s: turned(x, c, -s))
wrong("rotate", "second half")(lambda x, c, s: turned(x, c, s, two=-1))
wrong("rotate", "no minus")(lambda x, c, s: turned(x, c, s, one=-1))
wrong("rotate", "cosine alone")(lambda x, c, s: turned(x, c, 0 * s))
wrong("rotate", "halves", "swapped")(lambda x, c, s: np.roll(turned(x, c, s), x.shape[2] // 2, -1))


# ---- attend

def attention(q, k, v, segments, causal, scale=None, share=None, visible=None, soft=None):
    out = np.zeros_like(q)
    groups = q.shape[1] // k.shape[1]
    for q0, q1, k0, k1 in segments:
        for a in range(q.shape[1]):
            g = share(a, groups, k.shape[1]) if share else a // groups
            for i in range(q0, q1):
                last = k1 - (q1 - 1 - i) if causal else k1
                last = visible(i, q0, q1, k0, k1, causal) if visible else last
                s = np.array([np.dot(q[i, a], k[j, g]) for j in range(k0, last)]) * (scale or q.shape[2] ** -0.5)
                p = soft(s) if soft else np.exp(s - s.max()) / np.exp(s - s.max()).sum()
                out[i, a] = sum(p[j] * v[k0 + j, g] for j in range(len(p)))
    return out


right("attend")(attention)


@right("attend")
def _(q, k, v, segments, causal):
    group = q.shape[1] // k.shape[1]
    k, v = np.repeat(k, group, 1), np.repeat(v, group, 1)
    s = np.einsum("iae,jae->aij", q, k) / math.sqrt(q.shape[2])
    mask = np.full(s.shape[1:], -np.inf)
    for q0, q1, k0, k1 in segments:
        for i in range(q0, q1):
            mask[i, k0:k1 - (q1 - 1 - i) if causal else k1] = 0
    s = s + mask
    p = np.exp(s - s.max(-1, keepdims=True))
    return np.einsum("aij,jae->iae", p / p.sum(-1, keepdims=True), v).astype(np.float32)


@right("attend")
def _(q, k, v, segments, causal):
    q, out, kv = q.astype(np.float64), [], k.shape[1]
    for q0, q1, k0, k1 in segments:
        grouped = q[q0:q1].reshape(q1 - q0, kv, -1, q.shape[2])
        s = np.einsum("ikge,jke->kgij", grouped, k[k0:k1]) * q.shape[2] ** -0.5
        if causal:
            s = np.where(np.tri(q1 - q0, k1 - k0, (k1 - k0) - (q1 - q0), bool), s, -1e300)
        p = np.exp(s - s.max(-1, keepdims=True))
        p /= p.sum(-1, keepdims=True)
        out.append(np.einsum("kgij,jke->ikge", p, v[k0:k1]).reshape(q1 - q0, -1, q.shape[2]))
    return np.concatenate(out)


wrong("attend", "twice")(lambda q, *a: attention(q, *a, scale=1 / q.shape[2]))
wrong("attend", "scale is missing")(lambda *a: attention(*a, scale=1))
wrong("attend", "dealt out in turn")(lambda *a: attention(*a, share=lambda a, g, k: a % k))
wrong("attend", "never applied")(lambda *a: attention(*a, visible=lambda i, q0, q1, k0, k1, c: k1))
wrong("attend", "same start")(lambda *a: attention(
    *a, visible=lambda i, q0, q1, k0, k1, c: k0 + i - q0 + 1 if c else k1))
wrong("attend", "segments are ignored")(lambda q, k, v, s, c: attention(q, k, v, [(0, len(q), 0, len(k))], c))
wrong("attend", "keys where values")(lambda q, k, v, s, c: attention(q, k, k, s, c))
wrong("attend", "divided by their sum")(lambda *a: attention(*a, soft=lambda s: np.exp(s - s.max())))


# ---- gelu

right("gelu")(lambda x: np.array([[v * 0.5 * (1 + math.erf(v / 2**0.5)) for v in row] for row in x]))
right("gelu")(lambda x: x * (1 - 0.5 * np.vectorize(math.erfc, otypes=[float])(x / np.sqrt(2))))


@right("gelu")
def _(x):
    out = np.empty_like(x)
    for at in np.ndindex(x.shape):
        out[at] = x[at] / 2 * math.erfc(-float(x[at]) / math.sqrt(2))
    return out


wrong("gelu", "tanh")(lambda x: 0.5 * x * (1 + np.tanh(0.7978845608028654 * (x + 0.044715 * x * x * x))))
wrong("gelu", "1.702")(lambda x: x / (1 + np.exp(-1.702 * x)))
wrong("gelu", "SiLU")(lambda x: x / (1 + np.exp(-x)))
wrong("gelu", "ReLU")(lambda x: x * (x > 0))
wrong("gelu", "erf of x itself")(lambda x: np.vectorize(lambda v: v * (1 + math.erf(v)) / 2, otypes=[float])(x))


# ---- gated_mlp

def gated(x, w, gate=lambda g: g / (1 + np.exp(-g)), join=lambda g, u: g * u, split=lambda y: np.split(y, 2, 1)):
    g, u = split(mapped(x, w.gate_up))
    return mapped(join(gate(g), u), w.down)


right("gated_mlp")(gated)


@right("gated_mlp")
def _(x, w):
    inner = w.down.weight.shape[1]
    W, D = numbers(w.gate_up.weight).astype(np.float64), numbers(w.down.weight)
    b = np.zeros(2 * inner) if w.gate_up.bias is None else numbers(w.gate_up.bias)
    out = np.zeros((len(x), len(D)))
    for n, row in enumerate(x):
        for h in range(inner):
            g, u = W[h] @ row + b[h], W[inner + h] @ row + b[inner + h]
            out[n] += D[:, h] * g * u / (1 + math.exp(-g))
    return out if w.down.bias is None else out + numbers(w.down.bias)


@right("gated_mlp")
def _(x, w):
    y = mapped(x, w.gate_up).reshape(len(x), 2, -1)
    return mapped(np.einsum("nh,nh,nh->nh", y[:, 0], y[:, 1], 0.5 * (1 + np.tanh(y[:, 0] / 2))), w.down)


wrong("gated_mlp", "gate and up are swapped")(lambda x, w: gated(x, w, split=lambda y: np.split(y, 2, 1)[::-1]))
wrong("gated_mlp", "GELU")(lambda x, w: gated(
    x, w, gate=lambda g: g * 0.5 * (1 + np.vectorize(math.erf, otypes=[float])(g / 2**0.5))))
wrong("gated_mlp", "only sigmoid")(lambda x, w: gated(x, w, gate=lambda g: 1 / (1 + np.exp(-g))))
wrong("gated_mlp", "you add gate and up")(lambda x, w: gated(x, w, join=np.add))
wrong("gated_mlp", "no activation")(lambda x, w: gated(x, w, gate=np.copy))
wrong("gated_mlp", "even and odd")(lambda x, w: gated(x, w, split=lambda y: (y[:, 0::2], y[:, 1::2])))


# ---- take_rows, log_softmax

right("take_rows")(lambda x, index: np.take(x, index, axis=0))
right("take_rows")(lambda x, index: np.stack([x[i] for i in index]))
right("take_rows")(lambda x, index: np.einsum("in,n...->i...", np.eye(len(x))[index], x))
wrong("take_rows", "reverse")(lambda x, index: np.stack([x[i] for i in index])[::-1])
wrong("take_rows", "sorted")(lambda x, index: np.stack([x[i] for i in sorted(index)]))
wrong("take_rows", "once only")(lambda x, index: np.stack([x[i] for i in sorted(set(index.tolist()))]))
wrong("take_rows", "from the end")(lambda x, index: np.flip(x, 0)[index])
wrong("take_rows", "from 1")(lambda x, index: np.stack([x[max(i - 1, 0)] for i in index]))


@right("log_softmax")
def _(x):
    top = x.max(1)[:, None]
    return x - (top + np.log(np.exp(x - top).sum(1))[:, None])


@right("log_softmax")
def _(x):
    return np.array([[v - max(row) - math.log(sum(math.exp(u - max(row)) for u in row)) for v in row]
                     for row in x.tolist()])


right("log_softmax")(lambda x: x - np.logaddexp.reduce(x.astype(np.float64), axis=-1, keepdims=True))
wrong("log_softmax", "softmax itself")(lambda x: np.exp(x - x.max(1)[:, None]) /
                                       np.exp(x - x.max(1)[:, None]).sum(1)[:, None])
wrong("log_softmax", "overflows", "in the sum")(lambda x: x - np.log(np.sum(np.exp(x), axis=1))[:, None])
wrong("log_softmax", "whole array")(lambda x: x - np.logaddexp.reduce(x, axis=None))
wrong("log_softmax", "axis 0")(lambda x: x - np.logaddexp.reduce(x, axis=0))
wrong("log_softmax", "base 2")(lambda x: (x - np.logaddexp.reduce(x, axis=-1, keepdims=True)) * math.log2(math.e))
