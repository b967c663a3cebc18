"""The museum as a page: `minivl faults --score --markdown` writes docs/made/bug-museum.md.

Read next: `score.py`, whose table it prints.
"""

from __future__ import annotations

import string
from collections.abc import Collection, Iterator, Mapping, Sequence

from .checks import CHECKS
from .fault import FAULTS, Fault, address
from .score import Score

TITLE = """\
# The bug museum

Each exhibit is a wrong pass or kernel under the right label, learnt from a public incident: a
program that ran this model, or one of its family, and was wrong without an error. What is shown is
our form of the mistake, not the code of that program.

- `minivl faults NAME` shows an exhibit beside the right pass;
- `minivl run PICTURE QUESTION --fault NAME` runs it;
- `minivl faults NAME --shadow` runs it beside the model and names the passes that differ.

Do not edit this page: `minivl faults --score --markdown > docs/made/bug-museum.md` writes it.
"""
ROOMS = {"pictures": "Pictures and patches", "windows": "Windows and frames",
         "positions": "Positions and rotary angles", "attention": "Attention",
         "arithmetic": "Kernels, weights and types", "decoding": "Prompt and answer"}
SEEN = {                                                          # what one sees -> names of the faults
    "Small text and charts are misread": (
        "resize-without-antialias", "resize-with-another-cubic", "resize-bilinear",
        "picture-padded-to-square", "windows-wrong-at-the-edges", "windows-missing",
        "mrope-interleaved", "softmax-in-half-precision"),
    "Boxes and places are off": (
        "resize-twice", "limits-of-another-tool", "order-not-inverted", "prompt-with-1d-positions",
        "second-picture-as-text", "height-and-width-swapped", "text-after-picture-off-by-one",
        "causal-mask-from-positions", "boxes-in-original-pixels"),
    "Objects are missing, or of another picture": (
        "patches-in-raster-order", "patch-axes-swapped", "full-attention-never-used",
        "pictures-see-each-other", "norm-overflows-in-f16", "gather-index-too-narrow",
        "pictures-before-text", "placeholders-mixed"),
    "What happens in a video, and when, is wrong": (
        "frames-see-each-other", "video-in-one-moment", "seconds-per-grid-ignored",
        "seconds-per-grid-truncated"),
    "Nonsense, repetition, or no answer": (
        "decoding-with-1d-positions", "angles-in-bf16", "wrong-kv-head", "nan-from-a-masked-row",
        "norm-plus-one", "rotary-pairs-interleaved", "qkv-bias-dropped", "mlp-overflows-in-f16",
        "head-not-tied", "penalty-missing"),
    "Answers read well, and a score or a comparison is worse": (
        "windows-swapped-with-full", "pictures-scaled-by-time", "offset-of-another-request",
        "packing-guessed-from-positions", "padded-rows-attended", "eps-outside-the-root",
        "gelu-by-tanh", "tower-in-f16", "penalty-on-new-tokens-only")}
HIDDEN = {"same": "{} gives the same logits", "smoke": "{} gives the right shapes and finite numbers",
          "cosine": "{} gives logits with a cosine above 0.99"}
LETTERS = string.ascii_lowercase + string.ascii_uppercase
NOT_HERE = """\
## Not in the museum

Reports that name no cause: QwenLM/Qwen3-VL#1835, ggml-org/llama.cpp#16334 and #17131,
Blaizzy/mlx-vlm#1737. Answers that depend on the shape of a batch in bfloat16
(vllm-project/vllm#9567, huggingface/transformers#26869, unslothai/unsloth#9708) are rounding, not a
fault.
"""


def letters() -> dict[str, str]:
    """Check -> the letter that stands for it in a table; ordinary checks come first."""
    return dict(zip(CHECKS, LETTERS, strict=False))


def legend() -> list[tuple[str, str, str]]:
    """(letter, check, what it says) of every check."""
    return [(letter, name, CHECKS[name].words) for name, letter in letters().items()]


def totals(score: Score) -> list[str]:
    """What each ordinary check finds, and what the laws find, one line each."""
    laws = sum(any(CHECKS[name].law for name in found) for found in score.values())
    counts = [(check.words, sum(name in found for found in score.values()))
              for name, check in CHECKS.items() if not check.law]
    return [f"{words}: {count} of {len(score)} faults found" for words, count in counts] + \
           [f"The laws: {laws} of {len(score)} faults found"]


