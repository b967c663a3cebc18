"""The arithmetic of the model: from `linear` to `log_softmax`."""

from __future__ import annotations

import math

import numpy as np

from ....kernels import definition as kernels
from .. import plain
from ..draws import Draws
from ..exercise import Exercise, Variant
from .small import bias, halves, lin, matrix, normed

_erf = np.vectorize(math.erf, otypes=[float])


def exact_gelu(x):
    return x * 0.5 * (1 + _erf(x / math.sqrt(2)))


def tanh_gelu(x):
    return x * 0.5 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


# ------------------------------------------------------------------------------------------- linear

def _draw_linear(d: Draws) -> tuple:
    into = d.whole(1, 8)
    return d.floats(d.whole(1, 6), into), d.linear(into, d.whole(1, 8))


LINEAR = Exercise(
    "linear", "kernel.linear", "x @ W.T + b, with W (out, in) and a bias or none: n d -> n o",
    kernels.linear,
    _draw_linear, lambda x, w: x.shape[1], {"a bias": lambda x, w: w.bias is not None})
LINEAR.wrong("bias_missing", lambda x, w: x @ matrix(w).T,
             "your bias is missing: where w.bias is not None, it is added to every row")
LINEAR.wrong("weight_reshaped", lambda x, w: x @ matrix(w).reshape(w.weight.shape[::-1]) + bias(w),
             "W is not transposed but reshaped: it is stored (out, in), and the product is x @ W.T")
LINEAR.wrong("bias_subtracted", lambda x, w: x @ matrix(w).T - bias(w),
             "your bias is subtracted; it is added")
LINEAR.wrong("bias_twice", lambda x, w: x @ matrix(w).T + 2 * bias(w), "your bias is added twice")
LINEAR.wrong("fails_without_bias", lambda x, w: x @ matrix(w).T + w.bias.dense(np.float64),
             "your function fails without a bias: w.bias is None in many maps of the model")
LINEAR.wrong("outputs_first", lambda x, w: lin(x, w).T,
             "you give (o, n): rows of the result belong to rows of x")
LINEAR.wrong("bias_before_product", lambda x, w: x @ matrix(w).T + x.shape[1] * bias(w),
             "your bias is added to x, before the product, or scaled by the number of inputs")
LINEAR.wrong("not_transposed", lambda x, w: x @ matrix(w) + bias(w),
             "you multiply without transposing: W is stored (out, in), so it is x @ W.T")


# ----------------------------------------------------------------------------------------- rms_norm

def _draw_norm(d: Draws) -> tuple:
    width = d.whole(1, 8)
    return d.floats(d.whole(1, 5), width, scale=d.pick([1.0, 30.0, 0.05])), d.norm(width)


def _weight(norm):
    return norm.weight.dense(np.float64)


def _norm_variant(d: Draws) -> Variant:
    power, first = d.pick([1, 4, 3]), d.flag()
    return Variant(f"each row is divided by the {power}-norm mean, (mean(|x|^{power}) + "
                   f"eps)^(1/{power}), instead of "
                   f"the root mean square, and the weight is applied {'before' if first else 'after'} "
                   f"that division",
                   plain.power_norm(power, first))


NORM = Exercise(
    "rms_norm", "kernel.rms_norm", "each row over its root mean square, times the weight: n d -> n d",
    kernels.rms_norm, _draw_norm, lambda x, norm: x.shape[1],
    {"an eps that counts": lambda x, norm: norm.eps > 1e-3}, variants=_norm_variant)
NORM.fault("eps-outside-the-root", "eps is outside the root: it is added to the mean square, inside")
NORM.wrong("eps_missing", lambda x, norm: x / np.sqrt((x * x).mean(-1, keepdims=True)) * _weight(norm),
           "eps is missing")
NORM.wrong("layer_norm", lambda x, norm: normed(x - x.mean(-1, keepdims=True), norm),
           "you take off the mean of the row: that is LayerNorm; RMSNorm does not")
NORM.wrong("standard_deviation",
           lambda x, norm: x / np.sqrt(x.var(-1, keepdims=True) + norm.eps) * _weight(norm),
           "you divide by the standard deviation; RMSNorm takes no mean off, there neither")
