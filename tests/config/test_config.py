"""Config files: both layouts give the same values, every value that would break or change the model is refused by
name, and no JSON however made gives anything but a configuration or a ConfigError."""

from __future__ import annotations

import copy
import json
import warnings
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from minivl.config import (
    OFFICIAL_PICTURES,
    ConfigError,
    GenerationConfig,
    ModelConfig,
    PreprocessorConfig,
    TextConfig,
    VisionConfig,
    Yarn,
    check_keys,
    check_used,
    config_from,
    official_config,
    read_config,
    read_generation,
    read_preprocessor,
    read_video_preprocessor,
    to_flat_json,
    to_nested_json,
)
from minivl.door.files import parse_json

from ..checkpoint.checkpoint_files import CONFIG, GENERATION, PREPROCESSOR, as_json, write

EXPECTED = ModelConfig(
    VisionConfig(depth=2, hidden_size=16, num_heads=2, intermediate_size=7, in_channels=3, patch_size=2,
                 temporal_patch_size=2, spatial_merge_size=2, window_size=8, fullatt_block_indexes=(1,),
                 tokens_per_second=2, out_hidden_size=24),
    TextConfig(hidden_size=24, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
               intermediate_size=10, vocab_size=29, rms_norm_eps=1e-6, rope_theta=1e6, mrope_section=(1, 1, 1),
               max_position_embeddings=128),
    tie_word_embeddings=False, image_token_id=20, video_token_id=21, vision_start_token_id=22,
    vision_end_token_id=23, bos_token_id=24, eos_token_id=25)


def edited(values: dict, path: str, value=...) -> dict:
    """A copy with one value set, or removed; `path` has dots between keys."""
    values = copy.deepcopy(values)
    *outer, key = path.split(".")
    part = values
    for name in outer:
        part = part[name]
    if value is ...:
        del part[key]
    else:
        part[key] = value
    return values


def nested(values: dict) -> dict:
    """The nested layout of a flat config, made by moving keys."""
    root = {"model_type", "tie_word_embeddings", "image_token_id", "video_token_id", "vision_start_token_id",
            "vision_end_token_id", "vision_config"}
    text = {key: value for key, value in values.items() if key not in root}
    text["rope_parameters"] = {"rope_type": "default", "rope_theta": text.pop("rope_theta"),
                               "mrope_section": text.pop("rope_scaling")["mrope_section"]}
    vision = {("in_channels" if key == "in_chans" else key): v for key, v in values["vision_config"].items()}
    return {**{key: values[key] for key in root}, "text_config": {"model_type": "qwen2_5_vl_text", **text},
            "vision_config": {"model_type": "qwen2_5_vl_vision", **vision,
                              "rope_parameters": {"rope_type": "axial", "rope_theta": 10000.0}}}


def test_both_layouts_give_every_value():
    assert config_from(CONFIG) == EXPECTED
    assert config_from(nested(CONFIG)) == EXPECTED


def test_derived_numbers():
    vision, text = EXPECTED.vision, EXPECTED.text
    assert (vision.heads, vision.kv_heads, vision.head_dim) == (2, 2, 8)
    assert (vision.window_cells, vision.patch_values) == (2, 24)
    assert (text.heads, text.kv_heads, text.head_dim) == (4, 2, 6)
    seven = official_config("7B")
    assert (seven.vision.head_dim, seven.vision.window_cells, seven.vision.patch_values) == (80, 4, 1176)
    assert seven.text.head_dim == 128


@pytest.mark.parametrize(("name", "cache"), [("3B", 36_864), ("7B", 57_344), ("32B", 262_144), ("72B", 327_680)])
def test_released_sizes_keep_the_known_cache_per_token(name, cache):
    text = official_config(name).text
    assert text.num_hidden_layers * 2 * text.kv_heads * text.head_dim * 2 == cache      # bytes: k and v in bf16
    with pytest.raises(ConfigError, match="2B"):
        official_config("2B")


