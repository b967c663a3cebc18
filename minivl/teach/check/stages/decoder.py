"""The ends of the decoder: `expand`, `embed_tokens`, `place_features`, `logits`."""

from __future__ import annotations

import numpy as np

from ....checkpoint.weight import weight
from ....passes import decoder as passes
from ....passes import prompt
from .. import plain
from ..draws import Draws
from ..exercise import Exercise, Variant
from .kernels import softmax
from .small import FLOAT32, lin, matrix

PADS = (60, 61)


def _draw_expand(d: Draws) -> tuple:
    rng = d.generator()
    ids, counts = list(rng.integers(0, 50, d.whole(0, 3))), []
    for _ in range(d.whole(0, 3)):
        counts.append(d.whole(1, 5))
        ids += [PADS[d.whole(0, 1)], *rng.integers(0, 50, d.whole(0, 2))]
    return np.array(ids, np.int64), np.array(counts, np.int64), PADS


def _expanded(ids, counts, pads, *, times=None):
    left, out = list(counts), []
    for token in ids.tolist():
        count = left.pop(0) if token in pads and left else 1
        out += [token] * (times(count) if times and token in pads else count)
    return np.array(out, np.int64)


EXPAND = Exercise(
    "expand", "prompt.expand", "one placeholder for each visual token: ids, counts -> s", prompt.expand,
    _draw_expand,
    facts={"a picture or video": lambda ids, counts, pads: len(counts) > 0,
           "several pictures or videos": lambda ids, counts, pads: len(counts) > 1,
           "a video": lambda ids, counts, pads: PADS[1] in ids})
EXPAND.wrong("videos_not_expanded", lambda ids, counts, pads: _expanded(ids, counts, pads[:1]),
             "only pictures are expanded: `pads` holds the placeholder of videos too")
EXPAND.wrong("first_count_for_all",
             lambda ids, counts, pads: _expanded(ids, [*counts[:1]] * len(counts), pads),
             "every placeholder is repeated by the first count: the j-th has counts[j]")
EXPAND.wrong("one_pad_too_many", lambda *args: _expanded(*args, times=lambda n: n + 1),
             "each has one placeholder too many: the one that is there counts too")
EXPAND.wrong("one_pad_too_few", lambda *args: _expanded(*args, times=lambda n: n - 1),
             "each has one placeholder too few: counts[j] in all")
EXPAND.wrong("counts_backwards", lambda ids, counts, pads: _expanded(ids, counts[::-1], pads),
             "counts are taken from the last to the first")
