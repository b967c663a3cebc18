"""What the package itself knows of its training: `minivl/tiny/training.json`, for lessons that run without this folder.

    python -m tools.train_tiny record

The same results as the card and docs/made/ablations.md, as data: the phases with what each drew, the learning curve,
figures of the evaluation, what the preference phase changed, what the weights rely on. Read next: `card.py`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from minivl.door.files import write_whole

from . import evaluate
from .card import kept

NAME = "training.json"


def record() -> dict[str, Any]:
    """The results that are kept, of each row its first measure; a list is empty where nothing has been measured."""
    return {"made_by": "python -m tools.train_tiny record",
            "phases": kept("history"),
            "curve": kept("curve"),
            "evaluation": [_row(row) for row in kept("evaluation")["rows"]],
            "preference": [{"name": row["name"], "samples": row["samples"], "before": _first(row["before"]),
                            "after": _first(row["after"])} for row in kept("dpo")],
            "ablations": kept("ablations"), "pair": kept("pair")}


def _row(row: dict[str, Any]) -> dict[str, Any]:
    figures = row["figures"].get("minivl") or row["figures"]["transformers"]
    name = next(iter(row["measures"] or figures))
    told = {"tier": row["tier"], "name": row["name"], "task": row["task"], "samples": row["samples"], "measure": name,
            "figure": figures[name], "blind": row["blind"].get(name, 0.0)}
    if constants := evaluate.constants(row):
        told["constants"] = constants
    if pairs := row.get("pairs", {}).get("minivl"):
        told["pairs"] = pairs
    return told


def _first(figures: dict[str, float]) -> float:
    return next(iter(figures.values()))


def text() -> str:
    return json.dumps(record(), indent=1) + "\n"


def write(folder: Path) -> None:
    """Write training.json of a checkpoint folder."""
    write_whole(folder / NAME, lambda file: file.write(text().encode("utf-8")))