def test_variants_that_mean_the_same():
    same = [
        edited(CONFIG, "rope_scaling", {"rope_type": "default", "type": "default", "mrope_section": [1, 1, 1]}),
        edited(CONFIG, "vision_config.in_channels", 3),
        edited(CONFIG, "vision_config.model_type", "qwen2_5_vl"),
        edited(CONFIG, "sliding_window", 32768),
        edited(edited(CONFIG, "hidden_act"), "vision_config.hidden_act", None),
        edited(edited(nested(CONFIG), "tie_word_embeddings"), "text_config.tie_word_embeddings", False),
        edited(edited(nested(CONFIG), "image_token_id"), "text_config.image_token_id", 20),
        edited(nested(CONFIG), "text_config.layer_types", ["full_attention"] * 3),
        edited(nested(CONFIG), "text_config.head_dim", 6),
    ]
    assert [config_from(values) for values in same] == [EXPECTED] * len(same)
    tied = edited(edited(nested(CONFIG), "tie_word_embeddings"), "text_config.tie_word_embeddings", True)
    assert config_from(tied).tie_word_embeddings
    assert config_from(edited(CONFIG, "eos_token_id", [25, 24])).eos_token_id == (25, 24)
    assert config_from(edited(CONFIG, "bos_token_id", None)).bos_token_id is None


def test_what_sparse_vision_configs_leave_out_has_the_references_default():
    sparse = to_flat_json(official_config("7B"))
    sparse["vision_config"] = {"hidden_size": 1280, "tokens_per_second": 2, "model_type": "qwen2_5_vl"}
    assert config_from(sparse) == official_config("7B")


