"""Messages to ids: what is rendered, what is refused, how placeholders grow, and that a template cannot run away.

Expected texts are written out by hand from the published examples of the chat format.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import minivl
from minivl.passes import prompt
from minivl.passes.prompt import PromptError, TemplateError
from minivl.text import sandbox
from minivl.text.tokenizer import Tokenizer

TINY = Path(minivl.__file__).parent / "tiny"
SYSTEM = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
ASSISTANT = "<|im_start|>assistant\n"
IMAGE, VIDEO = "<|vision_start|><|image_pad|><|vision_end|>", "<|vision_start|><|video_pad|><|vision_end|>"
TOKENIZER = Tokenizer.from_folder(TINY)
PADS = PICTURE_PAD, VIDEO_PAD = TOKENIZER.id("<|image_pad|>"), TOKENIZER.id("<|video_pad|>")


def picture(name: str = "a.png") -> dict:
    return {"type": "image", "image": name}


def text(words: str) -> dict:
    return {"type": "text", "text": words}


def user(*items) -> dict:
    return {"role": "user", "content": items[0] if isinstance(items[0], str) else list(items)}


@pytest.fixture(params=["own", "default"])
def template(request) -> str | None:
    return prompt.load_template(TINY) if request.param == "own" else None


# ---- rendering -----------------------------------------------------------------------------------------------

RENDERED = [
    ([user("Hi")], {}, f"{SYSTEM}<|im_start|>user\nHi<|im_end|>\n{ASSISTANT}"),
    ([user("Hi")], {"add_generation_prompt": False}, f"{SYSTEM}<|im_start|>user\nHi<|im_end|>\n"),
    ([user(picture(), text("Describe."))], {}, f"{SYSTEM}<|im_start|>user\n{IMAGE}Describe.<|im_end|>\n{ASSISTANT}"),
    ([user(picture(), picture(), text("Compare."))], {"add_vision_id": True},
     f"{SYSTEM}<|im_start|>user\nPicture 1: {IMAGE}Picture 2: {IMAGE}Compare.<|im_end|>\n{ASSISTANT}"),
    ([user({"type": "video", "video": ["a", "b"], "fps": 2}, text("What?"))], {},
     f"{SYSTEM}<|im_start|>user\n{VIDEO}What?<|im_end|>\n{ASSISTANT}"),
    ([{"role": "system", "content": "Be terse."}, user(picture(), text("A?")), {"role": "assistant", "content": "B."},
      user("C?")], {},
     f"<|im_start|>system\nBe terse.<|im_end|>\n<|im_start|>user\n{IMAGE}A?<|im_end|>\n"
     f"<|im_start|>assistant\nB.<|im_end|>\n<|im_start|>user\nC?<|im_end|>\n{ASSISTANT}"),
    ([user({"type": "image_url", "image_url": {"url": "a.png"}}, text("x"), {"image": "b"}, {"video": ["c"]}),
      user(picture())], {"add_vision_id": True},
     f"{SYSTEM}<|im_start|>user\nPicture 1: {IMAGE}xPicture 2: {IMAGE}Video 1: {VIDEO}<|im_end|>\n"
     f"<|im_start|>user\nPicture 3: {IMAGE}<|im_end|>\n{ASSISTANT}"),
    ([user("  {{ x }} {% y %} <b> & \"é\"\n")], {},
     f"{SYSTEM}<|im_start|>user\n  {{{{ x }}}} {{% y %}} <b> & \"é\"\n<|im_end|>\n{ASSISTANT}"),
]


@pytest.mark.parametrize("messages, options, wanted", RENDERED)
def test_what_is_rendered(template, messages, options, wanted):
    assert prompt.render(messages, template, **options) == wanted


CONTENTS = st.one_of(st.text(max_size=8), st.lists(st.one_of(
    st.just(picture()), st.just({"video": ["f"]}), st.text(max_size=8).map(text)), max_size=4))
CONVERSATIONS = st.lists(st.fixed_dictionaries({"role": st.sampled_from(prompt.ROLES), "content": CONTENTS}),
                         min_size=1, max_size=4)


@given(CONVERSATIONS, st.booleans(), st.booleans())
def test_the_template_of_the_family_is_the_checkpoints_own(messages, generation, ids):
    own = prompt.load_template(TINY)
    assert prompt.render(messages, own, generation, ids) == prompt.render(messages, None, generation, ids)


@given(CONVERSATIONS)
def test_each_medium_has_one_placeholder_in_its_place(messages):
    """Texts drawn here hold no literal placeholder, so kinds in order are the placeholders in order."""
    ids = prompt.encode(prompt.render(messages), TOKENIZER)
    kinds = [{"image": PICTURE_PAD, "video": VIDEO_PAD}[kind] for kind, _ in prompt.media_of(messages)]
    assert [id for id in ids.tolist() if id in PADS] == kinds


def test_media_come_in_prompt_order_under_one_key():
    messages = [user(picture("1"), text("-"), {"type": "video", "video": ["2"], "fps": 1.0}),
                {"role": "assistant", "content": "x"},
                user({"type": "image_url", "image_url": {"url": "3"}, "max_pixels": 9}, {"image_url": "4"}),
                {"role": "tool", "content": [{"image": "5"}]}]
    media = prompt.media_of(messages)
    assert [(kind, item[kind]) for kind, item in media] == [
        ("image", "1"), ("video", ["2"]), ("image", "3"), ("image", "4"), ("image", "5")]
    assert media[1][1]["fps"] == 1.0 and media[2][1]["max_pixels"] == 9


REFUSED = [
    ([], "empty"),
    ("Hi", "should be a list"),
    ({"role": "user", "content": "Hi"}, "should be a list"),
    (["Hi"], r"messages\[0\] is of type str"),
    ([user("a"), {"content": "a"}], r"messages\[1\] has no role \(its keys are \['content'\]\)"),
    ([{"role": "User", "content": "a"}], r"'User'"),
    ([{"role": "user"}], r"messages\[0\]\['content'\] is missing"),
    ([{"role": "user", "content": 3}], "of type int"),
    ([user(text("a"), "b")], r"content'\]\[1\] is of type str"),
    ([user({"type": "picture", "image": 1})], r"'picture', should be one of text, image, image_url, video"),
    ([user({"colour": 1})], "should be one of"),
    ([user({"type": "text", "text": None})], r"\['text'\] is missing"),
    ([user({"type": "text", "text": "a", "image": "b"})], "has the key 'image'"),
    ([user({"type": "image", "image": "b", "text": "a"})], "has the key 'text'"),
    ([user({"type": "image", "image": "b", "max_pixel": 1})], "'max_pixel'.*max_pixels"),
    ([user({"type": "image"})], "has no image"),
    ([user({"type": "video", "fps": 2})], "has no video"),
    ([user({"type": "image", "image": 1, "image_url": 2})], "image and image_url"),
    ([user({"type": "image_url", "image_url": {"uri": "x"}})], "no key 'url'"),
]


@pytest.mark.parametrize("messages, said", REFUSED)
def test_what_is_no_conversation_is_refused(messages, said):
    for function in (prompt.check_messages, prompt.media_of, prompt.render):
        with pytest.raises(PromptError, match=said):
            function(messages)


# ---- templates in files --------------------------------------------------------------------------------------

def test_the_template_is_looked_for_in_three_files(tmp_path):
    """In the order of the reference's processor, which tests/oracle/test_saved_forms.py asks."""
    assert prompt.load_template(tmp_path) is None
    config = tmp_path / "tokenizer_config.json"
    config.write_text(json.dumps({"chat_template": [{"name": "tool_use", "template": "x"},
                                                    {"name": "default", "template": "c"}]}), encoding="utf-8")
    assert prompt.load_template(tmp_path) == "c"
    (tmp_path / "chat_template.jinja").write_text("é", encoding="utf-8")
    assert prompt.load_template(tmp_path) == "é"
    (tmp_path / "chat_template.json").write_text(json.dumps({"chat_template": "b"}), encoding="utf-8")
    assert prompt.load_template(tmp_path) == "b"


