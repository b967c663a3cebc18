"""What the trained model relies on: the same weights with one mechanism changed, asked the same questions.

    python -m tools.train_tiny ablate --samples 200        # writes docs/made/ablations.md

Each change is a wrong pass under the right label, laid over the model through the door. What a row loses tells what
*these weights rely on*, having been trained with the mechanism. It does not tell what the mechanism is good for: a
network trained without it might do as well. For that, two networks must be trained, on the same budget, with and
without it; `pair` does so for the time axis.

Read next: `minivl/door/stage.py`, which lets it happen.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

import minivl
from minivl.door.files import write_whole
from minivl.passes import positions, windows

from .card import keep, kept, percent
from .evaluate import answer_by_minivl, row_of
from .export import export
from .network import Lean, config_for, new_model
from .optimiser import WORKERS
from .phases import PAIR
from .rows import ROWS
from .tokens import load_tokenizer
from .train import load_weights, train

PAGE = Path(__file__).parents[2] / "docs" / "made" / "ablations.md"
TEMPLATE = Path(__file__).parent / "ablations.md"
PAIRED = """Two networks with the same trained tower, which holds still, and the same untrained decoder, trained on
the same videos: what appears or leaves, and *when*. One has the time axis of MRoPE; in the other all frames stand at
one moment, and what is left to it is the order in which it reads them, and how far behind them the text stands, which
tells how long the video was. One seed each, {asked} held-out
questions: a difference of a few percent means nothing.

{table}