BROKEN = [  # path, value (... removes it), what the message must say beside the key
    ("model_type", "qwen2_vl", "qwen2_5_vl"), ("model_type", ..., "qwen2_5_vl"),
    ("vision_config", ..., "missing"), ("vision_config", [1], "object"), ("vision_config", {}, "missing"),
    ("vision_config.model_type", "siglip", "vision tower"),
    ("hidden_size", ..., "missing"), ("hidden_size", None, "missing"), ("hidden_size", "24", "integer"),
    ("hidden_size", 24.0, "integer"), ("hidden_size", True, "integer"), ("hidden_size", 25, "num_attention_heads"),
    ("hidden_size", 0, "should be 1"), ("hidden_size", -24, "should be 1"), ("hidden_size", 1 << 80, "integer"),
    ("hidden_size", 1 << 40, "should be 1"), ("hidden_size", 12, "even"), ("hidden_size", [24], "integer"),
    ("num_hidden_layers", 0, "should be 1"), ("num_hidden_layers", 10**6, "4096"),
    ("num_attention_heads", 0, "should be 1"), ("num_key_value_heads", 0, "should be 1"),
    ("num_key_value_heads", 3, "divide"), ("intermediate_size", 0, "should be 1"), ("vocab_size", 0, "should be 1"),
    ("vocab_size", 1 << 30, "16777216"), ("max_position_embeddings", 0, "should be 1"),
    ("rms_norm_eps", "1e-6", "number"), ("rms_norm_eps", 0, "should be 1e-30"),
    ("rms_norm_eps", float("inf"), "finite"), ("rms_norm_eps", False, "number"),
    ("rope_theta", -1.0, "should be 1"), ("rope_theta", 10**400, "finite"),
    ("hidden_act", "gelu", "silu"), ("hidden_act", 3, "text"),
    ("rope_scaling.mrope_section", [1, 1, 2], "half"), ("rope_scaling.mrope_section", [3], "three"),
    ("rope_scaling.mrope_section", [4, -2, 1], "three"), ("rope_scaling.mrope_section", "111", "list"),
    ("rope_scaling.mrope_section", [1, 1, 1.0], "list of integers"), ("rope_scaling.mrope_section", ..., "missing"),
    ("rope_scaling", "mrope", "object"),
    ("rope_scaling.type", "yarn", "factor"), ("rope_scaling.rope_type", "yarn", "factor"),
    ("rope_scaling.type", "linear", "remove it"), ("rope_scaling.rope_type", "dynamic", "remove it"),
    ("use_sliding_window", True, "sliding|slides"), ("use_sliding_window", 0, "sliding|slides"),
    ("layer_types", ["full_attention", "sliding_attention", "full_attention"], "full_attention"),
    ("layer_types", "full_attention", "full_attention"), ("head_dim", 8, "num_attention_heads"),
    ("tie_word_embeddings", "false", "true or false"), ("tie_word_embeddings", 0, "true or false"),
    ("image_token_id", ..., "missing"), ("image_token_id", 29, "vocab_size"), ("image_token_id", -1, "vocab_size"),
    ("video_token_id", 29, "vocab_size"),
    ("vision_start_token_id", 29, "vocab_size"),
    ("vision_end_token_id", 29, "vocab_size"), ("image_token_id", 21, "different"),
    ("eos_token_id", [25, 29], "vocab_size"), ("eos_token_id", [], "vocab_size"),
    ("eos_token_id", ..., "missing"), ("eos_token_id", "25", "integer"), ("bos_token_id", 99, "vocab_size"),
    ("vision_config.hidden_size", ..., "missing"), ("vision_config.tokens_per_second", ..., "missing"),
    ("vision_config.tokens_per_second", 0, "should be 1"), ("vision_config.tokens_per_second", 2.0, "integer"),
    ("vision_config.hidden_size", 17, "num_heads"), ("vision_config.hidden_size", 12, "divisible by 4"),
    ("vision_config.hidden_size", 0, "should be 1"), ("vision_config.num_heads", 0, "should be 1"),
    ("vision_config.depth", -1, "should be 0"), ("vision_config.depth", 10**9, "4096"),
    ("vision_config.in_chans", 0, "should be 1"), ("vision_config.patch_size", 0, "should be 1"),
    ("vision_config.patch_size", [2, 2], "integer"), ("vision_config.temporal_patch_size", 0, "should be 1"),
    ("vision_config.spatial_merge_size", 0, "should be 1"), ("vision_config.spatial_merge_size", 4, "2x2"),
    ("vision_config.window_size", 10, "multiple"), ("vision_config.window_size", 0, "should be 1"),
    ("vision_config.intermediate_size", 0, "should be 1"), ("vision_config.out_hidden_size", 0, "should be 1"),
    ("vision_config.out_hidden_size", 16, "hidden_size"), ("vision_config.hidden_act", "gelu", "silu"),
    ("vision_config.fullatt_block_indexes", [2], "depth"), ("vision_config.fullatt_block_indexes", [-1], "depth"),
    ("vision_config.fullatt_block_indexes", ["1"], "strings"), ("vision_config.fullatt_block_indexes", "1", "list"),
    ("vision_config.fullatt_block_indexes", [1, 1], "twice"), ("vision_config.fullatt_block_indexes", [True], "list"),
    ("vision_config.rope_parameters", {"rope_type": "yarn"}, "scaling"),
    ("vision_config.rope_parameters", {"type": "yarn"}, "scaling"),
    ("vision_config.rope_theta", 0, "should be 1"), ("vision_config.rms_norm_eps", 2, "1e-30"),
]


@pytest.mark.parametrize(("path", "value", "words"), BROKEN)
def test_each_broken_value_is_refused_by_name(path, value, words):
    with pytest.raises(ConfigError, match=words) as error:
        config_from(edited(CONFIG, path, value), "somewhere/config.json")
    key = {"vision_config.in_chans": "in_channels"}.get(path, path.split(".")[-1])
    assert "somewhere/config.json" in str(error.value) and key in str(error.value)
    assert len(str(error.value)) < 400


STRETCHED = {"type": "yarn", "mrope_section": [1, 1, 1], "factor": 4, "original_max_position_embeddings": 32}
TRAINED = Yarn(factor=4.0, original_max_position_embeddings=32)


def stretched(**changes):
    rope = {key: value for key, value in {**STRETCHED, **changes}.items() if value is not ...}
    return config_from(edited(CONFIG, "rope_scaling", rope)).text


