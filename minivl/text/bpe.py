"""Byte-level byte-pair encoding, from `tokenizer.json` to ids, in plain Python: the lesson, and what
runs when the `tokenizers` package is not installed.

    text -> cut at added tokens -> compose (NFC) -> cut into words -> UTF-8 bytes -> merge by rank -> ids

It is made for Qwen's tokenizer alone: a file that asks for another pipeline is refused, never half
obeyed, and the refusal names the package that reads it. It is equal to `tokenizers` id for id, with one
reservation: letters, numbers and compositions are those of Python's own Unicode tables
(`unicodedata.unidata_version`; 14.0 in Python 3.11), and `tokenizers` carries newer ones. Characters
that only one of the two knows may be cut differently.

Read next: `tokenizer.py`, which chooses between the two and turns ids back into text.
"""

from __future__ import annotations

import heapq
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..door.errors import brief
from ..door.files import read_text
from ..door.looks import kind_of
from .errors import TokenizerError
from .vocabulary import LARGEST, PATTERN

# PATTERN is the one that `words` below implements: seven alternatives, one function each.
CACHE_LIMIT = 1 << 16  # words whose ids are kept; the cache starts afresh when full


# ---- cutting text into words ---------------------------------------------------------------------

@lru_cache(maxsize=1 << 16)
def kind(char: str) -> str:
    r"""`"L"` letter, `"N"` number, `"\n"` carriage return or line feed, `" "` other white space, `"o"`
    the rest.

    Not `str.isspace`: that also says yes to the separators U+001C..U+001F, which are not White_Space.
    """
    if char in "\r\n":
        return "\n"
    category = unicodedata.category(char)
    if category[0] in "LN":
        return category[0]
    return " " if category[0] == "Z" or char in "\t\v\f\x85" else "o"


def words(text: str) -> Iterator[str]:
    """Cut `text` as PATTERN does: at each place the first alternative that matches. One always does."""
    start = 0
    while start < len(text):
        stop = next(stop for alternative in ALTERNATIVES if (stop := alternative(text, start)) > start)
        yield text[start:stop]
        start = stop


# Each alternative says where its match from `i` on ends; `i` itself means: no match.

def contraction(text: str, i: int) -> int:
    """`(?i:'s|'t|'re|'ve|'m|'ll|'d)`. Ignoring case makes the long s, U+017F, an s too."""
    if text[i] != "'":
        return i
    one, two = (text[i + 1:i + 1 + n].replace("ſ", "s").lower() for n in (1, 2))
    return i + 2 if one in ("s", "t", "m", "d") else i + 3 if two in ("re", "ve", "ll") else i


def letters(text: str, i: int) -> int:
    r"""`[^\r\n\p{L}\p{N}]?\p{L}+`: a word, with the one space or sign before it."""
    first = i + 1 if kind(text[i]) in " o" else i
    stop = run(text, first, "L")
    return stop if stop > first else i


def digit(text: str, i: int) -> int:
    r"""`\p{N}`: numbers go digit by digit."""
    return i + 1 if kind(text[i]) == "N" else i


def signs(text: str, i: int) -> int:
    r"""` ?[^\s\p{L}\p{N}]+[\r\n]*`: punctuation, with the one space before it and the line ends behind
    it."""
    first = i + 1 if text[i] == " " else i
    stop = run(text, first, "o")
    return run(text, stop, "\n") if stop > first else i


def line_ends(text: str, i: int) -> int:
    r"""`\s*[\r\n]+`: white space up to its last line end."""
    stop = run(text, i, " \n")
    while stop > i and kind(text[stop - 1]) != "\n":
        stop -= 1
    return stop


def spaces_before(text: str, i: int) -> int:
    r"""`\s+(?!\S)`: at the end of the text all spaces; before a word all but the last, which is the
    word's."""
    stop = run(text, i, " \n")
    return stop if stop == len(text) else max(stop - 1, i)


def spaces(text: str, i: int) -> int:
    r"""`\s+`"""
    return run(text, i, " \n")


ALTERNATIVES = (contraction, letters, digit, signs, line_ends, spaces_before, spaces)


