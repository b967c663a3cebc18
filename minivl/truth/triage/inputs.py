"""The candidate's grids and prompts beside ours: what can be told without running anything.

Read next: `cause.py`, which weighs it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

import numpy as np

from ...api import VLM
from .hypotheses import PIXELS, SETTINGS, Hypothesis
from .lines import Line
from .loss import Sample

SHOWN = 60                               # characters of a prompt that are quoted


@dataclass(frozen=True)
class Evidence:
    """Something that was seen: what it speaks for, in words, and in which samples (places in the
    file)."""
    kind: str
    words: str
    samples: tuple[int, ...]


def beside_ours(samples: Sequence[Sample], vlm: VLM, tried: Sequence[Hypothesis]) -> list[Evidence]:
    """Grids and prompts that are not ours, and which hypothesis gives the very same."""
    pads = (vlm.config.image_token_id, vlm.config.video_token_id)
    told = [(n, told_of(one, pads, vlm)) for n, one in enumerate(samples)]
    found: list[Evidence] = []
    for kind, what in dict.fromkeys(saying[:2] for _, saying in told if saying):
        at = tuple(n for n, saying in told if saying and saying[:2] == (kind, what))
        example = next(saying[2] for n, saying in told if n == at[0] and saying)
        same = exact(tried, [samples[n].line for n in at], vlm, what == GRIDS)
        words = f"{what} in {len(at)} samples, as in {samples[at[0]].line.name}: {example}"
        found.append(Evidence(kind, words + (f"; just those of: {', '.join(same)}" if same else ""), at))
    return found


def by_count(samples: Sequence[Sample], vlm: VLM) -> list[Evidence]:
    """Prompts that are longer or shorter than ours, where only their lengths are known.

    One and the same difference in every prompt, or for every picture of it, is the template's; one that
    goes with the picture is of its size. A program may count each picture as one token.
    """
    pads = (vlm.config.image_token_id, vlm.config.video_token_id)
    off: dict[int, tuple[int, int]] = {}
    for n, one in enumerate(samples):
        count = one.line.prompt_tokens
        if count is not None and one.line.prompt_ids is None and one.line.grid is None:
            ours = len(one.prompt_ids)
            brief = len(single(one.prompt_ids, pads))
            off[n] = (0 if count in (ours, brief) else count - ours, len(one.media))
    wrong = {n: gap for n, (gap, _) in off.items() if gap}
    if not wrong:
        return []
    plain = Counter(gap for gap, media in off.values() if not media).most_common(1)
    always = plain[0][0] if plain else 0
    each = {(gap - always) / media for gap, media in off.values() if media}
    kind = SETTINGS if len(each) <= 1 else PIXELS
    if not always and kind == SETTINGS and len({samples[n].media[0].patches for n in wrong}) < 2:
        kind = PIXELS                            # pictures of one size: it may be the size
    first = min(wrong)
    words = (f"{LENGTHS} in {len(wrong)} samples, as in {samples[first].line.name}: "
             f"{samples[first].line.prompt_tokens} tokens, ours {len(samples[first].prompt_ids)}, "
             + ("the same everywhere" if kind == SETTINGS else "so that pictures had other sizes"))
    return [Evidence(kind, words, tuple(wrong))]


LENGTHS = "lengths of prompts differ"
GRIDS, COUNTS, PROMPTS = "grids differ", "the count of placeholders differs", "prompt ids differ"


def told_of(sample: Sample, pads: tuple[int, int], vlm: VLM) -> tuple[str, str, str] | None:
    """(kind, what, example) of one sample's inputs; None where they are ours as far as is known."""
    line, ours = sample.line, tuple(tuple(one.grid) for one in sample.media)
    if line.grid is not None and line.grid != ours:
        return PIXELS, GRIDS, f"{grids(line.grid)}, ours {grids(ours)}"
    if line.prompt_ids is None or np.array_equal(line.prompt_ids, sample.prompt_ids):
        return None
    theirs = np.array(line.prompt_ids, np.int64)
    if np.array_equal(single(theirs, pads), single(sample.prompt_ids, pads)):
        counts = [int(np.isin(ids, pads).sum()) for ids in (theirs, sample.prompt_ids)]
        known = line.grid is not None
        return ((SETTINGS if known else PIXELS), COUNTS, f"{counts[0]}, ours {counts[1]}, "
                + ("though the grids are the same" if known else "so that the picture had another size"))
    return SETTINGS, PROMPTS, first_difference(theirs, sample.prompt_ids, pads, vlm)


