"""Make the embedded model, one command a step:

    python -m tools.train_tiny tokenizer                     learn the small vocabulary
    python -m tools.train_tiny train visual --run runs/a     train one phase; again after a kill, it goes on

See README.md for the whole way.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")        # a worker is one thread; read when NumPy is loaded

app = typer.Typer(add_completion=False, help=__doc__, pretty_exceptions_enable=False)


@app.command()
def tokenizer() -> None:
    """Learn the merges anew and write tokenizer.json. A new vocabulary makes all earlier checkpoints useless."""
    from .tokens import PATH, learn
    print(f"{learn().get_vocab_size()} tokens in {PATH}")


@app.command()
def train(phase: str, run: Annotated[Path, typer.Option(help="folder of the whole run; each phase has one inside")],
          start: Annotated[Path | None, typer.Option(exists=True, help="weights.pt or exported folder to start from")]
          = None, steps: Annotated[int | None, typer.Option(min=1)] = None,
          batch: Annotated[int | None, typer.Option(min=2)] = None, seed: int = 1,
          rate: Annotated[float, typer.Option(min=0.0, help="multiplies the phase's learning rates; less than 1 when "
                                              "the weights are well trained already")] = 1.0) -> None:
    """Train one phase; killed, the same command goes on from the last checkpoint."""
    from .phases import PHASES
    from .train import train as train_phase
    if phase not in PHASES:
        raise typer.BadParameter(f"there is no phase {phase}; there are {', '.join(PHASES)}")
    if start is None and phase != "visual":
        raise typer.BadParameter(f"{phase} goes on from weights: --start RUN/PHASE-BEFORE/weights.pt, or minivl/tiny")
    print(f"weights: {train_phase(PHASES[phase].at_rate(rate), run / phase, start, steps, batch, seed)}")


@app.command("go-on")
def go_on(run: Annotated[Path, typer.Option(help="folder of the whole run; an empty one begins from state/")],
          device: Annotated[str | None, typer.Option(help="cuda: one GPU instead of two processes on the CPU")]
          = None, scale: Annotated[float, typer.Option(min=1e-4, help="multiplies the steps of every phase")] = 1.0,
          ) -> None:
    """Train the whole schedule from wherever it stands; killed, the same command goes on."""
    from .going_on import go_on as work
    print(f"weights: {work(run, device, scale=scale)}")


@app.command()
def keep(run: Path) -> None:
    """Put what another machine needs to go on into the repository, under tools/train_tiny/state/."""
    from .going_on import STATE
    from .going_on import keep as work
    print(f"{work(run):,} bytes in {STATE}")


@app.command()
def average(run: Path, target: Path) -> None:
    """Export the average of the weights that a go-on run has now as a checkpoint folder."""
    from .export import write
    from .going_on import averaged, newest
    kept = newest(run) / "checkpoint.pt"
    write(averaged(kept), target, kept)
    print(target)


@app.command()
def export(weights: Path, target: Path) -> None:
    """Write a phase's weights.pt as a checkpoint folder in the official layout."""
    from .export import export as write
    write(weights, target)
    print(f"{target}: {(target / 'model.safetensors').stat().st_size:,} bytes of weights")


@app.command()
def blend(first: Path, second: Path, target: Path,
          share: Annotated[float, typer.Option(min=0.0, max=1.0, help="of the second")] = 0.5) -> None:
    """Write the mean of two phases' weights.pt as a checkpoint folder in the official layout."""
    from .export import blend as write
    write(first, second, target, share)
    print(target)


@app.command()
def evaluate(checkpoint: Path, samples: int = 1000, engine: Annotated[list[str] | None, typer.Option()] = None,
             output: Path | None = None, tiers: str = "ABC", seed: int = 0) -> None:
    """Ask held-out questions and print a line a row. engine: minivl, transformers; both unless said."""
    from . import evaluate as work
    rows = []
    for row in work.evaluate(checkpoint, samples, engine or ["minivl", "transformers"], seed, tiers,
                             kept=output and output.with_suffix(".part.jsonl")):
        rows.append(row)
        print(work.line(row), flush=True)
    if output is not None:
        work.write(rows, output, seed)


@app.command()
def reading(weights: Path, samples: int = 100) -> None:
    """Ask the tower which characters it sees and the decoder which it reads, of held-out forms, tables, lines."""
    from .reading import load, measure
    for row in measure(load(weights), samples):
        print(row, flush=True)


@app.command()
def curve(run: Path, target: Path) -> None:
    """Draw the learning curve of a run as a PNG."""
    from .curve import draw
    draw(run, target)
    print(target)


@app.command()
def history(run: Path, anew: Annotated[bool, typer.Option(help="forget earlier runs: this one began from nothing")]
            = False) -> None:
    """Write down what each phase of a run saw, for the model card, behind the runs that it went on from."""
    from .release import history as write
    for row in write(run, anew):
        print(row)


@app.command()
def card(checkpoint: Path) -> None:
    """Write the model card from the results of the evaluation and the history."""
    from .card import write
    write(checkpoint)
    print(checkpoint / "README.md")


@app.command()
def record() -> None:
    """Write training.json into the package: the same results, for lessons that tell how the model was trained."""
    from minivl.api import TINY

    from .record import NAME, write
    write(TINY)
    print(TINY / NAME)


@app.command()
def compare(before: Path, after: Path, samples: int = 200) -> None:
    """Ask two checkpoints the same questions, and keep both figures for the card: what the last phase changed."""
    from .release import compare as work
    for row in work(before, after, samples):
        print(row)


@app.command()
def golden(checkpoint: Path) -> None:
    """Choose 200 answers of the reference that rounding cannot change, for the tests."""
    from .golden import PATH, write
    print(f"{write(checkpoint)} golden answers in {PATH}")


@app.command()
def ablate(checkpoint: Annotated[Path | None, typer.Argument()] = None, samples: int = 200) -> None:
    """Ask the trained model with one mechanism changed at a time, and write docs/made/ablations.md."""
    from . import ablate as work
    rows = []
    for row in work.measure(checkpoint, samples):
        rows.append(row)
        print(row["change"], row["figures"], flush=True)
    work.write("ablations", rows)


@app.command()
def pair(run: Path, start: Annotated[Path, typer.Option(exists=True, help="weights.pt or folder with the tower")],
         steps: Annotated[int | None, typer.Option(min=1)] = None, samples: int = 1000) -> None:
    """Train twice on the same videos, with and without the time axis, with one trained tower; write the page anew."""
    from . import ablate as work
    found = work.train_pair(run, start, steps, samples)
    work.write("pair", found)
    for row in found:
        print(row)


@app.command()
def release(checkpoint: Path, samples: int = 1000, ablation_samples: int = 200) -> None:
    """Put a checkpoint folder into the package, with everything that follows from it."""
    from .release import release as work
    work(checkpoint, samples, ablation_samples)


if __name__ == "__main__":
    app()
