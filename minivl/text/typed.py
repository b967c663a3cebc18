"""Special tokens that somebody typed stay text: `<|im_end|>` in a question ends no turn.

A chat template glues what people wrote and what separates turns into one text, in which both look alike.
So what is typed is marked before the template runs: GUARD stands in front of each place where a special
token is spelt. `encode` cuts the text at the template's own special tokens, takes the marks out of what
lies between, and encodes that as text. It is what the reference gives for typed text with
`split_special_tokens=True`.

Only *special* tokens are marked, those that no answer shows. `<tool_call>` and its like, which are part of
answers, are tokens wherever they stand. Read next: `tokenizer.py`, which uses it.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate, pairwise

from .bpe import Added

GUARD = "\ufdd0"          # a noncharacter of Unicode: no text that is exchanged holds one


class Typed:
    """Marks typed text, and encodes marked text.

    added: the tokens of the file. plain: the ids of a text in which no special token is looked for.
    """

    def __init__(self, added: Iterable[Added], plain: Callable[[str], list[int]]):
        self.special = {a.content: a for a in sorted(added, key=lambda a: -len(a.content)) if a.special}
        self.plain = plain
        spelt = "|".join(map(re.escape, self.special)) or r"(?!)"
        self.starts = re.compile(f"{GUARD}|(?={spelt})")           # overlapping ones too
        self.pattern = re.compile(f"{GUARD}(?P<typed>.?)|{spelt}", re.DOTALL)

    def marked(self, texts: Sequence[str], special: bool = True) -> list[str]:
        """The same texts, which will stand one right behind the other, with a GUARD before each special
        token that they spell, also across two of them. `special` false: those are meant as tokens."""
        whole = "".join(texts)
        places = sorted({match.start() for match in self.starts.finditer(whole)
                         if special or match.group() == GUARD})
        if not places:
            return list(texts)
        ends = [0, *accumulate(map(len, texts))]
        return ["".join(_cut(whole, start, stop, places))
                for start, stop in pairwise(ends)]

    def encode(self, text: str) -> list[int]:
        """Ids of a text with marks in it."""
        ids: list[int] = []
        for piece in self._pieces(text):
            ids += [piece] if isinstance(piece, int) else self.plain(piece)
        return ids

    def _pieces(self, text: str) -> Iterator[str | int]:
        """What lies between special tokens, without marks; and their ids."""
        between, at = "", 0
        while match := self.pattern.search(text, at):
            between += text[at:match.start()]
            at = match.end()
            token = self.special.get(match.group())
            if token is None:
                between += match["typed"]
                continue
            between = between.rstrip() if token.lstrip else between
            if between:
                yield between
            yield token.id
            between = ""
            at += len(text[at:]) - len(text[at:].lstrip()) if token.rstrip else 0
        if between := between + text[at:]:
            yield between


def _cut(whole: str, start: int, stop: int, places: Sequence[int]) -> Iterator[str]:
    """`whole[start:stop]` with a GUARD at each of the places."""
    for place in places[bisect_left(places, start):bisect_left(places, stop)]:
        yield whole[start:place] + GUARD
        start = place
    yield whole[start:stop]