@pytest.mark.parametrize("name, content", [
    ("chat_template.jinja", b"\xff"), ("chat_template.json", b"{"), ("chat_template.json", b"[]"),
    ("chat_template.json", b'{"chat_template": 3}'), ("tokenizer_config.json", b'{"chat_template": [{"name": "a"}]}')])
def test_a_damaged_template_file_is_named(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TemplateError, match=name.replace(".", r"\.")):
        prompt.load_template(tmp_path)


@pytest.mark.parametrize("name", ["chat_template.jinja", "chat_template.json", "tokenizer_config.json"])
def test_neither_a_pipe_nor_a_file_without_end_is_read_as_a_template(tmp_path, name):
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(TemplateError, match=f"{name}: is not a regular file"):
            prompt.load_template(tmp_path)
        (tmp_path / name).unlink()
    with (tmp_path / name).open("wb") as file:
        file.truncate(1 << 23)
    with pytest.raises(TemplateError, match=f"{name}: is too large.*at most"):
        prompt.load_template(tmp_path)


def test_line_ends_of_other_systems_are_the_same_template(tmp_path):
    (tmp_path / "chat_template.jinja").write_bytes(b"a\r\nb\rc\n")
    assert prompt.load_template(tmp_path) == "a\nb\nc\n"


# ---- templates that go wrong ---------------------------------------------------------------------------------