def run(text: str, i: int, kinds: str) -> int:
    """Where the run of characters of these kinds that starts at `i` ends."""
    while i < len(text) and kind(text[i]) in kinds:
        i += 1
    return i


# ---- merging bytes -------------------------------------------------------------------------------

def merge(word: bytes, ranks: dict[tuple[bytes, bytes], int]) -> list[bytes]:
    """Start from single bytes; join the adjacent pair of lowest rank, the leftmost of equals, until
    none is left.

    A heap holds the pairs that could be joined; an entry whose parts have meanwhile grown or gone is
    passed over. So n bytes take n log n steps; looking for the best pair anew each time takes n^2,
    minutes for a long word.
    """
    parts = [word[i:i + 1] for i in range(len(word))]
    before, after = list(range(-1, len(word) - 1)), list(range(1, len(word) + 1))
    heap: list[tuple[int, int, bytes, bytes]] = []

    def offer(i: int, j: int) -> None:
        if i >= 0 and j < len(word) and (rank := ranks.get((parts[i], parts[j]))) is not None:
            heapq.heappush(heap, (rank, i, parts[i], parts[j]))

    for i in range(len(word) - 1):
        offer(i, i + 1)
    while heap:
        _, i, left, right = heapq.heappop(heap)
        j = after[i]
        if j < len(word) and parts[i] == left and parts[j] == right:
            parts[i], parts[j], after[i] = left + right, b"", after[j]
            if after[j] < len(word):
                before[after[j]] = i
            offer(before[i], i)
            offer(i, after[i])
    return [part for part in parts if part]


# ---- the file ------------------------------------------------------------------------------------

