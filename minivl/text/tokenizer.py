"""Text to token ids, and ids back to text, one way whatever is installed: `tokenizers` when it is there,
`bpe.py` when it is not. Only encoding differs; the vocabulary and decoding are the same few lines for
both.

Decoding is: join the bytes of all tokens, then read them as UTF-8. A token may hold half a character, so
tokens must never be decoded one by one; `Stream` is for that.

Read next: `passes/prompt.py` (from messages to the text that is encoded), `bpe.py` (how a text becomes
ids).
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterable
from pathlib import Path

from . import bpe
from .errors import TokenizerError

__all__ = ["Stream", "Tokenizer", "TokenizerError"]

BACKENDS = ("auto", "tokenizers", "bpe")


class Tokenizer:
    """The tokenizer of a checkpoint.

    special_ids: ids that `decode` leaves out, `<|im_end|>` and its like; not `<tool_call>`, part of an
        answer
    vocab_size: number of tokens, added ones included (the embedding may have more rows: they are unused)
    """

    def __init__(self, file: bpe.File, encode: Callable[[str], list[int]]):
        self._encode = encode
        self._bytes = {id: token for token, id in file.ids.items()} | {a.id: _content(a)
                                                                       for a in file.added}
        self._ids = {a.content: a.id for a in file.added}
        self._base = file.ids
        self.special_ids = frozenset(a.id for a in file.added if a.special)
        self.vocab_size = len(self._bytes)

    @classmethod
    def from_folder(cls, folder: str | Path, backend: str = "auto") -> Tokenizer:
        """The tokenizer of a checkpoint folder, from its `tokenizer.json`.

        `backend` is "tokenizers" (fast), "bpe" (our own, to be read) or "auto": the first if it is
        installed. Raises TokenizerError, naming file and key, when the file is missing, damaged or not
        of this family.
        """
        if backend not in BACKENDS:
            raise ValueError(f"backend is {backend!r}, should be one of {', '.join(BACKENDS)}")
        file = bpe.read(Path(folder) / "tokenizer.json")
        if backend != "bpe":
            try:
                import tokenizers  # noqa: F401
                return cls(file, _fast_encoder(file.path))
            except ImportError:                       # not there, or a library that it needs is not
                if backend == "tokenizers":
                    raise
        return cls(file, bpe.BPE(file).encode)

    def encode(self, text: str) -> list[int]:
        """Ids of `text`. Nothing is put before or after it; special tokens inside it become their own
        ids.

        Raises TokenizerError when the text holds a lone surrogate: half a character, which has no UTF-8.
        """
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise TokenizerError(f"text has the lone surrogate {text[error.start]!r} at {error.start}: "
                                 "it was decoded wrongly; read it as UTF-8, or as UTF-16 in "
                                 "pairs") from None
        return self._encode(text)

    def decode(self, ids: Iterable[int], skip_special_tokens: bool = True) -> str:
        """Text of `ids`; bytes that are not UTF-8 become U+FFFD. Ids without a token (unused rows of the
        embedding) give no text. Raises TokenizerError for a negative id."""
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

    def push(self, id: int) -> str:
        """The text that this id completes: often a word, `""` when a character is still open."""
        if id in self.left_out:
            return ""
        return self.decoder.decode(self.tokenizer.bytes_of(id))

    def flush(self) -> str:
        """What is left at the end: `""`, or U+FFFD for a character never completed. Then it starts
        afresh."""
        rest = self.decoder.decode(b"", final=True)
        self.decoder.reset()
        return rest


def _fast_encoder(path: Path) -> Callable[[str], list[int]]:
    from tokenizers import Tokenizer as Fast
    try:
        fast = Fast.from_buffer(path.read_bytes())    # it opens no path that is not UTF-8
    except Exception as error:                        # the package raises nothing narrower
        raise TokenizerError(f"{path}: the tokenizers package refuses it: {error}") from error
    fast.no_truncation()                              # a length saved with the file is not the model's
    fast.no_padding()
    return lambda text: fast.encode(text, add_special_tokens=False).ids


def _content(added: bpe.Added) -> bytes:
    """Bytes of an added token: its text, except that text all in the byte alphabet is read as bytes,
    as for base tokens (so do `tokenizers`). For ASCII without spaces both are the same."""
    if all(char in bpe.ALPHABET for char in added.content):
        return bytes(bpe.ALPHABET[char] for char in added.content)
    return added.content.encode("utf-8")