DOUBLE = ("{% set ns = namespace(x='aaaaaaaa') %}{% for i in range(60) %}{% set ns.x = EXPRESSION %}{% endfor %}"
          "{{ ns.x }}")
GROWING = ["ns.x + ns.x", "ns.x ~ ns.x", "ns.x * 2", "2 * ns.x", "[ns.x, ns.x] | join", "''.join([ns.x, ns.x])",
           "ns.x | replace('a', 'aa')", "ns.x.replace('a', 'aa')", "ns.x | replace('', 'aa')", "[ns.x, ns.x]",
           "(ns.x, ns.x)", "{'a': ns.x, 'b': ns.x}", "dict(a=ns.x, b=ns.x)", "[ns.x, ns.x] | tojson",
           "[ns.x] | list + [ns.x]", "[ns.x, ns.x] | string", "ns.x | list + ns.x | list"]
RUNAWAY = [
    "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}",
    "{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}",
    "{% set x %}{% for a in range(9999) %}" + "x" * 9000 + "{% endfor %}{% endset %}",
    "{% for a in range(1000000) %}{% endfor %}",
    "{{ range(10 ** 12) | list }}",
    "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "{% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(1) }}",
    "{% for a in [1, 2] recursive %}{{ loop([1, 2]) }}{% endfor %}",
    "{% block a %}{{ self.a() }}{{ self.a() }}{% endblock %}",
    *[DOUBLE.replace("EXPRESSION", growing) for growing in GROWING],
    "{% set ns = namespace(x='aa') %}{% for i in range(60) %}{% set y %}{{ ns.x }}{{ ns.x }}{% endset %}"
    "{% set ns.x = y %}{% endfor %}{{ ns.x }}",
    "{{ ('a' * 30000) | replace('a', 'b' * 30000) }}", "{{ ('a' * 30000).replace('', 'b' * 30000) }}",
    "{{ ('a' * 30000) | join('b' * 30000) }}", "{{ ('b' * 30000).join('a' * 30000) }}",
    "{{ 'x' * 10 ** 10 }}", "{{ [1] * 10 ** 10 }}", "{{ 9 ** (9 ** 9) }}", "{{ 2 ** 100000 }}",
    "{{ (2 ** 900) * (2 ** 900) }}",
    "{{ '%1000000000d' % 1 }}", "{{ '%1000000000d' | format(1) }}", "{{ '{:1000000000}'.format(1) }}",
    "{{ 'x'.ljust(1000000000) }}", "{{ 'x' | center(1000000000) }}", "{{ 'x\\ny' | indent(1000000000) }}",
    "{{ 'x'.zfill(1000000000) }}", "{{ '\\t'.expandtabs(1000000000) }}", "{{ (5).to_bytes(1000000000, 'big') }}",
    "{{ lipsum(n=100000000) }}", "{{ [1] | tojson(indent=1000000000) }}",
    "{{ [1, 2, 3, 4] | tojson(separators=['x' * 100000] * 2) }}", "{{ strftime_now('%1000000000d') }}",
]