def _byte_alphabet() -> dict[str, int]:
    """How the file writes bytes: printable Latin-1 as itself, the other 68 from U+0100 on (a space is
    `Ġ`)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + n): byte
                                                      for n, byte in enumerate(others)}


ALPHABET = _byte_alphabet()
# For whole tokens at once: each letter to the Latin-1 character of its byte, all others to one without
# a byte.
_LATIN = dict.fromkeys(range(256), "\uffff") | {ord(char): chr(byte) for char, byte in ALPHABET.items()}


@dataclass(frozen=True)
class Added:
    """A token that is matched whole, before anything else: `<|im_end|>`. Special ones stay out of
    answers."""
    id: int
    content: str
    special: bool
    normalized: bool                             # looked for in the composed text instead of the raw one
    lstrip: bool                                      # swallows the white space before it
    rstrip: bool


@dataclass(frozen=True)
class File:
    """A `tokenizer.json` that has been read and checked."""
    path: Path
    tokens: dict[str, bytes]                          # base tokens, as the file writes them
    ids: dict[bytes, int]                             # and their ids
    added: tuple[Added, ...]
    composes: bool                                    # NFC
    merges: list[Any]                                 # as in the file: strings "a b" or pairs


def read(path: str | Path) -> File:
    """Read and check a `tokenizer.json`.

    Raises TokenizerError, naming file and key, when it is missing, no JSON, malformed or not Qwen's
    pipeline.
    """
    path = Path(path)
    return parse(path, read_text(path, LARGEST, TokenizerError))


def parse(path: Path, text: str) -> File:
    """The same for a text that is there already; `path` is the file that an error names."""
    try:
        file = json.loads(text)
    except (ValueError, RecursionError) as error:
        kind = kind_of(text.encode("utf-8"))
        if kind and not kind.startswith("JSON"):
            raise TokenizerError(f"{path}: is {kind}") from None
        raise TokenizerError(f"{path}: is not valid JSON: {error}; is it cut off? Get it anew") from error
    _check_pipeline(path, file)
    model = file["model"]
    tokens = {token: _bytes_of(path, token) for token in model["vocab"]}
    ids = {tokens[token]: _id(path, "model.vocab", token, id) for token, id in model["vocab"].items()}
    absent = [byte for byte in range(256) if bytes([byte]) not in ids]
    if absent:
        raise TokenizerError(f"{path}: model.vocab lacks {len(absent)} single bytes, first "
                             f"{absent[0]:#04x}")
    added = tuple(_added(path, n, item) for n, item in enumerate(file.get("added_tokens") or []))
    _check_unique(path, model["vocab"], added)
    return File(path, tokens, ids, added, file.get("normalizer") is not None, model["merges"])


def ranks_of(file: File) -> dict[tuple[bytes, bytes], int]:
    """Rank of each pair of the file's merges; TokenizerError when a merge is no pair or makes no
    token."""
    ranks: dict[tuple[bytes, bytes], int] = {}
    for rank, pair in enumerate(file.merges):
        try:
            left, right = pair.split(" ") if isinstance(pair, str) else pair
            _, *parts = (file.tokens[token] for token in (left + right, left, right))
        except (KeyError, TypeError, ValueError):
            raise TokenizerError(f"{file.path}: model.merges[{rank}] is {brief(pair)}, should be two tokens "
                                 "that join to a third, all of them in model.vocab") from None
        ranks[parts[0], parts[1]] = rank
    return ranks


OTHERS = "our own encoder knows no other: install the package tokenizers, which reads it"
_MISSING = "(nothing)"
_OFF = (None, "", False, 0, _MISSING)
_PIPELINE: dict[str, tuple] = {                       # key -> values that mean what this file does
    "model.type": ("BPE", _MISSING), "model.dropout": _OFF, "model.unk_token": _OFF,
    "model.continuing_subword_prefix": _OFF, "model.end_of_word_suffix": _OFF,
                               "model.byte_fallback": _OFF,
    "model.ignore_merges": _OFF,
    "normalizer": (None, _MISSING, {"type": "NFC"},
                   {"type": "Sequence", "normalizers": [{"type": "NFC"}]}),
    "pre_tokenizer.type": ("Sequence",),
    "pre_tokenizer.pretokenizers.0.type": ("Split",),
    "pre_tokenizer.pretokenizers.0.pattern": ({"Regex": PATTERN},),
    "pre_tokenizer.pretokenizers.0.behavior": ("Isolated",),
    "pre_tokenizer.pretokenizers.0.invert": _OFF,
    "pre_tokenizer.pretokenizers.1.type": ("ByteLevel",),
    "pre_tokenizer.pretokenizers.1.add_prefix_space": (False,),
    "pre_tokenizer.pretokenizers.1.use_regex": (False,),
    "pre_tokenizer.pretokenizers.2": (_MISSING,),
    "decoder.type": ("ByteLevel",),
}


def _check_pipeline(path: Path, file: Any) -> None:
    for key, allowed in _PIPELINE.items():
        value = _look_up(file, key)
        if value not in allowed:
            wanted = " or ".join(map(repr, allowed))
            raise TokenizerError(f"{path}: {key} is {brief(value)}; in Qwen's pipeline it is "
                                 f"{wanted}; {OTHERS}")
    if not _keeps_ids(_look_up(file, "post_processor")):
        raise TokenizerError(f"{path}: post_processor changes the ids of a text; {OTHERS}")
    for key, type_ in (("model.vocab", dict), ("model.merges", list), ("added_tokens", list)):
        value = _look_up(file, key)
        if not isinstance(value, type_) and not (key == "added_tokens" and value in (None, _MISSING)):
            raise TokenizerError(f"{path}: {key} is {brief(value)}, should be a {type_.__name__}")


def _keeps_ids(post: Any) -> bool:
    """Whether a post-processor leaves the ids of one text as they are, when no special tokens are asked
    for.

    A template of the text alone is what transformers 5 writes; ByteLevel moves offsets, which nobody
    reads here.
    """
    kind = _look_up(post, "type")
    if kind == "TemplateProcessing":
        single = post.get("single")
        parts = single if isinstance(single, list) else []
        return sum(isinstance(part, dict) and "Sequence" in part for part in parts) == 1
    if kind == "Sequence":
        inner = post.get("processors")
        return isinstance(inner, list) and all(map(_keeps_ids, inner))
    return post in (None, _MISSING) or kind in ("ByteLevel", "RobertaProcessing", "BertProcessing")


def _look_up(file: Any, dotted: str) -> Any:
    for key in dotted.split("."):
        if isinstance(file, list) and key.isdigit():
            file = file[int(key)] if int(key) < len(file) else _MISSING
        else:
            file = file.get(key, _MISSING) if isinstance(file, dict) else _MISSING
    return file


def _bytes_of(path: Path, token: Any) -> bytes:
    try:
        return token.translate(_LATIN).encode("latin-1")
    except (UnicodeEncodeError, AttributeError):
        raise TokenizerError(f"{path}: model.vocab: {brief(token)} is not written in the byte alphabet") from None


def _id(path: Path, key: str, token: str, value: Any) -> int:
    if type(value) is not int or value < 0:
        raise TokenizerError(f"{path}: {key}: id of {brief(token)} is {brief(value)}, should be an integer from "
                             "0 on")
    return value


def _added(path: Path, n: int, item: Any) -> Added:
    content = item.get("content") if isinstance(item, dict) else None
    if not isinstance(content, str) or not content or re.search("[\ud800-\udfff]", content):
        raise TokenizerError(f"{path}: added_tokens[{n}].content is {brief(content)}, should be a text")
    if item.get("single_word"):
        raise TokenizerError(f"{path}: added_tokens[{n}].single_word is set; {OTHERS}")
    flags = {key: bool(item.get(key, False)) for key in ("special", "normalized", "lstrip", "rstrip")}
    return Added(_id(path, "added_tokens", content, item.get("id")), content, **flags)


def _check_unique(path: Path, vocab: dict[str, int], added: tuple[Added, ...]) -> None:
    """No id stands for two tokens, and no added token has two ids; a token may be listed in both
    places."""
    of = vocab | {a.content: a.id for a in added}
    for key, items in (("model.vocab and added_tokens: id", of.values()),
                       ("added_tokens: content", [a.content for a in added])):
        twice = [item for item, times in Counter(items).items() if times > 1]
        if twice:
            raise TokenizerError(f"{path}: {key} {brief(twice[0])} comes twice")


# ---- text to ids ---------------------------------------------------------------------------------

class BPE:
    """The encoder of one file: `BPE(read(path)).encode("Hello")` is a list of ids."""

    def __init__(self, file: File):
        self.ids, self.ranks, self.composes = file.ids, ranks_of(file), file.composes
        self.raw = Splitter(a for a in file.added if not a.normalized)
        self.composed = Splitter(a for a in file.added if a.normalized)
        self.known: dict[str, list[int]] = {}

    def encode(self, text: str) -> list[int]:
        """Ids of `text`; added tokens inside it become their own ids."""
        ids: list[int] = []
        for piece in self.raw.split(text):
            if isinstance(piece, int):
                ids.append(piece)
                continue
            for part in self.composed.split(unicodedata.normalize("NFC", piece) if self.composes
                                            else piece):
                ids += [part] if isinstance(part, int) else self.encode_plain(part)
        return ids

    def encode_plain(self, text: str) -> list[int]:
        """Ids of text that holds no added token."""
        return [id for word in words(text) for id in self.encode_word(word)]

    def encode_word(self, word: str) -> list[int]:
        """Ids of one word; they depend on the word alone, so they are worked out once."""
        if word not in self.known:
            if len(self.known) >= CACHE_LIMIT:
                self.known.clear()
            self.known[word] = [self.ids[part] for part in merge(word.encode("utf-8"), self.ranks)]
        return self.known[word]


class Splitter:
    """Cuts text at added tokens: where several begin at one place the longest wins."""

    def __init__(self, added: Iterable[Added]):
        self.added = {a.content: a for a in sorted(added, key=lambda a: -len(a.content))}
        self.pattern = re.compile("|".join(map(re.escape, self.added)) or r"(?!)")

    def split(self, text: str) -> Iterator[str | int]:
        """Pieces of text, and ids of the added tokens between them."""
        done = 0
        for match in self.pattern.finditer(text):
            token, start, stop = self.added[match.group()], match.start(), match.end()
            while token.lstrip and start > done and kind(text[start - 1]) in " \n":
                start -= 1
            if token.rstrip:
                stop = run(text, stop, " \n")
            if start > done:
                yield text[done:start]
            yield token.id
            done = stop
        if done < len(text):
            yield text[done:]
