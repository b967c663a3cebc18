"""The small tokenizer: byte-level BPE with the official pre-tokenizer and special tokens, digits one by one.

    python -m tools.train_tiny tokenizer                 # learns the merges anew and writes tokenizer.json

Merges are learned from questions and answers alone, without the words that are written in pictures: those are spelled,
so that reading is reading.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

PATH = Path(__file__).parent / "tokenizer.json"
LEARNED = 618                                             # bytes and merges, at most
SPECIAL = ["endoftext", "im_start", "im_end", "object_ref_start", "object_ref_end", "box_start", "box_end",
           "quad_start", "quad_end", "vision_start", "vision_end", "vision_pad", "image_pad", "video_pad"]
ORDINARY = ["<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>",
            "<|repo_name|>", "<|file_sep|>"]
PIECES = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
          r"|\s+(?!\S)|\s+")
READ = ("number", "word", "table")                        # tasks whose answers are spelled
PLAIN = ["system\nYou are a helpful assistant.", "user\n", "assistant\n"]


@functools.cache
def load_tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(PATH))


def digit_ids() -> tuple[int, ...]:
    """Ids of the digits 0 to 9, each a token of its own."""
    return tuple(load_tokenizer().token_to_id(str(digit)) for digit in range(10))


def corpus(samples: int = 6000, seed: int = 0) -> Iterator[str]:
    """Questions and answers of every kind of sample."""
    from .tasks import KINDS_OF_SAMPLE
    rng = np.random.default_rng(seed)
    for i in range(samples):
        for turn in list(KINDS_OF_SAMPLE.values())[i % len(KINDS_OF_SAMPLE)](rng).turns:
            yield turn.question
            if turn.task not in READ and "text" not in turn.task:
                yield turn.answer
        yield PLAIN[i % len(PLAIN)]


def learn(path: Path = PATH) -> Tokenizer:
    """Learn the merges and write tokenizer.json."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(PIECES), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=LEARNED, initial_alphabet=alphabet, min_frequency=20, show_progress=False)
    tokenizer.train_from_iterator(corpus(), trainer)
    tokenizer.add_special_tokens([AddedToken(f"<|{name}|>", special=True, normalized=False) for name in SPECIAL])
    tokenizer.add_tokens([AddedToken(name, special=False, normalized=False) for name in ORDINARY])
    tokenizer.save(str(path))
    return tokenizer
