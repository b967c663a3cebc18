"""Text to token ids, and ids back to text, one way whatever is installed: `tokenizers` when it is there,
which reads every `tokenizer.json` that it can; `bpe.py`, made for Qwen's alone, when it is not.

Decoding is: join the bytes of all tokens, then read them as UTF-8. A token may hold half a character, so
tokens must never be decoded one by one; `Stream` is for that. Only a file whose tokens are no bytes
(another decoder than ByteLevel) is decoded by `tokenizers` itself.

Read next: `passes/prompt.py` (from messages to the text that is encoded), `bpe.py` (how a text becomes
ids).
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..door.errors import ArgumentError
from ..door.looks import kind_of
from . import bpe
from .errors import TokenizerError
from .typed import GUARD, Typed
from .vocabulary import tokenizer_text

__all__ = ["Stream", "Tokenizer", "TokenizerError"]

Encode = Callable[[str], list[int]]
Decode = Callable[[list[int], bool], str]              # ids, whether special tokens are left out
BACKENDS = ("auto", "tokenizers", "bpe")


class Tokenizer:
    """The tokenizer of a checkpoint.

    special_ids: ids that `decode` leaves out, `<|im_end|>` and its like; not `<tool_call>`, part of an
        answer
    vocab_size: number of tokens, added ones included (the embedding may have more rows: they are unused)
    """

    def __init__(self, file: bpe.File, encode: Encode, decode: Decode | None = None,
                 plain: Encode | None = None):
        self._encode, self.decode_whole = encode, decode
        self.typed = Typed(file.added, plain or encode)
        self._bytes = {id: token for token, id in file.ids.items()} | {a.id: _token_bytes(a.content)
                                                                       for a in file.added}
        self._ids = {a.content: a.id for a in file.added}
        self._base = file.ids
        self.special_ids = frozenset(a.id for a in file.added if a.special)
        self.vocab_size = len(self._bytes)

    @classmethod
    def from_folder(cls, folder: str | Path, backend: str = "auto") -> Tokenizer:
        """The tokenizer of a checkpoint folder, from its `tokenizer.json`, or from `vocab.json` and
        `merges.txt` where there is none.

        `backend` is "tokenizers" (fast), "bpe" (our own, to be read) or "auto": the first if it is
        installed. Raises TokenizerError, naming file and key, when the file is missing, damaged or not
        of this family.
        """
        return cls.from_text(*tokenizer_text(Path(folder)), backend)

    @classmethod
    def from_text(cls, path: Path, text: str, backend: str = "auto") -> Tokenizer:
        """The tokenizer of the text of a `tokenizer.json`; `path` is the file that an error names.

        Raises TokenizerError as `from_folder` does.
        """
        if backend not in BACKENDS:
            raise ArgumentError(f"backend is {backend!r}, should be one of {', '.join(BACKENDS)}")
        if backend != "bpe":
            try:
                from tokenizers import Tokenizer as Fast
            except ImportError:                       # not there, or a library that it needs is not
                if backend == "tokenizers":
                    raise
            else:
                return cls(*_fast(path, text, Fast))
        file = bpe.parse(path, text)
        return cls(file, bpe.BPE(file).encode, plain=_once(lambda: bpe.BPE(_without_special(file)).encode))

    def encode(self, text: str) -> list[int]:
        """Ids of `text`. Nothing is put before or after it; special tokens inside it become their own
        ids.

        Raises TokenizerError when the text holds a lone surrogate: half a character, which has no UTF-8.
        """
        self._check(text)
        return self._encode(text)

    def encode_marked(self, text: str) -> list[int]:
        """The same for a text whose typed special tokens are marked, and stay text (`typed.py`)."""
        self._check(text)
        return self.typed.encode(text) if GUARD in text else self._encode(text)

    def _check(self, text: str) -> None:
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise TokenizerError(f"text has the lone surrogate {text[error.start]!r} at {error.start}: "
                                 "it was decoded wrongly; read it as UTF-8, or as UTF-16 in "
                                 "pairs") from None

    def decode(self, ids: Iterable[int], skip_special_tokens: bool = True) -> str:
        """Text of `ids`; bytes that are not UTF-8 become U+FFFD. Ids without a token (unused rows of the
        embedding) give no text. Raises TokenizerError for a negative id."""
        if self.decode_whole is not None:
            return self.decode_whole(list(ids), skip_special_tokens)
        left_out = self.special_ids if skip_special_tokens else frozenset()
        data = b"".join(self.bytes_of(id) for id in ids if id not in left_out)
        return data.decode("utf-8", errors="replace")

    def id(self, token: str) -> int | None:
        """Id of an added token (`"<|im_end|>"`) or of the text of one base token (`" the"`), else
        None."""
        return self._ids.get(token, self._base.get(token.encode("utf-8", errors="replace")))

    def bytes_of(self, id: int) -> bytes:
        """What `id` adds to a text: the bytes of its token, perhaps part of a character; none when it
        has no token.

        Raises TokenizerError for a negative id.
        """
        if id < 0:
            raise TokenizerError(f"token id {id} is negative; ids count from 0")
        return self._bytes.get(id, b"")

    def token_bytes(self, id: int) -> bytes:
        """The same for an id that must have a token: raises TokenizerError when it has none."""
        if id not in self._bytes:
            raise TokenizerError(f"id {id} has no token; this tokenizer has {self.vocab_size}")
        return self._bytes[id]


class Stream:
    """Ids to text as they come: a character is given out once all of its bytes are there, never half
    of it.

    The pushes and the flush joined together are `tokenizer.decode` of all ids.
    """

    def __init__(self, tokenizer: Tokenizer, skip_special_tokens: bool = True):
        self.tokenizer = tokenizer
        self.left_out = tokenizer.special_ids if skip_special_tokens else frozenset()
        self.decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        # of tokens that are no bytes: the ids so far, and how much of their text is given out
        self.whole: Decode | None = getattr(tokenizer, "decode_whole", None)
        self.ids: list[int] = []
        self.given = 0

    def push(self, id: int) -> str:
        """The text that this id completes: often a word, `""` when a character is still open."""
        if id in self.left_out:
            return ""
        if self.whole is not None:
            self.ids.append(id)
            return self._rest(self.whole(self.ids, False).rstrip("\ufffd"))
        return self.decoder.decode(self.tokenizer.bytes_of(id))

    def flush(self) -> str:
        """What is left at the end: `""`, or U+FFFD for a character never completed. Then it starts
        afresh."""
        rest = self.decoder.decode(b"", final=True)
        self.decoder.reset()
        if self.whole is not None:
            rest = self._rest(self.whole(self.ids, False))
            self.ids, self.given = [], 0
        return rest

    def _rest(self, text: str) -> str:
        rest = text[self.given:]
        self.given = max(self.given, len(text))
        return rest


def _once(make: Callable[[], Encode]) -> Encode:
    """A function that is made when it is first called."""
    made: list[Encode] = []

    def encode(text: str) -> list[int]:
        if not made:
            made.append(make())
        return made[0](text)

    return encode


def _without_special(file: bpe.File) -> bpe.File:
    return replace(file, added=tuple(a for a in file.added if not a.special))


def _read_fast(path: Path, text: str, kind: Any) -> Any:
    """A tokenizer of the package `tokenizers`."""
    try:
        fast = kind.from_str(text)
    except Exception as error:                        # the package raises nothing narrower
        kind = kind_of(text.encode("utf-8"))
        raise TokenizerError(f"{path}: is {kind}" if kind and not kind.startswith("JSON") else
                             f"{path}: the tokenizers package refuses it: {error}") from error
    fast.no_truncation()                              # a length saved with the file is not the model's
    fast.no_padding()
    return fast


def _ids_of(fast: Any, special: bool) -> Encode:
    """How `tokenizers` encodes; `special` false: special tokens are text like any other."""
    fast.encode_special_tokens = not special

    def encode(text: str) -> list[int]:
        return list(fast.encode(text, add_special_tokens=False).ids)

    return encode


def _fast(path: Path, text: str, kind: Any) -> tuple[bpe.File, Encode, Decode | None, Encode]:
    """What the package `tokenizers` reads in a file's text: the vocabulary, how to encode, how to decode
    what is no bytes, and how to encode where no special token is looked for."""
    fast = _read_fast(path, text, kind)
    added = tuple(bpe.Added(id, one.content, one.special, one.normalized, one.lstrip, one.rstrip)
                  for id, one in sorted(fast.get_added_tokens_decoder().items()))
    base = fast.get_vocab(with_added_tokens=False)
    ids = {_token_bytes(token): id for token, id in base.items()}
    file = bpe.File(path, {}, ids, added, fast.normalizer is not None, [])

    def decode(ids: list[int], skip: bool) -> str:
        return str(fast.decode(ids, skip_special_tokens=skip))

    # a tokenizer of its own, since the switch is one for all threads
    plain = _once(lambda: _ids_of(_read_fast(path, text, kind), False))
    return file, _ids_of(fast, True), None if _of_bytes(fast.decoder) else decode, plain


def _of_bytes(decoder: Any) -> bool:
    """Whether a decoder joins bytes and does nothing else."""
    state = decoder and json.loads(decoder.__getstate__())
    steps = state["decoders"] if state and state["type"] == "Sequence" else [state]
    return bool(steps) and all(step and step["type"] in ("ByteLevel", "Fuse") for step in steps) \
        and steps[0]["type"] == "ByteLevel"


def _token_bytes(content: str) -> bytes:
    """Bytes of a token as the file writes it: text all in the byte alphabet is read as bytes, other text
    as it stands, added tokens too (so do `tokenizers`). For ASCII without spaces both are the same."""
    if all(char in bpe.ALPHABET for char in content):
        return bytes(bpe.ALPHABET[char] for char in content)
    return content.encode("utf-8", "surrogatepass")