@pytest.mark.parametrize("template", RUNAWAY)
def test_a_template_that_runs_away_is_stopped(template):
    """Each ends by counting, long before the clock; the values on the way stay below some megabytes."""
    import tracemalloc
    tracemalloc.start()
    try:
        with pytest.raises(TemplateError) as caught:
            prompt.render([user("Hi")], template)
        assert "seconds" not in str(caught.value)
        assert tracemalloc.get_traced_memory()[1] < 100e6
    finally:
        tracemalloc.stop()


def test_the_clock_is_the_backstop(monkeypatch):
    monkeypatch.setattr(sandbox, "SECONDS", -1.0)
    with pytest.raises(TemplateError, match="seconds"):
        prompt.render([user("Hi")])


def test_time_in_which_nothing_is_computed_is_not_the_templates(monkeypatch):
    """On a machine that is busy with others, or asleep, the clock goes on."""
    monkeypatch.setattr(sandbox, "SECONDS", 0.02)
    budget = sandbox.Budget(10)
    time.sleep(0.05)
    budget.step()
    with pytest.raises(TemplateError, match="computes for more than 0.02 seconds"):
        for _ in range(10_000):
            budget.step()
            sum(range(10_000))


REACHING = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}", "{{ messages.__class__ }}", "{{ [].append.__self__ }}",
    "{{ ''['__class__'] }}", "{{ messages | attr('__class__') }}", "{{ range.__globals__ }}",
    "{{ raise_exception.__globals__ }}", "{{ namespace.__init__.__globals__ }}", "{{ cycler.__init__ }}",
    "{{ self.__init__.__globals__ }}", "{{ messages | map(attribute='__class__') | list }}",
    "{{ ['{0.__class__}'] | map('format', 1) | list }}", "{{ '{0.__class__}'.format(1) }}", "{{ dict.mro() }}",
    "{{ messages.append(1) }}", "{% set messages[0].role = 'x' %}", "{% set _ = messages[0].update({'role': 'x'}) %}",
    "{% set ns = namespace(__class__=1) %}", "{% set ns = namespace({'_a': 1}) %}",
    "{% set ns = namespace() %}{% set ns._Namespace__attrs = 1 %}",
    "{% include '/etc/passwd' %}", "{% import 'os' as os %}", "{% extends 'x' %}",
]


@pytest.mark.parametrize("template", REACHING)
def test_a_template_cannot_reach_out(template):
    """Either an error, or jinja2's undefined value, which writes nothing: no name of a class comes through."""
    messages = [user("Hi")]
    with suppress(TemplateError):
        assert "class" not in prompt.render(messages, template)
    assert messages == [user("Hi")]


def test_a_template_sees_no_picture(tmp_path):
    """Only its type's name: a picture could be told to write a file."""
    messages = [user({"type": "image", "image": Image.new("RGB", (28, 28))})]
    target = tmp_path / "x.png"
    with pytest.raises(TemplateError):
        prompt.render(messages, f"{{{{ messages[0].content[0].image.save('{target}') }}}}")
    assert not target.exists()
    assert prompt.render(messages, "{{ messages[0].content[0].image }}") == "<Image>"


@pytest.mark.parametrize("template, said", [
    ("{% for %}", "line 1"), ("{{ nothing.at_all }}", "UndefinedError"), ("{{ 1 / 0 }}", "ZeroDivisionError"),
    ("{{ raise_exception('roles must alternate') }}", "roles must alternate"), ("x" * 300_000, "300,000"),
    ("{{ 'a'.center(3) }}", "center"), ("{{ " + "(" * 5000 + " }}", "fails|read"), ("{{ x | shout }}", "shout")])