def rows(score: Score) -> list[list[str]]:
    """The table: a fault, then for each check its letter where it finds the fault."""
    return [[name, *(letter if check in found else "" for check, letter in letters().items())]
            for name, found in score.items()]


def markdown(score: Score) -> str:
    """The whole page."""
    return "\n".join([TITLE, *_ordinary(score), *_by_what_is_seen(), *_by_pass(), *_exhibits(score),
                      *_checks(score), NOT_HERE])


def _ordinary(score: Score) -> Iterator[str]:
    yield from ("## What the usual checks find", "")
    yield from (f"- {line}." for line in totals(score))
    yield ""


def _by_what_is_seen() -> Iterator[str]:
    yield from ("## By what you see", "")
    for seen, names in SEEN.items():
        yield from (f"**{seen}**", "")
        yield from (f"- {FAULTS[name].symptom}: {_to(name)}" for name in names)
        yield ""


def _by_pass() -> Iterator[str]:
    """The faults of each pass or kernel, in the order of the exhibits."""
    labels: dict[str, list[str]] = {}
    for fault in FAULTS.values():
        labels.setdefault(fault.label, []).append(fault.name)
    yield from ("## By the pass that is wrong", "", "A star stands for any number or name.", "")
    yield from (f"- `{label}`: {', '.join(map(_to, names))}" for label, names in labels.items())
    yield ""


def _exhibits(score: Score) -> Iterator[str]:
    room = ""
    for fault in FAULTS.values():
        if (here := fault.wrong.__module__.rpartition(".")[2]) != room:
            room = here
            yield from (f"## {ROOMS[room]}", "")
        yield from _exhibit(fault, score[fault.name])


def _exhibit(fault: Fault, found: Collection[str]) -> Iterator[str]:
    facts: Mapping[str, str] = {
        "Symptom": f"{fault.symptom}.", "Cause": " ".join(fault.story.split()),
        "Pass": f"`{fault.label}`; `minivl faults {fault.name}` shows it beside the right one.",
        "Source": f"{', '.join(map(_link, fault.incidents))} (first in {fault.year}).",
        "Smallest input that shows it": f"{fault.shows.name}.", "Stays hidden": _hidden(fault),
        "Score": _score(found)}
    yield from (f"### {_spoken(fault.name)}", "")
    for name, words in facts.items():
        yield from (f"**{name}.** {words[0].upper()}{words[1:]}", "")


def _hidden(fault: Fault) -> str:
    """An ordinary check that the fault passes."""
    if fault.passes is None:
        return "nowhere: every output is wrong."
    check, case = fault.passes
    return f"{HIDDEN[check].format(case.name)}."


def _score(found: Collection[str]) -> str:
    """Which checks find a fault, and which of the usual ones do not."""
    laws = [name for name, check in CHECKS.items() if check.law and name in found]
    usual = [name for name, check in CHECKS.items() if not check.law]
    missed, seen = ([name for name in usual if (name in found) == there] for there in (False, True))
    first = f"Missed by the usual {_many('check', missed)}. " if missed else ""
    beside = f" the usual {_many('check', seen)}, and by" if seen else ""
    return f"{first}Found by{beside} the {_many('law', laws)}."


def _checks(score: Score) -> Iterator[str]:
    """What every check says, and how many faults it finds."""
    yield from ("## The checks", "", "The first three are the usual ones, the others are laws.", "",
                "| check | what it says | finds |", "|---|---|---:|")
    for name, check in CHECKS.items():
        yield f"| {name} | {check.words} | {sum(name in found for found in score.values())} |"
    yield ""


def _many(word: str, names: Sequence[str]) -> str:
    """`laws: *this*, *that*`."""
    return f"{word}{'s' * (len(names) != 1)}: {', '.join(f'*{name}*' for name in names)}"


def _spoken(name: str) -> str:
    """A fault's name as a heading has it; its anchor is the name itself."""
    return name.replace("-", " ")


def _to(name: str) -> str:
    """A link to an exhibit on this page."""
    return f"[{_spoken(name)}](#{name})"


def _link(incident: str) -> str:
    return f"[{incident}]({address(incident)})"
