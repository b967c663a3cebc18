"""A folder in every form in which the reference saves and reads this model, its tokenizer and its processor is the
same model here: bit-equal scores, the same ids, the same limits, and the same file decides."""

from __future__ import annotations

import importlib.util
import itertools
import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import tokenizers
import torch
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors
from transformers import (
    AutoProcessor,
    AutoTokenizer,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    processing_utils,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.video_processing_utils import BaseVideoProcessor

import minivl
from minivl.api import TINY
from minivl.config import (
    ConfigError,
    config_from,
    read_config,
    read_preprocessor,
    read_video_preprocessor,
    to_flat_json,
    to_nested_json,
)
from minivl.text.template import load_template
from minivl.text.tokenizer import Stream, Tokenizer, TokenizerError

NOISE = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
QUESTION = [
    {"role": "user", "content": [{"type": "image", "image": NOISE}, {"type": "text", "text": "Which?"}]}
]
TEXTS = [
    "A red circle, 4071 \u00e9t\u00e9<|im_end|>\n<|vision_start|>it's",
    "e\u0301 \ufb01 \U0001f600  \n\n x",
    "",
    " <tool_call> ",
]


# ---- the model ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reference():
    return Qwen2_5_VLForConditionalGeneration.from_pretrained(TINY)


@pytest.fixture(scope="module")
def ours():
    vlm = minivl.load()
    inputs = vlm.prepare(QUESTION)
    return inputs, vlm.logits(inputs)


FORMS = {
    "as the hub names tensors": lambda model, folder: model.save_pretrained(folder),
    "as they are called in memory": lambda model, folder: model.save_pretrained(
        folder, save_original_format=False
    ),
    "without a head": lambda model, folder: model.model.save_pretrained(folder),
    "in shards": lambda model, folder: model.save_pretrained(folder, max_shard_size="2MB"),
    "as a variant": lambda model, folder: model.save_pretrained(folder, variant="fp16"),
    "as a variant in shards": lambda model, folder: model.save_pretrained(
        folder, variant="bf16", max_shard_size="2MB"
    ),
    "widened": lambda model, folder: Qwen2_5_VLForConditionalGeneration.from_pretrained(
        TINY, dtype=torch.float32
    ).save_pretrained(folder),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_model_that_the_reference_saved_gives_the_same_bits(form, reference, ours, tmp_path):
    FORMS[form](reference, tmp_path)
    inputs, logits = ours
    with minivl.load(tmp_path) as vlm:
        assert np.array_equal(vlm.logits(inputs), logits)
        with pytest.raises(minivl.Error, match=r"tokenizer\.json"):
            vlm.prepare(QUESTION)


def test_a_whole_folder_of_the_references_is_the_same_model(reference, ours, tmp_path):
    reference.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(TINY).save_pretrained(tmp_path)
    Qwen2VLImageProcessorPil.from_pretrained(TINY).save_pretrained(tmp_path)
    inputs, logits = ours
    with minivl.load(tmp_path) as vlm:
        again = vlm.prepare(QUESTION)
        assert np.array_equal(again.input_ids, inputs.input_ids) and np.array_equal(
            again.patches, inputs.patches
        )
        assert np.array_equal(vlm.logits(again), logits)


@pytest.mark.parametrize(
    "key",
    [
        "rms_norm_eps",
        "rope_theta",
        "max_position_embeddings",
        "vocab_size",
        "hidden_act",
        "use_sliding_window",
        "bos_token_id",
    ],
)
def test_what_a_decoders_config_leaves_out_has_the_references_default(key):
    from transformers import Qwen2_5_VLConfig

    values = json.loads((TINY / "config.json").read_text(encoding="utf-8"))
    del values[key]
    theirs, found = Qwen2_5_VLConfig(**values).text_config, config_from(values)
    if key != "use_sliding_window":
        ours = found.bos_token_id if key == "bos_token_id" else getattr(found.text, key)
        wanted = theirs.rope_parameters["rope_theta"] if key == "rope_theta" else getattr(theirs, key)
        assert ours == wanted or (key == "bos_token_id" and ours is None)  # no pass uses it

# ---- layouts that older and newer programs write ---------------------------------------------------------------

FLAT = to_flat_json(read_config(TINY))
NESTED = to_nested_json(read_config(TINY))
SECTION = FLAT["rope_scaling"]["mrope_section"]
DECODER = (*NESTED["text_config"], "rope_scaling", "rope_theta")     # keys that are the decoder's, where all is flat
SHARED = {"bos_token_id": FLAT["bos_token_id"], "eos_token_id": FLAT["eos_token_id"]}


def flat(**rope: object) -> dict:
    return {**FLAT, "torch_dtype": "bfloat16", "transformers_version": "4.49.0", "sliding_window": 32768,
            "max_window_layers": 70, "attention_dropout": 0.0, "initializer_range": 0.02, "use_cache": True,
            "vision_token_id": 151654, **rope,
            "vision_config": {**FLAT["vision_config"], "spatial_patch_size": 14, "model_type": "qwen2_5_vl"}}


def nested(rope: dict, **text: object) -> dict:
    """`text_config` with these rotary keys, beside everything that 4.52 and later write into it."""
    kept = {key: value for key, value in NESTED["text_config"].items() if key != "rope_parameters"}
    layers = kept["num_hidden_layers"]
    return {**{key: value for key, value in NESTED.items() if key != "text_config"}, "transformers_version": "4.57.1",
            "text_config": {**kept, **SHARED, "layer_types": ["full_attention"] * layers, "sliding_window": None,
                            "max_window_layers": layers, "use_cache": True, "dtype": "bfloat16", **rope, **text}}


THETA = FLAT["rope_theta"]
LAYERED = {"mrope_section": SECTION, "rope_type": "default", "type": "default"}
LAYOUTS = {
    "the hub's own, 4.49": flat(),
    "saved by 4.49 to 4.51, which rename mrope": flat(rope_scaling=LAYERED),
    "saved by 4.49, both names": flat(rope_scaling={"type": "mrope", "rope_type": "mrope", "mrope_section": SECTION}),
    "saved by 4.52 to 4.56": nested({"rope_scaling": LAYERED, "rope_theta": THETA}),
    "saved by 4.52, with the decoder's keys at the root as well":
        {**flat(rope_scaling=LAYERED), **nested({"rope_scaling": LAYERED, "rope_theta": THETA})},
    "the root says other numbers, which do not count": {
        **flat(rope_scaling=LAYERED), "num_hidden_layers": 99, "rms_norm_eps": 0.5,
        **nested({"rope_scaling": LAYERED, "rope_theta": THETA})},
    "saved by 4.57, dtype": {**nested({"rope_scaling": LAYERED, "rope_theta": THETA}), "dtype": "bfloat16"},
    "saved by 5": nested({"rope_parameters": {"mrope_section": SECTION, "rope_theta": THETA, "rope_type": "default"}}),
    "saved by 5 from a folder of 4": nested({"rope_parameters": {**LAYERED, "rope_theta": THETA}}),
    "null beside what is meant": nested({"rope_parameters": {**LAYERED, "rope_theta": THETA}, "rope_scaling": None}),
    "tied in the decoder's part alone": {
        **{key: value for key, value in nested({"rope_scaling": LAYERED, "rope_theta": THETA}).items()
           if key != "tie_word_embeddings"},
        "text_config": {**nested({"rope_scaling": LAYERED, "rope_theta": THETA})["text_config"],
                        "tie_word_embeddings": FLAT["tie_word_embeddings"]}},
}
NAMES = {                                                    # beginnings of the hub's names -> of a layout's
    "as the hub": {}, "as in memory from 4.52 on": {"visual.": "model.visual.", "model.": "model.language_model."},
}


@pytest.mark.parametrize("names", NAMES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_of_a_config_is_the_same_model_there_and_here(layout, names, ours, tmp_path):
    """The reference reads the numbers that we read, and the tensors under either name give the same bits."""
    from safetensors.torch import load_file, save_file
    from transformers import Qwen2_5_VLConfig

    values = LAYOUTS[layout]
    theirs, found = Qwen2_5_VLConfig.from_dict(json.loads(json.dumps(values))), config_from(values)
    text, vision = theirs.text_config, theirs.vision_config
    for key in ("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "intermediate_size",
                "vocab_size", "rms_norm_eps", "max_position_embeddings"):
        assert getattr(found.text, key) == getattr(text, key), key
    assert found.text.rope_theta == text.rope_parameters["rope_theta"]
    assert list(found.text.mrope_section) == text.rope_parameters["mrope_section"]
    for key in ("depth", "hidden_size", "window_size", "tokens_per_second", "out_hidden_size"):
        assert getattr(found.vision, key) == getattr(vision, key), key
    assert found == read_config(TINY)

    def renamed(name: str) -> str:
        for old, new in NAMES[names].items():
            if name.startswith(old):
                return new + name[len(old):]
        return name

    shutil.copytree(TINY, tmp_path, dirs_exist_ok=True)
    save_file({renamed(name): one for name, one in load_file(TINY / "model.safetensors").items()},
              tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(values), encoding="utf-8")
    inputs, logits = ours
    with minivl.load(tmp_path) as vlm:
        assert np.array_equal(vlm.logits(inputs), logits)


def test_a_fine_tune_that_holds_weights_and_a_tokenizer_alone_answers(reference, tmp_path):
    """As they are uploaded: no settings of pictures, no template, no generation settings. Texts need none of them."""
    reference.save_pretrained(tmp_path)
    (tmp_path / "generation_config.json").unlink(missing_ok=True)
    shutil.copy(TINY / "tokenizer.json", tmp_path)
    question = [{"role": "user", "content": "How many?"}]
    with pytest.warns(UserWarning, match="the releases' own values"):
        vlm = minivl.load(tmp_path)
    wanted = minivl.load()
    assert np.array_equal(vlm.prepare(question).input_ids, wanted.prepare(question).input_ids)
    assert vlm.ask(None, "How many?", temperature=0, max_new_tokens=4) == wanted.ask(
        None, "How many?", temperature=0, max_new_tokens=4)
    assert vlm.prepare(QUESTION).image_grid_thw.tolist() == wanted.prepare(QUESTION).image_grid_thw.tolist()
    vlm.close()


# ---- the tokenizer --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["tokenizers", "bpe"])
@pytest.mark.parametrize("jinja", [True, False])
def test_a_tokenizer_that_the_reference_saved_gives_the_same_ids(backend, jinja, tmp_path):
    theirs = AutoTokenizer.from_pretrained(TINY)
    theirs.chat_template = "{{ 'of its own' }}"
    theirs.save_pretrained(tmp_path, save_jinja_files=jinja)
    found = Tokenizer.from_folder(tmp_path, backend)
    for text in TEXTS:
        ids = theirs(text, add_special_tokens=False)["input_ids"]
        assert found.encode(text) == ids and found.vocab_size == len(theirs)
        assert found.decode(ids, skip_special_tokens=False) == theirs.backend_tokenizer.decode(
            ids, skip_special_tokens=False
        )
    assert load_template(tmp_path) == (
        theirs.chat_template
        if jinja
        else json.loads((tmp_path / "tokenizer_config.json").read_text(encoding="utf-8")).get(
            "chat_template"
        )
    )


# ---- a tokenizer in two files ----------------------------------------------------------------------------------

WHOLE = json.loads((TINY / "tokenizer.json").read_text(encoding="utf-8"))["added_tokens"]
LISTED = {str(one["id"]): {key: value for key, value in one.items() if key != "id"} for one in WHOLE}
OLD = {one["content"]: one["id"] for one in WHOLE}
SETTINGS = json.loads((TINY / "tokenizer_config.json").read_text(encoding="utf-8"))
WHITE = {"__type": "AddedToken", "content": "<|im_end|>", "lstrip": True, "rstrip": True, "normalized": True}
QWEN = {"tokenizer_class": "Qwen2Tokenizer"}
IN_TWO_FILES = {
    "nothing else": {},
    "settings that list no added tokens": {"tokenizer_config": SETTINGS},
    "the official form": {"tokenizer_config": SETTINGS | {"added_tokens_decoder": LISTED}},
    "a list and no names": {"tokenizer_config": QWEN | {"added_tokens_decoder": LISTED}},
    "a list of the first three": {
        "tokenizer_config": SETTINGS | {"added_tokens_decoder": dict(list(LISTED.items())[:3])}},
    "a list in another order": {
        "tokenizer_config": SETTINGS | {"added_tokens_decoder": dict(reversed(LISTED.items()))}},
    "a list that calls none special": {
        "tokenizer_config": SETTINGS | {"added_tokens_decoder": {
            id: one | {"special": False, "lstrip": True} for id, one in LISTED.items()}}},
    "the form of transformers 4.33": {"tokenizer_config": SETTINGS, "added_tokens": OLD},
    "added tokens alone": {"added_tokens": OLD},
    "a map of names": {"tokenizer_config": QWEN, "special_tokens_map": {
        "eos_token": {key: value for key, value in WHITE.items() if key != "__type"},
        "additional_special_tokens": ["<|im_start|>", "<|image_pad|>"]}},
    "a map and added tokens": {"tokenizer_config": QWEN, "added_tokens": OLD, "special_tokens_map": {
        "eos_token": "<|im_end|>", "additional_special_tokens": ["<|im_start|>"]}},
    "a token that swallows spaces": {"tokenizer_config": QWEN | {
        "eos_token": WHITE, "extra_special_tokens": ["<|im_start|>"]}},
    "names of the processor": {"tokenizer_config": QWEN | {
        "image_token": "<|image_pad|>", "extra_special_tokens": ["<|im_start|>", "<|image_pad|>"]}},
    "names as keys": {"tokenizer_config": QWEN | {
        "extra_special_tokens": {"image_token": "<|image_pad|>", "turn": "<|im_start|>"}}},
    "a token that the vocabulary has": {"tokenizer_config": SETTINGS | {
        "added_tokens_decoder": LISTED | {"640": {"content": "the"}}}},
}


def in_two_files(folder, files):
    for name in ("config.json", "vocab.json", "merges.txt"):
        shutil.copy(TINY / name, folder)
    for name, values in files.items():
        (folder / f"{name}.json").write_text(json.dumps(values), encoding="utf-8")


@pytest.mark.filterwarnings("ignore:.*no file (gives the ids|names)")
@pytest.mark.parametrize("backend", ["tokenizers", "bpe"])
@pytest.mark.parametrize("form", IN_TWO_FILES)
def test_vocabulary_and_merges_are_a_tokenizer(form, backend, tmp_path):
    in_two_files(tmp_path, IN_TWO_FILES[form])
    theirs, found = AutoTokenizer.from_pretrained(tmp_path), Tokenizer.from_folder(tmp_path, backend)
    assert type(theirs).__name__ == "Qwen2Tokenizer" and found.vocab_size == len(theirs)
    assert found.special_ids == {id for id, one in theirs.added_tokens_decoder.items() if one.special}
    for text in [*TEXTS, "a <|im_end|> b <|im_start|> the <|image_pad|>the <|file_sep|>\u212b"]:
        ids = theirs(text, add_special_tokens=False)["input_ids"]
        assert found.encode(text) == ids
        assert found.decode(ids) == theirs.backend_tokenizer.decode(ids, skip_special_tokens=True)


def test_in_two_files_the_official_form_is_the_same_model(tmp_path, ours):
    in_two_files(tmp_path, IN_TWO_FILES["the official form"])
    for name in ("model.safetensors", "preprocessor_config.json", "chat_template.json"):
        shutil.copy(TINY / name, tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with minivl.load(tmp_path) as vlm:
            assert np.array_equal(vlm.logits(vlm.prepare(QUESTION)), ours[1])


def test_ids_that_no_file_gives_are_said(tmp_path):
    in_two_files(tmp_path, {"tokenizer_config": SETTINGS})
    with pytest.warns(UserWarning, match=r"no file gives the ids of 14 added tokens.*im_end.*618"):
        Tokenizer.from_folder(tmp_path)


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"


@pytest.mark.filterwarnings("ignore:.*no file (gives the ids|names)")
@pytest.mark.parametrize("name, text, said", [
    ("vocab.json", "[]", "vocab.json: should map"), ("vocab.json", '{"a": "b"}', "vocab.json: should map"),
    ("vocab.json", '{"a": 1', "vocab.json: is not valid JSON"), ("vocab.json", '{"a": 1}', "merges.txt: merge 1"),
    ("merges.txt", "#version: 0.2\na b c\n", "merges.txt: merge 1 is 'a b c'"),
    ("merges.txt", "h e\nq Q\n", "merges.txt: merge 2 is 'q Q', should be two tokens of vocab.json that join"),
    ("vocab.json", POINTER, "vocab.json: is a Git LFS pointer"),
    ("merges.txt", POINTER, "merges.txt: is a Git LFS pointer"),
    ("added_tokens.json", '{"<|im_end|>": 700}', "should have id 700.*copy tokenizer.json"),
    ("added_tokens.json", '{"<|im_end|>": "x"}', "is neither|should have id x"),
    ("tokenizer_config.json", '{"added_tokens_decoder": {"618": {"special": true}}}', "text is None; copy the"),
    ("tokenizer_config.json", '{"added_tokens_decoder": {"618": {"content": 5}}}', "text is 5; copy the"),
    ("tokenizer_config.json", '{"added_tokens_decoder": {"618": 5}}', "one is none of these"),
    ("special_tokens_map.json", '{"eos_token": {"content": 5}}', "text is 5; copy the"),
    ("special_tokens_map.json", '{"additional_special_tokens": "abc"}', "list of special tokens is 'abc'"),
    ("added_tokens.json", "[1]", "^[^ ]*added_tokens.json: holds a list, should be"),
])
def test_what_is_wrong_in_the_two_files_is_named(name, text, said, tmp_path):
    in_two_files(tmp_path, {})
    (tmp_path / name).write_text(text, encoding="utf-8")
    for backend in ("bpe", "tokenizers"):
        with pytest.raises(TokenizerError, match=said):
            Tokenizer.from_folder(tmp_path, backend)


# ---- the template ----------------------------------------------------------------------------------------------

def put_template(folder, name, text):
    path, old = folder / name, {"processor_class": "Qwen2_5_VLProcessor"}
    path.parent.mkdir(exist_ok=True)
    if name == "tokenizer_config.json":
        old = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(text if name.endswith(".jinja") else json.dumps(old | {"chat_template": text}), encoding="utf-8")


HOLDERS = ("processor_config.json", "chat_template.json", "chat_template.jinja", "tokenizer_config.json")


@pytest.fixture
def without_videos(monkeypatch):
    """The reference's processor without its part for videos, which needs torchvision."""
    part = processing_utils.MODALITY_TO_AUTOPROCESSOR_MAPPING["video_processor"]
    monkeypatch.setattr(part, "from_pretrained", lambda *a, **b: object.__new__(BaseVideoProcessor))
    monkeypatch.setattr(processing_utils.ProcessorMixin, "check_argument_for_proper_class",
                        lambda self, name, part: type(part))


@pytest.mark.parametrize("held", [held for n in range(5) for held in itertools.combinations(HOLDERS, n)])
def test_of_several_templates_the_references_is_taken(held, tmp_path, without_videos):
    for name in ("config.json", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(TINY / name, tmp_path)
    for name in held:
        put_template(tmp_path, name, name)
    for kind in (AutoProcessor, Qwen2_5_VLProcessor):
        theirs = kind.from_pretrained(tmp_path)
        assert type(theirs) is Qwen2_5_VLProcessor
        # Where the processor has none, the one that its tokenizer has.
        assert load_template(tmp_path) == (theirs.chat_template or theirs.tokenizer.chat_template)


@pytest.mark.parametrize("held", [
    {"additional_chat_templates/default.jinja": "a"},
    {"additional_chat_templates/default.jinja": "a", "chat_template.jinja": "b"},
    {"additional_chat_templates/tool_use.jinja": "a", "chat_template.jinja": "b"},
    {"chat_template.jinja": ""}, {"chat_template.jinja": "", "tokenizer_config.json": "b"},
    {"chat_template.json": "", "tokenizer_config.json": "b"},
])
def test_templates_that_are_empty_or_in_a_folder_are_taken_as_the_reference_does(held, tmp_path, without_videos):
    for name in ("config.json", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(TINY / name, tmp_path)
    for name, text in held.items():
        put_template(tmp_path, name, text)
    theirs = Qwen2_5_VLProcessor.from_pretrained(tmp_path)
    wanted = theirs.chat_template["default"] if isinstance(theirs.chat_template, dict) else theirs.chat_template
    own = json.loads((tmp_path / "tokenizer_config.json").read_text(encoding="utf-8")).get("chat_template")
    assert load_template(tmp_path) == (wanted or own or None)


def changed(change) -> tokenizers.Tokenizer:
    fast = tokenizers.Tokenizer.from_file(str(TINY / "tokenizer.json"))
    change(fast)
    return fast


def word_level() -> tokenizers.Tokenizer:
    words = ["<unk>", *["A", "red", "circle", "it", "'", "s", ",", "4071", "x"]]
    fast = tokenizers.Tokenizer(
        models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="<unk>")
    )
    fast.pre_tokenizer = pre_tokenizers.Whitespace()
    fast.add_special_tokens(["<|im_end|>"])
    return fast


def unigram() -> tokenizers.Tokenizer:
    pieces = [
        ("<unk>", 0.0),
        ("\u2581", -2.0),
        *((char, -3.0) for char in "Aredcilts',x"),
        ("\u2581red", -1.0),
    ]
    fast = tokenizers.Tokenizer(models.Unigram(pieces, 0, True))
    fast.pre_tokenizer, fast.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    return fast


def single_word(fast):
    fast.add_tokens([tokenizers.AddedToken("circle", single_word=True)])


PIPELINES = {
    "a template of special tokens": lambda: changed(
        lambda fast: setattr(
            fast,
            "post_processor",
            processors.TemplateProcessing(
                single="<|im_start|> $A", special_tokens=[("<|im_start|>", 619)]
            ),
        )
    ),
    "no normalizer": lambda: changed(lambda fast: setattr(fast, "normalizer", None)),
    "another normalizer": lambda: changed(lambda fast: setattr(fast, "normalizer", normalizers.NFKC())),
    "normalizers": lambda: changed(
        lambda fast: setattr(fast, "normalizer", normalizers.Sequence([normalizers.NFC()]))
    ),
    "another cut": lambda: changed(
        lambda fast: setattr(fast, "pre_tokenizer", pre_tokenizers.ByteLevel(add_prefix_space=True))
    ),
    "a prefix": lambda: changed(
        lambda fast: setattr(fast, "pre_tokenizer", pre_tokenizers.ByteLevel())
    ),
    "whole words": lambda: changed(single_word),
    "more tokens": lambda: changed(lambda fast: fast.add_tokens(["<action>", "caf\u00e9 \u4f60"])),
    "truncation and padding": lambda: changed(
        lambda fast: (fast.enable_truncation(3), fast.enable_padding(length=9))
    ),
    "bytes kept apart": lambda: changed(
        lambda fast: setattr(
            fast, "decoder", decoders.Sequence([decoders.ByteLevel(), decoders.Fuse()])
        )
    ),
    "words": word_level,
    "pieces": unigram,
}
BY_OURS = (
    "a template of special tokens",
    "no normalizer",
    "normalizers",
    "more tokens",
    "truncation and padding",
)


@pytest.mark.parametrize("name", PIPELINES)
def test_any_file_that_tokenizers_reads_is_read(name, tmp_path):
    fast = PIPELINES[name]()
    fast.save(str(tmp_path / "tokenizer.json"))
    fast.no_truncation()
    fast.no_padding()
    found = Tokenizer.from_folder(tmp_path)
    for text in TEXTS:
        ids = fast.encode(text, add_special_tokens=False).ids
        assert found.encode(text) == ids
        for skip in (True, False):
            whole = fast.decode(ids, skip_special_tokens=skip)
            stream = Stream(found, skip)
            assert found.decode(ids, skip) == whole == "".join(map(stream.push, ids)) + stream.flush()
    if name in BY_OURS:
        own = Tokenizer.from_folder(tmp_path, "bpe")
        assert all(own.encode(text) == found.encode(text) for text in TEXTS)
    elif name != "bytes kept apart":
        with pytest.raises(minivl.Error, match="install the package tokenizers"):
            Tokenizer.from_folder(tmp_path, "bpe")


# ---- the processor: which file decides -------------------------------------------------------------------------


def settings(least: int, most: int, older: bool) -> dict:
    """Limits under the older names or the newer, of a processor otherwise the tiny model's."""
    rest = {
        key: value
        for key, value in json.loads(
            (TINY / "preprocessor_config.json").read_text(encoding="utf-8")
        ).items()
        if not key.endswith("pixels") and not key.startswith("image_processor")
    }
    return rest | (
        {"min_pixels": least, "max_pixels": most}
        if older
        else {"size": {"shortest_edge": least, "longest_edge": most}}
    )


PARTS = {  # file, key in it, what it says
    "nested pictures": ("processor_config.json", "image_processor", settings(3136, 7840, False)),
    "nested videos": ("processor_config.json", "video_processor", settings(3136, 8624, False)),
    "legacy": ("processor_config.json", "processor_class", "Qwen2_5_VLProcessor"),
    "videos": ("video_preprocessor_config.json", None, settings(6272, 9408, True)),
    "pictures": ("preprocessor_config.json", None, settings(6272, 10192, True)),
}
HALVES = [
    {},
    {"max_pixels": 50176},
    {"min_pixels": 6272},
    {"size": {"shortest_edge": 3136, "longest_edge": 6272}, "max_pixels": 12544},
    {"size": {"shortest_edge": 3136}},
    {"size": {"longest_edge": 6272}, "min_pixels": 3136},
    {"size": {"min_pixels": 1, "max_pixels": 2}},
    {"size": None, "min_pixels": None},
    {"min_pixels": 3136, "max_pixels": 6272.0},
]


def write(folder: Path, parts) -> None:
    shutil.copy(TINY / "config.json", folder)
    files: dict[str, dict] = {}
    for name, key, values in parts:
        files.setdefault(name, {}).update(values if key is None else {key: values})
    for name, values in files.items():
        (folder / name).write_text(json.dumps(values), encoding="utf-8")


def video_processor(values: dict):
    """The reference's video processor needs torchvision; without that, its limits are made by the same lines as
    the picture processor's, from another default."""
    if importlib.util.find_spec("torchvision"):
        from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor

        return Qwen2VLVideoProcessor(**values)
    source = (
        Path(BaseVideoProcessor.__init__.__code__.co_filename).parent
        / "models/qwen2_vl/video_processing_qwen2_vl.py"
    )
    (line,) = [
        one for one in source.read_text(encoding="utf-8").splitlines() if one.startswith("    size = {")
    ]
    return type("Frames", (Qwen2VLImageProcessorPil,), {"size": eval(line.split("=")[1])})(**values)


def theirs(folder: Path, video: bool) -> tuple | None:
    """The limits that the reference takes from a folder; None where it refuses, or cannot resize by them."""
    try:
        processor = (
            video_processor(BaseVideoProcessor.get_video_processor_dict(folder)[0])
            if video
            else Qwen2VLImageProcessorPil.from_pretrained(folder)
        )
        processor(
            np.stack([NOISE] * 2) if "Video" in type(processor).__name__ else NOISE, return_tensors="pt"
        )
    except (OSError, ValueError, TypeError):
        return None
    return processor.size["shortest_edge"], processor.size["longest_edge"]


def of_ours(folder: Path, video: bool) -> tuple | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = (read_video_preprocessor if video else read_preprocessor)(
                folder, read_config(folder)
            )
    except ConfigError:
        return None
    return found.min_pixels, found.max_pixels


@pytest.mark.parametrize("video", [False, True])
def test_the_same_file_decides_in_every_subset(video, tmp_path):
    seen = set()
    for n, mask in enumerate(itertools.product([False, True], repeat=len(PARTS))):
        folder = tmp_path / str(n)
        folder.mkdir()
        write(folder, itertools.compress(PARTS.values(), mask))
        wanted = theirs(folder, video)
        # where no file says anything the reference refuses; here the releases' own values stand in
        assert of_ours(folder, video) == (wanted or (3136, 12845056)), [
            name for name, on in zip(PARTS, mask, strict=True) if on
        ]
        seen.add(wanted)
    assert len(seen) == (4 if video else 3)  # each place decides somewhere, and none refuses


@pytest.mark.parametrize("values", HALVES)
@pytest.mark.parametrize("video", [False, True])
def test_parts_of_the_limits_are_completed_as_the_reference_does(values, video, tmp_path):
    shared = {key: value for key, value in settings(1, 2, True).items() if not key.endswith("pixels")}
    write(tmp_path, [("preprocessor_config.json", None, shared | values)])
    wanted = theirs(tmp_path, video)
    assert of_ours(tmp_path, video) == wanted


@pytest.mark.parametrize("frames", [1, 4, 40, 400])
def test_frames_that_share_a_budget_are_capped_as_there(frames, tmp_path):
    values = settings(3136, 50176, True) | {"cap_pixels_per_frame": True, "max_video_tokens": 1000}
    write(tmp_path, [("video_preprocessor_config.json", None, values)])
    found = read_video_preprocessor(tmp_path).for_frames(frames)
    most = max(
        min(50176, int(1000 * 28 * 28 * 0.9) * 2 // frames), int(3136 * 1.05)
    )  # the lines of its `resize`
    assert (found.min_pixels, found.max_pixels) == (3136, most)


def test_limits_for_videos_take_effect_and_pictures_keep_theirs(tmp_path):
    folder = Path(shutil.copytree(TINY, tmp_path / "copy"))
    (folder / "video_preprocessor_config.json").write_text(
        json.dumps(settings(3136, 8 * 784, True)), encoding="utf-8"
    )
    frames = np.stack([np.resize(NOISE, (120, 200, 3))] * 4)
    with minivl.load(folder) as vlm:
        inputs = vlm.prepare(
            [
                {
                    "role": "user",
                    "content": [
                        {"type": "video", "video": frames},
                        {"type": "image", "image": frames[0]},
                    ],
                }
            ]
        )
        assert inputs.video_grid_thw.tolist() == [[2, 4, 6]] and inputs.image_grid_thw.tolist() == [
            [1, 8, 14]
        ]
