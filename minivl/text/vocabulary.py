"""A tokenizer that lies in its folder as `vocab.json` and `merges.txt`, without `tokenizer.json`.

The two are put together as the text of a `tokenizer.json`, with Qwen's pipeline around them, so that
everything behind it reads one form. Added tokens are those that the reference finds, in its order:
`added_tokens_decoder` of `tokenizer_config.json`; else `special_tokens_map.json` and
`added_tokens.json`; then the tokens that the settings name. Each gets the id that the vocabulary has for
it, or the next free one.

Read next: `bpe.py`, which reads that text; `tokenizer.py`.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..door.errors import brief
from ..door.files import read_json, read_text
from ..door.looks import kind_of
from .errors import TokenizerError

LARGEST = 1 << 25             # bytes of a tokenizer's file; the official ones have 2 to 11 million
WHOLE, VOCAB, MERGES = "tokenizer.json", "vocab.json", "merges.txt"
SETTINGS, NAMES, ADDED = "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"
PATTERN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
           r"|\s*[\r\n]+|\s+(?!\S)|\s+")           # the one that `bpe.words` implements
PICTURE = "<|image_pad|>"
NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
UNSAID = dict.fromkeys(("eos_token", "unk_token", "pad_token"), "<|endoftext|>")   # as Qwen2Tokenizer


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder holds a tokenizer, in one of the two forms."""
    return (folder / WHOLE).exists() or all((folder / name).exists() for name in (VOCAB, MERGES))


def tokenizer_text(folder: Path) -> tuple[Path, str]:
    """The text of a folder's `tokenizer.json`, or the one that `vocab.json` and `merges.txt` amount to,
    and the file to name when it is wrong.

    Raises TokenizerError, naming the file, when one is missing or damaged, or contradicts another.
    """
    if (folder / WHOLE).exists() or not has_tokenizer(folder):
        return folder / WHOLE, read_text(folder / WHOLE, LARGEST, TokenizerError)
    vocab = _vocabulary(folder / VOCAB)
    settings = _json(folder / SETTINGS)
    model = {"type": "BPE", "vocab": vocab, "merges": _merges(folder / MERGES, vocab)}
    cut = {"type": "Split", "pattern": {"Regex": PATTERN}, "behavior": "Isolated", "invert": False}
    to_bytes = {"type": "ByteLevel", "add_prefix_space": bool(settings.get("add_prefix_space")),
                "trim_offsets": True, "use_regex": False}
    file = {"version": "1.0", "added_tokens": _numbered(folder, settings, vocab),
            "normalizer": {"type": "NFC"},
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [cut, to_bytes]},
            "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True,
                        "use_regex": True}, "model": model}
    return folder / VOCAB, json.dumps(file)