def test_yarn_as_the_official_readme_says_it():
    """The README's object, each field's default, and what stands elsewhere."""
    assert stretched().yarn == TRAINED and stretched().mrope_section == (1, 1, 1)
    assert stretched(type=..., rope_type="yarn") == stretched(rope_type="yarn") == stretched()
    assert stretched(type="mrope", rope_type="yarn") == stretched()                    # what newer writers call it wins
    assert stretched(original_max_position_embeddings=...).yarn == Yarn(4.0, 128)
    assert stretched(factor=None).yarn == TRAINED                                       # 128 / 32
    beside = edited(edited(CONFIG, "rope_scaling", STRETCHED), "original_max_position_embeddings", 16)
    assert config_from(beside).text.yarn == replace(TRAINED, original_max_position_embeddings=16)
    assert stretched(beta_fast=None, attention_factor=None) == stretched()
    assert TRAINED.attention == pytest.approx(1.1386294361, abs=1e-10)                  # 0.1 ln 4 + 1
    assert stretched(attention_factor=0.5).yarn.attention == 0.5 and stretched(factor=1).yarn.attention == 1
    assert stretched(mscale=2.0, mscale_all_dim=1.0).yarn.attention == pytest.approx(1.2772588722 / 1.1386294361)


@pytest.mark.parametrize(("changes", "words"), [
    ({"factor": 0.5}, "factor"), ({"factor": "4"}, "factor"), ({"factor": ...}, "factor is missing"),
    ({"original_max_position_embeddings": 0}, "original_max"), ({"beta_fast": 0.5}, "beta_slow"),
    ({"beta_slow": 0}, "beta_slow"), ({"attention_factor": 0}, "above 0"), ({"mscale": -1}, "mscale"),
    ({"truncate": 1}, "true or false"), ({"rope_type": "default"}, "rope_type alone")])
def test_yarn_that_cannot_be_meant_is_refused(changes, words):
    with pytest.raises(ConfigError, match=words):
        stretched(**changes)


@pytest.mark.parametrize(("path", "value"), [
    ("text_config.rope_parameters.rope_type", "yarn"), ("text_config.num_key_value_heads", 3),
    ("text_config", [1]), ("text_config.model_type", "qwen3"), ("text_config.hidden_size", ...)])
def test_the_nested_layout_is_checked_too(path, value):
    with pytest.raises(ConfigError, match=path.split(".")[-1]):
        config_from(edited(nested(CONFIG), path, value))


@st.composite
def configs(draw) -> ModelConfig:
    """Consistent configurations with odd numbers everywhere."""
    n = st.integers(1, 9)
    heads, kv, merged = draw(n), draw(n), draw(n)
    section = tuple(draw(st.lists(st.integers(0, 7), min_size=3, max_size=3).filter(any)))
    text_heads = kv * draw(n)
    width = 2 * sum(section) * text_heads
    depth, patch, vocab = draw(n), draw(n), draw(st.integers(8, 99))
    full = tuple(draw(st.lists(st.integers(0, depth - 1), unique=True)))
    ids = draw(st.lists(st.integers(0, vocab - 1), min_size=4, max_size=4, unique=True))
    ends = draw(st.one_of(st.integers(0, vocab - 1),
                          st.lists(st.integers(0, vocab - 1), min_size=1).map(tuple)))
    vision = VisionConfig(depth, heads * 4 * draw(n), heads, draw(n), draw(n), patch, draw(n), 2,
                          patch * 2 * merged, full, draw(n), width)
    some = st.floats(0.5, 2) | st.none()
    yarn = st.builds(Yarn, st.floats(1, 64), st.integers(2, 9999), some, st.floats(2, 64), st.floats(1e-3, 2), some,
                     some, st.booleans())
    text = TextConfig(width, draw(n), text_heads, kv, draw(n), vocab, draw(st.floats(1e-9, 1e-3)),
                      draw(st.floats(1.5, 1e7)), section, draw(n), yarn=draw(yarn | st.none()))
    return ModelConfig(vision, text, draw(st.booleans()), *ids, draw(st.none() | st.just(0)), ends)


@given(configs())
def test_what_is_written_is_what_is_read(config):
    for values in (to_flat_json(config), to_nested_json(config)):
        assert config_from(parse_json(as_json(values), "config.json")) == config


