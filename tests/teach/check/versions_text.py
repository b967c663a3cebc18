"""Students' versions of the decoder's ends and of sampling."""

import numpy as np

from .versions import right, wrong
from .versions_arithmetic import mapped, numbers

# ---- expand


def expanded(ids, counts, pads, count=lambda n: n, of=lambda j: j, which=None):
    out, j = [], 0
    for token in ids:
        if token in (which or pads):
            out += [token] * count(counts[of(j)])
            j += 1
        else:
            out.append(token)
    return np.array(out, int)


right("expand")(expanded)


@right("expand")
def _(ids, counts, pads):
    times = np.ones(len(ids), int)
    times[np.isin(ids, pads)] = counts
    return ids.repeat(times)


@right("expand")
def _(ids, counts, pads):
    hit = (ids[:, None] == np.array(pads)).any(1)
    number = np.cumsum(hit) - 1
    return np.concatenate([np.full(counts[n] if h else 1, t) for t, h, n in zip(ids, hit, number, strict=True)]
                          or [np.zeros(0, int)]).astype(np.int32)


wrong("expand", "first count")(lambda i, c, p: expanded(i, c, p, of=lambda j: 0))
wrong("expand", "too many")(lambda i, c, p: expanded(i, c, p, count=lambda n: n + 1))
wrong("expand", "last to the first")(lambda i, c, p: expanded(i, c, p, of=lambda j: -1 - j))
wrong("expand", "nothing")(lambda i, c, p: np.array(i))
wrong("expand", "divided by 4")(lambda i, c, p: expanded(i, c, p, count=lambda n: n // 4))
wrong("expand", "only pictures")(lambda i, c, p: expanded(i, c, p, which=p[:1]))

# ---- embed_tokens

right("embed_tokens")(lambda ids, table, dtype: table.rows(ids, dtype))
right("embed_tokens")(lambda ids, table, dtype: np.array([table.dense(np.float64)[i] for i in ids]))
right("embed_tokens")(lambda ids, table, dtype: np.einsum("sv,vd->sd", np.eye(table.shape[0])[ids], numbers(table)))
wrong("embed_tokens", "sqrt(d)")(lambda i, t, dtype: numbers(t)[i] * t.shape[1] ** 0.5)
wrong("embed_tokens", "(d, s)")(lambda i, t, dtype: numbers(t).T[:, i])
wrong("embed_tokens", "order of the tokens")(lambda i, t, dtype: numbers(t)[sorted(i)])
wrong("embed_tokens", "comes once")(lambda i, t, dtype: numbers(t)[sorted(set(i.tolist()))])
wrong("embed_tokens", "one-hot")(lambda i, t, dtype: np.array([[float(a == b) for b in range(t.shape[0])] for a in i]))

# ---- place_features


def placed(x, at, features, where=lambda n, at: at[n], row=lambda old, new: new, start=np.copy):
    out = start(x)
    for n, feature in enumerate(features):
        out[where(n, at)] = row(out[where(n, at)], feature)
    return out


right("place_features")(placed)


@right("place_features")
def _(x, at, features):
    hit = np.isin(np.arange(len(x)), at)
    number = np.cumsum(hit) - 1
    return np.array([features[n] if h else row for row, h, n in zip(x, hit, number, strict=True)])


@right("place_features")
def _(x, at, features):
    P = np.zeros((len(x), len(at)))
    P[at, np.arange(len(at))] = 1
    return x * (1 - P.sum(1, keepdims=True)) + np.einsum("sm,md->sd", P, features)


wrong("place_features", "added")(lambda *a: placed(*a, row=np.add))
wrong("place_features", "start of the sequence")(lambda *a: placed(*a, where=lambda n, at: n))
wrong("place_features", "reverse")(lambda *a: placed(*a, where=lambda n, at: at[len(at) - 1 - n]))
wrong("place_features", "text is lost")(lambda *a: placed(*a, start=np.zeros_like))
wrong("place_features", "nothing is placed")(lambda x, *a: np.array(x))
wrong("place_features", "first visual token")(lambda x, at, f: placed(x, at, [f[0]] * len(f)))

# ---- logits

right("logits")(lambda x, w: x @ numbers(w.weight).T)
right("logits")(lambda x, w: np.einsum("nd,vd->nv", x, w.weight.dense(np.float64)))
right("logits")(lambda x, w: np.array([[np.dot(row, word) for word in numbers(w.weight)] for row in x]))
wrong("logits", "probabilities")(lambda x, w: np.exp(mapped(x, w)) / np.exp(mapped(x, w)).sum(1)[:, None])
wrong("logits", "log-probabilities")(lambda x, w: mapped(x, w) - np.log(np.exp(mapped(x, w)).sum(1))[:, None])
wrong("logits", "1/sqrt(d)")(lambda x, w: mapped(x, w) * x.shape[1] ** -0.5)
wrong("logits", "only the last row")(lambda x, w: mapped(x, w)[-1][None])
wrong("logits", "(v, n)")(lambda x, w: numbers(w.weight) @ x.T)
wrong("logits", "best word")(lambda x, w: np.argmax(mapped(x, w), 1))

# ---- penalise


def punished(x, seen, penalty, low=lambda v, p: v * p, high=lambda v, p: v / p, ids=lambda s: np.unique(s)):
    out = np.array(x)
    for n in range(len(x)):
        for i in ids(seen[n]):
            out[n, i] = low(out[n, i], penalty) if out[n, i] < 0 else high(out[n, i], penalty)
    return out


def of_all(version):
    return lambda x, prompts, answers, p: version(x, tuple(map(np.append, prompts, answers)), p)


right("penalise")(of_all(punished))


@right("penalise")
@of_all
def _(x, seen, penalty):
    hit = np.stack([np.isin(np.arange(x.shape[1]), ids) for ids in seen])
    return np.where(hit, np.where(x < 0, x * penalty, x / penalty), x)


@right("penalise")
@of_all
def _(x, seen, penalty):
    out = x.astype(np.float64)
    for row, ids in zip(out, seen, strict=True):
        row[ids] = np.minimum(row[ids] / penalty, row[ids] * penalty)
    return out


wrong("penalise", "divided too")(of_all(lambda *a: punished(*a, low=lambda v, p: v / p)))
wrong("penalise", "twice")(of_all(lambda *a: punished(*a, ids=lambda s: s)))
wrong("penalise", "two cases are swapped")(
    of_all(lambda *a: punished(*a, low=lambda v, p: v / p, high=lambda v, p: v * p)))
wrong("penalise", "subtracted")(of_all(lambda *a: punished(*a, low=lambda v, p: v - p, high=lambda v, p: v - p)))
wrong("penalise", "nothing is punished")(of_all(lambda x, s, p: np.array(x)))
wrong("penalise", "*not* seen")(
    of_all(lambda x, s, p: punished(x, s, p, ids=lambda s: set(range(x.shape[1])) - set(s))))
wrong("penalise", "prompt is forgotten")(lambda x, prompts, answers, p: punished(x, answers, p))

# ---- narrow_choice


def narrowed(x, t, k, p, lowest=None, scale=np.divide, cross=True, equals=True, own=False):
    out = scale(x, t).astype(np.float32)
    lowest = np.finfo(np.float32).min if lowest is None else lowest
    for row in out:
        order = np.argsort(row, kind="stable")[::-1]
        if k:
            keep = row >= row[order[min(k, len(row)) - 1]] if equals else np.isin(np.arange(len(row)), order[:k])
            row[~keep] = lowest
        if p is not None:
            chance = np.exp(row.astype(float) - row.max())
            chance /= chance.sum()
            total = 0.0
            for n, i in enumerate(order):
                if n and (chance[i] < p if own else total + (0 if cross else chance[i]) >= p):
                    row[i] = lowest
                total += chance[i]
    return out


right("narrow_choice")(narrowed)


@right("narrow_choice")
def _(x, t, k, p):
    lowest = np.finfo(np.float64).min
    out = x.astype(np.float64) / t
    if k:
        out[out < -np.sort(-out, axis=1)[:, [min(k, x.shape[1]) - 1]]] = lowest
    if p is not None:
        ranked = -np.sort(-out, axis=1)
        share = np.exp(ranked - ranked[:, :1])
        share = np.cumsum(share / share.sum(1, keepdims=True), axis=1)
        least = np.take_along_axis(ranked, (share < p).sum(1)[:, None], 1)
        out[out < least] = lowest
    return out


@right("narrow_choice")
def _(*args):
    return np.asfortranarray(narrowed(*args))


wrong("narrow_choice", "-inf")(lambda *a: narrowed(*a, lowest=-np.inf))
wrong("narrow_choice", "is 0")(lambda *a: narrowed(*a, lowest=0))
wrong("narrow_choice", "multiplied by the temperature")(lambda *a: narrowed(*a, scale=np.multiply))
wrong("narrow_choice", "temperature is ignored")(lambda *a: narrowed(*a, scale=lambda x, t: x.copy()))
wrong("narrow_choice", "before its share")(lambda *a: narrowed(*a, cross=False))
wrong("narrow_choice", "top_k is ignored")(lambda x, t, k, p: narrowed(x, t, None, p))
wrong("narrow_choice", "top_p is ignored")(lambda x, t, k, p: narrowed(x, t, k, None))
wrong("narrow_choice", "own probability")(lambda *a: narrowed(*a, own=True))

# ---- most_likely

right("most_likely")(lambda x: np.array([row.tolist().index(max(row)) for row in x]))
right("most_likely")(lambda x: np.argsort(-x, axis=1, kind="stable")[:, 0])
right("most_likely")(lambda x: (x == x.max(1)[:, None]).argmax(1).astype(np.int32))
wrong("most_likely", "last among equals")(lambda x: np.argsort(x, axis=1, kind="stable")[:, -1])
wrong("most_likely", "each column")(lambda x: np.argmax(x, 0))
wrong("most_likely", "lowest")(lambda x: np.argmin(x, 1))
wrong("most_likely", "score itself")(lambda x: np.max(x, 1))
wrong("most_likely", "absolute")(lambda x: np.argmax(x**2, 1))
wrong("most_likely", "(n, 1)")(lambda x: np.argmax(x, 1)[:, None])
