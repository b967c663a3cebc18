"""What an answer of the embedded model costs: to load, for the prompt and for each further token.

    python -m tools.bench.answers            [--runs 5] [--reference] [--keep]

Each run is a question about a sample picture, in float32, after one run that is not counted; the
figures are medians. They are CPU time, of all threads together: what an answer costs whatever else
the machine does. On an idle machine a single thread takes as long by the clock. With --reference the
same prompt goes through transformers as well, run beside run, in the same type with the same number of
threads: set OMP_NUM_THREADS.

Not here: a checkpoint at full width (`load_3b.py`). Read next: `record.py`.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from time import process_time
from typing import Any

import minivl
from minivl.show.samples import load_samples

from .record import Figure, say

Times = dict[str, tuple[list[float], list[float]]]     # seconds of the prompt, and of a further token
PICTURE, TOKENS = "odd-size", 9             # the first token comes with the prompt


def main() -> None:
    """Measure, print, and keep when asked to."""
    options = argparse.ArgumentParser(prog="python -m tools.bench.answers",
                                      description=__doc__.split("\n", 1)[0])
    options.add_argument("--runs", type=int, default=5, help="runs that are counted (5)")
    options.add_argument("--reference", action="store_true",
                         help="run transformers beside it; needs the extra oracle")
    options.add_argument("--keep", action="store_true",
                         help="write the figures into tools/bench/results/")
    chosen = options.parse_args()
    figures = measure(chosen.runs, chosen.reference)
    for figure in figures:
        print(f"{figure.name:<60} {figure.value:9.4f} {figure.unit}".rstrip())
    say("answers", figures, chosen.keep)


def measure(runs: int, reference: bool) -> list[Figure]:
    """The figures: medians over `runs`."""
    load = [timed(lambda: minivl.load().close()) for _ in range(runs + 1)][1:]
    with minivl.load() as vlm:
        (messages,) = [sample.messages() for sample in load_samples() if sample.name == PICTURE]
        inputs = vlm.prepare(messages)
        ways = {"minivl": writer(vlm, inputs)}
        if reference:
            ways["transformers"] = reference_writer(vlm, inputs)
        prepare = [timed(lambda: vlm.prepare(messages)) for _ in range(runs + 1)][1:]
        times: Times = {name: ([], []) for name in ways}
        for n in range(runs + 1):
            for name, write in ways.items():                  # run beside run: both meet the same load
                first, whole = timed(lambda w=write: w(1)), timed(lambda w=write: w(TOKENS))
                if n:
                    times[name][0].append(first)
                    times[name][1].append((whole - first) / (TOKENS - 1))
    return figures_of(load, prepare, times, len(inputs.input_ids))


def timed(work: Callable[[], Any]) -> float:
    """Seconds of CPU time."""
    start = process_time()
    work()
    return process_time() - start


def writer(vlm: Any, inputs: Any) -> Callable[[int], Any]:
    """Writes so many tokens with minivl, whatever they are."""
    return lambda tokens: vlm.generate(inputs, tokens, stop_ids=())


def reference_writer(vlm: Any, inputs: Any) -> Callable[[int], Any]:
    """The same with transformers, in float32."""
    import torch
    from transformers import Qwen2_5_VLForConditionalGeneration
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(vlm.folder, dtype=torch.float32).eval()
    given = {"input_ids": torch.from_numpy(inputs.input_ids)[None],
             "pixel_values": torch.from_numpy(inputs.pixel_values),
             "image_grid_thw": torch.from_numpy(inputs.image_grid_thw)}
    given["mm_token_type_ids"] = (given["input_ids"] == vlm.config.image_token_id).int()

    def write(tokens: int) -> Any:
        with torch.inference_mode():
            return model.generate(**given, do_sample=False, min_new_tokens=tokens, max_new_tokens=tokens)
    return write


def figures_of(load: list[float], prepare: list[float], times: Times, tokens: int) -> list[Figure]:
    """Medians as figures; with the reference, how many times its seconds ours are."""
    first, further = (statistics.median(part) for part in times["minivl"])
    figures = [Figure("embedded model: load", 1e3 * statistics.median(load), "ms of CPU time"),
               Figure("embedded model: messages to inputs", 1e3 * statistics.median(prepare), "ms of CPU time"),
               Figure(f"embedded model: a prompt of {tokens} tokens", 1e3 * first, "ms of CPU time"),
               Figure("embedded model: each further token", 1e3 * further, "ms of CPU time")]
    if "transformers" in times:
        theirs = [statistics.median(part) for part in times["transformers"]]
        figures += [Figure("that prompt, over the time of transformers", first / theirs[0], "x"),
                    Figure("that token, over the time of transformers", further / theirs[1], "x")]
    return figures


if __name__ == "__main__":
    main()
