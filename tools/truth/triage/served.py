"""Served candidates with each fault of the museum, and healthy ones, through `minivl triage --url`, and the table of
what it says.

    python -m tools.truth.triage.served > table.md                      # every fault of the museum, in float32
    python -m tools.truth.triage.served --healthy 200 > table.md        # healthy servers over precisions and batches

A fault that changes nothing of what the server says to the plan's questions cannot be seen, and the truth is "same".
Exit code 1 when the kind is right for less than nine tenths, or a healthy server is accused. Read next: `peer.py`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

import minivl
from minivl.door.stage import Wrap
from minivl.truth.museum import FAULTS
from minivl.truth.museum.fault import Fault
from minivl.truth.museum.world import world
from minivl.truth.served import MOST_QUESTIONS, Question, Server, ask, plan, write
from minivl.truth.served.client import ServerError
from minivl.truth.served.invariance import with_variations
from minivl.truth.triage.cache import Cache
from minivl.truth.triage.lines import LinesError, read_lines
from minivl.truth.triage.triage import Triage, triage

from .peer import Peer

SAME, FAILS = "same", "fails loudly"
COLUMNS = ("fault", "questions", "truth", "said", "because", "right")
HEALTHY_COLUMNS = ("precision", "batch", "rows in pieces of", "questions", "runs", "accused")
SEEN = 1e-4                               # nats that an answer has to move for a fault to be seen at all


def kind_of(fault: Fault) -> str:
    """What a fault of the museum is to triage."""
    if fault.label.startswith(("picture.", "video.", "patches.")):
        return "pixels"
    return "settings" if fault.label.startswith(("prompt.", "sampling.")) else "arithmetic"


def in_pieces(size: int) -> dict[str, Wrap]:
    """Rows that are multiplied so many at a time, as when a prompt is read in pieces: other orders of sums."""
    def wrap(right: Callable) -> Callable:
        def linear(x, w):
            parts = [right(x[at:at + size], w) for at in range(0, len(x), size)]
            return np.concatenate(parts) if parts else right(x, w)
        return linear
    return {"kernel.linear": wrap}


def judged(peer: Peer, questions: list[Question], vlm: minivl.VLM, precision: str, cache: Cache
           ) -> tuple[Triage, list[dict]]:
    """What triage says of a server, and its lines."""
    with peer, tempfile.TemporaryDirectory() as folder:
        rows, _ = ask(Server(peer.url), questions, vlm, precision)
        path = Path(folder) / "served.jsonl"
        write(rows, path)
        found = triage(read_lines(path), vlm, precision, cache=cache)
    return with_variations(found, {one.name: one.same_as for one in questions if one.same_as}), rows


def moved(rows: list[dict], healthy: list[dict]) -> bool:
    """Whether a server says anything else than a healthy one."""
    return any(a["text"] != b["text"] or a.get("prompt_tokens") != b.get("prompt_tokens")
               or any(x is None or abs(x - y) > SEEN for x, y in zip(a["logprobs"], b["logprobs"], strict=False))
               for a, b in zip(rows, healthy, strict=True))


def of_the_museum(names: list[str], vlm: minivl.VLM, questions: list[Question], batch: int
                  ) -> Iterator[tuple[str, ...]]:
    """Rows under COLUMNS."""
    cache = Cache()
    _, healthy = judged(Peer(vlm, batch=batch), questions, vlm, "float32", cache)
    for name in names:
        fault = FAULTS[name]
        try:
            found, rows = judged(Peer(vlm, fault.table(), batch), questions, vlm, "float32", cache)
            said, because = found.cause.kind or SAME, found.cause.name or found.cause.because
        except LinesError as error:
            said, because, rows = "refused", str(error), []
        except ServerError as error:                       # it fails loudly, and nothing is to be found out
            yield name, "0", FAILS, FAILS, str(error)[-70:], "yes"
            continue
        truth = kind_of(fault) if not rows or moved(rows, healthy) else SAME
        yield name, str(len(rows)), truth, said, because.partition(":")[0][:70], "yes" if said == truth else "NO"


def healthy_runs(model: minivl.VLM, count: int, most: int) -> Iterator[tuple[Mapping[str, object], Triage]]:
    """Healthy servers, one after the other, over precisions, pieces and batches; each asks its own questions."""
    rng = np.random.default_rng(0)
    models = {kind: model.on(kind, "definition") for kind in ("float32", "bfloat16", "float16")}
    for number in range(count):
        kind, batch = str(rng.choice(list(models))), int(rng.choice([1, 2, 4]))
        pieces = int(rng.choice([0, 16, 50, 128]))
        vlm = models[kind]
        found, _ = judged(Peer(vlm, in_pieces(pieces) if pieces else {}, batch), plan(vlm, most, number), vlm, kind,
                          Cache())
        yield {"precision": kind, "batch": batch, "pieces": pieces}, found


def tell_healthy(model: minivl.VLM, count: int, most: int) -> int:
    """A row for each way of serving, and whether nobody was accused."""
    runs: dict[tuple, list[bool]] = {}
    for way, found in healthy_runs(model, count, most):
        runs.setdefault(tuple(way.values()), []).append(found.different)
        if found.different:
            print(f"accused: {way} {found.cause}", file=sys.stderr, flush=True)
    print("| " + " | ".join(HEALTHY_COLUMNS) + " |\n|" + "---|" * len(HEALTHY_COLUMNS))
    for way, accused in sorted(runs.items(), key=str):
        cells = [str(part or "all") for part in way] + [str(most), str(len(accused)), str(sum(accused))]
        print("| " + " | ".join(cells) + " |")
    wrong = sum(map(sum, runs.values()))
    print(f"\n{wrong} of {count} healthy servers are accused.")
    return 1 if wrong else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--healthy", type=int, metavar="N", help="so many healthy servers instead of faults")
    parser.add_argument("--questions", type=int, default=MOST_QUESTIONS)
    parser.add_argument("--batch", type=int, default=4, help="requests that a server answers in one run")
    parser.add_argument("--only", nargs="*", choices=FAULTS, help="these faults; all without it")
    parser.add_argument("--random", action="store_true", help="a small model of random weights, not the embedded one")
    given = parser.parse_args()
    vlm = world() if given.random else minivl.load(precision="float32", kernels="definition")
    if given.healthy:
        return tell_healthy(vlm, given.healthy, given.questions)
    questions = plan(vlm, given.questions)
    print("| " + " | ".join(COLUMNS) + " |\n|" + "---|" * len(COLUMNS), flush=True)
    right = []
    for row in of_the_museum(given.only or list(FAULTS), vlm, questions, given.batch):
        right.append(row[-1] == "yes")
        print("| " + " | ".join(row) + " |", flush=True)
    print(f"\nThe kind is right for {sum(right)} of {len(right)}; {len(questions)} questions, float32, "
          f"{'random' if given.random else 'embedded'} model.")
    return 0 if sum(right) >= 0.9 * len(right) else 1


if __name__ == "__main__":
    sys.exit(main())
