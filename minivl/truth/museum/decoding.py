"""Faults of both ends of the decoder: how the prompt is put together, how a token is chosen, what is
made of words."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ...checkpoint.tree import Linear, Weight
from ...checkpoint.weight import weight as as_weight
from ...kernels.definition import wide
from . import cases
from .fault import fault


@fault("prompt.render", ["vllm-project/vllm#15125", "ollama/ollama#2213"], 2024,
       "\"the second picture\" is another one",
       shows=cases.picture_last, passes=("same", cases.cell))
def pictures_before_text(right, messages, *rest):
    """Text and pictures of a message were collected apart, and pictures put in front. What was said
    between two pictures is now said after both. With one picture and a question after it nothing
    changes."""
    sorted_ = [{**message, "content": sorted(message["content"], key=lambda item: "text" in item)}
               if not isinstance(message["content"], str) else message for message in messages]
    return right(sorted_, *rest)


@fault("decoder.place_features", ["osaurus-ai/vmlx-swift#298", "microsoft/Mage#28"], 2026,
       "answers about the wrong medium",
       shows=cases.video_first, passes=("same", cases.ragged))
def placeholders_mixed(right, x, placeholders, features):
    """Features were gathered pictures first, then videos; placeholders stand in the order of the
    conversation. Their number is the same, so that the check of counts passes, and rows of one medium
    fill the place of another. It takes a video before a picture."""
    runs = np.split(np.arange(len(placeholders)), np.flatnonzero(np.diff(placeholders) > 1) + 1)
    return right(x, placeholders, features[np.concatenate(runs[::-1])])


@fault("decoder.logits", ["huggingface/transformers#43429", "pegainfer-project/pegainfer#544"], 2026,
       "random words",
       shows=cases.text)
def head_not_tied(right, x, head):
    """The matrix that turns rows into scores is the embedding table itself in a tied model, and the
    file has no other. A flag that says so was looked for in the wrong part of the configuration, and
    the matrix stayed as it was drawn. The loader's warning is easy to miss; the answer is not."""
    return right(x, Linear(_drawn(head.weight.shape), None))


@lru_cache(maxsize=1)
def _drawn(shape: tuple[int, ...]) -> Weight:
    return as_weight(np.random.default_rng(0).standard_normal(shape, np.float32) * np.float32(0.02))


@fault("sampling.penalise", ["vllm-project/vllm-ascend#7785", "sgl-project/sglang#3139"], 2025,
       "answers go round in circles",
       shows=cases.penalised, passes=("same", cases.answered))
def penalty_missing(right, logits, prompts, answers, penalty):
    """The file that comes with the model asks for a repetition penalty of 1.05, in greedy decoding
    too, and the server does not read it. Long answers repeat themselves. Whoever compares raw scores
    finds no difference."""
    return wide(logits)


@fault("sampling.penalise", ["vllm-project/vllm#1424", "vllm-project/vllm-metal#69",
                             "PaddlePaddle/FastDeploy#2954"], 2023,
       "other answers than the reference, about equally good",
       shows=cases.penalised, passes=("same", cases.answered))
def penalty_on_new_tokens_only(right, logits, prompts, answers, penalty):
    """The reference penalises every token that it has seen, the prompt's too; here only what was
    answered counts. Words of the question come up more readily. Scores before the penalty are the same
    to the last bit."""
    return right(logits, tuple(prompt[:0] for prompt in prompts), answers, penalty)


@fault("answer.boxes_to_original", ["QwenLM/Qwen3-VL#1355", "QwenLM/Qwen3-VL#676",
                                    "om-ai-lab/VLM-R1#198"], 2025,
       "boxes shifted and scaled, more so in large pictures",
       shows=cases.located, passes=("same", cases.located_as_it_is))
def boxes_in_original_pixels(right, boxes, size, source_size):
    """The model speaks in pixels of the picture that it saw, and whoever draws takes them for pixels
    of the picture that was sent. The two differ by the rounding to whole cells, and by a factor where
    a limit shrank the picture. A picture whose sides are multiples of 28 has one kind of pixels."""
    return boxes
