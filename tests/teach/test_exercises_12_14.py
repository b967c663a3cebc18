"""The checks of lessons 12 to 14 take right answers in any style and name the usual mistakes, as in test_lessons.py."""

import json
import math
import re

import numpy as np
import pytest

import minivl
from minivl.teach import lessons as exercises

BOX = re.compile(r'"bbox_2d":\s*\[\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*\]\s*,\s*"label":\s*"([^"]*)"')
OPEN_BOX = re.compile(r'"bbox_2d":\s*\[\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)')


# ---- lesson 12 ---------------------------------------------------------------------------------------------

def iou_with(a, b, union=lambda shared, one, other: one + other - shared, cut=True, add=0):
    """IoU by broadcasting, with a slip where one is asked for."""
    a, b = np.asarray(a, float)[:, None], np.asarray(b, float)[None]
    side = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]) + add
    shared = (np.maximum(side, 0) if cut else side).prod(axis=-1)
    areas = [(box[..., 2:] - box[..., :2] + add).prod(axis=-1) for box in (a, b)]
    below = union(shared, *areas)
    return np.divide(shared, below, out=np.zeros_like(shared), where=below > 0)


def iou_by_loops(a, b):
    out = []
    for x0, y0, x1, y1 in a.tolist():
        line = []
        for u0, v0, u1, v1 in b.tolist():
            shared = max(0, min(x1, u1) - max(x0, u0)) * max(0, min(y1, v1) - max(y0, v0))
            union = (x1 - x0) * (y1 - y0) + (u1 - u0) * (v1 - v0) - shared
            line.append(shared / union if union else 0)
        out.append(line)
    return out


def nan_iou(a, b):
    found = iou_with(a, b)
    areas = [(box[:, 2:] - box[:, :2]).prod(axis=1) for box in (np.asarray(a), np.asarray(b))]
    return np.where((areas[0] == 0)[:, None] & (areas[1] == 0), np.nan, found)


def complete(answer):
    return [(m[5], [int(m[n]) for n in range(1, 5)]) for m in BOX.finditer(answer)]


def piece_by_piece(answer):
    """With the json module, object after object, each as long as it is whole."""
    found = []
    for start in (n for n, letter in enumerate(answer) if letter == "{"):
        end = answer.find("}", start)
        if end > 0:
            one = json.loads(answer[start : end + 1])
            if len(one["bbox_2d"]) == 4:
                found.append((one["label"], one["bbox_2d"]))
    return found


def between_brackets(answer):
    """Fences and prose are no trouble for it, a missing bracket is."""
    try:
        listed = json.loads(answer[answer.index("[") : answer.rindex("]") + 1])
    except ValueError:
        return []
    return [(one["label"], one["bbox_2d"]) for one in listed if len(one["bbox_2d"]) == 4]


def unfinished(answer):
    whole = complete(answer)
    return whole + [("", [int(n) for n in m.groups()]) for m in list(OPEN_BOX.finditer(answer))[len(whole) :]]


# ---- lesson 13 ---------------------------------------------------------------------------------------------

def on_bits(x, add=0x7FFF, even=True):
    u = x.view(np.uint32)
    last = (u >> np.uint32(16)) & np.uint32(1) if even else np.uint32(0)
    return ((u + np.uint32(add) + last) & np.uint32(0xFFFF0000)).view(np.float32)


def by_arithmetic(x):
    m, e = np.frexp(x.astype(float))
    return np.ldexp(np.rint(m * 256), e - 8).astype(np.float32)


def norm_16(x, weight, eps, wide=np.float32):
    y = x.astype(wide)
    return y / np.sqrt((y * y).mean(axis=1, keepdims=True, dtype=wide) + wide(eps))


def wrong_sums(x, weight, eps):
    return (norm_16(x, weight, eps).astype(np.float16) * weight * np.float16(1.002)).astype(np.float16)


# ---- lesson 14 ---------------------------------------------------------------------------------------------

def log_softmax(z, shift=True):
    z = z - z.max(axis=1, keepdims=True) if shift else z
    return z - np.log(np.exp(z).sum(axis=1, keepdims=True))


def surprises(logits, ids, shift=True):
    return -log_softmax(logits[:-1], shift)[np.arange(len(ids) - 1), ids[1:]]


def here(logits, ids):
    return -log_softmax(logits)[np.arange(len(ids)), ids]


def loss_by_loops(logits, ids, mask):
    found = [math.log(sum(math.exp(z - max(row)) for z in row)) + max(row) - row[ids[n + 1]]
             for n, row in enumerate(logits[:-1].tolist()) if mask[n + 1]]
    return sum(found) / len(found)


def softplus(x):
    return max(x, 0) + math.log1p(math.exp(-abs(x)))


