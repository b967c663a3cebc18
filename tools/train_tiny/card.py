"""The model card, written from the evaluation's own output and the run's own log."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from minivl.door.files import write_whole
from minivl.show.samples import WORLD

from . import evaluate
from .evaluate import verdict

RESULTS = Path(__file__).parent / "results"
TEMPLATE = Path(__file__).parent / "card.md"
MARK = {"aim": "aim reached", "floor": "floor reached", "below": "**below the floor**", "stated": "stated"}
PARTS = {"tower": "the tower alone", "decoder": "the decoder alone", "all": "both"}
CLOSE = {
    "describe": "more of `settle` on crowded pictures: single names are read well before their order is",
    "count": "more of `alike`: the tower is not sure yet how many things are of a colour or of a kind",
    "exists": "more of `settle` with hard negatives",
    "find": "more of `settle`: the tower's own heads locate edges better than the answers say them",
    "number": "more of `halved`: characters below 20 pixels",
    "what": "more videos in `settle`", "when": "more videos in `settle`",
    "relation": "more of `told`, then bare answers in `settle`",
    "detect": "more of `settle`: every box is a `find`, and all of a picture's have to be right",
    "word": "more of `halved`: characters below 20 pixels", "deny": "more requests for absent things in `settle`",
    "point": "more of `settle`",
    "form": "more of `tabled`, then of `settle`: fifteen characters have to be right at once",
    "click": "more of `controls`"}


def keep(name: str, values: Any) -> None:
    """Write one of the results that pages and card are made from."""
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(values, indent=1) + "\n"
    write_whole(RESULTS / f"{name}.json", lambda file: file.write(text.encode("utf-8")))


def kept(name: str) -> Any:
    """One of the results; nothing where it has not been made."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []


def percent(value: float) -> str:
    return f"{100 * value:.1f}"


def table(rows: list[dict[str, Any]]) -> str:
    """The evaluation as Markdown: a line a measure."""
    lines = ["| tier | row | measure | minivl | transformers | blind guess | floor | aim | |",
             "|---|---|---|---|---|---|---|---|---|"]
    for row in rows:
        ours = row["figures"].get("minivl") or row["figures"]["transformers"]
        theirs = row["figures"].get("transformers", ours)
        for name in row["measures"] or {"right": None}:
            floor, aim = row["measures"].get(name, (None, None))
            alone = row | {"measures": {} if floor is None else {name: (floor, aim)}}
            cells = [row["tier"], row["name"], name, percent(ours[name]), percent(theirs[name]),
                     percent(row["blind"].get(name, 0)), "" if floor is None else percent(floor),
                     "" if aim is None else percent(aim), MARK[verdict(alone, ours)] + _one_answer(row)]
            lines.append("| " + " | ".join(cells) + " |")
        if "pairs" in row:
            lines.append(_of_pairs(row))
    return "\n".join(lines)


def _one_answer(row: dict[str, Any]) -> str:
    """Said in the row itself when all of its questions get one answer."""
    answers = row.get("constant", {})
    answer = answers.get("minivl") or answers.get("transformers")
    return f"; **always says** `{answer}`" if answer else ""


def _of_pairs(row: dict[str, Any]) -> str:
    """A line below a row whose questions have opposites: in which share of pairs it is right about both. Who answers
    without looking is right about one of each."""
    found = row["pairs"]
    ours, theirs = (found.get(name, next(iter(found.values()))) for name in ("minivl", "transformers"))
    return (f"| {row['tier']} | {row['name']} | both of a pair of opposites ({ours['pairs']} pairs) | "
            f"{percent(ours['both'])} | {percent(theirs['both'])} | 0.0 |  |  | stated |")


def constants(rows: list[dict[str, Any]]) -> str:
    """Forms of question that are answered without looking; nothing where forms were not counted."""
    if not any("forms" in row for row in rows):
        return ""
    found = [(row, form, answer) for row in rows for form, answer in evaluate.constants(row).items()]
    if not found:
        return "\n\nNo form of question gets one answer whatever the picture shows."
    lines = ["", "", "These forms of question get one answer (in at least 90 of 100 cases) whatever the picture shows; "
             "their figure is the share in which it happens to be right.", "",
             "| form | row | always says | right | questions |", "|---|---|---|---|---|"]
    for row, form, answer in found:
        one = row["forms"]["minivl"][form]
        lines.append(f"| {form} | {row['name']} | `{answer}` | {percent(one['figures']['right'])} | {one['samples']} |")
    return "\n".join(lines)


def phases(history: list[dict[str, Any]]) -> str:
    lines = ["| run | phase | samples | minutes on 2 cores | trained | on |", "|---|---|---|---|---|---|"]
    lines += [f"| {one['run']} | {one['phase']} | {one['samples']:,} | {one['minutes']:.0f} | {PARTS[one['trains']]} | "
              f"{one['what']} |" for one in history]
    return "\n".join(lines)


def changed(rows: list[dict[str, Any]]) -> str:
    """What the last phase changed, a line a row."""
    if not rows:
        return "Not measured: `python -m tools.train_tiny compare`."
    lines = ["| row | before | after |", "|---|---|---|"]
    for row in rows:
        name = next(iter(row["before"]))
        lines.append(f"| {row['name']} | {percent(row['before'][name])} | {percent(row['after'][name])} |")
    return "\n".join(lines)


def missing(rows: list[dict[str, Any]]) -> str:
    """What fails, and what would close it."""
    below = [row for row in rows if row["measures"] and verdict(row, row["figures"]["minivl"]) == "below"]
    if not below:
        return "Every row with a floor reaches it."
    return "\n".join(f"- {row['name']}: {CLOSE.get(row['task'], 'more training')}." for row in below)


def preferred(history: list[dict[str, Any]]) -> str:
    """When the preference phase ran last: the weights may have gone on from there."""
    runs = [row["run"] for row in history if row["phase"] == "dpo"]
    if not runs:
        return "it never has"
    return f"run {runs[-1]}" + (", from which the last run went on" if runs[-1] != history[-1]["run"] else "")


def card(evaluation: dict[str, Any], history: list[dict[str, Any]], dpo: list[dict[str, Any]],
         size: int) -> str:
    rows = evaluation["rows"]
    same = sum(row.get("same_tokens", 0) for row in rows)
    asked = sum(row["samples"] for row in rows)
    hours = sum(one["minutes"] for one in history) * 2 / 60
    return TEMPLATE.read_text(encoding="utf-8").format(
        size=f"{size / 1e6:.1f}", world=WORLD, each=f"{rows[0]['samples']:,}", same=f"{same:,}", asked=f"{asked:,}",
        table=table(rows), constants=constants(rows), missing=missing(rows), changed=changed(dpo),
        pairs=dpo[0]["samples"] if dpo else 0, preferred=preferred(history),
        phases=phases(history), hours=f"{hours:.1f}",
        samples=f"{sum(one['samples'] for one in history):,}")


def write(folder: Path) -> None:
    """Write README.md of a checkpoint folder."""
    size = (folder / "model.safetensors").stat().st_size
    text = card(kept("evaluation"), kept("history"), kept("dpo"), size)
    write_whole(folder / "README.md", lambda file: file.write(text.encode("utf-8")))
