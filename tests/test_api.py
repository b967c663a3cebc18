"""The public interface as README.md and api.py promise it: what is taken, what comes back, what is refused and how.

Answers of the embedded model are compared with each other, or with ids that the test itself writes; which words the
model finds is nobody's promise. Read next: `properties/test_laws.py` (laws of the computation).
"""

import re
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import minivl
from minivl.api import TINY, find
from minivl.checkpoint.weight import CheckpointError
from minivl.config import ConfigError
from minivl.passes.picture import PictureError
from minivl.passes.prompt import PromptError
from minivl.show.samples import load_samples

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
GREY = np.full((56, 84, 3), 90, np.uint8)                    # 2 x 3 cells: 6 tokens
SPARK = (np.indices((84, 56)).sum(axis=0) % 7 * 40).astype(np.uint8)[:, :, None].repeat(3, 2)      # 3 x 2 cells


@pytest.fixture(scope="module")
def vlm():
    with minivl.load() as loaded:
        yield loaded


def user(*items):
    """One message: text where a str is given, else an item as it is, and pictures for arrays."""
    content = [{"type": "text", "text": one} if isinstance(one, str) else
               one if isinstance(one, dict) else {"type": "image", "image": one} for one in items]
    return [{"role": "user", "content": content}]


def writing(ids):
    """A session in which the model writes `ids`, whatever it thinks."""
    left = iter(ids)
    return minivl.using({"sampling.most_likely": lambda logits: np.array([next(left)] * len(logits))})


def far(a, b):
    return np.linalg.norm(a - b) / np.linalg.norm(b)


# ---- README ------------------------------------------------------------------------------------------------

def test_every_block_of_the_readme_runs_in_order(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copy(load_samples()[0].paths[0], "picture.png")
    blocks = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    assert len(blocks) >= 2
    namespace = {}
    for n, block in enumerate(blocks):
        exec(compile(block, f"README.md, block {n}", "exec"), namespace)
    assert "vision.merge_2x2" in capsys.readouterr().out     # the block that prints
    assert "vision.merge_2x2" in namespace["s"].guilty         # where gelu is
    assert [path.name for path in tmp_path.iterdir()] == ["picture.png"]
    namespace["vlm"].close()


# ---- load --------------------------------------------------------------------------------------------------

def test_what_is_no_checkpoint_is_refused_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "none", str(tmp_path / "none"), "a/b/c", "none", tmp_path / "file"):
        with pytest.raises(FileNotFoundError, match=re.escape(f"{path} is not a folder; give the folder that holds")):
            minivl.load(path)
    with pytest.raises(ConfigError, match="config.json"):
        minivl.load(tmp_path)


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """A hub cache that holds the embedded model as teacher/toy, in a folder with a bracket and a space in its name."""
    home = tmp_path_factory.mktemp("hub [1] home")
    shutil.copytree(TINY, home / "hub" / "models--teacher--toy" / "snapshots" / "0f1e2d")
    return home


@pytest.mark.parametrize("variable, inner", [("HF_HOME", ""), ("HF_HUB_CACHE", "hub")])
def test_a_name_is_found_in_the_hubs_cache(hub, monkeypatch, variable, inner):
    monkeypatch.delenv("HF_HOME", raising=False)
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setenv(variable, str(hub / inner))
    with minivl.load("teacher/toy") as found:
        assert found.folder == hub / "hub" / "models--teacher--toy" / "snapshots" / "0f1e2d"
    with pytest.raises(FileNotFoundError) as refused:
        minivl.load("teacher/other")
    for words in ("teacher/other is neither a folder nor in the hub's cache", str(hub), "hf download teacher/other"):
        assert words in str(refused.value)


def test_the_hubs_own_cache_goes_before_its_home(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "none"))
    monkeypatch.setenv("HF_HUB_CACHE", str(hub / "hub"))
    minivl.load("teacher/toy").close()