def grids(rows: Iterable[Sequence[int]]) -> str:
    """Grids in words: t x h x w."""
    return ", ".join(" x ".join(map(str, row)) for row in rows) or "none"


def single(ids: np.ndarray, pads: tuple[int, int]) -> np.ndarray:
    """A prompt with each run of placeholders as one."""
    again = np.isin(ids[1:], pads) & (ids[1:] == ids[:-1])
    return ids[np.concatenate([[True], ~again])] if len(ids) else ids


def first_difference(theirs: np.ndarray, ours: np.ndarray, pads: tuple[int, int], vlm: VLM) -> str:
    """Where two prompts first differ, in words."""
    a, b = single(theirs, pads).tolist(), single(ours, pads).tolist()
    for how, i, j, k, m in SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        if how != "equal":
            here, there = (text(ids, vlm) for ids in (a[i:j], b[k:m]))
            return {"insert": f"at token {i} is missing {there}",
                    "delete": f"at token {i} is {here}, not in ours",
                    "replace": f"at token {i} is {here}, ours {there}"}[how]
    return "nowhere"


def text(ids: list[int], vlm: VLM) -> str:
    """Some tokens as a quoted text, cut where it is long; ids that the model does not have as
    numbers."""
    high = [n for n in ids if n >= vlm.config.text.vocab_size]
    if high:
        return f"the id {high[0]}, which the model does not have"
    said = vlm.tokenizer.decode(ids, skip_special_tokens=False)
    return repr(said if len(said) <= SHOWN else said[: SHOWN - 3] + "...")


def exact(tried: Sequence[Hypothesis], lines: Sequence[Line], vlm: VLM, by_grid: bool,
          most: int = 5) -> list[str]:
    """Hypotheses that give just these grids, or these prompts, for the first few of the lines."""
    def fits(hypothesis: Hypothesis, line: Line) -> bool:
        try:
            inputs = hypothesis.prepare(vlm, line)
        except ValueError:
            return False
        if by_grid:
            return line.grid == tuple(one.grid for one in inputs.media)
        return np.array_equal(line.prompt_ids or (), inputs.input_ids)
    return [one.name for one in tried if all(fits(one, line) for line in lines[:most])]


# ---- the answers' texts ------------------------------------------------------------------------

def cut_off(samples: Sequence[Sample], vlm: VLM) -> list[Evidence]:
    """Answers that are ours, but ended too early at one length, or did not end."""
    stops = vlm.generation.eos_token_ids
    lengths = Counter(len(one.line.ids) for one in samples if one.line.ids is not None)
    longest = max(lengths, default=0)

    def at(test: Callable[[Sample, str, str], bool]) -> tuple[int, ...]:
        return tuple(n for n, one in enumerate(samples) if not one.line.teacher_forced
                     and test(one, one.line.text.strip(), one.answer.strip()))
    # an answer without a token is not cut: it ended at once
    short = at(lambda one, said, ours: said != ours and ours.startswith(said)
               and one.line.ids is not None and bool(one.line.ids)
               and len(one.line.ids) == longest and one.line.ids[-1] not in stops
               and one.line.max_new_tokens != longest)
    long = at(lambda one, said, ours: bool(ours) and said != ours and said.startswith(ours)
              and one.line.ids is not None and any(n in stops for n in one.line.ids[:-1]))
    found = []
    if len(short) > 1:
        found.append(Evidence(SETTINGS, f"{len(short)} answers are ours cut at {longest} tokens", short))
    if long:
        found.append(Evidence(SETTINGS, f"{len(long)} answers go on behind the stop id", long))
    return found
