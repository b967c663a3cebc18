"""The whole schedule, from wherever it stands: `python -m tools.train_tiny go-on --run runs/f`.

Phase after phase of `phases.SCHEDULE`, each in its folder of the run; moments and the average of the
weights go on from one to the next. Killed, the same command goes on, at most two minutes back. An empty
run begins where `state/` says that the last machine stopped; `keep` writes that folder: the average of
the weights with the heads, in bfloat16, the phase, the step, and the learning curve so far. The weights
themselves go on from their average, and moments stay behind (they would be twice the size): a new
machine warms up anew.

Read next: `train.py`.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from minivl.door.files import write_whole

from .curve import read
from .network import Lean, config_for, fill, new_model
from .optimiser import Flat
from .phases import SCHEDULE, Phase
from .tokens import load_tokenizer
from .train import train

STATE = Path(__file__).parent / "state"
MOST_BYTES, MOST_LINES = 16_000_000, 60  # of the state; of a phase's learning curve in it
EFFORT = {"tower": 1.0, "decoder": 1.0, "all": 2.2}       # of a sample, for the hours left


def go_on(run: Path, device: str | None = None, state: Path = STATE,
          schedule: tuple[Phase, ...] = SCHEDULE, seed: int = 1, scale: float = 1.0) -> Path:
    """Train what is left of the schedule; the path of the last weights. scale: of every phase's
    steps."""
    schedule = tuple(replace(phase, steps=max(1, round(scale * phase.steps))) for phase in schedule)
    if not any((run / phase.name).exists() for phase in schedule) and (state / "state.json").exists():
        unpack(run, state, schedule, seed)
    before = None
    for i, phase in enumerate(schedule):
        folder = run / phase.name
        if not (folder / "weights.pt").exists() and not skipped(run, schedule[i:]):
            later = sum(one.steps * one.batch * EFFORT[one.trains] for one in schedule[i + 1:])
            train(phase, folder, before, seed=seed, device=device, later=later / EFFORT[phase.trains])
        before = folder / "checkpoint.pt" if (folder / "checkpoint.pt").exists() else before
    return run / schedule[-1].name / "weights.pt"


def skipped(run: Path, phases: tuple[Phase, ...]) -> bool:
    """Was the first of these phases done on another machine? Then a later one has begun here."""
    return any((run / phase.name / "checkpoint.pt").exists() for phase in phases[1:])


def newest(run: Path, schedule: tuple[Phase, ...] = SCHEDULE) -> Path:
    """The folder of the phase that a run is in. Raises FileNotFoundError where none has begun."""
    found = [run / phase.name for phase in schedule if (run / phase.name / "checkpoint.pt").exists()]
    if not found:
        raise FileNotFoundError(f"{run} must hold a checkpoint.pt in a phase's folder, and there is none: "
                                "start `go-on` and wait for two minutes")
    return found[-1]


def averaged(checkpoint: Path) -> dict[str, torch.Tensor]:
    """The average of the weights in a phase's checkpoint.pt, as a state of the network."""
    lean = Lean(new_model(config_for(load_tokenizer()), 0))
    flat = Flat(lean)
    flat.restore(torch.load(checkpoint, weights_only=True)["flat"])
    return flat.state_of_average()


def keep(run: Path, state: Path = STATE, schedule: tuple[Phase, ...] = SCHEDULE) -> int:
    """Write into `state` what another machine needs to go on; the bytes written. Raises ValueError when
    that is more than may stand in the repository."""
    folder = newest(run, schedule)
    saved = torch.load(folder / "checkpoint.pt", weights_only=True)
    weights = {name: value.bfloat16() for name, value in averaged(folder / "checkpoint.pt").items()
               if name != "model.lm_head.weight"}         # tied to the embedding
    lines = [line for phase in schedule for line in _thinned(read(run), phase.name)]
    about = {"phase": folder.name, "step": saved["step"], "seconds": saved["seconds"]}
    texts = {"state.json": json.dumps(about) + "\n",
             "log.jsonl": "".join(json.dumps(line) + "\n" for line in lines)}
    size = sum(2 * value.numel() for value in weights.values()) + sum(map(len, texts.values()))
    if size > MOST_BYTES:
        raise ValueError(f"the state has {size:,} bytes, and {MOST_BYTES:,} may stand in the repository")
    state.mkdir(exist_ok=True)
    write_whole(state / "weights.safetensors", lambda file: save_file(weights, file.name))
    for name, text in texts.items():
        write_whole(state / name, lambda file, text=text: file.write(text.encode("utf-8")))
    return size


def _thinned(lines: list[dict[str, Any]], phase: str) -> list[dict[str, Any]]:
    """At most MOST_LINES of a phase's lines, its looks and its last among them."""
    mine = [line for line in lines if line["phase"] == phase]
    every = -(-len(mine) // MOST_LINES) or 1
    return [line for i, line in enumerate(mine, 1) if "held_out" in line or (len(mine) - i) % every == 0]


def network_of(weights: Path) -> Lean:
    """The network whose average a state's weights.safetensors is."""
    lean = Lean(new_model(config_for(load_tokenizer()), 0))
    fill(lean, load_file(weights), weights)
    return lean


def unpack(run: Path, state: Path, schedule: tuple[Phase, ...], seed: int) -> None:
    """Make an empty run what the machine that wrote `state` left, but for the moments."""
    about = json.loads((state / "state.json").read_text(encoding="utf-8"))
    for line in (state / "log.jsonl").read_text(encoding="utf-8").splitlines():
        folder = run / json.loads(line)["phase"]
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(line + "\n")
    lean = network_of(state / "weights.safetensors")
    phase = next(phase for phase in schedule if phase.name == about["phase"])
    (run / phase.name).mkdir(parents=True, exist_ok=True)
    torch.save({"flat": Flat(lean).state(), "step": about["step"], "since": about["step"],
                "seconds": about["seconds"], "phase": phase.name, "seed": seed, "batch": phase.batch,
                "rate": phase.matrix_rate},
               run / phase.name / "checkpoint.pt")