def test_of_several_revisions_the_one_called_main_is_taken(hub, tmp_path, monkeypatch):
    """Revisions share the files that did not change, so the time of config.json tells nothing."""
    copy = tmp_path / "hub" / "models--teacher--toy"
    for revision in ("aaa", "bbb", "ccc"):
        shutil.copytree(hub / "hub" / "models--teacher--toy" / "snapshots" / "0f1e2d", copy / "snapshots" / revision)
    (copy / "refs").mkdir()
    (copy / "refs" / "main").write_text("bbb\n", encoding="utf-8", newline="\n")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    assert find("teacher/toy").name == "bbb"
    (copy / "refs" / "main").write_text("gone", encoding="utf-8", newline="\n")
    assert find("teacher/toy").name in ("aaa", "bbb", "ccc")


def test_a_user_without_a_home_gets_an_answer(hub, monkeypatch):
    """In a container the user may be a bare number: then `~` stands for nothing."""
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    monkeypatch.delenv("HF_HOME", raising=False)
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    with pytest.raises(FileNotFoundError, match="neither a folder nor in the hub's cache"):
        find("teacher/toy")
    monkeypatch.setenv("HF_HOME", str(hub))
    assert find("teacher/toy").is_dir()


def test_a_tilde_in_the_hubs_variables_is_the_home(hub, monkeypatch):
    monkeypatch.setenv("HOME", str(hub.parent))
    monkeypatch.setenv("USERPROFILE", str(hub.parent))
    monkeypatch.setenv("HF_HOME", f"~/{hub.name}")
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    assert find("teacher/toy").is_dir()


def test_a_folder_goes_before_a_name_of_the_hub(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(hub))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "teacher" / "toy").mkdir(parents=True)
    with pytest.raises(ConfigError):                         # the empty folder is what was asked for
        minivl.load("teacher/toy")


@pytest.mark.parametrize("precision", ["float64", "float32", "float16", "bfloat16"])
def test_the_precision_is_that_of_every_float_that_comes_out(precision):
    with minivl.load(None, precision) as loaded:
        inputs = loaded.prepare(user(GREY, "What is this?"))
        assert loaded.dtype.name == loaded.vision(inputs).dtype.name == loaded.logits(inputs).dtype.name == precision
        assert inputs.pixel_values.dtype == np.float32
        assert len(loaded.generate(inputs, 2)) in (1, 2)


@pytest.mark.parametrize("precision", ["FLOAT32", "half", "", None, 32, ["float32"], np.float32])
def test_another_precision_is_refused_with_the_names_there_are(precision):
    with pytest.raises(ValueError, match=r"precision is .*; it can be float64, float32, float16, bfloat16"):
        minivl.load(None, precision)


@pytest.mark.parametrize("kernels", ["", "AUTO", "fast", None, 1])
def test_other_kernels_are_refused_with_the_names_there_are(kernels):
    with pytest.raises(ValueError, match=r"kernels must be 'auto' or 'definition' .*, got"):
        minivl.load(None, "float32", kernels)


def test_definitions_can_be_asked_for_by_name(vlm):
    with minivl.load(kernels="definition") as loaded:
        assert loaded.ask(GREY, "What is this?", 6, temperature=0) == vlm.ask(GREY, "What is this?", 6, temperature=0)


# ---- ask ---------------------------------------------------------------------------------------------------

def test_a_picture_may_come_in_any_form(vlm, tmp_path):
    path = tmp_path / "spark é.png"
    Image.fromarray(SPARK).save(path)
    forms = [str(path), path, path.as_uri(), path.read_bytes(), Image.open(path), SPARK, [path], (SPARK,)]
    with minivl.session(record="patches.patchify") as s:
        answers = {vlm.ask(form, "Describe the image.", 6, temperature=0) for form in forms}
    assert len(answers) == 1 and len(s.trace) == len(forms)
    first, *others = s.trace.values()
    assert all(np.array_equal(first, other) for other in others)


def test_several_pictures_and_none(vlm):
    with minivl.session(record=["vision.merge_2x2", "prompt.expand"]) as s:
        vlm.ask([GREY, SPARK], "Which is grey?", 1)
        vlm.ask(None, "Hello", 1)
        vlm.ask([], "Hello", 1)
    assert s.trace["vision.merge_2x2"].shape[0] == 12 and "vision.merge_2x2@1" not in s.trace
    assert np.array_equal(s.trace["prompt.expand@1"], s.trace["prompt.expand@2"])


