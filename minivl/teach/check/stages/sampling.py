"""From logits to a token: `penalise`, `narrow_choice`, `most_likely`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ....passes import sampling as passes
from .. import plain
from ..draws import Draws
from ..exercise import Exercise, Variant
from .kernels import softmax

# ----------------------------------------------------------------------------------------- penalise


def _draw_penalty(d: Draws) -> tuple:
    rows, words = d.whole(1, 3), d.whole(2, 8)
    prompts, answers = (tuple(d.generator().integers(0, words, d.whole(0, most)) for _ in range(rows))
                        for most in (4, 3))
    return d.floats(rows, words), prompts, answers, d.pick([1.5, 1.05, 2.0])


def _of_all(function: Callable) -> Callable:
    """A version that takes the ids of prompt and answer together, under the pass's own arguments."""
    def version(logits, prompts, answers, penalty):
        return function(logits, tuple(map(np.append, prompts, answers)), penalty)
    return version


def _fair(penalty):
    return lambda x: x * penalty if x < 0 else x / penalty


def _penalised(logits, seen, change):
    out = logits.copy()
    for row, ids in zip(out, seen, strict=True):
        for i in set(ids.tolist()):
            row[i] = change(row[i])
    return out


def _penalty_variant(d: Draws) -> Variant:
    each, power = d.flag(), d.pick([1, 2])
    return Variant("the penalty is taken off the score (x - penalty"
                   + (f"^{power}" if power > 1 else "") + "), "
                   + ("as often as the id was seen" if each else "once, however often the id was seen"),
                   plain.charging(each, power))


PENALISE = Exercise(
    "penalise", "sampling.penalise", "ids that were seen become less likely: n v -> n v",
    passes.penalise,
    _draw_penalty,
    facts={"negative scores among the seen": _of_all(
               lambda x, seen, p: any((row[ids] < 0).any() for row, ids in zip(x, seen, strict=True))),
           "an id that was seen twice": _of_all(
               lambda x, seen, p: any(len(set(ids)) < len(ids) for ids in seen)),
           "several conversations": lambda x, prompts, answers, p: len(x) > 1},
    variants=_penalty_variant)
PENALISE.fault("penalty-on-new-tokens-only", "the prompt is forgotten: only ids of the answer are "
               "punished")
PENALISE.wrong("answer_forgotten", lambda x, prompts, answers, r: _penalised(x, prompts, _fair(r)),
               "the answer is forgotten: only ids of the prompt are punished")
PENALISE.wrong("negative_divided", _of_all(lambda x, seen, r: _penalised(x, seen, lambda x: x / r)),
               "negative scores are divided too: more likely; a negative one is multiplied")


@PENALISE.mistake("an id that was seen twice is punished twice: each id once, however often it was "
                  "seen")
@_of_all
def punished_each_time(logits, seen, penalty):
    out = logits.copy()
    for row, ids in zip(out, seen, strict=True):
        for i in ids:
            row[i] = row[i] * penalty if row[i] < 0 else row[i] / penalty
    return out


PENALISE.wrong("cases_swapped", _of_all(lambda x, seen, r: _penalised(x, seen, _fair(1 / r))),
               "the two cases are swapped: a positive score is divided, a negative one multiplied")
PENALISE.wrong("penalty_subtracted", _of_all(lambda x, seen, r: _penalised(x, seen, lambda x: x - r)),
               "the penalty is subtracted; scores are divided by it, or multiplied if negative")
PENALISE.wrong("ids_of_the_first",
               _of_all(lambda x, seen, r: _penalised(x, seen[:1] * len(seen), _fair(r))),
               "every conversation pays for the ids of the first: each has its own")
PENALISE.wrong("ids_of_all",
               _of_all(lambda x, ids, r: _penalised(x, [np.hstack(ids).astype(int)] * len(x), _fair(r))),
               "ids seen in any conversation are punished in all: each has its own")
PENALISE.wrong("unseen_punished",
               _of_all(lambda x, seen, r: _penalised(x, [np.setdiff1d(np.arange(x.shape[1]),
                                                                      ids) for ids in seen], _fair(r))),
               "ids that were *not* seen are punished")