NORM.wrong("sum_of_squares",
           lambda x, norm: x / np.sqrt((x * x).sum(-1, keepdims=True) + norm.eps) * _weight(norm),
           "you take the sum of squares instead of their mean")
NORM.wrong("root_missing",
           lambda x, norm: x / ((x * x).mean(-1, keepdims=True) + norm.eps) * _weight(norm),
           "the root is missing: you divide by the mean square")
NORM.wrong("weight_missing", lambda x, norm: x / np.sqrt((x * x).mean(-1, keepdims=True) + norm.eps),
           "the weight is missing")
NORM.fault("norm-plus-one", "the weight is applied as 1 + weight, as in other models; here it is the "
           "factor itself")
NORM.wrong("mean_down_the_rows",
           lambda x, norm: x / np.sqrt((x * x).mean(0, keepdims=True) + norm.eps) * _weight(norm),
           "your mean square is formed over the rows (axis 0); each row has its own (axis -1)")
NORM.wrong("one_mean_for_all", lambda x, norm: x / np.sqrt((x * x).mean() + norm.eps) * _weight(norm),
           "one mean square for the whole array: each row has its own (axis=-1, keepdims=True)")


# ------------------------------------------------------------------------------------------- rotate

def _draw_rotate(d: Draws) -> tuple:
    n, half = d.whole(1, 5), d.whole(1, 4)
    angles = d.floats(n, half, scale=3.0)
    return d.floats(n, d.whole(1, 3), 2 * half), np.cos(angles), np.sin(angles)


def _rotate_variant(d: Draws) -> Variant:
    interleaved, backwards = d.pick([(True, False), (False, True), (True, True)])
    pairs = "neighbours, (x[2i], x[2i+1])," if interleaved else "(x[i], x[i + e/2])"
    return Variant(f"pairs are {pairs} and turn {'by minus' if backwards else 'by'} the angle",
                   plain.rotation(interleaved, backwards))


ROTATE = Exercise(
    "rotate", "kernel.rotate", "each pair (x[i], x[i + e/2]) of a head turned by the angle i of its row",
    kernels.rotate, _draw_rotate, facts={"more than one pair in a head": lambda x, c, s: x.shape[2] > 2,
                                         "more than one head": lambda x, c, s: x.shape[1] > 1},
    variants=_rotate_variant)
ROTATE.fault("rotary-pairs-interleaved", "interleaved halves: you turn neighbours (x[2i], x[2i+1]); "
             "pairs are (x[i], x[i + e/2])")
def _turned(pair):
    """A rotation by `pair` of both halves, cosine and sine, which gives both halves again."""
    return lambda x, cos, sin: np.concatenate(pair(*halves(x), cos[:, None], sin[:, None]), -1)


ROTATE.wrong("turned_backwards", _turned(lambda a, b, c, s: (a * c + b * s, b * c - a * s)),
             "you turn the wrong way: the sign of the sine is swapped")
ROTATE.wrong("same_sign_twice", _turned(lambda a, b, c, s: (a * c - b * s, b * c - a * s)),
             "both halves have the sign of the first: it is b*cos + a*sin in the second half")
ROTATE.wrong("no_minus", _turned(lambda a, b, c, s: (a * c + b * s, b * c + a * s)),
             "no minus anywhere: it is a*cos - b*sin in the first half")
ROTATE.wrong("turned_half_again",
             _turned(lambda a, b, c, s: (a * c - b * s, b * c + (a * c - b * s) * s)),
             "you use the first half again after it was turned: the second half needs the old one")
ROTATE.wrong("halves_swapped", _turned(lambda a, b, c, s: (b * c + a * s, a * c - b * s)),
             "the two halves of your result are swapped")
ROTATE.wrong("cosine_is_sine", _turned(lambda a, b, c, s: (a * s - b * c, b * s + a * c)),
             "cosine and sine are swapped")
ROTATE.wrong("cosine_alone", lambda x, cos, sin: x * np.tile(cos, 2)[:, None],
             "you multiply by the cosine alone: the part with the sine is missing")


