"""Text to ids and back: our BPE is `tokenizers`, id for id, and a stream is decoding, piece by piece.

The big vocabulary is trained here, on text in many scripts, with Qwen's pre-tokeniser and its 22 added tokens.
`tokenizers` and Python have Unicode tables of different age, so texts are drawn from the characters that both have
as assigned.
"""

from __future__ import annotations

import json
import os
import unicodedata
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import minivl
from minivl.text import bpe
from minivl.text.tokenizer import Stream, Tokenizer, TokenizerError

tokenizers = pytest.importorskip("tokenizers")
TINY = Path(minivl.__file__).parent / "tiny"
# Written out here, not taken from the code under test.
PATTERN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
           r"|\s*[\r\n]+|\s+(?!\S)|\s+")
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>",
           "<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>",
           "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"]
PLAIN = ["<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>",
         "<|repo_name|>", "<|file_sep|>"]
CORPUS = ["The quick brown fox doesn't jump; they've said it's the dog's, and I'll see. WE'RE HERE, don't you",
          "def f(x):\r\n    return x**2 + 31415\r\n\r\n\tprint(f(27))\n\n", "naïve café, Ångström, e\u0301te\u0301",
          "你好，世界！今天天气怎么样？我们去公园吧。", "Привет, мир! Как дела сегодня?", "こんにちは世界。今日は",
          "안녕하세요 세계", "مرحبا بالعالم", "नमस्ते दुनिया", "👩‍👩‍👧‍👦 🇩🇪 🏳️‍🌈 😀😀", "  leading  spaces\n\n\ttabs  ",
          json.dumps([{"bbox_2d": [10, 20, 300, 400], "label": "cat"}])] * 4

# Unicode's own awkward ones, beside any assigned character.
AWKWARD = [
    "'s", "'S", "'\u017f", "'T", "'Re", "'VE", "'lL", "'d", "'", "''", " ", "  ", "\u00a0", "\u3000", "\u0085",
    "\u2028", "\x1c", "\x1f", "\t", "\n", "\r", "\r\n", "\v", "\f", "\u200d", "\ufe0f", "\u0301", "\u0323",
    "\u0307", "é", "e\u0301", "ß", "İ", "ı", "\u212a", "ﬁ", "ﬆ", "①", "²", "Ⅷ", "٣", "12", "007", "가",
    "\u1100\u1161", "👩‍👩‍👧", "🇩🇪", "😀", "中文", "hello", " the", "don't", "<|", "|>", "<|im_end|", "\u0000",
    "\ufeff", "\ue000", "\U0010fffd", *SPECIAL, *PLAIN]
PYTHONS = "".join(chr(c) for c in range(0x110000) if unicodedata.category(chr(c)) not in ("Cn", "Cs"))
ASSIGNED = [char for piece, _ in tokenizers.pre_tokenizers.Split(
    tokenizers.Regex(r"\p{Cn}+"), "removed").pre_tokenize_str(PYTHONS) for char in piece]
TEXTS = st.lists(st.one_of(st.sampled_from(AWKWARD), st.sampled_from(ASSIGNED), st.sampled_from(" \n'ast19é.,")),
                 max_size=40).map("".join)


def train(folder: Path) -> Path:
    """A tokenizer.json of Qwen's make with about a thousand tokens."""
    from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers
    fast = tokenizers.Tokenizer(models.BPE(fuse_unk=False, byte_fallback=False))
    fast.normalizer = normalizers.NFC()
    fast.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(PATTERN), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    fast.decoder, fast.post_processor = decoders.ByteLevel(), processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(vocab_size=1200, show_progress=False, min_frequency=2,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    fast.train_from_iterator(CORPUS, trainer)
    fast.add_special_tokens(SPECIAL)
    fast.add_tokens([AddedToken(token, normalized=False, special=False) for token in PLAIN])
    fast.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="module", params=["tiny", "trained"])
def folder(request, tmp_path_factory) -> Path:
    return TINY if request.param == "tiny" else train(tmp_path_factory.mktemp("trained"))


