"""Put a checkpoint into the package, and make everything anew that follows from it.

    make tiny-release CKPT=runs/a/checkpoint

The checkpoint is checked and evaluated before anything is replaced. Then, in this order: the files of `minivl/tiny`,
the model card, the golden answers, the samples, the page of ablations, the record of the training, the page about the
article, the pictures of the questions. Should one of these steps fail, or be interrupted, all of them are put back as
they were. The evaluation, which takes most of the time, is kept beside the checkpoint and goes on where it was.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import minivl
from minivl.api import TINY
from minivl.door.files import write_whole
from minivl.show.samples import FOLDER

from . import ablate, card, evaluate, golden, record
from .card import RESULTS, keep, kept
from .curve import points, read, seen
from .packing import VIDEO
from .phases import PHASES

MOST_BYTES = 12_000_000
FILES = ("config.json", "generation_config.json", "model.safetensors", "preprocessor_config.json", "tokenizer.json",
         "tokenizer_config.json", "chat_template.json", "vocab.json", "merges.txt")
ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs" / "made"
MADE = (TINY, RESULTS, golden.PATH, FOLDER, ablate.PAGE, DOCS / "the-article.md", DOCS / "pictures")


def history(run: Path, anew: bool = False) -> list[dict[str, Any]]:
    """Write down what each phase of a run saw, and points of its learning curve, behind the runs that it goes on from;
    anew: it began from nothing.

    Raises FileNotFoundError where there was no run.
    """
    lines = read(run)
    found = seen(lines)
    if not found:
        raise FileNotFoundError(f"{run} has no log.jsonl in a phase's folder: nothing was trained there")
    earlier = [] if anew else [row for row in kept("history") if row["run"] != run.name]
    rows = earlier + [{"run": run.name, "phase": phase, "samples": samples, "minutes": minutes,
                       "what": PHASES[phase].what, "trains": PHASES[phase].trains, "draws": PHASES[phase].mix}
                      for phase, (samples, minutes) in found.items()]
    keep("history", rows)
    before = [] if anew else [row for row in kept("curve") if row["run"] != run.name]
    keep("curve", before + [{"run": run.name, **point} for point in points(lines)])
    return rows


def check(folder: Path) -> None:
    """Raise ValueError, before anything is touched, for a folder that cannot be shipped."""
    absent = [name for name in FILES if not (folder / name).is_file()]
    if absent:
        raise ValueError(f"{folder} lacks {', '.join(absent)}; `python -m tools.train_tiny export` makes it whole")
    size = (folder / "model.safetensors").stat().st_size
    if size > MOST_BYTES:
        raise ValueError(f"{folder / 'model.safetensors'} has {size:,} bytes, the package takes {MOST_BYTES:,}")
    if not (RESULTS / "history.json").is_file():
        raise ValueError("the card needs to know what was trained: `python -m tools.train_tiny history RUN` first")
    with minivl.load(folder) as vlm:                      # the audit of the loader: every tensor in its place
        if len(vlm.tokenizer.encode(VIDEO)) != 1:
            raise ValueError(f"{folder / 'tokenizer.json'} does not know {VIDEO}")


def put(folder: Path) -> None:
    """The files of the package, replaced one by one, the weights last."""
    for old in TINY.iterdir():
        if old.name not in FILES:
            old.unlink()
    for name in sorted(FILES, key=lambda name: name == "model.safetensors"):
        with (folder / name).open("rb") as source:
            write_whole(TINY / name, lambda file, source=source: shutil.copyfileobj(source, file))


def compare(before: Path, after: Path, samples: int) -> list[dict[str, Any]]:
    """Figures of two checkpoints on the same questions of tiers A and B."""
    pairs = [list(evaluate.evaluate(folder, samples, ["minivl"], seed=6, tiers="AB")) for folder in (before, after)]
    rows = [{"name": a["name"], "samples": samples, "before": a["figures"]["minivl"], "after": b["figures"]["minivl"]}
            for a, b in zip(*pairs, strict=True)]
    keep("dpo", rows)
    return rows


def module(*words: str) -> None:
    subprocess.run([sys.executable, "-m", *words], check=True)


def release(folder: Path, samples: int, ablation_samples: int,
            engines: Sequence[str] = ("minivl", "transformers")) -> None:
    """See the module's text."""
    check(folder)
    rows = []
    for row in evaluate.evaluate(folder, samples, engines, kept=folder / "evaluation.jsonl"):
        rows.append(row)
        print(evaluate.line(row), flush=True)
    with all_or_nothing(MADE):
        keep("evaluation", {"seed": 0, "rows": rows})
        put(folder)
        card.write(TINY)
        print(f"{golden.write(TINY)} golden answers", flush=True)
        module("tools.checkpoints.make_samples")
        ablate.write("ablations", list(ablate.measure(None, ablation_samples)))
        record.write(TINY)
        module("tools.pages.article")
        module("tools.pages.question_pictures")


@contextmanager
def all_or_nothing(paths: Sequence[Path]) -> Iterator[None]:
    """Put files and folders back as they were when the block does not come to its end."""
    with tempfile.TemporaryDirectory() as aside:
        for i, path in enumerate(paths):
            (shutil.copytree if path.is_dir() else shutil.copy2)(path, Path(aside) / str(i))
        try:
            yield
        except BaseException:
            for i, path in enumerate(paths):
                _put_back(Path(aside) / str(i), path)
            raise


def _put_back(saved: Path, path: Path) -> None:
    if saved.is_file():
        shutil.copy2(saved, path)
        return
    shutil.rmtree(path)
    shutil.copytree(saved, path)