@ROTATE.mistake("only the first head is turned: every head of a row turns by the same angles")
def first_head_only(x, cos, sin):
    (a, b), c, s = halves(x), cos[:, None], sin[:, None]
    return np.concatenate([np.concatenate([a * c - b * s, b * c + a * s], -1)[:, :1], x[:, 1:]], 1)


# ------------------------------------------------------------------------------------------- attend

def _draw_attend(d: Draws) -> tuple:
    """Segments of queries; keys as many as queries, or more before them as in a cache."""
    causal = d.flag()
    kv, group, width = d.whole(1, 2), d.whole(1, 3), d.whole(1, 4)
    rows, q0, k0 = [], 0, 0
    for _ in range(d.whole(1, 3)):
        queries, before = d.whole(1, 4), d.whole(0, 3) if causal else 0
        rows.append((q0, q0 + queries, k0, k0 + queries + before))
        q0, k0 = q0 + queries, k0 + queries + before
    scale = d.pick([1.0, 40.0])  # large scores: exp(score) alone would overflow
    return (d.floats(q0, kv * group, width, scale=scale), d.floats(k0, kv, width),
            d.floats(k0, kv, width),
            np.array(rows, np.int64), causal)


def _attend(q, k, v, segments, causal, *, scale=None, head=None, seen=None, weights=None):
    """Attention with one thing at a time made another way."""
    out, group = np.zeros(q.shape), q.shape[1] // k.shape[1]
    scale = q.shape[2] ** -0.5 if scale is None else scale
    for q0, q1, k0, k1 in segments.tolist():
        for a in range(q.shape[1]):
            other = head(a, group, k.shape[1]) if head else a // group
            score = q[q0:q1, a] @ k[k0:k1, other].T * scale
            i, j = np.indices(score.shape)
            allowed = seen(i, j, *score.shape) if seen else j <= i + score.shape[1] - score.shape[0]
            score = np.where(allowed, score, -np.inf) if causal else score
            out[q0:q1, a] = (weights or softmax)(score) @ v[k0:k1, other]
    return out