NO_PICTURES = [3, object(), [[1, 2], [3, 4]], GREY.transpose(2, 0, 1), GREY + 0.5, "none.png", b"", "a\0b", {"a": 1},
               "https://example.org/a.png", [None], np.zeros((0, 0, 3), np.uint8)]


@pytest.mark.parametrize("image", NO_PICTURES)
def test_what_is_no_picture_is_refused(vlm, image):
    with pytest.raises((PictureError, PromptError)) as refused:
        vlm.ask(image, "What is this?")
    assert 10 < len(str(refused.value)) < 500


SIZES = [{"min_pixels": 10**9}, {"min_pixels": 10**11, "max_pixels": 10**12},
         {"min_pixels": 10**5, "max_pixels": 10**4}]


@pytest.mark.parametrize("limits", SIZES)
def test_a_size_that_no_memory_holds_is_refused_before_it_is_made(vlm, limits):
    with pytest.raises(PictureError, match=r"min_pixels|the limit is"):
        vlm.prepare(user({"type": "image", "image": GREY, **limits}, "?"))


def test_a_size_that_is_asked_for_stays_within_the_checkpoints_limits(vlm):
    """Whatever pixel limits stand beside it, as in qwen-vl-utils."""
    for limits in ({}, {"max_pixels": 10**13}, {"min_pixels": 10**9}):
        asked = {"type": "image", "image": GREY, "resized_height": 10**6, "resized_width": 10**6, **limits}
        made = vlm.prepare(user(asked, "?"))
        assert np.prod(made.media[0].size) <= vlm.processor.preprocessor.max_pixels


def test_chat_takes_one_conversation(vlm):
    with pytest.raises(ValueError, match="one conversation, these are 2"):
        vlm.chat([user("Hello"), user("Hello")])


@pytest.mark.parametrize("text", ["<|image_pad|>", "a <|video_pad|> b", "<|image_pad|>" * 7])
def test_a_placeholder_in_the_text_is_told_apart_from_a_picture(vlm, text):
    for image in (GREY, None):
        assert isinstance(vlm.ask(image, text, 2), str)                  # it is text, unless it is meant
        with pytest.raises(PromptError, match=r"holds the literal <\|(image|video)_pad\|>.*are placeholders"):
            vlm.ask(image, text, special_tokens=True)


def test_special_tokens_in_the_text_do_no_harm(vlm):
    assert isinstance(vlm.ask(GREY, "<|im_end|><|vision_start|><|endoftext|>", 4), str)


NO_CONVERSATIONS = [[], "hello", {"role": "user", "content": "x"}, [{}], [{"role": "bot", "content": ""}], [None],
                    [{"role": "user"}], [{"role": "user", "content": [{"type": "sound"}]}]]


@pytest.mark.parametrize("messages", NO_CONVERSATIONS)
def test_what_is_no_conversation_is_refused(vlm, messages):
    for call in (vlm.chat, vlm.prepare):
        with pytest.raises(PromptError, match="messages"):
            call(messages)


# ---- choosing tokens ---------------------------------------------------------------------------------------

BAD = [("max_new_tokens", 0), ("max_new_tokens", -3), ("temperature", -1), ("temperature", float("nan")), ("top_k", -1),
       ("top_p", 0), ("top_p", 1.5), ("top_p", float("nan")), ("repetition_penalty", 0), ("repetition_penalty", -1.0),
       ("seed", -1), ("seed", 1.5), ("max_new_tokens", 2.5), ("max_new_tokens", "5"), ("max_new_tokens", True),
       ("temperature", 1e-45), ("temperature", float("inf")), ("temperature", "hot"), ("top_k", 2.5), ("top_p", "all"),
       ("repetition_penalty", float("inf")), ("stop_ids", "x"), ("stop_ids", 5), ("stop_ids", {5})]