@pytest.fixture(scope="module")
def fast(folder):
    return tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))


@pytest.fixture(scope="module", params=["bpe", "tokenizers"])
def tokenizer(request, folder) -> Tokenizer:
    return Tokenizer.from_folder(folder, request.param)


# ---- cutting and merging -------------------------------------------------------------------------------------

def cut(text: str) -> list[str]:
    return [word for word, _ in tokenizers.pre_tokenizers.Split(
        tokenizers.Regex(PATTERN), "isolated").pre_tokenize_str(text)]


@given(TEXTS)
@example("it'\u017f  'Llama 'ß \u017f'S")
@example("a \x1c b\x85\r\n \n  x   ")
def test_words_are_the_pattern(text):
    assert list(bpe.words(text)) == cut(text)


def sample(count: int) -> list[str]:
    """Characters of every category, more of the rarer ones."""
    groups: dict[str, list[str]] = {}
    for char in ASSIGNED:
        groups.setdefault(unicodedata.category(char), []).append(char)
    random = np.random.default_rng(0)
    return [char for group in groups.values() for char in random.permutation(group)[:count]]


FRAMES = ["a{}b", "1{}2", " {}!", "'{}", "'{}l", "'l{}", "'r{}", "'{}e", "  {}  ", "\n{}\n", "'{}{}"]


@pytest.mark.parametrize("frame", FRAMES)
def test_every_category_is_cut_alike(frame):
    for char in sample(30):
        text = frame.replace("{}", char)
        assert list(bpe.words(text)) == cut(text), ascii(text)


@pytest.mark.full
@pytest.mark.parametrize("frame", FRAMES)
def test_every_character_is_cut_alike(frame):
    for char in ASSIGNED:
        text = frame.replace("{}", char)
        assert list(bpe.words(text)) == cut(text), ascii(text)


@given(st.lists(st.sampled_from([b"a", b"b", b"c", b"aa", b"ab", b"ba", b"abc", b"aab"]), max_size=14),
       st.lists(st.sampled_from(["a a", "a b", "aa b", "ab a", "b c", "ab c", "a bc", "aa a", "aa aa", "ab ab", "b a"]),
                unique=True))
def test_merging_is_the_lowest_rank_leftmost_first(pieces, merges):
    """Against the definition in its shortest form; here a merge may come before those that make its parts."""
    ranks = {tuple(part.encode() for part in merge.split()): n for n, merge in enumerate(merges)}
    word = b"".join(pieces)
    parts = [bytes([byte]) for byte in word]
    while found := [(ranks[pair], i) for i, pair in enumerate(pairwise(parts)) if pair in ranks]:
        i = min(found)[1]
        parts[i:i + 2] = [parts[i] + parts[i + 1]]
    assert bpe.merge(word, ranks) == parts


# ---- text to ids and back ------------------------------------------------------------------------------------

@given(text=TEXTS)
@example(text="<|im_start|>user\nA<|image_pad|>'S<|im_end|>\n" + "e\u0301" * 3 + "<tool_call>  ")
@example(text="x" * 3000 + "好" * 3000)
def test_ids_are_those_of_tokenizers(tokenizer, fast, text):
    assert tokenizer.encode(text) == fast.encode(text, add_special_tokens=False).ids


@given(text=TEXTS)
def test_decoding_gives_the_composed_text_back(tokenizer, text):
    """Text between added tokens is composed piece by piece; added tokens are ASCII and take no part."""
    back = tokenizer.decode(tokenizer.encode(text), skip_special_tokens=False)
    assert unicodedata.normalize("NFC", back) == unicodedata.normalize("NFC", text)


@given(data=st.data(), skip=st.booleans())
def test_decoding_is_that_of_tokenizers(tokenizer, fast, data, skip):
    """Any ids: halves of characters, special tokens between them, ids that have no token."""
    ids = data.draw(st.lists(st.integers(0, fast.get_vocab_size() + 20), max_size=30))
    assert tokenizer.decode(ids, skip) == fast.decode(ids, skip_special_tokens=skip)