def softmax(score, axis=-1):
    e = np.exp(score - score.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


ATTEND = Exercise(
    "attend", "kernel.attend", "attention inside segments; grouped heads; causal or not: n a e -> n a e",
    kernels.attend, _draw_attend, lambda q, k, v, segments, causal: 64 * (len(k) + q.shape[2]),
    {"causal = True": lambda q, k, v, g, causal: causal,
     "causal = False": lambda q, k, v, g, causal: not causal,
     "more query heads than key-value heads": lambda q, k, v, g, c: q.shape[1] > k.shape[1],
     "several segments": lambda q, k, v, g, c: len(g) > 1,
     "keys from before the queries (a cache)": lambda q, k, v, g, c: len(k) > len(q),
     "large scores": lambda q, k, v, g, c: np.abs(q).max(initial=0) > 8})
ATTEND.wrong("scaled_twice", lambda q, *rest: _attend(q, *rest, scale=1 / q.shape[2]),
             "you divided by sqrt(e) twice")
ATTEND.wrong("scale_missing", lambda *args: _attend(*args, scale=1.0),
             "the scale is missing: scores are divided by sqrt(e), e the width of a head")
ATTEND.wrong("scaled_by_whole_width",
             lambda q, *rest: _attend(q, *rest, scale=(q.shape[1] * q.shape[2]) ** -0.5),
             "your scale is that of the whole width (heads x e): it is the width of one head")
ATTEND.wrong("heads_dealt_in_turn", lambda *args: _attend(*args, head=lambda a, group, kv: a % kv),
             "grouped heads are dealt out in turn (a % k): query head a belongs to key-value head a // "
             "(a/k), so neighbours share one")
ATTEND.wrong("one_kv_head", lambda *args: _attend(*args, head=lambda a, group, kv: 0),
             "all query heads look at key-value head 0")
ATTEND.wrong("causal_never", lambda q, k, v, segments, causal: _attend(q, k, v, segments, False),
             "causal is never applied: with causal, query i must not see keys after itself")
ATTEND.wrong("causal_always", lambda q, k, v, segments, causal: _attend(q, k, v, segments, True),
             "causal is always applied: without it every query sees its whole segment")
ATTEND.wrong("causal_from_one_start", lambda *args: _attend(*args, seen=lambda i, j, n, m: j <= i),
             "your causal mask counts queries and keys from the same start; the last query sees the "
             "last key, so query i sees j <= i + (k1-k0) - (q1-q0)")
ATTEND.wrong("causal_hides_itself",
             lambda *args: _attend(*args, seen=lambda i, j, n, m: j < np.maximum(i + m - n, 1)),
             "your causal mask hides the row itself: query i sees key i too (<=, not <)")
ATTEND.wrong("causal_upside_down", lambda *args: _attend(*args, seen=lambda i, j, n, m: j >= i + m - n),
             "your causal mask is upside down: query i sees what comes after it")
ATTEND.wrong("segments_ignored",
             lambda q, k, v, _, causal: _attend(q, k, v, np.array([[0, len(q), 0, len(k)]]), causal),
             "segments are ignored: every query sees every row, across windows and conversations")
ATTEND.wrong("softmax_over_queries",
             lambda *args: _attend(*args, weights=lambda score: softmax(score, 0)),
             "your softmax runs over the queries (axis 0): the weights of one query sum to one")
ATTEND.wrong("masked_score_zero",
             lambda *args: _attend(*args, weights=lambda s: softmax(np.where(np.isinf(s), 0, s))),
             "masked scores are set to 0: exp(0) = 1 is still a weight; set them to -inf before the "
             "softmax, or their weights to 0 and divide by the sum of those that are left")


@ATTEND.mistake("masked weights are set to 0 after the softmax and not divided by their sum again")
def masked_after_softmax(q, k, v, segments, causal):
    out, group = np.zeros(q.shape), q.shape[1] // k.shape[1]
    for q0, q1, k0, k1 in segments.tolist():
        for a in range(q.shape[1]):
            score = q[q0:q1, a] @ k[k0:k1, a // group].T * q.shape[2] ** -0.5
            i, j = np.indices(score.shape)
            weight = softmax(score) * ((j <= i + (k1 - k0) - (q1 - q0)) | (not causal))
            out[q0:q1, a] = weight @ v[k0:k1, a // group]
    return out


ATTEND.wrong("score_overflows",
             lambda *args: _attend(*args,
                                   weights=lambda s: np.exp(s) / np.exp(s).sum(-1, keepdims=True)),
             "exp overflows on large scores: take the largest score of each query off before exp")
ATTEND.wrong("no_softmax",
             lambda *args: _attend(*args, weights=lambda s: np.exp(s - s.max(-1, keepdims=True))),
             "the softmax is missing or its weights are not divided by their sum")
ATTEND.wrong("keys_for_values", lambda q, k, v, segments, causal: _attend(q, k, k, segments, causal),
             "you sum keys where values belong")


# --------------------------------------------------------------------------------------------- gelu

def _draw_gelu(d: Draws) -> tuple:
    return (d.floats(d.whole(1, 5), d.whole(1, 6), scale=d.pick([1.0, 3.0])),)


GELU = Exercise("gelu", "kernel.gelu", "x * Phi(x), with the exact error function: n d -> n d",
                kernels.gelu,
                _draw_gelu)
GELU.fault("gelu-by-tanh", "that is the tanh approximation; the model has the exact error function "
           "(math.erf)")
GELU.wrong("gelu_by_sigmoid", lambda x: x * sigmoid(1.702 * x),
           "that is x * sigmoid(1.702 x), an approximation; the model has the exact error function")
GELU.wrong("gelu_is_silu", lambda x: x * sigmoid(x), "that is SiLU, x * sigmoid(x)")
GELU.wrong("gelu_is_relu", lambda x: np.maximum(x, 0), "that is ReLU")
GELU.wrong("erf_of_x", lambda x: x * 0.5 * (1 + _erf(x)), "erf of x itself: its argument is x / sqrt(2)")
GELU.wrong("half_missing", lambda x: x * (1 + _erf(x / math.sqrt(2))),
           "the factor 0.5 is missing: Phi(x) = 0.5 * (1 + erf(x / sqrt(2)))")
GELU.wrong("phi_alone", lambda x: 0.5 * (1 + _erf(x / math.sqrt(2))),
           "you give Phi(x) without the factor x")
GELU.wrong("erf_of_root_two_x", lambda x: x * 0.5 * (1 + _erf(x * math.sqrt(2))),
           "erf of x * sqrt(2): its argument is x / sqrt(2)")
GELU.wrong("one_missing", lambda x: x * 0.5 * _erf(x / math.sqrt(2)),
           "the 1 + is missing: Phi(x) = 0.5 * (1 + erf(x / sqrt(2)))")


# ---------------------------------------------------------------------------------------- gated_mlp

def _draw_mlp(d: Draws) -> tuple:
    width = d.whole(1, 6)
    return d.floats(d.whole(1, 5), width), d.mlp(width, d.whole(1, 6))


def _gate_variant(d: Draws) -> Variant:
    up_first, name = d.flag(), d.pick(["tanh", "relu", "sigmoid"])
    order = "above" if up_first else "below"
    return Variant(f"the gate goes through {name} instead of SiLU, and in gate_up the up map stands "
                   f"{order} the gate",
                   plain.gating(name, up_first))


MLP = Exercise("gated_mlp", "kernel.gated_mlp",
               "down(silu(gate(x)) * up(x)); gate above up in one matrix: n d -> n d",
               kernels.gated_mlp, _draw_mlp, lambda x, w: 2 * (x.shape[1] + w.down.weight.shape[1]),
               {"biases": lambda x, w: w.down.bias is not None}, variants=_gate_variant)


def _gated(join, split=halves):
    """The gated MLP with its two inner parts, found by `split`, joined by `join`."""
    return lambda x, w: lin(join(*split(lin(x, w.gate_up))), w.down)


MLP.wrong("gate_and_up_swapped", _gated(lambda gate, up: gate * up * sigmoid(up)),
          "gate and up are swapped: gate is the first half of gate_up, and SiLU is for the gate alone")
MLP.wrong("gate_is_gelu", _gated(lambda gate, up: exact_gelu(gate) * up),
          "your gate is GELU: it is SiLU")
MLP.wrong("gate_is_sigmoid", _gated(lambda gate, up: sigmoid(gate) * up),
          "the gate is only sigmoid: it is SiLU, gate * sigmoid(gate)")
MLP.wrong("silu_on_both", _gated(lambda gate, up: gate * sigmoid(gate) * up * sigmoid(up)),
          "SiLU is applied to up as well; it is for the gate alone")
MLP.wrong("gate_plus_up", _gated(lambda gate, up: gate * sigmoid(gate) + up),
          "you add gate and up; they are multiplied")
MLP.wrong("no_activation", _gated(lambda gate, up: gate * up),
          "there is no activation: the gate goes through SiLU before it meets up")
MLP.wrong("up_missing", _gated(lambda gate, up: gate * sigmoid(gate)),
          "up is missing: the gate alone goes through down")
MLP.wrong("even_and_odd",
          _gated(lambda gate, up: gate * sigmoid(gate) * up, split=lambda y: (y[:, ::2], y[:, 1::2])),
          "gate and up are read as even and odd rows of gate_up; gate is its first half, up its second")


@MLP.mistake("your biases are missing: in the vision tower both maps have one, in the decoder none")
def mlp_biases_missing(x, w):
    gate, up = halves(x @ matrix(w.gate_up).T)
    return (gate * sigmoid(gate) * up) @ matrix(w.down).T


MLP.wrong("mlp_residual", lambda x, w: x + MLP.definition(x, w),
          "x is added to the result: the residual sum is another stage's")
MLP.wrong("silu_of_product", _gated(lambda gate, up: gate * up * sigmoid(gate * up)),
          "gate and up are multiplied first, and their product goes through SiLU: only gate does")
MLP.wrong("gate_is_relu", _gated(lambda gate, up: np.maximum(gate, 0) * up),
          "your gate is ReLU, which cuts negative numbers off: it is SiLU, which is smooth")


# ---------------------------------------------------------------------------------------- take_rows

def _draw_rows(d: Draws) -> tuple:
    rows = d.whole(1, 6)
    x = d.floats(rows, d.whole(1, 3), 2) if d.flag() else d.floats(rows, d.whole(1, 4))
    return x, d.generator().integers(0, rows, d.whole(1, 8))


ROWS = Exercise("take_rows", "kernel.take_rows", "row index[i] of x at place i, whatever a row holds",
                kernels.take_rows, _draw_rows,
                facts={"rows of more than one axis": lambda x, index: x.ndim > 2})


@ROWS.mistake("you scatter: row i goes to place index[i]; it should come from there")
def scattered(x, index):
    out = np.zeros((len(index), *x.shape[1:]))
    for i, j in enumerate(index):
        if j < len(out) and i < len(x):
            out[j] = x[i]
    return out


ROWS.wrong("index_sorted", lambda x, index: x[np.sort(index)],
           "your rows come sorted by their number; they come in the order of index")
ROWS.wrong("rows_once", lambda x, index: x[np.unique(index)],
           "each row comes once only: index may name a row several times")
ROWS.wrong("index_from_one", lambda x, index: x[np.maximum(index - 1, 0)],
           "you count from 1: row index[i] is one further down")
ROWS.wrong("index_from_the_end", lambda x, index: x[-1 - index], "you count from the end")
ROWS.wrong("index_inverted",
           lambda x, index: x[np.minimum(np.argsort(index, kind="stable"), len(x) - 1)],
           "that is argsort(index): the inverse of a permutation, where index itself is asked")
ROWS.wrong("rows_reversed", lambda x, index: x[index[::-1]], "your rows come in reverse")


# -------------------------------------------------------------------------------------- log_softmax

def _draw_scores(d: Draws) -> tuple:
    return (d.floats(d.whole(1, 4), d.whole(1, 8), scale=d.pick([1.0, 100.0])),)


SOFTMAX = Exercise("log_softmax", "kernel.log_softmax",
                   "log(exp(x) / sum(exp(x))) of each row: n v -> n v",
                   kernels.log_softmax, _draw_scores, lambda x: x.shape[1],
                   {"scores of hundreds": lambda x: np.abs(x).max() > 80})
SOFTMAX.wrong("exp_overflows", lambda x: np.log(np.exp(x) / np.exp(x).sum(-1, keepdims=True)),
              "exp overflows on scores of hundreds: take the largest of each row off first; the result "
              "is the same")
SOFTMAX.wrong("sum_overflows", lambda x: x - np.log(np.exp(x).sum(-1, keepdims=True)),
              "exp overflows on scores of hundreds: take the largest of each row off first, in the sum")
SOFTMAX.wrong("no_logarithm", lambda x: softmax(x),
              "that is the softmax itself: its logarithm is missing")
SOFTMAX.wrong("log_of_zero", lambda x: np.log(softmax(x)),
              "log of a softmax that has become 0: form x - max - log(sum(exp(x - max)))")
SOFTMAX.wrong("one_sum_for_all", lambda x: x - x.max() - np.log(np.exp(x - x.max()).sum()),
              "one sum for the whole array: each row sums to one (axis=-1, keepdims=True)")
SOFTMAX.wrong("sum_down_the_columns", lambda x: x - x.max(0) - np.log(np.exp(x - x.max(0)).sum(0)),
              "your sum runs down the columns (axis 0): each row is one distribution, axis -1")
SOFTMAX.wrong("shift_unaccounted",
              lambda x: x - np.log(np.exp(x - x.max(-1, keepdims=True)).sum(-1, keepdims=True)),
              "the largest is taken off and never accounted for: x must be shifted on both sides")
SOFTMAX.wrong("sum_missing", lambda x: x - x.max(-1, keepdims=True),
              "only the largest is taken off; the logarithm of the sum is missing")
SOFTMAX.wrong("base_two", lambda x: SOFTMAX.definition(x) / np.log(2),
              "a logarithm to base 2 (or 10): it is the natural one")

EXERCISES = [LINEAR, NORM, ROTATE, ATTEND, GELU, MLP, ROWS, SOFTMAX]
