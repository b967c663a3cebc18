"""What minivl says to the candidate's samples: its own answers, and how likely the candidate's answer
is to it; golden and in the candidate's precision, on the inputs as they should be or as a hypothesis
has them. All of it is cached.

Two runs of each sample. *golden* has a finer type than the candidate. *same* has the candidate's type
and rounds as roughly as an honest implementation may (`truth/compare/yardstick.py`): what it loses is
what rounding loses.

Read next: `loss.py`, which compares.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from ...api import VLM
from ...checkpoint.gguf_model import pair_of
from ...door.stage import Wrap, session
from ...door.version import VERSION
from ...kernels.definition import log_softmax
from ...run.inputs import Inputs
from ..compare.yardstick import liberties
from .cache import Cache, digest
from .lines import Line, LinesError, clean
from .samplers import OUR_OWN, Choice, Sampler, choice

GOLDEN, SAME = "golden", "same"
DEFAULT_LENGTH = 128  # of minivl's own answers, where nobody says how long theirs may be
LOST_BYTES = "\ufffd"                    # what a decoder writes for bytes that are no character
DIGITS = 8                               # significant digits of a score in the cache
MOST_BYTES = 1 << 28                     # of visual tokens that are kept


@dataclass(frozen=True)
class Score:
    """An answer's tokens under minivl. logprobs (k,): from the raw scores; choices: by the name of a
    sampler, the checkpoint's own at least."""
    logprobs: np.ndarray
    choices: dict[str, Choice]

    @property
    def regret(self) -> float:
        """By how much, in nats, the answer is less likely than the best tokens in its places; 0 for
        the model's own."""
        return float(self.choices[OUR_OWN].regret.sum())