def single_bytes(tokenizer: Tokenizer) -> dict[int, int]:
    """Ids of the tokens of one byte, by the byte."""
    tokens = [(tokenizer.token_bytes(id), id) for id in range(tokenizer.vocab_size)]
    return {token[0]: id for token, id in tokens if len(token) == 1}


@given(data=st.data(), skip=st.booleans())
def test_a_stream_joins_to_the_whole(tokenizer, data, skip):
    """Ids of single bytes, so that nearly every character comes in parts, with a few of any kind among them."""
    byte_of = single_bytes(tokenizer)
    ids = [byte_of[byte] for byte in data.draw(TEXTS).encode()[:60]]
    any_id = st.one_of(st.sampled_from(sorted(tokenizer.special_ids)), st.integers(0, tokenizer.vocab_size + 9))
    for at, id in data.draw(st.lists(st.tuples(st.integers(0, 60), any_id), max_size=5)):
        ids.insert(at, id)
    stream = Stream(tokenizer, skip)
    pieces = [stream.push(id) for id in ids]
    assert "".join(pieces) + stream.flush() == tokenizer.decode(ids, skip)
    assert stream.flush() == ""


@given(text=TEXTS)
def test_a_stream_never_gives_half_a_character(tokenizer, text):
    ids = tokenizer.encode(text)
    stream, given_out = Stream(tokenizer), ""
    for id in ids:
        given_out += stream.push(id)
        assert ("\ufffd" in given_out) <= ("\ufffd" in text)
    assert stream.flush() == ""


def test_a_stream_holds_a_character_back_until_it_is_whole():
    tokenizer = Tokenizer.from_folder(TINY, "bpe")
    byte_of, stream = single_bytes(tokenizer), Stream(tokenizer)
    assert [stream.push(byte_of[byte]) for byte in "a😀".encode()] == ["a", "", "", "", "😀"]
    halves = [byte_of[0xc3], *tokenizer.encode("<|im_end|>"), byte_of[0xa9]]
    assert [stream.push(id) for id in halves] == ["", "", "é"] and tokenizer.decode(halves) == "é"
    stream.push(byte_of[0xf0])
    assert stream.flush() == "\ufffd"


def test_facts_of_the_embedded_tokenizer(tokenizer, folder):
    if folder != TINY:
        return
    first = tokenizer.vocab_size - 22                     # bytes and merges, then the 22 official added tokens
    assert [tokenizer.id(token) for token in SPECIAL + PLAIN] == [*range(first, first + 22)]
    assert tokenizer.special_ids == set(range(first, first + 14))
    assert tokenizer.id("<|nothing|>") is None
    assert tokenizer.encode(" the") == [tokenizer.id(" the")]
    assert tokenizer.token_bytes(tokenizer.id(" the")) == b" the"
    assert tokenizer.decode(np.array(tokenizer.encode("a<|im_end|><tool_call>"))) == "a<tool_call>"


def test_added_tokens_obey_their_flags(tmp_path):
    """Normalised ones are found in the composed text, stripping ones swallow white space, the longest wins."""
    file = json.loads((TINY / "tokenizer.json").read_text(encoding="utf-8"))
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
    tokens = [("é!", {"normalized": True}), ("<l>", {"lstrip": True}), ("<r>", {"rstrip": True, "special": True}),
              ("<lr>", {"lstrip": True, "rstrip": True}), ("<l><l>", {}), ("à la", {"special": True})]
    file["added_tokens"] += [{"id": len(file["model"]["vocab"]) + 22 + n, "content": token, **flags, **own}
                             for n, (token, own) in enumerate(tokens)]
    (tmp_path / "tokenizer.json").write_text(json.dumps(file), encoding="utf-8")
    ours, fast = Tokenizer.from_folder(tmp_path, "bpe"), Tokenizer.from_folder(tmp_path, "tokenizers")
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))

    @settings(max_examples=300)
    @given(st.lists(st.sampled_from(["é!", "e\u0301!", "<l>", "<r>", "<lr>", " ", "\n", "\u00a0", "\x1c", "a",
                                     "à la"])))
    def alike(pieces):
        text = "".join(pieces)
        assert ours.encode(text) == fast.encode(text), text
        assert ours.decode(ours.encode(text)) == theirs.decode(fast.encode(text))
    alike()