EXPAND.wrong("counts_by_four", lambda *args: _expanded(*args, times=lambda n: n // 4),
             "counts are divided by 4: they count visual tokens already, not patches")
EXPAND.wrong("nothing_repeated", lambda ids, counts, pads: ids.copy(), "nothing is repeated")
EXPAND.wrong("video_pads_become_pictures",
             lambda ids, counts, pads: _expanded(np.where(ids == pads[1], pads[0], ids), counts, pads),
             "all placeholders become those of pictures; a video's stay its own")


# ------------------------------------------------------------------------------------- embed_tokens

def _draw_tokens(d: Draws) -> tuple:
    words = d.whole(2, 8)
    return d.generator().integers(0, words,
                                  d.whole(1, 7)), weight(d.floats(words, d.whole(1, 5))), FLOAT32


TOKENS = Exercise("embed_tokens", "decoder.embed_tokens", "the learned vector of each token: s -> s d",
                  passes.embed_tokens, _draw_tokens)


def _rows(table):
    return table.dense(np.float64)


TOKENS.wrong("scaled_by_root_d", lambda ids, table, _: _rows(table)[ids] * np.sqrt(table.shape[1]),
             "your rows are scaled by sqrt(d), as in other models; here they are taken as they are")
TOKENS.wrong("tokens_from_one", lambda ids, table, _: _rows(table)[np.maximum(ids - 1, 0)],
             "you count tokens from 1")
TOKENS.wrong("tokens_sorted", lambda ids, table, _: _rows(table)[np.sort(ids)],
             "the order of the tokens is lost: row i belongs to ids[i]")
TOKENS.wrong("each_word_once", lambda ids, table, _: _rows(table)[np.unique(ids)],
             "each word comes once: a token that is repeated has its row each time")
TOKENS.wrong("width_first", lambda ids, table, _: _rows(table)[ids].T,
             "you give (d, s): a row for each token")
TOKENS.wrong("first_rows", lambda ids, table, _: _rows(table)[np.arange(len(ids)) % table.shape[0]],
             "the first rows of the table, one for each place: row i is that of word ids[i]")
TOKENS.wrong("length_one",
             lambda ids, t, _: (_rows(t) / np.linalg.norm(_rows(t), axis=1, keepdims=True))[ids],
             "your rows are normalised to length one")
TOKENS.wrong("one_hot", lambda ids, table, _: np.eye(table.shape[0])[ids],
             "you give the one-hot rows themselves, before they meet the table")


# ----------------------------------------------------------------------------------- place_features

def _draw_place(d: Draws) -> tuple:
    tokens, width = d.whole(1, 7), d.whole(1, 4)
    visual = np.sort(d.order(tokens)[: d.whole(0, tokens)])
    return d.floats(tokens, width), visual, d.floats(len(visual), width)


def _place_variant(d: Draws) -> Variant:
    back, add = d.pick([(True, False), (False, True), (True, True)])
    return Variant(("visual token i goes to the placeholder i from the end" if back else
                    "visual token i goes to placeholder i")
                   + (" and is added to the row that is there" if add else ""), plain.filling(back, add))


PLACE = Exercise(
    "place_features", "decoder.place_features",
    "visual tokens into the rows of their placeholders: s d, m, m d -> s d",
    passes.place_features, _draw_place,
    facts={"visual tokens": lambda x, at, f: len(at) > 0,
           "no visual tokens": lambda x, at, f: len(at) == 0,
           "text after a visual token": lambda x, at, f: len(at) > 0 and at[-1] < len(x) - 1,
           "text between visual tokens": lambda x, at, f: len(at) > 1 and at[-1] - at[0] >= len(at)},
    variants=_place_variant)


def _placed(x, at, rows):
    out = x.copy()
    out[at] = rows
    return out


PLACE.wrong("features_added", lambda x, at, f: _placed(x, at, x[at] + f),
            "visual tokens are added to the rows of their placeholders; they replace them")
PLACE.wrong("features_first", lambda x, at, f: _placed(x, np.arange(len(f)), f),
            "visual tokens go to the start of the sequence; row placeholders[i] becomes visual token i")
PLACE.wrong("features_in_one_run",
            lambda x, at, f: _placed(x, np.minimum(at[:1].sum() + np.arange(len(f)), len(x) - 1), f),
            "visual tokens go in one run from the first placeholder on: there may be text between them")
PLACE.wrong("features_reversed", lambda x, at, f: _placed(x, at, f[::-1]),
            "your visual tokens are in reverse")
PLACE.wrong("text_lost", lambda x, at, f: _placed(x * 0, at, f),
            "text is lost: all rows that are no placeholders are 0")
PLACE.wrong("features_put_before", lambda x, at, f: np.concatenate([f, x]),
            "visual tokens are put before the text; they replace rows, and the length stays")
PLACE.wrong("nothing_placed", lambda x, at, f: x.copy(), "nothing is placed")
PLACE.wrong("one_row_up", lambda x, at, f: _placed(x, np.maximum(at - 1, 0), f),
            "your rows are one off: placeholders count from 0")
PLACE.wrong("one_row_down", lambda x, at, features: _placed(x, np.minimum(at + 1, len(x) - 1), features),
            "each visual token is one further down: placeholders count from 0")
PLACE.wrong("first_feature_everywhere", lambda x, at, f: _placed(x, at, f[:1]),
            "every placeholder gets the first visual token")


# ------------------------------------------------------------------------------------------- logits

def _draw_logits(d: Draws) -> tuple:
    width = d.whole(1, 6)
    return d.floats(d.whole(1, 4), width), d.linear(width, d.whole(2, 9), False)


LOGITS = Exercise("logits", "decoder.logits", "one score for each word of the vocabulary: n d -> n v",
                  passes.logits,
                  _draw_logits, lambda x, head: x.shape[1])
LOGITS.wrong("probabilities", lambda x, head: softmax(lin(x, head)),
             "you give probabilities: the softmax comes later, when a token is drawn")
LOGITS.wrong("log_probabilities", lambda x, head: np.log(softmax(lin(x, head))),
             "you give log-probabilities: logits are the plain product, not normalised")
LOGITS.wrong("scores_scaled", lambda x, head: lin(x, head) / np.sqrt(x.shape[1]),
             "your scores are scaled by 1/sqrt(d); that is for attention")
LOGITS.wrong("matrix_reshaped", lambda x, head: x @ matrix(head).reshape(head.weight.shape[::-1]),
             "the matrix is reshaped where it should be transposed")
LOGITS.wrong("last_row_only", lambda x, head: lin(x[-1:], head),
             "only the last row is scored; all rows that come in are asked for")
LOGITS.wrong("normalised_once_more",
             lambda x, head: lin(x / np.sqrt((x * x).mean(-1, keepdims=True)), head),
             "rows are normalised once more: the norm is the stage before")
LOGITS.wrong("best_word", lambda x, head: lin(x, head).argmax(-1),
             "you give the best word and no scores")
LOGITS.wrong("words_first", lambda x, head: lin(x, head).T,
             "you give (v, n): a row of scores for each row of x")
LOGITS.wrong("x_times_w", lambda x, head: x @ matrix(head),
             "you multiply without transposing: W is stored (out, in), so it is x @ W.T")

EXERCISES = [EXPAND, TOKENS, PLACE, LOGITS]