NESTED = {key: {key: dict.fromkeys("abcd", "x" * 99) for key in "efgh"} for key in "ijkl"}
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(10**500),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=8)
paths = [*CONFIG, *(f"vision_config.{key}" for key in CONFIG["vision_config"]), "rope_scaling.type",
         "rope_scaling.mrope_section", "text_config", "layer_types", "head_dim", "rope_parameters", "rope_scaling",
         *(f"rope_scaling.{key}" for key in ("factor", "original_max_position_embeddings", "beta_fast"))]


@example("eos_token_id", NESTED)
@example("rope_scaling", {"type": "yarn", "rope_type": NESTED})
@example("rope_scaling", {"type": "yarn", "rope_type": "x" * 999})
@given(st.sampled_from(paths), anything)
def test_no_value_gives_anything_but_a_config_or_its_error(path, value):
    try:
        found = config_from(edited(CONFIG, path, value))
    except ConfigError as error:
        assert len(str(error)) < 400
    else:
        assert isinstance(found, ModelConfig)


@pytest.mark.parametrize(("data", "words"), [
    (b"", "not valid JSON"), (b"{", "not valid JSON"), (b"[]", "list"), (b"3", "int"), (b"null", "NoneType"),
    (b'{"a": 1, "a": 1}', "'a' is given twice"), (b'{"b": {"a": 1, "a": 2}}', "'a' is given twice"),
    (b'{"a": NaN}', "NaN"), (b'{"a": -Infinity}', "Infinity"), (b'{"a": 1e999}{', "not valid JSON"),
    ('{"a": "ä"}'.encode("latin-1"), "not UTF-8"), ('{"a": 1}'.encode("utf-16"), "not UTF-8"),
    (b"\xef\xbb\xbf{}", "BOM"), (b'{"a": ' + b"[" * 200_000, "nested too deeply"),
    (b'{"a": ' + b"9" * 5000 + b"}", "not valid JSON"), (b" " * (1 << 22) + b"{}", "at most"),
    (b'{"a": "\x00"}', "not valid JSON")])
def test_json_is_read_strictly(data, words, tmp_path):
    (tmp_path / "config.json").write_bytes(data)
    with pytest.raises(ConfigError, match=words) as error:
        read_config(tmp_path)
    assert str(tmp_path / "config.json") in str(error.value)


def test_files_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        read_config(tmp_path)
    (tmp_path / "config.json").mkdir()
    with pytest.raises(ConfigError, match="not a regular file"):
        read_config(tmp_path)


def folder_of(tmp_path, **files):
    return write(tmp_path, {"config.json": as_json(CONFIG)} | {f"{k}.json": as_json(v) for k, v in files.items()})


def test_preprocessor(tmp_path):
    found = read_preprocessor(folder_of(tmp_path, preprocessor_config=PREPROCESSOR))
    assert found == PreprocessorConfig(16, 4096, 2, 2, 2, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4), 1 / 255)
    assert found.factor == 4


def test_pixel_limits_come_under_two_names(tmp_path):
    rest = {key: value for key, value in PREPROCESSOR.items() if not key.endswith("pixels")}
    edges = {**rest, "size": {"shortest_edge": 16, "longest_edge": 4096}, "min_pixels": None}
    assert read_preprocessor(folder_of(tmp_path, preprocessor_config=edges)) == \
        read_preprocessor(folder_of(tmp_path, preprocessor_config=PREPROCESSOR))
    both = {**edges, "max_pixels": 64}                       # the older name wins, as in the reference
    found = read_preprocessor(folder_of(tmp_path, preprocessor_config=both))
    assert (found.min_pixels, found.max_pixels) == (16, 64)
    (tmp_path / "preprocessor_config.json").unlink()
    newer = folder_of(tmp_path, processor_config={"image_processor": edges})
    assert read_preprocessor(newer).max_pixels == 4096


