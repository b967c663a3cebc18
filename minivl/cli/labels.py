"""Every label that a model's run will have, known before the run: a model of the same depth and the
smallest widths there can be goes through the same code, in milliseconds, and the labels are written
down. So a slip in a label is told at once, and no second list of labels exists that could disagree
with the passes.

    known = labels(parts)                      # label or key -> is it a leaf?
    check_leaves(["vision.*"], known)          # raises ValueError that suggests labels near what was meant

Read next: `run.py`, which asks; `door/stage.py` of the package for what a label is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from difflib import get_close_matches
from fnmatch import fnmatchcase

import numpy as np

from ..checkpoint.names import blank_tensors, build
from ..config import ModelConfig
from ..door.errors import ArgumentError
from ..door.stage import session
from ..kernels import NAMES, interpreter
from ..passes import answer, video
from ..run.generation import Settings, write
from ..run.inputs import Inputs
from ..run.prepare import Processor, prepare

Known = Mapping[str, bool]
PAD, STEPS = 1, 3             # the small model's placeholder id, and how many tokens it writes


def labels(parts: Processor) -> Known:
    """Labels and keys -> whether it is a leaf, for one picture: those of greedy choice and those of
    drawing."""
    known: dict[str, bool] = {}
    blank = np.full((56, 56, 3), 128, np.uint8)
    content = [{"type": "image", "image": blank}, {"type": "text", "text": "a"}]
    with collecting(known):
        prepare([{"role": "user", "content": content}], parts, False, True, "max_plus_one")
    config = smallest(parts.config)
    model, inputs = build(blank_tensors(config), config, "float32"), smallest_inputs(config)
    for settings in (Settings(STEPS), Settings(STEPS, True, top_k=2, top_p=0.5, repetition_penalty=1.1)):
        with collecting(known):
            list(write([inputs], model, settings, interpreter("definition")))
    return known


def replaceable(parts: Processor) -> set[str]:
    """Everything that a table of functions can name: the labels of a run, those of videos and answers,
    and kernels."""
    doors = [door for module in (answer, video) for door in vars(module).values()]
    apart = {door.label for door in doors if "." in getattr(door, "label", "")}
    return {*labels(parts), *apart, *(f"kernel.{name}" for name in NAMES)}


@contextmanager
def collecting(known: dict[str, bool]) -> Iterator[None]:
    """Write down what is called inside."""
    with session() as s:
        yield
    known |= {name: kind == "leaf" for name, kind in s.met.items() if kind != "kernel"}


def smallest(config: ModelConfig) -> ModelConfig:
    """The same depths and the same full blocks; one head, one value where one will do, four words."""
    vision = replace(config.vision, hidden_size=4, num_heads=1, head_dim=4, intermediate_size=1,
                     in_channels=1, patch_size=1, temporal_patch_size=1, window_size=2,
                     out_hidden_size=2)
    text = replace(config.text, hidden_size=2, num_attention_heads=1, num_key_value_heads=1, head_dim=2,
                   intermediate_size=1, vocab_size=4, mrope_section=(1, 0, 0))
    return replace(config, vision=vision, text=text, image_token_id=PAD, video_token_id=2,
                   vision_start_token_id=0,
                   vision_end_token_id=3, eos_token_id=3)


def smallest_inputs(config: ModelConfig) -> Inputs:
    """A picture of one cell and a word before it."""
    return Inputs.from_ids([0, PAD], config, np.zeros((4, config.vision.patch_values), np.float32),
                           np.array([[1, 2, 2]]))


# ---- checking ------------------------------------------------------------------------------------

def check_leaves(patterns: Iterable[str], known: Known) -> None:
    """Raise ArgumentError unless each pattern matches a leaf: only leaves have an output of their own to
    look at."""
    for pattern in patterns:
        if not any(leaf and fnmatchcase(name, plain_step(pattern)) for name, leaf in known.items()):
            raise ArgumentError(no_such(pattern, known))


def check_label(label: str, known: Known) -> None:
    """Raise ArgumentError unless this is a stage's label or key, leaf or not; patterns are not taken
    here."""
    if plain_step(label) not in known:
        raise ArgumentError(no_such(label, known))


def check_patterns(patterns: Iterable[str], names: Iterable[str]) -> None:
    """Raise ArgumentError unless each pattern matches one of the names, which may be made of other
    stages."""
    known = dict.fromkeys(names, True)
    for pattern in patterns:
        if not any(fnmatchcase(name, plain_step(pattern)) for name in known):
            raise ArgumentError(no_such(pattern, known))


def plain_step(pattern: str) -> str:
    """The same about the first step of decoding: all steps have the same stages."""
    return re.sub(r"@\d+", "@1", pattern)


def no_such(pattern: str, known: Known) -> str:
    """What to say about a pattern that matches nothing."""
    if plain_step(pattern) in known:
        return f"{pattern} is made of other stages and has no output of its own: say '{pattern}.*'"
    near = suggestions(pattern, known)
    return f"no stage is called {pattern}; " + (f"near it: {', '.join(near)}; " if near else "") + \
           "`minivl passes --all` lists the labels"


def suggestions(pattern: str, known: Known) -> list[str]:
    """Up to three: the whole label of what was called by its last name, else the most alike. Of
    blocks, the first."""
    names = [name for name in known if not re.search(r"@|\.[1-9]\d*\b", name)]
    ending = [name for name in names if name.endswith(f".{pattern}")]
    return sorted(ending, key=len)[:3] or get_close_matches(pattern.strip("*."), names, 3, 0.5)
