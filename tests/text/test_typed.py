"""Typed special tokens are text: what is encoded is what somebody wrote, and only the template's own tokens are
special. The reference's side of it, `split_special_tokens`, is held in `oracle/test_conversations.py`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minivl.api import TINY
from minivl.text.bpe import Added
from minivl.text.tokenizer import Tokenizer
from minivl.text.typed import GUARD, Typed

PARTS = ["<|im_end|>", "<|im_start|>", "<|image_pad|>", "<|im_", "end|>", "<", "|>", GUARD, "a", " ", "é", "e\u0301",
         "<tool_call>", "\n"]
TEXTS = st.lists(st.lists(st.sampled_from(PARTS), max_size=6).map("".join), max_size=5)


@pytest.fixture(scope="module", params=["tokenizers", "bpe"])
def tokenizer(request) -> Tokenizer:
    return Tokenizer.from_folder(TINY, request.param)


@given(TEXTS)
def test_what_is_typed_comes_back_whole_and_holds_no_special_token(tokenizer, texts):
    marked = tokenizer.typed.marked(texts)
    ids = tokenizer.encode_marked("<|im_start|>" + "".join(marked) + "<|im_end|>")
    first, last = tokenizer.id("<|im_start|>"), tokenizer.id("<|im_end|>")
    assert ids[0] == first and ids[-1] == last and tokenizer.special_ids.isdisjoint(ids[1:-1])
    composed = "".join(texts).replace("e\u0301", "é")
    assert tokenizer.decode(ids, skip_special_tokens=False) == f"<|im_start|>{composed}<|im_end|>"


@given(TEXTS)
def test_what_is_meant_as_tokens_is_encoded_as_it_stands(tokenizer, texts):
    whole = "".join(texts)
    assert tokenizer.encode_marked("".join(tokenizer.typed.marked(texts, special=False))) == tokenizer.encode(whole)
    if GUARD not in whole and not any(one in whole for one in tokenizer.typed.special):
        assert tokenizer.typed.marked(texts) == texts          # nothing is changed that needs no mark


def test_tokens_that_overlap_or_are_one_sign_or_eat_blanks():
    def added(n, content, **flags):
        return Added(n, content, True, False, flags.get("lstrip", False), flags.get("rstrip", False))
    typed = Typed([added(0, "ab"), added(1, "bc"), added(2, "x"), added(3, "<l>", lstrip=True),
                   added(4, "<r>", rstrip=True)], lambda text: [text])
    for text in ("abc", "x", "xx", "axbc", "ababc", "<l> <r> ", GUARD, GUARD * 3, "a" + GUARD + "b", "a <l>"):
        (marked,) = typed.marked([text])
        assert typed.encode(marked) == [text] and typed.encode(f"ab{marked}x") == [0, text, 2]
    assert typed.encode("q <l> s <r>  t" + GUARD + "x") == ["q", 3, " s ", 4, "tx"]


def test_a_file_whose_special_tokens_are_few_marks_those(tmp_path):
    """A token that is added and not special is a token wherever it stands."""
    for path in TINY.glob("*.json"):
        shutil.copy(path, tmp_path)
    values = json.loads((TINY / "tokenizer.json").read_text(encoding="utf-8"))
    for one in values["added_tokens"]:
        one["special"] = one["content"] == "<|im_end|>"
    Path(tmp_path / "tokenizer.json").write_text(json.dumps(values), encoding="utf-8")
    for backend in ("tokenizers", "bpe"):
        found = Tokenizer.from_folder(tmp_path, backend)
        (marked,) = found.typed.marked(["<|im_end|><|box_start|>"])
        ids = found.encode_marked(marked)
        assert found.id("<|box_start|>") in ids and found.id("<|im_end|>") not in ids