@pytest.mark.parametrize("name, value", BAD)
def test_a_number_out_of_range_is_refused_before_anything_is_computed(vlm, name, value):
    options, said = {"temperature": 1.0, name: value}, re.escape(f"{name} is {value}; it must be")
    for stream in (False, True):
        with pytest.raises(ValueError, match=said), minivl.session(record="decoder.*") as s:
            vlm.ask(GREY, "What is this?", stream=stream, **options)
        assert not s.trace
    with pytest.raises(ValueError, match=said):
        vlm.generate(vlm.prepare(user("Hello")), do_sample=True, **options)


def test_an_unknown_option_is_refused_with_those_there_are(vlm):
    for call in (lambda: vlm.ask(GREY, "?", beams=4), lambda: vlm.generate(vlm.prepare(user("a")), beams=4)):
        with pytest.raises(TypeError, match=r"no option beams; it takes temperature, top_k, top_p, .*seed, stop_ids"):
            call()


def test_temperature_zero_is_greedy_and_a_seed_repeats_itself(vlm):
    question = (SPARK, "Describe the image.", 8)
    greedy = vlm.ask(*question, temperature=0)
    assert greedy == vlm.ask(*question, temperature=0, seed=9) == vlm.ask(*question, temperature=5.0, top_k=1)
    hot = [vlm.ask(*question, temperature=3.0, top_k=0, top_p=1.0, seed=seed) for seed in (1, 2, 1)]
    assert hot[0] == hot[2] and len({greedy, *hot}) > 1


def test_generation_ends_at_a_stop_id_or_at_the_limit(vlm):
    inputs = vlm.prepare(user("Hello"))
    stop = vlm.generation.eos_token_ids[0]
    with writing([5, 6, stop, 7]):
        assert vlm.generate(inputs, 9) == [5, 6, stop]
    with writing([5, 6, stop, 7, 8]):
        assert vlm.generate(inputs, 9, stop_ids=(7,)) == [5, 6, stop, 7]
    with writing([5, 6, 7, 8]):
        assert vlm.generate(inputs, 3) == [5, 6, 7]
    assert len(vlm.generate(inputs, 1)) == 1


def test_a_list_of_inputs_gives_what_each_gives_alone(vlm):
    several = vlm.prepare([user(GREY, "What is this?"), user("Hello"), user(GREY, SPARK, "Compare.")])
    together = vlm.generate(several, 8)
    assert together == [vlm.generate(one, 8) for one in several]
    assert vlm.generate(tuple(several[:1]), 8) == together[:1] and vlm.generate([], 8) == []


# ---- streaming ---------------------------------------------------------------------------------------------

def tokens_of(vlm, text):
    """Ids that write `text` in tokens of one byte each, so that every character is cut everywhere."""
    single = {vlm.tokenizer.token_bytes(i): i for i in range(255, -1, -1)}
    return [single[bytes([byte])] for byte in text.encode("utf-8")]


@settings(max_examples=25)
@given(text=st.text(st.characters(codec="utf-8"), min_size=1, max_size=9))
def test_a_stream_joins_to_the_answer_and_never_gives_half_a_character(vlm, text):
    ids = [*tokens_of(vlm, text), vlm.generation.eos_token_ids[0]]
    with writing(ids):
        whole = vlm.ask(None, "Say it.", 64, temperature=0)
    with writing(ids):
        pieces = list(vlm.chat(user("Say it."), 64, temperature=0, stream=True))
    assert "".join(pieces) == whole == text
    assert pieces == list(text)                              # one byte a token: each character as soon as it is whole


def test_an_answer_that_ends_inside_a_character_says_so(vlm):
    ids = tokens_of(vlm, "a\N{SNOWMAN}")[:-1]
    for stream in (False, True):
        with writing(ids):
            assert "".join(vlm.ask(None, "?", len(ids), temperature=0, stream=stream)) == "a\N{REPLACEMENT CHARACTER}"