Trained by `python -m tools.train_tiny pair` with the tower of `{start}`. The minutes are CPU time of the two
processes that train, without the one that draws."""
TASKS = ("describe", "count", "exists", "find", "number", "what", "when", "relation", "word", "point", "form", "click")
Change = Mapping[str, Callable]


def no_time(ids, grids, ticks, pads, merge, after_video):
    """MRoPE without its time axis: all frames of a video at one moment; what follows stays where it was."""
    at = positions.mrope.definition(ids, grids, ticks, pads, merge, after_video).copy()
    rows, start = np.flatnonzero(np.isin(ids, pads)), 0
    for t, h, w in np.asarray(grids) // (1, merge, merge):
        mine = rows[start:start + t * h * w]
        at[0, mine] = at[0, mine[0]]
        start += t * h * w
    return at


def _as_block(kind: str) -> Callable:
    """A schedule in which every block has the segments of one kind: "windows" or "frames"."""
    def schedule(grids, config):
        tables = windows.schedule.definition(grids, config)
        full = config.fullatt_block_indexes
        source = next(i for i in range(config.depth) if (i in full) == (kind == "frames"))
        return tuple(tables[source] for _ in range(config.depth))
    return schedule


def shuffled(rows, merger):
    """The merger fed the four patches of a cell in another order."""
    from minivl.passes.vision import merge_2x2
    mixed = rows.reshape(-1, 4, rows.shape[1])[:, [2, 0, 3, 1]].reshape(rows.shape)         # 4c d -> c 4 d -> 4c d
    return merge_2x2.definition(mixed, merger)


CHANGES: dict[str, Change] = {
    "as trained": {},
    "no time axis": {"positions.mrope": no_time},
    "windows off: every block sees whole frames": {"vision.schedule": _as_block("frames")},
    "full blocks off: every block sees windows": {"vision.schedule": _as_block("windows")},
    "order inside the merger's cells shuffled": {"vision.merge_2x2": shuffled},
}


def measure(folder: Path | None, samples: int, seed: int = 3) -> Iterator[dict[str, Any]]:
    """For every change a row with the figures of all tasks."""
    asked = [row for row in ROWS if row.task in TASKS and row.tier in "AB" and "never" not in row.name]
    drawn = [(row, row.samples(samples, seed)) for row in asked]
    with minivl.load(folder, kernels="jit") as vlm:
        engine = answer_by_minivl(vlm)
        for name, change in CHANGES.items():
            figures = {}
            with minivl.using(change):
                for row, given in drawn:
                    out = row_of(row, given, vlm, {"minivl": engine})
                    figures[row.task] = out["figures"]["minivl"]["right"]
                    figures[f"blind {row.task}"] = out["blind"].get("right", 0.0)
            yield {"change": name, "samples": samples, "figures": figures}


def train_pair(run: Path, start: Path, steps: int | None, samples: int) -> list[dict[str, Any]]:
    """Train both networks of the pair, one after the other, and ask each the questions of the row "when".

    Both keep the tower of `start` as it is, for MRoPE does not enter it, and begin with the same untrained decoder: one
    that had been trained with the time axis would favour it. Minutes are CPU time of both workers; those before a kill
    are not among them.
    """
    row, out = next(one for one in ROWS if one.task == "when"), []
    tower = tower_of(start)
    run.mkdir(parents=True, exist_ok=True)
    torch.save(tower, run / "tower.pt")
    given = row.samples(samples, seed=4)
    for name, phase in PAIR.items():
        folder, before = run / name.replace(" ", "-"), time.process_time()
        export(train(phase, folder, run / "tower.pt", steps), folder / "checkpoint")
        minutes = WORKERS * (time.process_time() - before) / 60          # this process is one of the workers
        log = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
        change = {} if phase.time_axis else CHANGES["no time axis"]
        with minivl.load(folder / "checkpoint") as vlm, minivl.using(change):
            found = row_of(row, given, vlm, {"minivl": answer_by_minivl(vlm)})
        out.append({"name": name, "start": start.as_posix(), "samples": log[-1]["samples"], "minutes": minutes,
                    "asked": samples, "right": found["figures"]["minivl"]["right"], "blind": found["blind"]["right"]})
    return out


def tower_of(start: Path) -> dict[str, torch.Tensor]:
    """Weights whose tower is that of `start`; decoder and heads are untrained. Raises ValueError as `load_weights`."""
    lean, trained = (Lean(new_model(config_for(load_tokenizer()), seed=11)) for _ in range(2))
    load_weights(trained, start)
    seen = {name: value for name, value in trained.state_dict().items() if "visual" in name}
    return lean.state_dict() | seen


def page(rows: list[dict[str, Any]], pair: list[dict[str, Any]]) -> str:
    names = [task for task in TASKS if task in rows[0]["figures"]]
    lines = ["| | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for row in rows:
        lines.append(f"| {row['change']} | " + " | ".join(percent(row["figures"][n]) for n in names) + " |")
    blind = rows[0]["figures"]
    lines.append("| *a blind guess* | " + " | ".join(percent(blind[f"blind {n}"]) for n in names) + " |")
    return TEMPLATE.read_text(encoding="utf-8").format(samples=rows[0]["samples"], table="\n".join(lines),
                                                       pair=paired(pair))


def paired(pair: list[dict[str, Any]]) -> str:
    if not pair:
        return "The pair of trainings has not been run yet: `python -m tools.train_tiny pair RUN --start WEIGHTS`."
    lines = ["| trained | videos | CPU minutes | when, within 0.5 s | a blind guess |", "|---|---|---|---|---|"]
    for one in pair:
        cells = [one["name"], f"{one['samples']:,}", f"{one['minutes']:.0f}", percent(one["right"]),
                 percent(one["blind"])]
        lines.append("| " + " | ".join(cells) + " |")
    return PAIRED.format(asked=f"{pair[0]['asked']:,}", start=pair[0]["start"], table="\n".join(lines))


def write(name: str, rows: list[dict[str, Any]]) -> None:
    """Keep the rows of one experiment, "ablations" or "pair", and write docs/made/ablations.md from both."""
    keep(name, rows)
    text = page(kept("ablations"), kept("pair"))
    write_whole(PAGE, lambda file: file.write(text.encode("utf-8")))
