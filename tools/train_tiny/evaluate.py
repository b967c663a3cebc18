"""The evaluation that counts: held-out samples, greedy answers of minivl and of transformers with the same tokens.

    python -m tools.train_tiny evaluate minivl/tiny --samples 1000 --output evaluation.json

Pictures go in as a user's would: native pixels, the checkpoint's own template and preprocessor. For every row the
figures of both programs, how many answers were token for token the same, and the blind guess beside them.

Read next: `rows.py`, `grade.py`, `card.py`.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import minivl
from minivl.door.files import sha256, write_whole
from minivl.run.inputs import Inputs
from minivl.show.figures import form_of

from .grade import Scores, blind_guess, grade, summary
from .packing import Sample
from .rows import ROWS, Row, messages
from .tasks import opposite

BATCH, MOST_TOKENS = 25, 256                              # the longest true answer has about 190
FEW, ALWAYS, OFTEN = 20, 0.9, 0.8                         # questions; an answer is given; it is right
Answer = Callable[[list[Inputs]], list[list[int]]]


def answer_by_minivl(vlm: minivl.VLM) -> Answer:
    return lambda inputs: vlm.generate(inputs, max_new_tokens=MOST_TOKENS)


def answer_by_transformers(folder: Path) -> Answer:
    """Greedy decoding with the reference's class. Positions are given to it: after a video its own rule is another
    than the one that the original weights, and these, were trained with."""
    import torch
    from transformers import Qwen2_5_VLForConditionalGeneration
    torch.set_num_threads(1)
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    return torch.no_grad()(lambda inputs: _decode(model, inputs))


def _decode(model: Any, inputs: Sequence[Inputs]) -> list[list[int]]:
    """Prompts padded on the left, then token by token with the cache."""
    import torch
    ids, seen, at = _padded(inputs, model.generation_config.pad_token_id)
    types = (ids == model.config.image_token_id).int() + 2 * (ids == model.config.video_token_id).int()
    out = model(input_ids=ids, attention_mask=seen, position_ids=at, mm_token_type_ids=types, use_cache=True,
                **_media(inputs))
    stops = torch.tensor(model.generation_config.eos_token_id).reshape(-1)
    answers: list[list[int]] = [[] for _ in inputs]
    going, last = torch.ones(len(inputs), dtype=torch.bool), at[:, :, -1:]
    for _ in range(MOST_TOKENS):
        token = out.logits[:, -1].argmax(dim=-1)
        for i in torch.nonzero(going)[:, 0].tolist():
            answers[i].append(int(token[i]))
        going &= ~torch.isin(token, stops)
        if not going.any():
            break
        seen, last = torch.cat([seen, seen.new_ones(len(inputs), 1)], dim=1), last + 1
        out = model(input_ids=token[:, None], attention_mask=seen, position_ids=last, use_cache=True,
                    past_key_values=out.past_key_values)
    return answers


def _padded(inputs: Sequence[Inputs], pad: int) -> tuple[Any, Any, Any]:
    import torch
    longest = max(len(one.input_ids) for one in inputs)
    ids, seen = torch.full((len(inputs), longest), pad), torch.zeros(len(inputs), longest, dtype=torch.long)
    at = torch.zeros(3, len(inputs), longest, dtype=torch.long)
    for i, one in enumerate(inputs):
        start = longest - len(one.input_ids)
        ids[i, start:], seen[i, start:] = torch.from_numpy(one.input_ids), 1
        at[:, i, start:] = torch.from_numpy(one.position_ids)
    return ids, seen, at


def _media(inputs: Sequence[Inputs]) -> dict[str, Any]:
    import torch
    out = {}
    for pixels, grid in (("pixel_values", "image_grid_thw"), ("pixel_values_videos", "video_grid_thw")):
        if any(len(getattr(one, grid)) for one in inputs):
            for name in (pixels, grid):
                out[name] = torch.cat([torch.from_numpy(getattr(one, name)) for one in inputs])
    return out


# ------------------------------------------------------------------------------------------------- rows

def answers_of(engine: Answer, inputs: list[Inputs]) -> list[list[int]]:
    """Answers in the order of the inputs; like-sized ones share a batch."""
    order = sorted(range(len(inputs)), key=lambda i: len(inputs[i].input_ids))
    out: list[list[int]] = [[] for _ in inputs]
    for start in range(0, len(order), BATCH):
        chosen = order[start:start + BATCH]
        for i, answer in zip(chosen, engine([inputs[i] for i in chosen]), strict=True):
            out[i] = answer
    return out


def row_of(row: Row, samples: list[Sample], vlm: minivl.VLM, engines: dict[str, Answer]) -> dict[str, Any]:
    """One row: figures of each program, the blind guess, how many answers agree; an answer that was given to all, what
    was answered to each form of question, and how many pairs of a question and its opposite were both right, where
    questions have opposites."""
    inputs = [vlm.prepare(messages(sample.clips, sample.turns[0])) for sample in samples]
    truths = [sample.turns[0].truth or sample.turns[0].answer for sample in samples]
    tokens = {name: answers_of(engine, inputs) for name, engine in engines.items()}
    out: dict[str, Any] = {"tier": row.tier, "name": row.name, "task": row.task, "samples": len(samples),
                           "measures": row.measures, "blind": blind_guess(row.task, truths), "figures": {}}
    for name, answers in tokens.items():
        said = [vlm.tokenizer.decode(ids) for ids in answers]
        scores = [grade(row.task, one, truth) for one, truth in zip(said, truths, strict=True)]
        out["figures"][name] = summary(row.task, scores)
        if len(set(said)) == 1 < len(set(truths)):
            out.setdefault("constant", {})[name] = said[0]
        questions = [sample.turns[0].question for sample in samples]
        out.setdefault("forms", {})[name] = _forms(row.task, questions, said, truths)
        if pairs := _pairs(samples, [score["right"] for score in scores], vlm, engines[name]):
            out.setdefault("pairs", {})[name] = pairs
    if len(tokens) == 2:
        first, second = tokens.values()
        out["same_tokens"] = sum(a == b for a, b in zip(first, second, strict=True))
    return out


def _forms(task: str, questions: list[str], said: list[str], truths: list[str]) -> dict[str, dict[str, Any]]:
    """Each form of question by itself: its figures, the answer that is given most, in which share of these questions it
    is given, and in which share it is right. What is always right is no constant worth a word; what is right as often
    as any other answer is."""
    out: dict[str, dict[str, Any]] = {}
    for form in sorted(set(map(form_of, questions))):
        mine = [i for i, question in enumerate(questions) if form_of(question) == form]
        answer, times = Counter(said[i] for i in mine).most_common(1)[0]
        right = [grade(task, answer, truths[i])["right"] for i in mine]
        scores = [grade(task, said[i], truths[i]) for i in mine]
        out[form] = {"samples": len(mine), "figures": summary(task, scores), "says": answer,
                     "share": round(times / len(mine), 4), "right": round(sum(right) / len(mine), 4)}
    return out


def constants(row: dict[str, Any], engine: str = "minivl") -> dict[str, str]:
    """Form of question -> the answer that nearly all questions of that form get, although it is often wrong."""
    forms = row.get("forms", {}).get(engine, {})
    return {form: one["says"] for form, one in forms.items()
            if one["samples"] >= FEW and one["share"] >= ALWAYS and one["right"] <= OFTEN}


def _pairs(samples: list[Sample], right: list[float], vlm: minivl.VLM, engine: Answer) -> Scores:
    """Share of questions with an opposite that are right, as their opposites are; nothing where there is none."""
    asked = [(i, turn) for i, sample in enumerate(samples) if (turn := opposite(sample.turns[0]))]
    answers = answers_of(engine, [vlm.prepare(messages(samples[i].clips, turn)) for i, turn in asked])
    both = [right[i] and vlm.tokenizer.decode(ids).strip() == turn.answer
            for (i, turn), ids in zip(asked, answers, strict=True)]
    return {"both": round(sum(map(bool, both)) / len(both), 4), "pairs": len(both)} if both else {}


def evaluate(folder: Path, samples: int, engines: Sequence[str], seed: int = 0, tiers: str = "ABC",
             workers: int = 2, kept: Path | None = None) -> Iterator[dict[str, Any]]:
    """Row after row, `workers` of them at a time. engines: "minivl", "transformers" or both.

    kept: a file that every finished row is added to; rows that it holds of the same weights and questions are not asked
    again, so that an evaluation that was killed goes on.
    """
    about = {"weights": sha256(folder / "model.safetensors"), "asked": [samples, list(engines), seed]}
    done = {} if kept is None else _finished(kept, about)
    jobs = {row.name: (folder, samples, tuple(engines), seed, row.name) for row in ROWS if row.tier in tiers}
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        fresh = pool.map(_row_in_a_process, [job for name, job in jobs.items() if name not in done])
        for name in jobs:
            if name not in done:
                done[name] = next(fresh)
                if kept is not None:
                    with kept.open("a", encoding="utf-8") as file:
                        file.write("\n" + json.dumps(about | {"row": done[name]}))
            yield done[name]


def _finished(kept: Path, about: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Rows of a file of `evaluate` that were asked of these weights; a line that a kill cut short counts for none."""
    found = {}
    for line_ in kept.read_text(encoding="utf-8").splitlines() if kept.exists() else []:
        with suppress(ValueError):
            said = json.loads(line_)
            if {name: said.get(name) for name in about} == about:
                found[said["row"]["name"]] = said["row"]
    return found