@pytest.mark.parametrize(("key", "value", "words"), [
    ("patch_size", 3, "vision_config"), ("merge_size", 3, "vision_config"),
    ("temporal_patch_size", 1, "vision_config"), ("min_pixels", 5000, "max_pixels"), ("max_pixels", 15, "max_pixels"),
    ("min_pixels", 0, "should be 1"), ("min_pixels", "16", "integer"), ("do_rescale", None, "left out"),
    ("image_processor_type", "CLIPImageProcessor", "another model"), ("size", {"shortest_edge": 4}, "longest_edge"),
    ("image_mean", [0.5], "three"), ("image_std", [0.2, 0.3], "three"), ("image_std", [0.2, 0.0, 0.4], "positive"),
    ("image_mean", [0.5, float("inf"), 0.1], "numbers"), ("rescale_factor", 0, "should be"), ("resample", 2, "bicubic"),
    ("do_resize", False, "left out"), ("do_normalize", False, "left out"), ("size", [1], "object"),
    ("patch_size", 0, "should be 1")])
def test_broken_preprocessors_are_refused(key, value, words, tmp_path):
    values = edited(PREPROCESSOR, key, value)
    if key == "size":
        values = {name: one for name, one in values.items() if not name.endswith("pixels")}
    text = json.dumps(values).replace("Infinity", "1e999")
    write(tmp_path, {"config.json": as_json(CONFIG), "preprocessor_config.json": text.encode("utf-8")})
    with pytest.raises(ConfigError, match=words) as error:
        read_preprocessor(tmp_path)
    assert key in str(error.value) and "preprocessor_config.json" in str(error.value)


def test_generation(tmp_path):
    found = read_generation(folder_of(tmp_path, generation_config=GENERATION), EXPECTED)
    assert found == GenerationConfig(True, 0.5, 3, 0.9, 1.05, (25, 24), 24)


def test_generation_without_a_file_or_with_gaps_has_the_references_defaults(tmp_path):
    default = GenerationConfig(False, 1.0, 50, 1.0, 1.0, (25,), 25)
    assert read_generation(tmp_path, EXPECTED) == default
    gaps = folder_of(tmp_path, generation_config={"eos_token_id": 24, "top_k": None, "transformers_version": "5"})
    assert read_generation(gaps, EXPECTED) == replace(default, eos_token_ids=(24,), pad_token_id=24)
    several = replace(EXPECTED, eos_token_id=(25, 24))
    assert read_generation(tmp_path / "none", several).eos_token_ids == (25, 24)


BROKEN_GENERATION = [
    ("temperature", 0), ("temperature", "1"), ("top_k", -1), ("top_k", 1.5), ("top_p", 1.1), ("top_p", -0.1),
    ("repetition_penalty", 0), ("do_sample", 1), ("eos_token_id", []), ("eos_token_id", [29]), ("eos_token_id", "25"),
    ("num_beams", 4), ("min_p", 0.1), ("no_repeat_ngram_size", 2), ("suppress_tokens", [3]), ("typical_p", 0.5),
    ("min_new_tokens", 5), ("stop_strings", ["."]), ("top_h", 0.4), ("guidance_scale", 1.5)]
OF_SAMPLING = ("temperature", "top_k", "top_p", "min_p", "typical_p", "top_h")


@pytest.mark.parametrize(("key", "value"), BROKEN_GENERATION)
def test_broken_generation_is_refused_when_it_is_used(key, value, tmp_path):
    found = read_generation(folder_of(tmp_path, generation_config={**GENERATION, key: value}), EXPECTED)
    with pytest.raises(ConfigError, match=f"generation_config.json: {key} = "):
        check_keys(found, [key]) if key == "do_sample" else check_used(found, do_sample=True)
    if key in OF_SAMPLING or key == "do_sample":
        check_used(found, do_sample=False)                          # greedy decoding does not look at it
    else:
        with pytest.raises(ConfigError, match=key):
            check_used(found, do_sample=False)
    check_used(found, True, given=[key])                            # nor does anybody who says something else


@pytest.mark.parametrize(("key", "value"), [
    ("pad_token_id", 29), ("pad_token_id", -1), ("pad_token_id", "x"), ("min_p", 0.0), ("num_beams", 1),
    ("guidance_scale", 1.0), ("typical_p", 1), ("suppress_tokens", []), ("max_new_tokens", 4096), ("min_length", 0),
    ("top_k", 0), ("token_healing", False), ("length_penalty", 2.0), ("top_p", None)])