class Scorer:
    """minivl's side of a triage. `precision` is the candidate's, `golden` a finer type."""

    def __init__(self, vlm: VLM, precision: str, golden: str, samplers: Sequence[Sampler],
                 cache: Cache):
        self.vlm, self.cache, self.samplers = vlm, cache, list(samplers)
        self.precision, self.golden = precision, golden
        self.models = {GOLDEN: vlm.on(golden, "definition"), SAME: vlm.on(precision, "definition")}
        self.checkpoint = signature(vlm.folder)
        self.features: dict[tuple[str, str], np.ndarray] = {}          # who, pictures -> m d; the newest last
        self._hashed: tuple[Inputs, tuple[str, str]] | None = None     # the last inputs: many questions come of each

    def tokens(self, line: Line, ours: Sequence[Sequence[int]] = ()) -> np.ndarray | None:
        """The candidate's answer as ids, with the stop id where the answer ended by itself. None where
        a text alone does not say which tokens were written. ours: minivl's own answers."""
        stops = self.vlm.generation.eos_token_ids
        ids = list(line.ids) if line.ids is not None else self._encoded(line.text, ours)
        if ids is None:
            return None
        most, size = line.max_new_tokens, self.vlm.config.text.vocab_size
        high = next((one for one in ids if one >= size), None)
        if high is not None:
            raise LinesError(f"line {line.number}: field 'ids' holds {high}, the model has ids "
                             f"0..{size - 1}; name the candidate's checkpoint with --model")
        ended = not line.teacher_forced and (most is None or len(ids) < most)
        if stops and ended and not (ids and ids[-1] in stops):
            ids.append(stops[0])
        return np.array(ids, np.int64)

    def _encoded(self, text: str, ours: Sequence[Sequence[int]]) -> list[int] | None:
        """The ids of a text: those of minivl's answer where it is the same text, else the tokenizer's.
        None where bytes of it are lost (U+FFFD), or where minivl's own answers are not written as the
        tokenizer would write them, so that encoding anew would make up a loss."""
        if LOST_BYTES in text:
            return None
        tokenizer, stops = self.vlm.tokenizer, self.vlm.generation.eos_token_ids
        for own in ours:
            known = [n for n in own if n not in stops]
            if clean(tokenizer.decode(known)) == clean(text):
                return known
            if tokenizer.encode(tokenizer.decode(known)) != known:
                return None
        return tokenizer.encode(text)

    def answer(self, inputs: Inputs, who: str, most: int | None) -> list[int]:
        """minivl's own answer, greedily by the checkpoint's settings."""
        def compute() -> list[int]:
            wraps = self._wraps(inputs, who)
            with session(record="decoder.logits", replace=wraps, quiet=True) as s:
                ids = self.models[who].generate(inputs, limit)
            self._keep(inputs, ids, who, np.concatenate(list(s.trace.values())))
            return ids
        limit = most or DEFAULT_LENGTH
        return self.cache.get((*self._key(inputs, who), "answer", limit), compute)

    def score(self, inputs: Inputs, tokens: np.ndarray | Sequence[int], who: str,
              every: bool = False) -> Score:
        """How minivl sees an answer, from one pass over prompt and answer. every: under every sampler,
        not only under the checkpoint's own."""
        ids = np.asarray(tokens, np.int64)
        if not len(ids):
            return Score(np.zeros(0), {one.name: Choice(*(np.zeros(0),) * len(fields(Choice)))
                                       for one in self.samplers})

        def compute() -> Any:
            with session(replace=self._wraps(inputs, who), quiet=True):
                return self._document(inputs, ids, self.models[who].logits(inputs, ids), every)
        every = every or self.cache.has(self._score_key(inputs, ids, who, True))
        return read_score(self.cache.get(self._score_key(inputs, ids, who, every), compute))

    def _keep(self, inputs: Inputs, ids: Sequence[int], who: str, logits: np.ndarray) -> None:
        """The score of minivl's own answer, from the scores by which it was written."""
        tokens, every = np.asarray(ids, np.int64), who == GOLDEN  # a good candidate's answer is this one
        self.cache.get(self._score_key(inputs, tokens, who, every),
                       lambda: self._document(inputs, tokens, logits, every))

    def _document(self, inputs: Inputs, tokens: np.ndarray, logits: np.ndarray,
                  every: bool) -> dict[str, Any]:
        seed = int(digest(inputs.input_ids, tokens)[:12], 16)
        raw = log_softmax(logits.astype(np.float64))[np.arange(len(tokens)), tokens]
        found = {one.name: choice(one, logits, inputs.input_ids, tokens, seed)
                 for one in self._asked(every)}
        choices = {name: [rounded(getattr(one, field.name)) for field in fields(Choice)]
                   for name, one in found.items()}
        return {"logprobs": rounded(raw), "choices": choices}

    def _asked(self, every: bool) -> list[Sampler]:
        return self.samplers if every else self.samplers[:1]

    def _wraps(self, inputs: Inputs, who: str) -> dict[str, Any]:
        rounding = liberties(self.precision) if who == SAME else {}
        return {**rounding, "vision": self._seen_before((who, self._prints(inputs)[0]))}

    def _seen_before(self, key: tuple[str, str]) -> Wrap:
        """The tower's pass, run once for the same pictures: prompts and answers differ more often."""
        def wrap(right: Callable) -> Callable:
            def vision(*args: Any) -> np.ndarray:
                found = self.features[key] = self.features.pop(key) if key in self.features else right(*args)
                while len(self.features) > 1 and sum(x.nbytes for x in self.features.values()) > MOST_BYTES:
                    del self.features[next(iter(self.features))]
                return found
            return vision
        return wrap

    def _prints(self, inputs: Inputs) -> tuple[str, str]:
        if self._hashed is None or self._hashed[0] is not inputs:
            self._hashed = inputs, fingerprints(inputs)
        return self._hashed[1]

    def _key(self, inputs: Inputs, who: str) -> tuple:
        return (self.checkpoint, who, self.precision if who == SAME else self.golden,
                self._prints(inputs)[1])

    def _score_key(self, inputs: Inputs, tokens: np.ndarray, who: str, every: bool) -> tuple:
        return (*self._key(inputs, who), "score", tokens, tuple(map(repr, self._asked(every))))


def read_score(document: dict[str, Any]) -> Score:
    """A score from the cache."""
    return Score(np.array(document["logprobs"]),
                 {name: Choice(*map(np.array, values)) for name, values in document["choices"].items()})


def rounded(values: np.ndarray) -> list[float]:
    """Numbers as JSON, short: what is lost is far below any rounding that is asked about."""
    finite = np.nan_to_num(values, nan=0, neginf=-1e4, posinf=1e4)
    return [float(f"{value:.{DIGITS}g}") for value in finite.tolist()]


def fingerprints(inputs: Inputs) -> tuple[str, str]:
    """Hashes of what the tower is given, and of everything that goes into the model."""
    pictures = digest(inputs.patches, tuple(one.grid for one in inputs.media))
    rest = [array for name, array in inputs.arrays().items() if not name.startswith("pixel_values")]
    return pictures, digest(pictures, *rest)


def signature(folder: Path) -> str:
    """Which checkpoint, and which minivl: names, sizes and times of the files, for hashing 7 GB takes
    long."""
    files = sorted(path for path in (pair_of(folder) or folder.glob("*"))
                   if path and path.suffix in (".safetensors", ".json", ".jinja", ".gguf"))
    return digest(VERSION, *((path.name, path.stat().st_size, path.stat().st_mtime_ns)
                             for path in files))
