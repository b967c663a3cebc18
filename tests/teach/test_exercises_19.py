"""The exercises of lesson 19 take the right answers in any style and name the mistake of the usual wrong ones."""

import numpy as np
import pytest

import minivl


def rows(heads, keys, width, rank, ranks):
    table = [np.arange(heads), heads + np.arange(keys), heads + keys + np.arange(keys)]
    mine = np.concatenate([np.split(part, ranks)[rank] for part in table])
    return (mine[:, None] * width + np.arange(width)).reshape(-1)


def as_one(heads, keys, width, rank, ranks):
    return np.split(np.arange((heads + 2 * keys) * width), ranks)[rank]


def dealt(heads, keys, width, rank, ranks):
    return [h * width + i for h in range(heads + 2 * keys) if h % ranks == rank for i in range(width)]


def sent(tokens, width, ranks, size, sums=2, ways=2):
    return sums * ways * (ranks - 1) / ranks * tokens * width * size


def steps(stages, batches):
    return batches + stages - 1, (stages - 1) / (batches + stages - 1)


@pytest.mark.parametrize(("number", "answer"), [
    ("19.1", rows), ("19.1", lambda *args: rows(*args).tolist()), ("19.2", sent),
    ("19.2", lambda s, d, t, b: 4 * s * d * b - 4 * s * d * b / t), ("19.3", steps),
    ("19.3", lambda *args: list(steps(*args)))])
def test_right_answers_are_taken(number, answer, capsys):
    minivl.check(number, answer)
    assert capsys.readouterr().out == f"exercise {number}: right\n"


@pytest.mark.parametrize(("number", "answer", "remark"), [
    ("19.1", as_one, "cut q, k and v each by itself"),
    ("19.1", dealt, "a rank has neighbours"),
    ("19.1", lambda *args: rows(*args)[:-1], "a share of q, one of k and one of v"),
    ("19.1", lambda *args: rows(*args)[None], "one row of numbers should come out"),
    ("19.1", lambda *args: rows(*args).astype(float), "row numbers are whole numbers"),
    ("19.1", lambda *args: rows(*args)[::-1], "number 0 of the list should be row 8"),
    ("19.1", lambda h, k, e, rank, ranks: rows(h, k, e, 0, ranks), "number 0 of the list should be row 8"),
    ("19.2", lambda *args: sent(*args, sums=1), "a layer has two sums"),
    ("19.2", lambda *args: sent(*args, ways=1), "pieces go two ways"),
    ("19.2", lambda s, d, t, b: t * sent(s, d, t, b), "what all ranks send together"),
    ("19.2", lambda s, d, t, b: 2 * (t - 1) * s * d * b, "every array to everybody"),
    ("19.2", lambda s, d, t, b: 4 * s * d * b, "sends nothing to itself"),
    ("19.2", lambda s, d, t, b: sent(s, d, t, 1), "takes `size` bytes"),
    ("19.2", lambda s, d, t, b: 4 * s * d * b * max(t - 1, 1) / t, "nobody to send to"),
    ("19.3", lambda stages, m: (m + stages, stages / (m + stages)), "stages - 1 steps later"),
    ("19.3", lambda stages, m: (m + stages - 1, m / (m + stages - 1)), "asked is that of the idle ones"),
    ("19.3", lambda stages, m: (m * stages, 1 - 1 / stages), "batches follow each other"),
    ("19.3", lambda stages, m: m + stages - 1, "two numbers should come out"),
    ("19.3", lambda *args: None, "gives None; fill it in")])
def test_a_check_names_the_usual_mistake(number, answer, remark):
    with pytest.raises(AssertionError, match=f"exercise {number}: (?s:.*){remark}"), np.errstate(all="ignore"):
        minivl.check(number, answer)
