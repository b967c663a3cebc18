"""Claims 21 to 24: how the official weights came to be. Most can only be reported; what can run, runs."""

from __future__ import annotations

import math
from collections.abc import Callable

from minivl.passes.prompt import render
from minivl.show.samples import Sample, load_samples

from .finding import LOOSE, UNTESTED, WRONG, Finding, claim
from .setting import TRAINED

PHASES = (("vision tower alone", 1.5, 8_192), ("everything", 2.0, 8_192), ("long sequences", 0.6, TRAINED))


def asks(*words: str) -> Callable[[Sample], bool]:
    return lambda sample: sample.fps is None and sample.question.startswith(words)


KINDS: tuple[tuple[str, Callable[[Sample], bool]], ...] = (
    ("captions of pictures", asks("Describe")),
    ("questions about a picture", asks("How many", "What color", "What shape", "Is there")),
    ("boxes and points", asks("Find", "Detect", "What is at")),
    ("text in pictures (OCR)", asks("What number", "What word", "Read the number", "Read the word")),
    ("videos", lambda sample: sample.fps is not None),
    ("interleaved text and pictures", lambda sample: False),
    ("documents, tables, charts", asks("Read the form", "Read the table", "What is the value")),
    ("screens and agents", asks("Click", "Where do I click")),
    ("text alone", lambda sample: False),
)


@claim(21, "1.2T to 4.1T training tokens: captions, interleaved text, OCR, documents, video, agents")
def training_data() -> Finding:
    """It agrees with the technical report (arXiv 2502.13923): from 1.2 trillion tokens (Qwen2-VL) to 4.1.
    Neither the data nor the weights' history can be inspected from outside. The table sets the report's
    kinds of data beside what the small embedded model was made from: shapes, writing and pages, drawn by
    a program.
    """
    samples = load_samples()
    rows = []
    for kind, fits in KINDS:
        found = [sample.question for sample in samples if fits(sample)]
        rows.append((kind, f'"{found[0]}"' if found else "not covered"))
    total = sum(tokens for _, tokens, _ in PHASES)
    figures = (f"the report's phases sum to {total:.1f} trillion tokens",
               f"kinds of data in the embedded model's world: "
               f"{sum(row[1] != 'not covered' for row in rows)} of {len(rows)}")
    return Finding(UNTESTED, figures, (("their data", "our generator, for example"), *rows))


@claim(22, "pre-training has three phases")
def phases() -> Finding:
    """It agrees with the technical report (arXiv 2502.13923), from which the figures are; their sum is
    the total of claim 21. First the vision tower is trained, from scratch, beside a language model that
    already exists; then both together; then both on long sequences. To test whether this order matters
    one would have to train without it.
    """
    figures = tuple(f"phase {n}: {what}, {tokens} trillion tokens, sequences of {length:,}"
                    for n, (what, tokens, length) in enumerate(PHASES, start=1))
    return Finding(UNTESTED, (*figures, f"sum: {sum(tokens for _, tokens, _ in PHASES):.1f} trillion"))


@claim(23, "then comes supervised fine-tuning")
def fine_tuning() -> Finding:
    """It agrees with the technical report (arXiv 2502.13923): about two million conversations, half of
    them text alone, with the vision tower frozen. The mechanism is small enough to show: the same
    next-token loss as before, usually counted on the answers alone. What it contributes to the official
    weights cannot be told without the weights from before it.
    """
    messages = [{"role": "user", "content": "What color is the star?"},
                {"role": "assistant", "content": "Pink."}]
    text = render(messages, add_generation_prompt=False)
    spoken = text.split("<|im_start|>assistant\n")[1:]
    answers = [part.split("<|im_end|>")[0] + "<|im_end|>" for part in spoken]
    figures = (f"a training text in the official layout: {len(text)} characters, "
               f"of which the loss counts {sum(map(len, answers))}: {', '.join(map(repr, answers))}",)
    return Finding(UNTESTED, figures)


def preference_loss(chosen: float, rejected: float, chosen_before: float, rejected_before: float,
                    beta: float = 0.1) -> float:
    """The DPO loss of one pair, from four log-likelihoods (Rafailov et al., 2023, equation 7)."""
    return math.log1p(math.exp(-beta * ((chosen - chosen_before) - (rejected - rejected_before))))


@claim(24, "DPO aligns the model by leveraging reward models")
def preferences() -> Finding:
    """That DPO needs no reward model is its whole point: the log-likelihoods of a preferred and a
    rejected answer, under the model and under a frozen copy of it, are enough (Rafailov et al., 2023,
    arXiv 2305.18290). The mix-up is understandable: the technical report (arXiv 2502.13923) does name
    DPO, and it also uses reward models, but to filter data for fine-tuning.
    """
    start = preference_loss(-12.0, -9.0, -12.0, -9.0)
    better, worse = preference_loss(-10.0, -11.0, -12.0, -9.0), preference_loss(-14.0, -7.0, -12.0, -9.0)
    works = math.isclose(start, math.log(2)) and better < start < worse
    figures = (f"loss before any step: {start:.4f} = ln 2",
               f"chosen answer likelier, rejected one less so: {better:.4f}; the other way: {worse:.4f}",
               "what went in: four log-likelihoods, two of the model and two of a frozen copy; rewards: none")
    return Finding(WRONG if works else LOOSE, figures)
