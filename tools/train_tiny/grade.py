"""When an answer is right, for each task; and what a blind guess would have scored.

A grader takes what was said and the true answer, and gives scores by name: 1.0 or 0.0, or a measure. The *blind guess*
beside every figure is the best single answer given to all samples of a row without looking at a picture.

Read next: `evaluate.py`.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from minivl.show.samples import overlap

Scores = dict[str, float]
DENIAL = "There is no"
NAMED = re.compile(r"\b([a-z]+) (circle|square|triangle|star|cross|ring)\b")


def same(said: str, truth: str) -> Scores:
    return {"right": float(said.strip() == truth)}


def same_set(said: str, truth: str) -> Scores:
    """The same things, in whatever order they are named, and nothing else said."""
    left = set(re.findall(r"\w+", NAMED.sub("", said.lower()))) - {"a", "an", "and"}
    ours, theirs = (Counter(NAMED.findall(text.lower())) for text in (said, truth))
    return {"right": float(ours == theirs and not left)}


def denied(said: str, truth: str) -> Scores:
    """What is not there must be denied in the right words; what is there must not be denied."""
    if truth.startswith(DENIAL):
        return same(said, truth)
    return {"right": float(not said.startswith(DENIAL))}


def read_json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def boxes(text: str) -> list[tuple[tuple[int, ...], str]]:
    """Boxes and labels of an answer in the official form; none of what is damaged."""
    found = read_json(text)
    rows = found if isinstance(found, list) else []
    return [(tuple(row["bbox_2d"]), str(row.get("label"))) for row in rows
            if isinstance(row, dict) and isinstance(row.get("bbox_2d"), list) and len(row["bbox_2d"]) == 4
            and all(isinstance(v, int) for v in row["bbox_2d"])]


def one_box(said: str, truth: str) -> Scores:
    ours, theirs = boxes(said), boxes(truth)
    shared = overlap(ours[0][0], theirs[0][0]) if len(ours) == 1 else 0.0
    return {"right": float(shared > 0.5), "iou": shared}


def all_boxes(said: str, truth: str) -> Scores:
    """Hits, boxes said and boxes there, for an F1 over the whole row. A hit has the label and half the area."""
    ours, left = boxes(said), boxes(truth)
    there, hits = len(left), 0
    for box, label in ours:
        match = max((row for row in left if row[1] == label), key=lambda row: overlap(box, row[0]), default=None)
        if match is not None and overlap(box, match[0]) >= 0.5:
            left.remove(match)
            hits += 1
    return {"right": float(hits == len(ours) == there), "hits": hits, "said": len(ours), "there": there}


def seconds(text: str) -> float | None:
    found = re.fullmatch(r"At (\d+(?:\.\d+)?) s\.", text.strip())
    return float(found[1]) if found else None


def moment(said: str, truth: str) -> Scores:
    """Within half a second."""
    ours, theirs = seconds(said), seconds(truth)
    assert theirs is not None
    off = abs(ours - theirs) if ours is not None else 9.0
    return {"right": float(off <= 0.5 + 1e-6), "off": off}


def fields(said: str, truth: str) -> Scores:
    ours, theirs = read_json(said), json.loads(truth)
    ours = ours if isinstance(ours, dict) else {}
    return {"right": float(ours == theirs)} | {key: float(ours.get(key) == value) for key, value in theirs.items()}


def inside(said: str, truth: str) -> Scores:
    """truth: the control's box, as an answer that grounds it."""
    found, (box, _) = read_json(said), boxes(truth)[0]
    point = found[0].get("point_2d") if isinstance(found, list) and found and isinstance(found[0], dict) else None
    good = isinstance(point, list) and len(point) == 2 and all(isinstance(v, int) for v in point)
    return {"right": float(bool(good) and box[0] <= point[0] < box[2] and box[1] <= point[1] < box[3])}


GRADERS: dict[str, Callable[[str, str], Scores]] = {
    "describe": same_set, "find": one_box, "detect": all_boxes, "when": moment, "form": fields, "click": inside,
    "deny": denied}


def grade(task: str, said: str, truth: str) -> Scores:
    return GRADERS.get(task, same)(said, truth)


def summary(task: str, scores: list[Scores]) -> Scores:
    """Scores of a row as figures: means, and an F1 where boxes are counted."""
    means = {name: float(np.mean([s[name] for s in scores])) for name in scores[0]}
    if task == "detect":
        hits, said, there = (sum(s[name] for s in scores) for name in ("hits", "said", "there"))
        means["f1"] = 2 * hits / (said + there)
        means = {name: means[name] for name in ("f1", "right")}
    return {name: round(value, 4) for name, value in means.items()}


def blind_guess(task: str, truths: list[str]) -> Scores:
    """The best of the commonest true answers, given to all; for boxes, the mean box."""
    if task == "deny":                                    # the question says the words of a denial: always, or never
        share = float(np.mean([truth.startswith(DENIAL) for truth in truths]))
        return {"right": round(max(share, 1 - share), 4)}
    guesses = [answer for answer, _ in Counter(truths).most_common(12)]
    if task in ("find", "click"):
        middle = np.mean([boxes(t)[0][0] for t in truths], axis=0).round().astype(int).tolist()
        x, y = (middle[0] + middle[2]) // 2, (middle[1] + middle[3]) // 2
        key = {"find": {"bbox_2d": middle}, "click": {"point_2d": [x, y]}}[task]
        guesses = [json.dumps([key | {"label": ""}])]
    if task == "when":
        guesses = [f"At {t / 20} s." for t in range(200)]
    tried = [summary(task, [grade(task, guess, truth) for truth in truths]) for guess in guesses]
    return max(tried, key=lambda one: one.get("f1", one["right"]))