def _row_in_a_process(job: tuple[Path, int, tuple[str, ...], int, str]) -> dict[str, Any]:
    folder, samples, engines, seed, name = job
    vlm, built = _engines(folder, engines)
    row, start = next(row for row in ROWS if row.name == name), time.time()
    return row_of(row, row.samples(samples, seed), vlm, built) | {"seconds": round(time.time() - start, 1)}


@cache
def _engines(folder: Path, engines: tuple[str, ...]) -> tuple[minivl.VLM, dict[str, Answer]]:
    """Loaded once in each process; one thread each."""
    vlm = minivl.load(folder, kernels="jit")       # many questions: compiled; tests hold it to the definitions
    makers = {"minivl": lambda: answer_by_minivl(vlm), "transformers": lambda: answer_by_transformers(folder)}
    return vlm, {name: makers[name]() for name in engines}


def verdict(row: dict[str, Any], figures: Scores) -> str:
    """aim, floor or below, by the weakest of a row's measures; stated where no figure was set."""
    if not row["measures"]:
        return "stated"
    levels = [2 if figures[name] >= aim else 1 if figures[name] >= floor else 0
              for name, (floor, aim) in row["measures"].items()]
    return ("below", "floor", "aim")[min(levels)]


def line(row: dict[str, Any]) -> str:
    """One row as a line for the terminal."""
    names = list(row["measures"]) or ["right"]
    said = "  ".join(f"{engine} " + " ".join(f"{figures[name]:.3f}" for name in names)
                     for engine, figures in row["figures"].items())
    blind = " ".join(f"{row['blind'].get(name, 0):.3f}" for name in names)
    figures = next(iter(row["figures"].values()))
    for engine, answer in row.get("constant", {}).items():
        said += f"  {engine} ALWAYS SAYS {answer!r}"
    for engine in row["figures"]:
        for form, answer in constants(row, engine).items():
            said += f"  {engine} to {form!r} ALWAYS SAYS {answer!r}"
    for engine, found in row.get("pairs", {}).items():
        said += f"  {engine} both of {found['pairs']} pairs {found['both']:.3f}"
    same = f"  same tokens {row['same_tokens']}/{row['samples']}" if "same_tokens" in row else ""
    return f"{row['tier']} {row['name']:36} {said}  blind {blind}  {verdict(row, figures)}{same}  {row['seconds']} s"


def write(rows: list[dict[str, Any]], path: Path, seed: int) -> None:
    text = json.dumps({"seed": seed, "rows": rows}, indent=1) + "\n"
    write_whole(path, lambda file: file.write(text.encode("utf-8")))