PENALISE.wrong("prompt_then_answer",
               lambda x, p, a, r: _penalised(_penalised(x, p, _fair(r)), a, _fair(r)),
               "an id that is in the prompt and in the answer is punished twice: each id once")
PENALISE.wrong("all_punished", lambda x, prompts, answers, r: np.where(x < 0, x * r, x / r),
               "every score is pushed down; only ids that were seen are")
PENALISE.wrong("multiplied", _of_all(lambda x, seen, r: _penalised(x, seen, lambda x: x * r)),
               "seen scores are multiplied by the penalty, positive ones too: more likely")
PENALISE.wrong("forbidden", _of_all(lambda x, seen, r: _penalised(x, seen, lambda x: -np.inf)),
               "seen ids are forbidden altogether; they only become less likely")
PENALISE.fault("penalty-missing", "nothing is punished")


# ------------------------------------------------------------------------------------ narrow_choice

KINDS = ("k", "p", "both", "both", "both", "neither")


def draw_narrow(d: Draws, kinds: tuple[str, ...] = KINDS) -> tuple:
    """Scores without equals where a share is asked for, and a share between two sums."""
    rows, words, temperature = d.whole(1, 3), d.whole(2, 8), d.pick([1.0, 0.5, 2.0])
    rng, kind = d.generator(), d.pick(kinds)
    # Every row has the same scores in an order of its own, so that one share suits them all.
    scores = np.sort(rng.choice(np.arange(-20, 20), words, replace=False)) / 16
    logits = np.stack([rng.permutation(scores) for _ in range(rows)]).astype(np.float32)
    top_k = d.pick([d.whole(1, words + 1), d.whole(2, words)]) if kind in ("k", "both") else None
    if kind == "k" and d.flag():
        logits[:, 0] = logits[:, 1]  # equals: both stay when one is the k-th
    kept = softmax(np.sort(scores)[::-1][: top_k or words] / temperature)
    place = d.whole(0, min(len(kept), 4) - 1)
    top_p = float(kept[:place].sum() + 0.9 * kept[place]) if kind in ("p", "both") else None
    return logits, temperature, top_k, top_p


def _narrow(logits, temperature, top_k, top_p, *, lowest=None, ties=True, k_last=False, reach=True,
            scale=None):
    """Temperature, top-k, top-p, with one thing at a time made another way."""
    lowest = np.finfo(np.float32).min if lowest is None else lowest
    out = scale(logits) if scale else logits / temperature

    def cut_k(x):
        for row in x if top_k else ():
            best = np.argsort(-row, kind="stable")[:top_k]
            row[(row < row[best[-1]]) if ties else ~np.isin(np.arange(len(row)), best)] = lowest
        return x

    def cut_p(x):
        for row in x if top_p is not None and top_p < 1 else ():
            order = np.argsort(-row, kind="stable")
            share = np.cumsum(softmax(row[order].astype(float)))
            keep = max(1, int((share < top_p).sum()) + reach)
            row[order[keep:]] = lowest
        return x
    return cut_k(cut_p(out)) if k_last else cut_p(cut_k(out))


def _floor(x):
    """The lowest finite number of any type as one number."""
    return np.where(np.isfinite(x) & (x < -1e30), -1e4, x)


def _narrow_variant(d: Draws) -> Variant:
    share = d.pick([0.1, 0.3])
    return Variant(f"top_p is not looked at; instead everything less likely than {share} times the "
                   f"likeliest (after "
                   "temperature and top-k) is set to the lowest finite number", plain.narrowing(share))


NARROW = Exercise(
    "narrow_choice", "sampling.narrow_choice",
    "temperature, top-k, top-p; the rest to the lowest number: n v -> n v",
    passes.narrow_choice, draw_narrow, see=_floor,
    facts={"a temperature other than 1": lambda x, t, k, p: t != 1,
           "a top_k": lambda x, t, k, p: k is not None, "a top_p": lambda x, t, k, p: p is not None,
           "both top_k and top_p": lambda x, t, k, p: k is not None and p is not None,
           "scores that are equal": lambda x, *rest: any(len(set(row)) < len(row) for row in x.tolist()),
           "a top_k beyond the number of words": lambda x, t, k, p: k is not None and k > x.shape[1]},
    variants=_narrow_variant)