def test_values_that_change_no_choice_are_no_reason_to_refuse(key, value, tmp_path):
    check_used(read_generation(folder_of(tmp_path, generation_config={**GENERATION, key: value}), EXPECTED), True)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"version https://git-lfs.github.com/spec/v1\n"])
def test_a_damaged_generation_file_stops_generating_alone(data, tmp_path):
    (tmp_path / "generation_config.json").write_bytes(data)
    found = read_generation(tmp_path, EXPECTED)
    for sampling in (True, False):
        with pytest.raises(ConfigError, match=r"generation_config\.json"):
            check_used(found, sampling)


# ---- pictures and videos: one place decides --------------------------------------------------------------------

def limits(settings):
    return settings.min_pixels, settings.max_pixels, settings.source


def test_what_a_file_of_settings_leaves_out_has_the_references_default(tmp_path):
    sparse = {key: value for key, value in PREPROCESSOR.items() if key != "max_pixels"}
    found = read_preprocessor(folder_of(tmp_path, preprocessor_config=sparse))
    assert (found.min_pixels, found.max_pixels) == (16, 1280 * 28 * 28) and "max_pixels: the reference" in found.source
    assert read_video_preprocessor(tmp_path).max_pixels == 768 * 28 * 28


def test_each_place_is_called_by_its_name(tmp_path):
    folder_of(tmp_path, preprocessor_config=PREPROCESSOR)
    assert limits(read_preprocessor(tmp_path)) == (16, 4096, "preprocessor_config.json")
    assert limits(read_video_preprocessor(tmp_path)) == (16, 4096, "preprocessor_config.json")
    folder_of(tmp_path, video_preprocessor_config={**PREPROCESSOR, "max_pixels": 64})
    assert limits(read_video_preprocessor(tmp_path)) == (16, 64, "video_preprocessor_config.json")
    folder_of(tmp_path, processor_config={"video_processor": {**PREPROCESSOR, "max_pixels": 32}})
    with pytest.warns(UserWarning, match="max_pixels 32, not 64 as in video_preprocessor_config.json"):
        assert limits(read_video_preprocessor(tmp_path)) == (16, 32, "processor_config.json, video_processor")
    assert limits(read_preprocessor(tmp_path)) == (16, 4096, "preprocessor_config.json")


def test_a_folder_without_settings_has_the_releases_and_says_so(tmp_path):
    """Of pictures and videos both; once where both are missing."""
    (tmp_path / "config.json").write_text(json.dumps(to_flat_json(official_config("3B"))), encoding="utf-8")
    with pytest.warns(UserWarning, match=r"preprocessor_config\.json.*3,136 to 12,845,056 pixels.*copy"):
        found = read_preprocessor(tmp_path)
    assert (found.min_pixels, found.max_pixels) == (3136, 12845056) and found.source == "the releases' own settings"
    assert found == OFFICIAL_PICTURES
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_video_preprocessor(tmp_path).max_pixels == 12845056
    values = {"image_processor": {"max_pixels": 6272, "min_pixels": 784}}
    (tmp_path / "processor_config.json").write_text(json.dumps(values), encoding="utf-8")
    assert read_preprocessor(tmp_path).max_pixels == 6272
    with pytest.warns(UserWarning, match="videos are prepared with the releases' own"):
        assert read_video_preprocessor(tmp_path).max_pixels == 12845056


def test_one_number_for_three_colours_and_whole_numbers_with_a_point(tmp_path):
    found = read_preprocessor(folder_of(tmp_path, preprocessor_config={
        **PREPROCESSOR, "image_mean": 0.5, "image_std": 0.25, "max_pixels": 4096.0}))
    assert (found.image_mean, found.image_std, found.max_pixels) == ((0.5,) * 3, (0.25,) * 3, 4096)


def test_frames_that_a_video_file_would_choose_are_refused(tmp_path):
    folder_of(tmp_path, video_preprocessor_config={**PREPROCESSOR, "do_sample_frames": True, "fps": 2})
    with pytest.raises(ConfigError, match=r"video_preprocessor_config\.json: do_sample_frames"):
        read_video_preprocessor(tmp_path)
