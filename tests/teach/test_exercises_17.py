"""The exercises of lesson 17 take the right answers in any style and name the mistake of the usual wrong ones."""

import numpy as np
import pytest

import minivl

HIGH = np.uint32(0xFFFF0000)


def cut(x):
    return (np.ascontiguousarray(x, np.float32).view(np.uint32) & HIGH).view(np.float32)


def in_three(x, many=3, part=cut):
    rest, parts = np.asarray(x, np.float32), []
    for n in range(3):
        parts.append(part(rest) if n < many else np.zeros_like(rest))
        with np.errstate(invalid="ignore"):
            rest = rest - parts[-1]
    return np.stack(parts)


def nearest(x):
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return ((bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))) & HIGH).view(np.float32)


def nearest_but_never_up(x):
    """Rounded where that stays finite: parts of either sign add up as well."""
    near = nearest(x)
    return np.where(np.isfinite(near), near, cut(x))


def in_int8(w, steps=127, rule=np.rint, scale=None, floor=1e-30):
    found = np.maximum(np.abs(w).max(axis=1), np.float32(floor)) / np.float32(steps) if scale is None else scale(w)
    with np.errstate(all="ignore"):
        return np.clip(rule(w / found[:, None]), -128, 127).astype(np.int8), found


def whole(w):
    return np.full(len(w), max(np.abs(w).max(), 1e-30) / 127)


def least(rows, into, out, size, bandwidth, peak, of=max, rims=1.0, operations=2):
    moved = size * into * out + rims * 4 * rows * (into + out)
    return of([moved / bandwidth, operations * rows * into * out / peak])


@pytest.mark.parametrize(("number", "answer"), [
    ("17.1", in_three), ("17.1", lambda x: in_three(x, part=nearest_but_never_up)), ("17.2", in_int8),
    ("17.2", lambda w: in_int8(w, floor=1.0 * 2.0**-100)), ("17.3", least)])
def test_right_answers_are_taken(number, answer, capsys):
    minivl.check(number, answer)
    assert capsys.readouterr().out == f"exercise {number}: right\n"


@pytest.mark.parametrize(("number", "answer", "remark"), [
    ("17.1", lambda x: in_three(x, 1), "the upper 8 digits only"),
    ("17.1", lambda x: in_three(x, 2), "a float32 has 24: one more"),
    ("17.1", lambda x: in_three(x)[0], "should give the shape"),
    ("17.1", lambda x: np.stack([x, 0 * x, 0 * x]), "are no bfloat16"),
    ("17.1", lambda x: in_three(x).astype(np.float64), "should be float32"),
    ("17.1", lambda x: in_three(np.where(np.abs(x) > 1e38, np.inf, x)), "a part is not finite"),
    ("17.1", lambda x: in_three(x) / np.float32(2), "the sum of your parts should be"),
    ("17.2", lambda w: in_int8(w)[0], "two things should come out"),
    ("17.2", lambda w: in_int8(w, rule=np.trunc), "nearest whole number"),
    ("17.2", lambda w: in_int8(w, steps=128), "which int8 does not have"),
    ("17.2", lambda w: in_int8(w, scale=whole), "one scale for the whole matrix"),
    ("17.2", lambda w: (in_int8(w)[0], in_int8(w)[1][:, None]), "one scale for each row"),
    ("17.2", lambda w: (in_int8(w)[0].astype(float), in_int8(w)[1]), "should be int8"),
    ("17.2", lambda w: in_int8(w, floor=0.0), "a scale is 0 or not a number"),
    ("17.2", lambda w: (in_int8(w)[0], 2 * in_int8(w)[1]), "the scale of row 0 should be"),
    ("17.2", lambda w: (-in_int8(w)[0], in_int8(w)[1]), "number 0 of row 0 should be 127"),
    ("17.3", lambda *args: least(*args, of=sum), "the longer one decides"),
    ("17.3", lambda *args: least(*args, of=min), "that is the time of the products"),
    ("17.3", lambda *args: least(*args, rims=0), "what goes in and out is missing"),
    ("17.3", lambda *args: least(*args, operations=1), "are two operations"),
    ("17.3", lambda r, i, o, size, *rest: least(r, i, o, 4, *rest), "`size` bytes each"),
    ("17.3", lambda r, i, o, size, *rest: least(r, i, o, int(size), *rest), "do not round"),
    ("17.3", lambda *args: None, "gives None; fill it in")])
def test_a_check_names_the_usual_mistake(number, answer, remark):
    with pytest.raises(AssertionError, match=f"exercise {number}: (?s:.*){remark}"), np.errstate(all="ignore"):
        minivl.check(number, answer)
