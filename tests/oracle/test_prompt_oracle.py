"""Rendered text, ids and decoded text are those of transformers, on conversations of every make.

The vocabulary is the embedded one. Golden ids of the full model that do not depend on its vocabulary are held as
structure: which tokens stand where, by name.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minivl
from minivl.passes import prompt
from minivl.run.messages import continued, marked, one_form
from minivl.text.tokenizer import Stream, Tokenizer

transformers = pytest.importorskip("transformers")
TINY = Path(minivl.__file__).parent / "tiny"
TEMPLATE = prompt.load_template(TINY)


@pytest.fixture(scope="module", params=["AutoTokenizer", "PreTrainedTokenizerFast"])
def reference(request, tmp_path_factory):
    if request.param == "AutoTokenizer":
        return transformers.AutoTokenizer.from_pretrained(str(TINY))
    folder = tmp_path_factory.mktemp("bare")           # nothing but the file: no configuration to help
    shutil.copy(TINY / "tokenizer.json", folder)
    return transformers.PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))


@pytest.fixture(scope="module", params=["bpe", "tokenizers"])
def tokenizer(request) -> Tokenizer:
    return Tokenizer.from_folder(TINY, request.param)


WORDS = st.one_of(st.text(st.characters(max_codepoint=0x2FFF, exclude_categories=["Cs", "Cn"]), max_size=12),
                  st.sampled_from(["What is this?", "你好", "<|image_pad|>", "<|im_end|>", "{{ x }}", "a\r\n b  "]))
ITEMS = st.one_of(
    st.builds(lambda t: {"type": "text", "text": t}, WORDS),
    st.just({"type": "image", "image": "a.png"}),
    st.just({"type": "image_url", "image_url": {"url": "a.png"}}),
    st.just({"type": "image", "image": np.zeros((28, 28, 3), dtype=np.uint8)}),
    st.just({"type": "video", "video": ["a.png", "b.png"], "fps": 2.0}))
CONVERSATIONS = st.lists(st.fixed_dictionaries({
    "role": st.sampled_from(["system", "user", "assistant", "tool"]),
    "content": st.one_of(WORDS, st.lists(ITEMS, max_size=5))}), min_size=1, max_size=4)


@settings(max_examples=60, deadline=None)
@given(CONVERSATIONS, st.booleans(), st.booleans())
def test_text_and_ids_of_a_conversation(reference, tokenizer, messages, generation, vision_id):
    options = {"add_generation_prompt": generation, "add_vision_id": vision_id}
    wanted = reference.apply_chat_template(messages, chat_template=TEMPLATE, tokenize=False, **options)
    ids = reference.apply_chat_template(messages, chat_template=TEMPLATE, return_dict=False, **options)
    for template in (TEMPLATE, None):
        assert prompt.render(messages, template, **options) == wanted
    assert prompt.encode(wanted, tokenizer).tolist() == ids == reference(wanted)["input_ids"]


@settings(max_examples=60, deadline=None)
@given(ids=st.lists(st.integers(0, 560), max_size=30), skip=st.booleans())
def test_ids_back_to_text(reference, tokenizer, ids, skip):
    wanted = reference.decode(ids, skip_special_tokens=skip)
    assert tokenizer.decode(ids, skip) == wanted
    stream = Stream(tokenizer, skip)
    assert "".join(map(stream.push, ids)) + stream.flush() == wanted


def test_the_vocabulary_is_the_same(reference, tokenizer):
    assert tokenizer.vocab_size == len(reference)
    special = {id for id, token in reference.added_tokens_decoder.items() if token.special}
    first = tokenizer.id("<|endoftext|>")
    assert tokenizer.special_ids == special == {*range(first, first + 14)}


TEMPLATES = [
    "{%- for m in messages -%}\n    {{ m.role ~ ': ' }}\n  {% if m.content is string %}\n{{ m.content }}\n"
    "  {% endif %}\n{%- endfor %}\n",
    "{{ messages | tojson }}", "{{ messages | tojson(indent=2) }}", "{{ messages[0] | tojson(sort_keys=true) }}",
    "{% for m in messages if m.role == 'user' %}{{ loop.index }}{{ loop.last }}{{ loop.length }}"
    "{% else %}-{% endfor %}",
    "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + (m.content | length) * 2 % 7 %}"
    "{% endfor %}{{ ns.n }}{{ messages[::-1] | map(attribute='role') | join(',') }}",
    "{% macro f(m, k='role') %}<{{ m[k] }}>{% endmacro %}{% for m in messages %}{{ f(m) }}{{ f(m, k='content') }}"
    "{% endfor %}",
    "{% set text %}{% for m in messages %}{{ m.role | title }}{% endfor %}{% endset %}"
    "{{ text.replace('s', '').strip() }}",
    "{{ (1, 'a', [none, 2.5]) }}{{ {'a': [1] * 3} }}{{ 7 // 2 }}{{ 2 ** 10 }}{{ 'a' * 3 }}{{ none }}{{ missing }}",
    "{% for m in messages %}{% for k, v in m.items() %}{{ k }}={% if v is string %}{{ v[:3] }}{% endif %}{% endfor %}"
    "{% if loop.index0 == 1 %}{% break %}{% endif %}{% endfor %}",
    "{{ messages | selectattr('role', 'equalto', 'user') | list | length }}{{ range(2, 9, 3) | list }}",
]


@pytest.mark.parametrize("template", TEMPLATES)
def test_other_templates_render_alike(reference, template):
    """The counting that is put into a template changes nothing of what it writes."""
    messages: list[dict] = [{"role": "user", "content": "Is <this> é?"}, {"role": "assistant", "content": "Yes\n"},
                {"role": "user", "content": [{"type": "text", "text": "And?"}]}]
    wanted = reference.apply_chat_template(messages, chat_template=template, tokenize=False)
    assert prompt.render(messages, template, add_generation_prompt=False) == wanted


def test_the_golden_prompt_of_one_picture(tokenizer):
    """84 x 112 pixels, grid 1 x 6 x 8: 12 placeholders. Of the published ids all named tokens keep their place."""
    pads = tokenizer.id("<|image_pad|>"), tokenizer.id("<|video_pad|>")
    content = [{"type": "image", "image": "a.png"}, {"type": "text", "text": "Describe."}]
    messages = [{"role": "user", "content": content}]
    ids = prompt.expand(prompt.encode(prompt.render(messages), tokenizer), np.array([12]), pads).tolist()
    golden = [151644, 151645, 151644, 151652, *[151655] * 12, 151653, 151645, 151644]
    shift = tokenizer.id("<|endoftext|>") - 151643
    assert [id - shift for id in ids if id in tokenizer.special_ids] == golden
    assert tokenizer.decode(ids) == "system\nYou are a helpful assistant.\nuser\nDescribe.\nassistant\n"


# ---- dialects ------------------------------------------------------------------------------------------------

SOURCES = st.sampled_from(["a.png", "b c.png", "data:image/png;base64,AAAA"])
DIALECTS = st.one_of(
    st.builds(lambda key, source: {"type": "image", key: source}, st.sampled_from(["image", "url", "path"]), SOURCES),
    st.builds(lambda source: {"type": "image_url", "image_url": {"url": source, "detail": "auto"}}, SOURCES),
    st.builds(lambda source: {"type": "image_url", "image_url": source}, SOURCES),
    st.builds(lambda key, n: {"type": "video", key: ["f.png"] * n}, st.sampled_from(["video", "path", "url"]),
              st.integers(1, 3)),
    st.builds(lambda text: {"type": "text", "text": text}, WORDS))
NULLS = st.lists(st.sampled_from(["image", "text", "video", "url", "path", "base64", "fps", "max_pixels"]), max_size=8)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(DIALECTS, NULLS), min_size=1, max_size=5), st.booleans())
def test_dialects_are_read_as_the_reference_reads_them(reference, drawn, vision_id):
    """Its own reading of the conversation without the null keys, which break its template, not ours."""
    from transformers.processing_utils import ProcessorMixin
    clean = [{"role": "user", "content": [item for item, _ in drawn]}]
    stored = [{"role": "user", "name": None, "content": [{**dict.fromkeys(nulls), **item} for item, nulls in drawn]}]
    theirs, _ = ProcessorMixin._normalize_conversations(None, clean)                                  # type: ignore
    images, videos, _, _ = ProcessorMixin._multimodal_inputs_from_conversations(None, theirs, {})      # type: ignore
    ours = one_form(stored)
    media = prompt.media_in(ours)
    assert [item["image"] for kind, item in media if kind == "image"] == images[0]
    assert [item["video"] for kind, item in media if kind == "video"] == videos[0]
    wanted = reference.apply_chat_template(theirs[0], chat_template=TEMPLATE, tokenize=False, add_vision_id=vision_id)
    assert prompt.text_of(ours, TEMPLATE, False, vision_id) == wanted


TRIMMING = TEMPLATE.replace("item['text']", "item['text'] | trim")


@settings(max_examples=60, deadline=None)
@given(CONVERSATIONS, WORDS, st.booleans(), st.sampled_from([TEMPLATE, TRIMMING]))
def test_an_answer_that_is_begun_ends_where_the_reference_ends_it(reference, before, words, listed, template):
    last = {"role": "assistant", "content": [{"type": "text", "text": "x"}, {"type": "text", "text": words}]
            if listed else words}
    messages = [*before, last]
    wanted = reference.apply_chat_template(messages, chat_template=template, tokenize=False,
                                           continue_final_message=True)
    form = marked(one_form(messages))
    assert continued(prompt.text_of(form, template, False, False), form) == wanted