def test_an_added_token_may_stand_in_the_vocabulary_too(tmp_path):
    """As a trainer that is given special tokens writes it."""
    file = json.loads((TINY / "tokenizer.json").read_text(encoding="utf-8"))
    file["model"]["vocab"] |= {token["content"]: token["id"] for token in file["added_tokens"]}
    (tmp_path / "tokenizer.json").write_text(json.dumps(file), encoding="utf-8")
    for backend in ("bpe", "tokenizers"):
        tokenizer = Tokenizer.from_folder(tmp_path, backend)
        plain = Tokenizer.from_folder(TINY)
        stop = plain.id("<|im_end|>")
        assert tokenizer.encode("<|im_end|>a") == [stop, *plain.encode("a")]
        assert tokenizer.vocab_size == plain.vocab_size and tokenizer.decode([stop]) == ""


# ---- what is refused -----------------------------------------------------------------------------------------

@pytest.mark.parametrize("text", ["\ud800", "ab\udfff", "\udc80<|im_end|>"])
def test_a_lone_surrogate_is_refused(tokenizer, text):
    with pytest.raises(TokenizerError, match="surrogate"):
        tokenizer.encode(text)


def test_ids_without_a_token_are_told_apart(tokenizer):
    assert tokenizer.decode([tokenizer.vocab_size + 5]) == ""
    with pytest.raises(TokenizerError, match="no token"):
        tokenizer.token_bytes(tokenizer.vocab_size + 5)
    assert tokenizer.bytes_of(tokenizer.vocab_size + 5) == b""
    for refusing in (tokenizer.bytes_of, Stream(tokenizer).push, lambda id: tokenizer.decode([id])):
        with pytest.raises(TokenizerError, match="negative"):
            refusing(-1)


def test_a_stream_asks_a_tokenizer_for_nothing_but_the_bytes_of_ids():
    """So anything that answers that can be streamed."""
    class Halves:
        special_ids = frozenset({9})

        def bytes_of(self, id: int) -> bytes:
            return {0: b"\xc3", 1: b"\xa9"}[id]

    stream = Stream(Halves())
    assert [stream.push(id) for id in (9, 0, 9, 1)] == ["", "", "", "\N{LATIN SMALL LETTER E WITH ACUTE}"]


def test_a_long_word_takes_no_square_of_its_length():
    """Counts the steps, not the seconds: looking a pair up is the step."""
    class Counted(dict):
        looked_up = 0

        def get(self, *args):
            Counted.looked_up += 1
            return super().get(*args)

    ranks = Counted(bpe.ranks_of(bpe.read(TINY / "tokenizer.json")))
    bpe.merge(b"there and then " * 400, ranks)
    assert Counted.looked_up < 3 * 6000