def test_streams_may_be_mixed_left_off_and_watched(vlm):
    def open_streams():
        return [vlm.chat(user(image, "Describe the image."), 6, temperature=0, stream=True) for image in (GREY, SPARK)]
    alone = ["".join(stream) for stream in open_streams()]
    said = ["", ""]
    streams = open_streams()
    while any(pieces := [next(stream, "") for stream in streams]):
        said = [before + piece for before, piece in zip(said, pieces, strict=True)]
    assert said == alone
    left = open_streams()[0]
    next(left)
    left.close()
    stream = open_streams()[0]
    next(stream)
    with minivl.session(record="*") as s:                    # only what happens inside is seen, and nothing leaks out
        next(stream, None)
    assert s.trace and not any(key.startswith("vision") for key in s.trace)
    assert "".join(open_streams()[1]) == alone[1]


def test_two_threads_may_ask_one_model(vlm):
    question = "Describe the image."
    alone = [vlm.ask(image, question, 6, temperature=0) for image in (GREY, SPARK)]
    said = {}

    def ask(n, image):
        said[n] = vlm.ask(image, question, 6, temperature=0)
    threads = [threading.Thread(target=ask, args=(n, image)) for n, image in enumerate((GREY, SPARK))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [said[0], said[1]] == alone


def test_an_interruption_leaves_a_clean_door(vlm):
    before = vlm.ask(SPARK, "Describe the image.", 4, temperature=0)

    def interrupted(*args):
        raise KeyboardInterrupt
    for label in ("vision.blocks.1.attend", "decoder@2.layers.1.rotate", "kernel.gelu", "sampling.most_likely"):
        with pytest.raises(KeyboardInterrupt), minivl.using({label: interrupted}):
            vlm.ask(SPARK, "Describe the image.", 4, temperature=0)
        assert vlm.ask(SPARK, "Describe the image.", 4, temperature=0) == before


# ---- prepare, vision, logits -------------------------------------------------------------------------------

def test_prepare_of_one_conversation_and_of_several(vlm):
    one, other = user(GREY, "What is this?"), user("Hello")
    alone = vlm.prepare(one)
    both = vlm.prepare([one, other])
    assert isinstance(alone, minivl.Inputs) and [type(x) for x in both] == [minivl.Inputs] * 2
    assert np.array_equal(alone.input_ids, both[0].input_ids) and not both[1].media
    for name in ("input_ids", "position_ids", "pixel_values", "image_grid_thw"):
        assert np.array_equal(getattr(alone, name), getattr(both[0], name))


def test_inputs_have_the_shapes_that_are_documented(vlm):
    video = {"type": "video", "video": [GREY] * 6, "fps": 4}
    inputs = vlm.prepare(user(SPARK, video, GREY, "Compare."))
    s, cells = len(inputs.input_ids), [6, 18, 6]             # 84 x 56, three pairs of frames of 56 x 84, 56 x 84
    assert [m.kind for m in inputs.media] == ["image", "video", "image"]
    assert [m.patches // 4 for m in inputs.media] == cells
    assert inputs.input_ids.shape == (s,) and inputs.position_ids.shape == (3, s)
    assert inputs.pixel_values.shape == (48, 1176) and inputs.pixel_values.dtype == np.float32
    assert inputs.image_grid_thw.tolist() == [[1, 6, 4], [1, 4, 6]]
    assert inputs.pixel_values_videos.shape == (72, 1176) and inputs.video_grid_thw.tolist() == [[3, 4, 6]]
    assert inputs.second_per_grid_ts.tolist() == [0.5]       # two frames of four a second
    assert vlm.vision(inputs).shape == (sum(cells), vlm.config.text.hidden_size)
    assert vlm.logits(inputs).shape == (s, vlm.config.text.vocab_size)


def test_time_goes_with_the_frames_per_second(vlm):
    steps = {}
    for fps in (1, 2, 4):
        inputs = vlm.prepare(user({"type": "video", "video": [GREY] * 4, "fps": fps}, "?"))
        pads = inputs.input_ids == vlm.config.video_token_id
        times = np.unique(inputs.position_ids[0, pads])
        steps[fps] = int(times[1] - times[0])
    # two frames make one step in time; 2 frames a second are 1 s, which is `tokens_per_second` positions
    per_second = vlm.config.vision.tokens_per_second
    assert steps == {1: 2 * per_second, 2: per_second, 4: per_second // 2}


def test_visual_tokens_come_in_prompt_order(vlm):
    video = {"type": "video", "video": [SPARK, GREY.transpose(1, 0, 2)] * 2, "fps": 2}
    items = [GREY, video, SPARK]
    together = vlm.vision(vlm.prepare(user(*items, "?")))
    alone = [vlm.vision(vlm.prepare(user(item, "?"))) for item in items]
    assert far(together, np.concatenate(alone)) < 1e-5
    assert far(together, np.concatenate(alone[::-1])) > 0.1


def test_a_prompt_without_pictures(vlm):
    inputs = vlm.prepare(user("Hello"))
    assert inputs.media == () and inputs.patches.shape == (0, 1176) and inputs.grids.shape == (0, 3)
    assert vlm.vision(inputs).shape == (0, vlm.config.text.hidden_size)
    assert np.array_equal(inputs.position_ids, np.tile(np.arange(len(inputs.input_ids)), (3, 1)))
    assert np.isfinite(vlm.logits(inputs)).all()


def test_pictures_are_numbered_when_asked_for(vlm):
    conversation = user(GREY, SPARK, "?")
    made = [vlm.prepare(conversation, add_vision_id=on) for on in (True, False)]
    numbered, plain = (vlm.tokenizer.decode(one.input_ids) for one in made)
    assert "Picture 1: " in numbered and "Picture 2: " in numbered and "Picture" not in plain
    with_prompt, without = (vlm.prepare(conversation, add_generation_prompt=on).input_ids for on in (True, False))
    assert np.array_equal(with_prompt[: len(without)], without) and len(with_prompt) > len(without)


def test_another_rule_after_videos_is_refused_by_name(vlm):
    with pytest.raises(ValueError, match="after_video is 'tf4'; it can be max_plus_one or tf5"):
        vlm.prepare(user("Hello"), after_video="tf4")


# ---- Inputs.from_ids ---------------------------------------------------------------------------------------

def patches(n):
    return np.zeros((n, 1176), np.float32)


def still(rows, grid):
    return {"pixel_values": patches(rows), "image_grid_thw": grid}


def moving(rows, grid, *seconds):
    return {"pixel_values_videos": patches(rows), "video_grid_thw": grid, "second_per_grid_ts": list(seconds) or None}


I, V = "image placeholder", "video placeholder"              # stand for the ids in the cases
GRID = [[1, 2, 4]]                                           # 8 patches, 2 cells
CASES = {
    "ids of two axes": ([[1, 2]], {}, ["[1, 2]"]),
    "no ids": ([], {}, ["[0]"]),
    "an id beyond the vocabulary": ([1, 10**6], {}, ["input_ids[1] is 1000000", "the vocabulary has ids 0.."]),
    "an id below 0": ([3, 2, -1], {}, ["input_ids[2] is -1"]),
    "pixels without a grid": ([I, I], {"pixel_values": patches(8)}, ["pixel_values", "only one"]),
    "a grid without pixels": ([I, I], {"image_grid_thw": GRID}, ["pixel_values", "only one"]),
    "too few patches": ([I, I], still(7, GRID), ["[7, 1176]", "[8, 1176]"]),
    "patches of another width": ([I, I], still(8, GRID) | {"pixel_values": np.zeros((8, 588))},
                                 ["[8, 588]", "[8, 1176]"]),
    "half a cell": ([I, I], still(9, [[1, 3, 3]]), ["[1, 3, 3]", "multiples of 2"]),
    "a grid of none": ([I, I], still(0, [[0, 2, 4]]), ["[0, 2, 4]"]),
    "a grid of two numbers": ([I, I], still(8, [[2, 4]]), ["[2, 4]"]),
    "a value that is not finite": ([I, I], still(8, GRID) | {"pixel_values": patches(8) * np.nan}, ["finite", "[0 0]"]),
    "too few placeholders": ([I], still(8, GRID), ["1 placeholder", "2 rows"]),
    "too many placeholders": ([I] * 5, still(8, GRID), ["5 placeholder", "2 rows"]),
    "placeholders alone": ([1, I, V], {}, ["2 placeholder", "0 rows"]),
    "a video without time": ([V, V], moving(8, GRID), ["1 videos", "second_per_grid_ts"]),
    "time for two of one": ([V, V], moving(8, GRID, 1.0, 2.0), ["[1.0, 2.0]", "1 videos"]),
    "time beyond counting": ([V, V], moving(8, GRID, 1e300), ["1e+300", "1 videos"]),
    "placeholders of the other kind": ([V, V], still(8, GRID), ["run of 2", "no grid of its kind"]),
    "kinds exchanged": ([I, V, V], still(8, GRID) | moving(4, [[1, 2, 2]], 1.0), ["run of 1", "has 2"]),
    "sizes exchanged": ([I, 5, I, I], still(12, [[1, 2, 4], [1, 2, 2]]), ["run of 1", "has 2"]),
    "a run that is torn": ([I, 5, I], still(8, GRID), ["run of 1", "has 2"]),
    "time that is none": ([V, V], moving(8, GRID, float("nan")), ["nan", "1 videos"]),
    "time for pictures": ([I, I], still(8, GRID) | {"second_per_grid_ts": [1.0]}, ["[1.0]", "0 videos"]),
}


def with_ids(config, ids, **arrays):
    real = {I: config.image_token_id, V: config.video_token_id}
    ids = [real.get(one, one) if isinstance(one, str) else one for one in ids]
    return minivl.Inputs.from_ids(ids, config, **arrays)


@pytest.mark.parametrize("name", CASES)
def test_what_does_not_belong_together_is_refused_with_both_counts(vlm, name):
    ids, arrays, said = CASES[name]
    with pytest.raises(ValueError) as refused:
        with_ids(vlm.config, ids, **arrays)
    assert all(words in str(refused.value) for words in said), str(refused.value)


def test_from_ids_is_what_prepare_gives(vlm):
    video = {"type": "video", "video": [SPARK] * 4, "fps": 1}
    made = vlm.prepare(user(GREY, video, "Compare."))
    again = minivl.Inputs.from_ids(made.input_ids.tolist(), vlm.config, made.pixel_values, made.image_grid_thw,
                                   made.pixel_values_videos, made.video_grid_thw, made.second_per_grid_ts)
    assert np.array_equal(made.position_ids, again.position_ids)
    assert np.array_equal(vlm.logits(made), vlm.logits(again))


# ---- close -------------------------------------------------------------------------------------------------

def test_a_closed_model_says_so_and_keeps_what_needs_no_weights():
    with minivl.load() as loaded:
        inputs = loaded.prepare(user(GREY, "What is this?"))
        features = loaded.vision(inputs)
        stream = loaded.chat(user("Hello"), 9, stream=True)
        next(stream)
    loaded.close()                                           # twice is once
    calls = [lambda: loaded.ask(GREY, "What is this?"), lambda: loaded.vision(inputs), lambda: loaded.logits(inputs),
             lambda: loaded.generate(inputs), lambda: list(stream)]
    for call in calls:
        with pytest.raises(CheckpointError, match=r"model.safetensors: was closed; its weights can no longer be read"):
            call()
    assert loaded.tokenizer.decode(loaded.tokenizer.encode("Hello")) == "Hello"
    assert np.isfinite(features).all()


def test_a_folder_without_a_tokenizer_computes_but_takes_no_text(tmp_path):
    folder = shutil.copytree(TINY, tmp_path / "bare", ignore=shutil.ignore_patterns("tokenizer*", "chat*", "merges*"))
    with minivl.load(folder) as loaded:
        inputs = with_ids(loaded.config, [1, I, I, 2], pixel_values=patches(8), image_grid_thw=GRID)
        assert loaded.logits(inputs).shape == (4, loaded.config.text.vocab_size)
        with pytest.raises(FileNotFoundError, match=r"no tokenizer.json.*from_ids"):
            loaded.ask(None, "Hello")
