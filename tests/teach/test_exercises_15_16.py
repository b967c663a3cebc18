"""The exercises of lessons 15 and 16 take the right answers and name the mistake of the usual wrong ones."""

import numpy as np
import pytest

import minivl
from minivl.door.stage import session
from minivl.truth import museum as faults
from minivl.truth.museum.fault import FAULTS
from minivl.truth.museum.world import world

ME = "A. Student"


def worst_row(measure=lambda size: np.maximum(size, 0.1 * np.median(size)), finite=True, by=lambda c, g: g,
              errors=lambda d, size: d / size):
    """An answer to 15.1 with a step of it exchanged."""
    def answer(candidate, golden):
        size = measure(np.linalg.norm(by(candidate, golden), axis=1))
        found = errors(np.linalg.norm(candidate - golden, axis=1), size)
        found = np.where(np.isfinite(found), found, np.inf) if finite else np.nan_to_num(found, posinf=0)
        return int(found.argmax()), float(found.max())
    return answer


def first_bad(errors, yards, parents):
    bad = {name for name in errors if errors[name] > 3 * yards[name]}

    def before(name):
        return set(parents[name]).union(*(before(parent) for parent in parents[name]))
    return next((name for name in bad if not bad & before(name)), "none")


def only_parents(errors, yards, parents):
    bad = {name for name in errors if errors[name] > 3 * yards[name]}
    return next((name for name in errors if name in bad and not bad & set(parents[name])), "none")


def parts(value):
    return [np.asarray(x) for x in (value if isinstance(value, tuple) else (value,))]


def wrong(a, b, limit=1e-5):
    return a.shape != b.shape or not (np.array_equal(a, b) or np.linalg.norm(a - b) < limit * np.linalg.norm(b))


def first_wrong(right, other, wrong=wrong, parts=parts, lost=True):
    for key in right:
        if key not in other:
            if lost:
                return key
            continue
        if any(wrong(a, b) for a, b in zip(parts(other[key]), parts(right[key]), strict=True)):
            return key
    return "none"


def largest(right, other):
    sizes = {key: max(np.linalg.norm(a - b) / np.linalg.norm(b) if a.shape == b.shape else 9
                      for a, b in zip(parts(other[key]), parts(right[key]), strict=True)) for key in right}
    return max(sizes, key=sizes.get) if max(sizes.values()) > 1e-5 else "none"


def mine():
    """The fault of ME, as the lesson finds it out, but looked up."""
    return next(name for name in faults.huntable() if not faults.assignment(ME).judge(name))


@pytest.mark.parametrize(("number", "answer"), [
    ("15.1", worst_row()), ("15.2", first_bad), ("16.1", first_wrong), ("16.2", lambda: (ME, mine())),
    ("16.2", lambda: ("  a.  STUDENT ", mine()))])
def test_right_answers_are_taken(number, answer, capsys):
    minivl.check(number, answer)
    assert capsys.readouterr().out == f"exercise {number}: right\n"


@pytest.mark.parametrize(("number", "answer", "remark"), [
    ("15.1", worst_row(measure=lambda size: size), "row 6 is nearly nothing"),
    ("15.1", worst_row(errors=lambda d, size: d), "looks for the largest difference"),
    ("15.1", worst_row(by=lambda c, g: c), "divides by the candidate's row"),
    ("15.1", worst_row(measure=lambda size: 0 * size + np.linalg.norm(size)), "largest difference|whole table"),
    ("15.1", worst_row(errors=lambda d, size: (d / size) ** 2), "the square"),
    ("15.1", worst_row(measure=lambda size: np.maximum(size, np.median(size))), "median"),
    ("15.1", worst_row(finite=False), "holds nan"),
    ("15.1", lambda c, g: 2, "two things should come out"),
    ("15.2", lambda e, y, p: max(e, key=e.get), "largest error"),
    ("15.2", lambda e, y, p: next((n for n in e if e[n] > 3 * y[n]), "none"), "order of the dictionary"),
    ("15.2", only_parents, "go on through good stages"),
    ("15.2", lambda e, y, p: first_bad(e, dict.fromkeys(y, 1e-3), p), "a yardstick of its own"),
    ("15.2", lambda e, y, p: first_bad(e, {n: y[n] / 3 for n in y}, p), "is not bad"),
    ("16.1", lambda r, o: first_wrong(r, o, lambda a, b: not np.array_equal(a, b)), "rounding"),
    ("16.1", lambda r, o: first_wrong(r, o, lambda a, b: a.shape != b.shape or np.abs(a - b).max() > 1e-5), "of 1000"),
    ("16.1", largest, "what comes first"),
    ("16.1", lambda r, o: first_wrong(r, o, parts=lambda value: parts(value)[:1]), "every array of a tuple"),
    ("16.1", lambda r, o: first_wrong(r, o, lambda a, b: a.shape == b.shape and wrong(a, b)), "another shape"),
    ("16.1", lambda r, o: first_wrong(r, o, lambda a, b: a.shape != b.shape or (
        np.linalg.norm(a - b) > 1e-5 * np.linalg.norm(b))), "NaN"),
    ("16.1", lambda r, o: first_wrong(r, o, lost=False), "no merge at all"),
    ("16.2", lambda: "order-not-inverted", "two texts"), ("16.2", lambda: ("", "order-not-inverted"), "name is empty"),
    ("16.2", lambda: (ME, "order inverted"), "near it: order-not-inverted"),
    ("16.2", lambda: (ME, "resize-bilinear"), "lies in picture.resize"),
])
def test_wrong_answers_are_told_what_is_wrong(number, answer, remark):
    with pytest.raises(AssertionError, match=f"exercise {number}: .*(?:{remark})"), np.errstate(all="ignore"):
        minivl.check(number, answer)


def test_another_fault_of_the_right_pass_is_told_from_a_wrong_pass():
    fault = faults.get(mine())
    others = [name for name in FAULTS if name != fault.name and FAULTS[name].leaves == fault.leaves]
    for name in others:
        assert faults.assignment(ME).judge(name).startswith("the pass is the right one")


# ---- what belongs to a name ---------------------------------------------------------------------------------------

def test_names_have_faults_and_pictures_of_their_own():
    names = [f"student {n}" for n in range(80)]
    found = {name: next(fault for fault in faults.huntable() if not faults.assignment(name).judge(fault))
             for name in names[:40]}
    assert len(set(found.values())) > 12
    pictures = {faults.assignment(name).messages[0]["content"][0]["image"].tobytes() for name in names}
    assert len(pictures) == len(names)
    again, other = (faults.assignment(name).messages[0]["content"][0]["image"] for name in ("Ada L.", " ada  l. "))
    assert np.array_equal(again, other)
    assert found["student 0"] not in repr(faults.assignment("student 0"))


def test_every_fault_that_is_given_out_shows_on_any_picture_that_is_given_out():
    for number in range(2):
        messages = faults.assignment(f"student {number}").messages
        right = faults.recorded(messages, world())
        for name in faults.huntable():
            fault = faults.get(name)
            with np.errstate(all="ignore"), session(replace=fault.table(), record="*", quiet=True) as s:
                world().logits(world().prepare(messages))
            here = first_wrong(right, s.trace)
            assert fault.is_named_by([here]), (name, here)
