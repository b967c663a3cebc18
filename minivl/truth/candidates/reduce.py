"""The smallest prompt on which a candidate still fails: step by step simpler, as long as it fails in
the same way.

    found = reduce(vlm, Checked(candidate, "mine.py:port"), messages, say=print)
    write(found, vlm, candidate, Path("smallest"))  # pictures, prompt, traces, ready for `minivl diff`

Every step is the first in the order of `scene.simpler` that still fails, so that the same prompt
always ends at the same place. At the end no single step is left: each medium, frame, row, word and
colour that is there has to be there.

*The same way* means: its inputs differ from minivl's, or its logits do, or it crashes. A smaller
prompt that fails in another of these ways is another bug. Read next: `scene.py` (the steps),
`judge.py` (what failing means).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...api import VLM
from ...door.watch import relative_error
from .judge import is_clean, judged_anew
from .runnable import LOGITS, CandidateError, Checked, Crashed
from .scene import Scene, Size, digest, messages_of, scene_of, simpler, size_of

INPUTS_DIFFER, LOGITS_DIFFER, CRASHES = "inputs", "logits", "crash"
SAME_PIXELS = 1e-5                       # relative: two float32 ways to normalise the same levels
WORDS = {INPUTS_DIFFER: "its inputs differ", LOGITS_DIFFER: "its logits differ", CRASHES: "it crashes"}


@dataclass(frozen=True)
class Failure:
    """How a candidate fails on a prompt: the kind, and what is seen of it."""
    kind: str
    text: str


@dataclass(frozen=True)
class Step:
    """A step that was taken, and what is left after it."""
    text: str
    size: Size


@dataclass
class Reduction:
    """From which prompt to which, and how; `whole` is False when the trials ran out before no step was
    left."""
    first: Size
    scene: Scene
    failure: Failure
    steps: list[Step] = field(default_factory=list)
    trials: int = 0
    whole: bool = True


def reduce(vlm: VLM, candidate: Checked, messages: Sequence[dict[str, Any]], most: int = 1000,
           say: Callable[[Step], None] = lambda step: None) -> Reduction | None:
    """The smallest prompt, or None when the candidate does not fail on the one it is given. most:
    trials at most.

    Raises CandidateError or ValueError when the prompt or the candidate cannot be used.
    """
    scene, vlm = scene_of(messages), vlm.on(kernels="definition")         # inputs are compared as well
    failure = failure_of(vlm, candidate, scene)
    if failure is None:
        return None
    found = Reduction(size_of(scene), scene, failure, trials=1)
    tried = {digest(scene)}
    while (step := next_step(vlm, candidate, found, tried, most)) is not None:
        say(step)
        found.steps.append(step)
    return found


def next_step(vlm: VLM, candidate: Checked, found: Reduction, tried: set[str], most: int) -> Step | None:
    """Take the first simpler scene that fails in the same way; None when there is none, or no trial is
    left."""
    for text, scene in simpler(found.scene):
        if digest(scene) in tried:
            continue
        if found.trials >= most:
            found.whole = False
            return None
        tried.add(digest(scene))
        found.trials += 1
        try:
            failure = failure_of(vlm, candidate, scene)
        except ValueError:                               # no prompt at all, or one that minivl refuses
            continue
        if failure is not None and failure.kind == found.failure.kind:
            found.scene, found.failure = scene, failure
            return Step(text, size_of(scene))
    return None


def failure_of(vlm: VLM, candidate: Checked, scene: Scene) -> Failure | None:
    """How the candidate fails on a scene; None when it gives what minivl gives, within rounding."""
    messages = messages_of(scene)
    inputs = vlm.prepare(messages)
    ours = inputs.arrays()
    try:
        theirs = prepared(candidate, messages) or ours
        if other := differing(ours, theirs):
            return Failure(INPUTS_DIFFER, f"other inputs: {', '.join(other)}")
        row = judged_anew(vlm, inputs, np.asarray(candidate.run(theirs, {})[LOGITS]),
                          candidate.precision)
    except Crashed as error:
        return Failure(CRASHES, str(error))
    return None if is_clean(row.word) else Failure(
        LOGITS_DIFFER, f"logits {row.word}: error {row.measure.error:.1e}, rounding alone "
                       f"{row.yard.error:.1e}")


def prepared(candidate: Checked, messages: Sequence[dict[str, Any]]) -> dict[str, np.ndarray] | None:
    """The inputs that a candidate makes itself; None when it takes minivl's. Raises Crashed,
    CandidateError."""
    prepare = getattr(candidate.candidate, "prepare", None)
    if prepare is None:
        return None
    try:
        found = prepare(list(messages))
    except (Exception, SystemExit) as error:                    # whatever it is: it is the candidate's
        raise Crashed(f"{type(error).__name__}: {error}") from error
    if not isinstance(found, Mapping) or "input_ids" not in found:
        raise CandidateError(f"{candidate.name}: prepare gave no table of inputs with input_ids in it")
    return {name: candidate.array(name, array) for name, array in found.items()}


def differing(ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray]) -> list[str]:
    """Names of inputs that the candidate has made otherwise; those that it does not make are none of
    them."""
    return [name for name, array in ours.items() if name in theirs
            and (theirs[name].shape != array.shape or relative_error(theirs[name], array) > SAME_PIXELS)]