DAMAGES = [
    ("model.merges", lambda f: f["model"].pop("merges")),
    ("model.merges[3]", lambda f: f["model"]["merges"].__setitem__(3, "a b c")),
    ("model.merges[0]", lambda f: f["model"]["merges"].__setitem__(0, ["q", "q"])),
    ("model.vocab", lambda f: f["model"].__setitem__("vocab", [])),
    ("model.vocab", lambda f: f["model"]["vocab"].pop("A")),
    ("model.vocab", lambda f: f["model"]["vocab"].__setitem__("A", "7")),
    ("model.vocab", lambda f: f["model"]["vocab"].__setitem__("A", -1)),
    ("model.vocab", lambda f: f["model"]["vocab"].__setitem__("A", 1)),
    ("model.vocab", lambda f: f["model"]["vocab"].__setitem__("a b", 999)),
    ("model.type", lambda f: f["model"].__setitem__("type", "Unigram")),
    ("model.byte_fallback", lambda f: f["model"].__setitem__("byte_fallback", True)),
    ("model.ignore_merges", lambda f: f["model"].__setitem__("ignore_merges", True)),
    ("model.vocab", lambda f: f.pop("model")),
    ("normalizer", lambda f: f.__setitem__("normalizer", {"type": "NFKC"})),
    ("pre_tokenizer.type", lambda f: f.__setitem__("pre_tokenizer", None)),
    ("pattern", lambda f: f["pre_tokenizer"]["pretokenizers"][0].__setitem__("pattern", {"Regex": r"\p{N}{1,3}"})),
    ("add_prefix_space", lambda f: f["pre_tokenizer"]["pretokenizers"][1].__setitem__("add_prefix_space", True)),
    ("post_processor", lambda f: f.__setitem__("post_processor", {"type": "TemplateProcessing"})),
    ("decoder.type", lambda f: f.__setitem__("decoder", None)),
    ("added_tokens", lambda f: f.__setitem__("added_tokens", {})),
    ("added_tokens[1].content", lambda f: f["added_tokens"].__setitem__(1, {"id": 530})),
    ("added_tokens", lambda f: f["added_tokens"][1].__setitem__("id", f["added_tokens"][0]["id"])),
    ("added_tokens", lambda f: f["added_tokens"][1].__setitem__("content", "<|im_end|>")),
    ("added_tokens[1].content", lambda f: f["added_tokens"][1].__setitem__("content", "\ud800")),
    ("added_tokens: id", lambda f: f["added_tokens"][1].__setitem__("id", 5)),
    ("single_word", lambda f: f["added_tokens"][1].__setitem__("single_word", True)),
]


@pytest.mark.parametrize("key, damage", DAMAGES)
def test_a_damaged_file_is_refused_by_name_and_key(tmp_path, key, damage):
    file = json.loads((TINY / "tokenizer.json").read_text(encoding="utf-8"))
    damage(file)
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(file), encoding="utf-8")
    with pytest.raises(TokenizerError) as caught:
        Tokenizer.from_folder(tmp_path, "bpe")
    assert str(path) in str(caught.value) and key in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"3", b"\xff\xfe{}", b"[" * 100_000, b'{"model": 3}'])
@pytest.mark.parametrize("backend", ["bpe", "tokenizers"])
def test_a_file_that_is_no_tokenizer_is_refused(tmp_path, content, backend):
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(TokenizerError, match=r"tokenizer\.json"):
        Tokenizer.from_folder(tmp_path, backend)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(TokenizerError, match=r"tokenizer\.json: there is no such file"):
        Tokenizer.from_folder(tmp_path)


def test_a_pipe_is_never_waited_for(tmp_path):
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "tokenizer.json")
        with pytest.raises(TokenizerError, match="not a regular file"):
            Tokenizer.from_folder(tmp_path)


def test_of_a_file_without_end_no_more_is_read_than_a_tokenizer_can_have(tmp_path, monkeypatch):
    size = (TINY / "tokenizer.json").stat().st_size
    assert bpe.LARGEST > 2 * 11_500_000                # the largest official file
    monkeypatch.setattr(bpe, "LARGEST", size)
    bpe.read(TINY / "tokenizer.json")
    monkeypatch.setattr(bpe, "LARGEST", size - 1)
    with pytest.raises(TokenizerError, match=rf"tokenizer\.json: is too large.*{size - 1:,} bytes"):
        bpe.read(TINY / "tokenizer.json")


def test_without_tokenizers_our_own_is_used(monkeypatch):
    import sys
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    tokenizer = Tokenizer.from_folder(TINY)
    assert tokenizer.encode("the<|im_end|>")[-1] == tokenizer.id("<|im_end|>")
    with pytest.raises(ImportError):
        Tokenizer.from_folder(TINY, "tokenizers")
    with pytest.raises(ValueError, match="backend"):
        Tokenizer.from_folder(TINY, "rust")