NARROW.wrong("lowest_infinite", lambda *args: _narrow(*args, lowest=-np.inf),
             "what falls out is -inf; the lowest finite number is asked for (np.finfo(dtype).min), "
             "because what comes out of a stage is finite")
NARROW.wrong("lowest_zero", lambda *args: _narrow(*args, lowest=0),
             "what falls out is 0, which is a likely score: use np.finfo(dtype).min")
NARROW.wrong("temperature_ignored", lambda *args: _narrow(*args, scale=np.copy),
             "the temperature is ignored: scores are divided by it first")
NARROW.wrong("temperature_multiplied",
             lambda logits, temperature, top_k, top_p: _narrow(logits, 1 / temperature, top_k, top_p),
             "scores are multiplied by the temperature; they are divided by it")
NARROW.wrong("stops_before_p", lambda *args: _narrow(*args, reach=False),
             "top-p stops before its share is reached: the word that reaches p stays in")
NARROW.wrong("top_p_ignored",
             lambda logits, temperature, top_k, top_p: _narrow(logits, temperature, top_k, None),
             "top_p is ignored")
NARROW.wrong("top_k_ignored",
             lambda logits, temperature, top_k, top_p: _narrow(logits, temperature, None, top_p),
             "top_k is ignored")
NARROW.wrong("equals_cut_off", lambda *args: _narrow(*args, ties=False),
             "equals of the k-th score are cut off: all that are as large as it stay")
NARROW.wrong("p_before_k", lambda *args: _narrow(*args, k_last=True),
             "top-p comes before top-k: the share is that of what top-k left")


@NARROW.mistake("top_p keeps the words whose own probability reaches p: it is the sum of the "
                "likeliest that counts")
def own_probability_reaches_p(logits, temperature, top_k, top_p):
    out = _narrow(logits, temperature, top_k, None)
    for row in out if top_p is not None else ():
        share = softmax(row.astype(float))
        row[(share < top_p) & (share < share.max())] = np.finfo(np.float32).min
    return out


NARROW.wrong("probabilities_given", lambda *args: softmax(_narrow(*args).astype(float)),
             "you give probabilities; scores are asked for")


@NARROW.mistake("a top_k beyond the number of words fails: then nothing is cut off")
def large_k_fails(logits, temperature, top_k, top_p):
    if top_k:
        np.partition(logits, -top_k, axis=-1)
    return _narrow(logits, temperature, top_k, top_p)


# -------------------------------------------------------------------------------------- most_likely

def _draw_most_likely(d: Draws) -> tuple:
    logits = d.floats(d.whole(1, 5), d.whole(1, 7))
    return (np.round(logits) if d.flag() else logits,)             # rounded: equals


LIKELY = Exercise("most_likely", "sampling.most_likely",
                  "the highest score of each row, the first of equals: n v -> n",
                  passes.most_likely, _draw_most_likely,
                  facts={"equal scores": lambda x: any(len(set(row)) < len(row) for row in x.tolist()),
                         "several rows": lambda x: len(x) > 1})
LIKELY.wrong("last_of_equals", lambda logits: logits.shape[1] - 1 - logits[:, ::-1].argmax(1),
             "the last among equals; the first one is asked for")
LIKELY.wrong("one_for_all", lambda logits: logits.argmax(),
             "one number for the whole array: each row has its own (axis=-1)")
LIKELY.wrong("best_of_columns", lambda logits: logits.argmax(0),
             "the best of each column; each row is a conversation (axis=-1)")
LIKELY.wrong("lowest_score", lambda logits: logits.argmin(1), "you give the lowest score")
LIKELY.wrong("score_itself", lambda logits: logits.max(1),
             "you give the score itself and not its number")
LIKELY.wrong("absolute_values", lambda logits: np.abs(logits).argmax(1),
             "you compare absolute values: a very negative score is no likely one")
LIKELY.wrong("kept_axis", lambda logits: logits.argmax(1, keepdims=True),
             "you give (n, 1): one number a row, (n,)")

EXERCISES = [PENALISE, NARROW, LIKELY]