def pair_loss(right, wrong, right_before, wrong_before, beta):
    return np.logaddexp(0, -beta * ((right - right_before) - (wrong - wrong_before)))


def slope(h, E, t, tau, inner=None, outer=None):
    """The gradient, with the tau of the softmax and the factor in front changed where one is asked for."""
    z = h @ E.T / (inner or tau)
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    return (p - np.eye(len(E))[t]).T @ h / (outer or len(t) * tau)


def without_target(h, E, t, tau):
    p = np.exp(log_softmax(h @ E.T / tau))
    return p.T @ h / (len(t) * tau)


RIGHT = [
    ("12.1", iou_with), ("12.1", iou_by_loops), ("12.2", complete), ("12.2", piece_by_piece),
    ("13.1", on_bits), ("13.1", by_arithmetic),
    ("13.2", lambda x, w, eps: norm_16(x, w, eps).astype(np.float16) * w),
    ("13.2", lambda x, w, eps: norm_16(x, w, eps, np.float64).astype(np.float16) * w),
    ("14.1", loss_by_loops), ("14.1", lambda z, ids, mask: surprises(z, ids)[mask[1:]].mean()),
    ("14.1", lambda z, ids, mask: (surprises(z, ids) * mask[1:]).sum() / mask[1:].sum()),
    ("14.2", pair_loss), ("14.2", lambda a, b, c, d, beta: softplus(-beta * ((a - b) - (c - d)))),
    ("14.3", slope),
    ("14.3", lambda h, E, t, tau: sum(slope(h[[i]], E, t[[i]], tau) for i in range(len(t))) / len(t))]


@pytest.mark.parametrize(("number", "answer"), RIGHT)
def test_a_check_takes_a_right_answer_in_any_style(number, answer):
    minivl.check(number, answer)