def _vocabulary(path: Path) -> dict[str, int]:
    try:
        vocab = json.loads(_text(path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise TokenizerError(f"{path}: is not valid JSON: {error}; is it cut off? Get it anew") from error
    if not isinstance(vocab, dict) or not all(type(id) is int and id >= 0 for id in vocab.values()):
        raise TokenizerError(f"{path}: should map each token's text to its id, an integer from 0 on")
    return vocab


def _merges(path: Path, vocab: dict[str, int]) -> list[str]:
    """The lines that hold a pair; a line that begins with #version is none."""
    merges = [line for line in _text(path).split("\n") if line and not line.startswith("#version")]
    for n, line in enumerate(merges):
        parts = line.split(" ")
        if len(parts) != 2 or not {*parts, "".join(parts)} <= vocab.keys():
            raise TokenizerError(f"{path}: merge {n + 1} is {brief(line)}, should be two tokens of {VOCAB} "
                                 "that join to a third, with one space between them")
    return merges


def _text(path: Path) -> str:
    text = read_text(path, LARGEST, TokenizerError)
    kind = kind_of(text.encode("utf-8"))
    if kind and not kind.startswith("JSON"):
        raise TokenizerError(f"{path}: is {kind}")
    return text


def _numbered(folder: Path, settings: dict[str, Any], vocab: dict[str, int]) -> list[dict[str, Any]]:
    """Added tokens with their ids. A file that numbers a token otherwise than the reference would is
    refused: one of the two is not what the weights were trained with."""
    ids: dict[str, int] = {}
    numbered, guessed = [], []
    for wanted, token in _added(folder, settings):
        content = token["content"]
        if content in ids:
            continue
        free = max([len(vocab), *(id + 1 for id in ids.values())])
        ids[content] = vocab.get(content, free)
        if wanted is None and content not in vocab:
            guessed.append(content)
        elif wanted not in (None, ids[content]):
            raise TokenizerError(f"{folder}: {brief(content)} should have id {wanted}, by the list of added "
                                 f"tokens, and gets {ids[content]} behind the {len(vocab)} tokens of "
                                 f"{VOCAB}: the files are not of one tokenizer; copy {WHOLE} there")
        numbered.append({"id": ids[content], **token})
    if guessed:
        warnings.warn(f"{folder}: no file gives the ids of {len(guessed)} added tokens; they are numbered "
                      f"as the reference does, {brief(guessed[0])} is {ids[guessed[0]]}. If the model was "
                      f"trained with others, copy its {WHOLE} there", stacklevel=4)
    if PICTURE not in ids:
        warnings.warn(f"{folder}: no file names {PICTURE} as an added token, so that there is no place for "
                      f"a picture in a prompt; copy the model's {WHOLE} or {SETTINGS} there", stacklevel=4)
    return numbered


def _added(folder: Path, settings: dict[str, Any]) -> Iterator[tuple[int | None, dict[str, Any]]]:
    """Every added token in order, with the id that its file says, or None. One may come again. Those that
    the settings name are special and nothing else, whatever a list says of them."""
    listed = settings.get("added_tokens_decoder")
    if listed is None:
        settings = settings | _json(folder / NAMES)
    added = _json(folder / ADDED) if listed is None else {}
    try:
        special = list(_special(settings))
        if listed is None:
            numbers = {id: {"content": content} for content, id in added.items()}
        else:
            numbers = {int(id): one for id, one in listed.items()}
        for id in sorted(numbers):
            yield id, _token(numbers[id], _content(numbers[id]) in special)
        yield from ((None, _token({"content": one}, True)) for one in special)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise TokenizerError(f"{folder}: {SETTINGS} should list added tokens as id and settings, {ADDED} "
                             f"as text and id, {NAMES} as texts; one is none of these: {error}; copy "
                             f"the model's {WHOLE} there") from error


def _special(settings: dict[str, Any]) -> Iterator[str]:
    """Texts of the tokens that the settings name: those with a role first, then the others."""
    roles = {key: settings.get(key, UNSAID.get(key)) for key in NAMED}
    roles |= {key: value for key, value in settings.items()
              if key.endswith("_token") and key not in roles and isinstance(value, str)}
    others = settings.get("extra_special_tokens") or settings.get("additional_special_tokens") or []
    if not isinstance(others, dict | list):
        raise TypeError(f"a list of special tokens is {brief(others)}")
    for one in [*roles.values(), *(others.values() if isinstance(others, dict) else others)]:
        if one is not None:
            yield _content(one if isinstance(one, dict) else {"content": one})


def _content(one: dict[str, Any]) -> str:
    """A token's text. TypeError when it is none."""
    text = one.get("content")
    if not isinstance(text, str) or not text:
        raise TypeError(f"a token's text is {brief(text)}")
    return text


def _token(one: dict[str, Any], named: bool) -> dict[str, Any]:
    """A token with all of its settings; a special one is looked for in the text as it came."""
    said = {} if named else one
    special = named or bool(said.get("special"))
    flags = {key: bool(said.get(key)) for key in ("single_word", "lstrip", "rstrip")}
    return {"content": _content(one), **flags, "special": special,
            "normalized": bool(said.get("normalized", not special))}


def _json(path: Path) -> dict[str, Any]:
    """An object of a file, empty where there is no file."""
    return read_json(path, TokenizerError) if path.exists() else {}
