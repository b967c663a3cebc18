"""The tokenizer of a .gguf file, from its metadata, as the text of a `tokenizer.json`: everything behind
it reads one form, and a converted folder holds the same.

The file keeps every token's text at its id, and a type for each; merges as they were; and a name for the
way in which text is cut into words, which stands for a pattern that is nowhere in the file. The patterns
here are those of the tokenizers that llama.cpp's converter gives these names to, by the hash of what they
make of a test text (its public list in `convert_hf_to_gguf_update.py`).

Read next: `vocabulary.py`, which does the same for `vocab.json` and `merges.txt`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..door.errors import brief
from .errors import TokenizerError
from .vocabulary import PATTERN

NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE = range(1, 7)               # types of tokens
TO_BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
CUTS: dict[str, tuple[Any, list[dict[str, Any]]]] = {    # name of the file -> normaliser, how text is cut
    "qwen2": ({"type": "NFC"}, [{"type": "Split", "pattern": {"Regex": PATTERN}, "behavior": "Isolated",
                                 "invert": False}, {**TO_BYTES, "use_regex": False}]),
    "smollm": (None, [{"type": "Digits", "individual_digits": True}, {**TO_BYTES, "use_regex": True}]),
    "gpt-2": (None, [{**TO_BYTES, "use_regex": True}]),
}
PREFIX = "tokenizer.ggml."


def tokenizer_json(metadata: Mapping[str, Any], where: Path) -> str:
    """The text of a `tokenizer.json` out of a file's metadata; `where` is the file that an error names.

    Raises TokenizerError, naming the key, for another kind of tokenizer and for one that is damaged.
    """
    model, cut = metadata.get(f"{PREFIX}model"), metadata.get(f"{PREFIX}pre", "gpt-2")
    if not isinstance(model, str) or model != "gpt2" or not isinstance(cut, str) or cut not in CUTS:
        raise TokenizerError(f"{where}: tokenizer.ggml.model and pre are {brief(model)} and "
                             f"{brief(cut)}; read are 'gpt2' with {', '.join(map(repr, CUTS))}")
    tokens, merges = (_texts(metadata, key, where) for key in ("tokens", "merges"))
    kinds = metadata.get(f"{PREFIX}token_type")
    if not isinstance(kinds, np.ndarray) or len(kinds) != len(tokens):
        raise TokenizerError(f"{where}: {PREFIX}token_type should have a number for each of the "
                             f"{len(tokens)} tokens, is {brief(kinds)}")
    if len(set(tokens)) != len(tokens):
        raise TokenizerError(f"{where}: {PREFIX}tokens: a token comes twice")
    normaliser, cuts = CUTS[cut]
    vocab = {token: n for n, (token, kind) in enumerate(zip(tokens, kinds.tolist(), strict=True))
             if kind in (NORMAL, BYTE)}
    file = {"version": "1.0", "added_tokens": _added(tokens, kinds), "normalizer": normaliser,
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": cuts}, "post_processor": None,
            "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True,
                        "use_regex": True},
            "model": {"type": "BPE", "vocab": vocab, "merges": merges}}
    return json.dumps(file, ensure_ascii=False)


def _texts(metadata: Mapping[str, Any], key: str, where: Path) -> list[str]:
    found = metadata.get(f"{PREFIX}{key}")
    if not isinstance(found, list):
        raise TokenizerError(f"{where}: {PREFIX}{key} should be a list of texts, is {brief(found)}")
    return found


def _added(tokens: list[str], kinds: np.ndarray) -> list[dict[str, Any]]:
    """Tokens that are matched whole: special ones and the user's. What is unused is no token."""
    return [{"id": int(n), "content": tokens[n], "single_word": False, "lstrip": False, "rstrip": False,
             "normalized": False, "special": bool(kinds[n] in (CONTROL, UNKNOWN))}
            for n in np.flatnonzero(np.isin(kinds, (CONTROL, UNKNOWN, USER)))]


def chat_template(metadata: Mapping[str, Any], where: Path) -> str | None:
    """The chat template of a file, None when it has none."""
    found = metadata.get("tokenizer.chat_template")
    if found is not None and not isinstance(found, str):
        raise TokenizerError(f"{where}: tokenizer.chat_template should be a text, is {brief(found)}")
    return found or None
