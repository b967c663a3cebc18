"""Candidates with known faults through triage, and the table of what it says: docs/guide/triage.md has the command's
output.

    python -m tools.truth.triage --folder runs/triage --samples 200 > table.md           # the embedded model
    python -m tools.truth.triage --folder runs/random --samples 30 --random > table.md   # a small one, random weights
    python -m tools.truth.triage --folder runs/forms --samples 60 --forms > table.md     # the ten and a healthy one,
                                                                      # in each of six forms, on both models
    python -m tools.truth.triage --folder runs/few --samples 40 --random --few           # a few samples at a time
    python -m tools.truth.triage --folder runs/few --samples 40 --random --few --fewest 1 1    # and if one were enough

Samples, answers and minivl's runs are kept in the folder, so that an interrupted run goes on where it was. Each
candidate is one row: what is wrong with it, what triage says of (b) and (c), and whether that is so. Exit code 1 when
(b) is wrong anywhere, or (c) in more than a fifth.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import minivl
from minivl.truth.museum.world import world
from minivl.truth.triage import cause as causes
from minivl.truth.triage.cache import Cache
from minivl.truth.triage.lines import LinesError, read_lines
from minivl.truth.triage.triage import Triage, triage

from .candidates import CANDIDATES, DRAWN_OTHERWISE, MOST_TOKENS, TEN, Candidate, write_lines
from .few import draws, table, wrongly_settings
from .forms import FORMS, REFUSED, SAME, Form, read_rows
from .samples import Reading, draw

HEALTHY = "healthy"
FORM_COLUMNS = ("candidate", "model", "form", "truth", "said", "right")
COLUMNS = ("candidate", "bad", "(b) truth", "(b) said", "because", "(c) truth", "(c) said", "right")


@dataclass(frozen=True)
class Outcome:
    """One candidate and what triage found."""
    candidate: Candidate
    found: Triage

    @property
    def kind_is_right(self) -> bool:
        return self.found.cause.kind == self.candidate.kind

    @property
    def shared_is_right(self) -> bool:
        """Whether the property that is named first is the true one, or none is where there is none."""
        named, truth = self.found.named, self.candidate.shared
        return named[0].startswith(truth) if named and truth else not named and truth is None

    def cells(self) -> tuple[str, ...]:
        """The row under COLUMNS."""
        cause, yes = self.found.cause, {True: "yes", False: "NO"}
        best = cause.name or (cause.evidence[0].words.partition(" in ")[0] if cause.evidence else "")
        return (self.candidate.name, f"{int(self.found.bad.sum())} of {len(self.found.samples)}",
                self.candidate.kind or "same", cause.kind or "same", best, self.candidate.shared or "none",
                ", ".join(self.found.named) or "none",
                f"{yes[self.kind_is_right]}, {yes[self.shared_is_right]}")


def outcomes(candidates: Sequence[Candidate], samples: Sequence[Reading], precision: str, folder: Path,
             vlm: minivl.VLM | None = None) -> Iterator[Outcome]:
    """One candidate after the other, on the embedded model or another in that precision. The samples' pictures lie in
    the folder."""
    vlm, cache = vlm or minivl.load(precision=precision), Cache(folder / "cache.jsonl")
    for one in candidates:
        path = folder / f"{one.name.replace(' ', '-')}-{precision}-{len(samples)}.jsonl"
        if not path.exists():
            write_lines(one, vlm, samples, path)
        yield Outcome(one, triage(read_lines(path), vlm, precision, cache=cache, max_new_tokens=MOST_TOKENS))


def said_of(form: Form, path: Path, vlm: minivl.VLM, precision: str, cache: Cache) -> str:
    """What triage says of a file in this form: a kind, "same", or "refused"."""
    try:
        return triage(read_lines(path), vlm, precision, cache=cache,
                      max_new_tokens=None if form.declared else MOST_TOKENS).cause.kind or SAME
    except LinesError:
        return REFUSED


def in_every_form(candidates: Sequence[Candidate], samples: Sequence[Reading], precision: str, folder: Path,
                  vlm: minivl.VLM, model: str) -> Iterator[tuple[str, ...]]:
    """Rows under FORM_COLUMNS: each candidate in each form on one model."""
    cache, rows = Cache(folder / f"cache-{model}.jsonl"), {}
    for one in candidates:
        path = folder / f"{one.name.replace(' ', '-')}-{model}-{len(samples)}.jsonl"
        if not path.exists():
            write_lines(one, vlm, samples, path)
        rows[one.name] = read_rows(path)
        for form in FORMS:
            form.write(rows[one.name], folder / "form.jsonl")
            truth = form.truth(one.kind, rows[one.name], rows[HEALTHY])
            said = said_of(form, folder / "form.jsonl", vlm, precision, cache)
            yield one.name, model, form.name, truth, said, "yes" if said == truth else "NO"


def tell_forms(samples: Sequence[Reading], folder: Path, precision: str, share: float = 0.95) -> int:
    """The table of all forms, and whether the kind is right for that share."""
    candidates = [CANDIDATES[HEALTHY], *TEN]
    print("| " + " | ".join(FORM_COLUMNS) + " |\n|" + "---|" * len(FORM_COLUMNS), flush=True)
    right = []
    for model, vlm, kept in (("embedded", minivl.load(precision=precision), precision),
                             ("random", world(), "float32")):
        for row in in_every_form(candidates, samples, kept, folder, vlm, model):
            right.append(row[-1] == "yes")
            print("| " + " | ".join(row) + " |", flush=True)
    print(f"\nThe kind is right for {sum(right)} of {len(right)}; {len(samples)} samples.")
    return 0 if sum(right) >= share * len(right) else 1


def tell_few(samples: Sequence[Reading], folder: Path, vlm: minivl.VLM, precision: str, times: int = 2) -> int:
    """The table of a few samples at a time, and whether settings are hardly ever said wrongly."""
    cache, rows, kinds = Cache(folder / "cache-few.jsonl"), {}, {}
    for one in [CANDIDATES[HEALTHY], *TEN, *DRAWN_OTHERWISE]:
        path = folder / f"{one.name.replace(' ', '-')}-{precision}-{len(samples)}.jsonl"
        if not path.exists():
            write_lines(one, vlm, samples, path)
        rows[one.name], kinds[one.name] = read_rows(path), one.kind

    def ask(form: Form, path: Path) -> Triage:
        return triage(read_lines(path), vlm, precision, cache=cache,
                      max_new_tokens=None if form.declared else MOST_TOKENS)
    found = []
    for one in draws(rows, kinds, ask, folder / "few.jsonl", times):
        found.append(one)
        if one.said != one.truth:
            print(f"{one.candidate}, {one.form.name}: {one.bad} bad, said {one.said} for {one.truth}; {one.because}",
                  file=sys.stderr, flush=True)
    wrong = wrongly_settings(found)
    print("\n".join(table(found)), flush=True)
    print(f"\nSettings are said wrongly in {len(wrong)} of {len(found)} draws; {len(samples)} samples, {precision}.")
    return 0 if len(wrong) <= 0.01 * len(found) else 1


def passed(found: Sequence[Outcome]) -> bool:
    """Whether (b) is right for all and (c) for four fifths."""
    return all(one.kind_is_right for one in found) and sum(one.shared_is_right for one in found) >= 0.8 * len(found)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="where samples and answers are kept")
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--precision", default="bfloat16", help="of the candidates")
    parser.add_argument("--random", action="store_true", help="a small model of random weights, in float32")
    parser.add_argument("--only", nargs="*", choices=CANDIDATES, help="these candidates; the ten without it")
    parser.add_argument("--few", action="store_true", help="one to twelve samples at a time, in all forms")
    parser.add_argument("--fewest", type=int, nargs=2, help="with --few: as if so many bad samples were enough to name "
                        "a kind by likelihood, and so many to name a sampler that draws")
    parser.add_argument("--forms", action="store_true", help="the ten and a healthy one in all forms, on both models")
    given = parser.parse_args()
    if given.forms:
        return tell_forms(draw(given.samples, given.seed, given.folder), given.folder, given.precision)
    chosen = [CANDIDATES[name] for name in given.only] if given.only else TEN
    vlm, precision = (world(), "float32") if given.random else (None, given.precision)
    if given.few:
        causes.FEWEST, causes.FEWEST_DRAWN = given.fewest or (causes.FEWEST, causes.FEWEST_DRAWN)
        model = vlm or minivl.load(precision=precision)
        return tell_few(draw(given.samples, given.seed, given.folder), given.folder, model, precision)
    samples, found = draw(given.samples, given.seed, given.folder), []
    print("| " + " | ".join(COLUMNS) + " |\n|" + "---|" * len(COLUMNS), flush=True)
    for outcome in outcomes(chosen, samples, precision, given.folder, vlm):
        found.append(outcome)
        print("| " + " | ".join(outcome.cells()) + " |", flush=True)
    model = "random" if given.random else "embedded"
    print(f"\n(b) is right for {sum(one.kind_is_right for one in found)} of {len(found)}, (c) for "
          f"{sum(one.shared_is_right for one in found)}; {given.samples} samples, {precision}, {model} model.")
    return 0 if passed(found) else 1


if __name__ == "__main__":
    sys.exit(main())