MISTAKES = [
    ("12.1", lambda a, b: iou_with(a, b, lambda s, one, other: one + other), "counts once"),
    ("12.1", lambda a, b: iou_with(a, b, lambda s, one, other: one + 0 * other), "one box's area"),
    ("12.1", lambda a, b: iou_with(a, b, cut=False), "two negative sides"),
    ("12.1", lambda a, b: iou_with(a, b, add=1), "adds 1 to each side"),
    ("12.1", lambda a, b: iou_with(a, b, lambda s, one, other: np.ones_like(s)), "that is the shared area"),
    ("12.1", lambda a, b: iou_with(a[:1], b[:1]), "should give the shape"),
    ("12.1", nan_iou, "a box without area gives NaN"),
    ("12.1", lambda a, b: iou_with(a[:, [1, 0, 3, 2]], b), "a box with itself"),
    ("12.1", lambda a, b: iou_with(a, b) if len(a) == 2 else np.zeros((5, 6)), "should give the shape"),
    ("12.2", lambda text: [(o["label"], o["bbox_2d"]) for o in json.loads(text)], "raises JSONDecodeError"),
    ("12.2", lambda text: [], "one whole box: 1 complete, you give 0"),
    ("12.2", between_brackets, "last bracket is missing: 2 complete, you give 0"),
    ("12.2", unfinished, "the next digit makes another number"),
    ("12.2", lambda text: [(name, tuple(map(float, four))) for name, four in complete(text)], "should be int"),
    ("12.2", lambda text: [four for _, four in complete(text)], "each entry is"),
    ("12.2", lambda text: tuple(complete(text)), "a list should come out"),
    ("12.2", lambda text: [(name, four[::-1]) for name, four in complete(text)], "yours is"),
    ("12.2", lambda text: complete(text) if text.endswith("]") or "bbox" not in text else [], "in a fence: 1 complete"),
    ("13.1", lambda x: on_bits(x, 0, even=False), "cuts the lower bits off"),
    ("13.1", lambda x: on_bits(x, 0x8000, even=False), "ties? goes to the neighbour|a tie goes to"),
    ("13.1", lambda x: on_bits(x, 0x7FFF, even=False), "the even one is"),
    ("13.1", lambda x: x.astype(np.float16).astype(np.float32), "that is float16"),
    ("13.1", lambda x: x, "nothing is rounded"),
    ("13.1", lambda x: on_bits(x).astype(float), "float32 should come out"),
    ("13.1", lambda x: on_bits(x)[:3], "should give the shape"),
    ("13.1", lambda x: np.where(x == 257, x, on_bits(x)).astype(np.float32), "257 should become 256"),
    ("13.1", lambda x: on_bits(x) if x.ndim == 1 else on_bits(x, 0, even=False), "of 1000 are wrong"),
    ("13.2", lambda x, w, eps: norm_16(x, w, eps, np.float16) * w, "their squares overflow float16"),
    ("13.2", lambda x, w, eps: (norm_16(x, w, eps) * w).astype(np.float16), "rounded once too few"),
    ("13.2", lambda x, w, eps: norm_16(x, w, eps) * w, "float16 should come out"),
    ("13.2", lambda x, w, eps: norm_16(x, w, eps).astype(np.float16), "weight is missing"),
    ("13.2", lambda x, w, eps: x * w, "the first number should be"),
    ("13.2", wrong_sums, "are rounded otherwise"),
    ("14.1", lambda z, ids, mask: surprises(z, ids).mean(), "counts all tokens"),
    ("14.1", lambda z, ids, mask: here(z, ids)[mask].mean(), "which it has read already"),
    ("14.1", lambda z, ids, mask: surprises(z, ids)[mask[:-1]].mean(), "mask is not shifted"),
    ("14.1", lambda z, ids, mask: surprises(z, ids)[mask[1:]].sum(), "that is the sum"),
    ("14.1", lambda z, ids, mask: (surprises(z, ids) * mask[1:]).mean(), "divide by those that count"),
    ("14.1", lambda z, ids, mask: surprises(z, ids)[mask[1:]].sum() / mask.sum(), "one too many"),
    ("14.1", lambda z, ids, mask: -surprises(z, ids)[mask[1:]].mean(), "the sign"),
    ("14.1", lambda z, ids, mask: surprises(z, ids)[mask[1:]].mean() / math.log(2), "log2"),
    ("14.1", lambda z, ids, mask: -z[np.arange(len(ids) - 1), ids[1:]][mask[1:]].mean(), "those are logits"),
    ("14.1", lambda z, ids, mask: surprises(z, ids)[mask[1:]], "should give the shape"),
    ("14.1", lambda z, ids, mask: surprises(z, ids, shift=False)[mask[1:]].mean(), "subtract the largest"),
    ("14.1", lambda z, ids, mask: 0.5, "should be .*, yours is 0.5"),
    ("14.2", lambda a, b, c, d, beta: pair_loss(b, a, d, c, beta), "the sign: when the right"),
    ("14.2", lambda a, b, c, d, beta: pair_loss(a, b, 0, 0, beta), "what each answer has gained"),
    ("14.2", lambda a, b, c, d, beta: pair_loss(a, b, c, d, 1), "beta is missing"),
    ("14.2", lambda a, b, c, d, beta: pair_loss(a, b, c, d, 1 / beta), "divides by beta"),
    ("14.2", lambda a, b, c, d, beta: -pair_loss(a, b, c, d, beta), "never negative"),
    ("14.2", lambda a, b, c, d, beta: pair_loss(a, -b, c, -d, beta), "take the difference"),
    ("14.2", lambda a, b, c, d, beta: 1 / (1 + math.exp(-beta * (a - c - b + d))), "that is sigmoid\\(beta m\\)"),
    ("14.2", lambda a, b, c, d, beta: 1 / (1 + math.exp(beta * (a - c - b + d))), "that is a sigmoid"),
    ("14.2", lambda a, b, c, d, beta: math.log(1 + math.exp(-beta * (a - c - b + d))), "exp overflows"),
    ("14.2", lambda a, b, c, d, beta: np.array([0.7]), "should give the shape"),
    ("14.2", lambda a, b, c, d, beta: pair_loss(a, b, c, d, beta) * (1 + (a == c)), "before any step"),
    ("14.3", lambda h, E, t, tau: -slope(h, E, t, tau), "this is the way down"),
    ("14.3", lambda h, E, t, tau: slope(h, E, t, tau) * len(t), "gradient of the sum"),
    ("14.3", lambda h, E, t, tau: slope(h, E, t, tau) * tau, "1/tau of the chain rule is missing"),
    ("14.3", lambda h, E, t, tau: slope(h, E, t, tau, outer=1), "gradient of the sum|1/n of the mean"),
    ("14.3", lambda h, E, t, tau: slope(h, E, t, 1.0), "undivided logits"),
    ("14.3", without_target, "p - 1"),
    ("14.3", lambda h, E, t, tau: slope(h, E, t, tau).T, "should give the shape"),
    ("14.3", lambda h, E, t, tau: slope(h, E, t, tau) + 0.1, "a finite difference at row 0, column 0"),
]


@pytest.mark.parametrize(("number", "answer", "remark"), MISTAKES)
def test_a_check_names_the_usual_mistake(number, answer, remark):
    named = f"exercise {re.escape(number)}: .*(?:{remark})"
    with pytest.raises(AssertionError, match=named), np.errstate(all="ignore"):
        minivl.check(number, answer)


@pytest.mark.parametrize("number", [key for key in exercises.EXERCISES if key.split(".")[0] in ("12", "13", "14")])
def test_an_answer_that_is_not_filled_in_is_told_so(number):
    with pytest.raises(AssertionError, match=f"exercise {re.escape(number)}: .*fill it in"):
        minivl.check(number, lambda *arguments: None)