def test_a_template_that_fails_says_how(template, said):
    with pytest.raises(TemplateError, match=said):
        prompt.render([user("Hi")], template)


def test_a_long_conversation_is_not_refused(template):
    messages = [user(picture(), text("word " * 200_000))] + [user("a")] * 3000
    assert len(prompt.render(messages, template)) > 1_000_000


def test_what_chat_templates_use_is_there():
    template = ("{%- for m in messages if m.role != 'system' %}\n"
                "    {%- if loop.index0 > 1 %}{% break %}{% endif %}\n"
                "{{ loop.index ~ '/' ~ loop.length }} {{ m | tojson }} {{ m['content'].strip().upper() }}"
                "{{ m.content.split(' ')[-1] }} {{ m.items() | list | length }}{{ strftime_now('%Y') | length }}\n"
                "{%- endfor %}{% set a, b = (1, [2, 3]) %}{{ a + b[1] * 2 - 7 % 4 }}{{ messages[1:] | length }}\n")
    assert prompt.render([user("a <é>"), user("b")], template) == (
        '1/2 {"role": "user", "content": "a <é>"} A <É><é> 242/2 {"role": "user", "content": "b"} Bb 2441')


# ---- placeholders --------------------------------------------------------------------------------------------

@given(st.lists(st.one_of(st.integers(0, 540), st.sampled_from(PADS)), max_size=30), st.data())
def test_each_placeholder_becomes_as_many_as_its_features(ids, data):
    media = sum(id in PADS for id in ids)
    counts = data.draw(st.lists(st.integers(1, 9), min_size=media, max_size=media))
    wanted, left = [], iter(counts)
    for id in ids:
        wanted += [id] * (next(left) if id in PADS else 1)
    with minivl.session(verify=True):
        grown = prompt.expand(np.array(ids, dtype=np.int64), np.array(counts, dtype=np.int64), PADS)
    assert grown.dtype == np.int64 and grown.tolist() == wanted
    prompt.check_features(grown, PADS, sum(counts))


@pytest.mark.parametrize("ids, counts, said", [
    ([1, PICTURE_PAD, 2], [], "1 placeholders for 0.*no pictures or videos were passed"),
    ([1, 2], [4], "0 placeholders for 1.*without placeholders"),
    ([PICTURE_PAD, PICTURE_PAD, VIDEO_PAD], [4, 4], "3 placeholders for 2.*literal"),
    ([PICTURE_PAD], [4, 4], "1 placeholders for 2.*dropped"),
    ([PICTURE_PAD, VIDEO_PAD], [4, 0], "picture or video 1 has 0 rows"),
])
def test_placeholders_that_do_not_match_are_refused(ids, counts, said):
    with pytest.raises(PromptError, match=said):
        prompt.expand(np.array(ids), np.array(counts, dtype=np.int64), PADS)


@pytest.mark.parametrize("count, said", [(0, "no pictures"), (2, "literal"), (4, "dropped")])
def test_features_that_do_not_match_are_refused(count, said):
    with pytest.raises(PromptError, match=rf"3 placeholder tokens for {count} rows.*{said}"):
        prompt.check_features(np.array([1, PICTURE_PAD, PICTURE_PAD, VIDEO_PAD]), PADS, count)


def test_a_literal_placeholder_in_a_text_is_a_token_and_is_counted():
    ids = prompt.encode(prompt.render([user(picture(), text("what is <|image_pad|>?"))]), TOKENIZER)
    assert ids.tolist().count(PICTURE_PAD) == 2
    with pytest.raises(PromptError, match="2 placeholders for 1"):
        prompt.expand(ids, np.array([6]), PADS)


def test_importing_the_package_leaves_the_template_engine_for_later():
    import subprocess
    import sys
    code = "import sys, minivl.passes.prompt; print('jinja2' in sys.modules, 'tokenizers' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, encoding="utf-8")
    assert out.stdout.split() == ["False", "False"]
