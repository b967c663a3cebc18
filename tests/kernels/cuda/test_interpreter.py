"""The whole model on the kernels, with the processor in the place of a GPU: the same calls, the same tokens."""

from __future__ import annotations

import numpy as np
import pytest

import minivl
from minivl.checkpoint.packed import packed
from minivl.checkpoint.weight import precision
from minivl.cli.given import placed
from minivl.kernels import definition
from minivl.kernels.cuda import arrays, calls, device, interpreter, step
from minivl.kernels.cuda.arrays import Array
from minivl.kernels.cuda.device import Launcher, Processor
from minivl.run.generation import NotFiniteError
from minivl.show.samples import load_samples

from .machines import needs_compiler

pytestmark = needs_compiler

PRECISIONS = ("float32", "bfloat16")


@pytest.fixture(scope="module")
def models():
    """The embedded model: precision -> (on the kernels, by the definitions)."""
    vlm = minivl.load()
    return {name: (vlm.on(name, "cuda-runner"), vlm.on(name, "definition")) for name in PRECISIONS}


def asked(video: bool) -> list[dict]:
    sample = next(one for one in load_samples() if (one.fps is not None) == video)
    paths = [str(path) for path in sample.paths]
    seen = {"type": "video", "video": paths, "fps": sample.fps} if video else {"type": "image", "image": paths[0]}
    return [{"role": "user", "content": [seen, {"type": "text", "text": sample.question}]}]


@pytest.mark.parametrize("name", PRECISIONS)
@pytest.mark.parametrize("video", [False, True], ids=["picture", "video"])
def test_the_same_tokens(models, name, video):
    ours, right = models[name]
    inputs = right.prepare(asked(video))
    assert ours.generate(inputs, 8, stop_ids=()) == right.generate(inputs, 8, stop_ids=())


def test_conversations_of_different_lengths_and_the_penalty(models):
    """Packed conversations that stop at different times: a step with fewer of them, and the definitions' tokens."""
    ours, right = models["float32"]
    inputs = [right.prepare(asked(video)) for video in (False, True)]
    options = {"stop_ids": (349,), "repetition_penalty": 1.3}
    answers = ours.generate(inputs, 6, **options)
    assert answers == right.generate(inputs, 6, **options) and len(set(map(len, answers))) == 2


def test_every_stage_is_close_and_verified(models):
    ours, right = models["float32"]
    exact = right.on("float64", "definition")
    inputs = right.prepare(asked(False))
    with minivl.session(record="*", verify=True) as seen:
        ours.logits(inputs)
    with minivl.session(record="*") as wanted:
        exact.logits(inputs)
    assert list(seen.trace) == list(wanted.trace) and seen.unfused == {"decoder"}
    for key, value in wanted.trace.items():
        for a, b in zip(*(v if isinstance(v, tuple) else (v,) for v in (seen.trace[key], value)), strict=True):
            assert np.linalg.norm(a - b) <= 5e-6 * np.linalg.norm(b), key


def test_a_fused_step_is_the_program_that_is_looked_into(models, monkeypatch):
    """The step runs fused, and gives way when somebody looks; both give the same tokens."""
    ours, right = models["float32"]
    inputs, ran = right.prepare(asked(False)), []
    launch = step.Step.launch
    monkeypatch.setattr(step.Step, "launch", lambda self: (ran.append(self.n), launch(self))[1])
    tokens = ours.generate(inputs, 4, stop_ids=())
    assert ran == [1, 1, 1]
    with minivl.session(record="decoder.layers.0.attend") as seen:
        assert ours.generate(inputs, 4, stop_ids=()) == tokens
    assert ran == [1, 1, 1] and len(seen.trace) == 4


def test_nothing_comes_back_from_the_device_within_a_step(models, monkeypatch):
    """The only thing that the host gets for a token is its number."""
    ours, right = models["float32"]
    inputs, sizes = right.prepare(asked(False)), []
    download = Processor.download
    monkeypatch.setattr(Processor, "download", lambda self, raw: (sizes.append(raw.size), download(self, raw))[1])
    ours.generate(inputs, 3, stop_ids=())
    assert sizes == [1, 1, 1]


def test_a_record_of_a_step_is_replayed(models, monkeypatch):
    """What a device records is replayed for every later token, on memory that is written between."""
    ours, right = models["float32"]
    inputs, replayed = right.prepare(asked(False)), []

    def recorded(self, launches):
        return lambda: (replayed.append(1), launches())[1]

    monkeypatch.setattr(Processor, "recorded", recorded)
    assert ours.generate(inputs, 5, stop_ids=()) == right.generate(inputs, 5, stop_ids=())
    assert len(replayed) == 3  # not the prompt, nor the first step


def test_float64_stays_with_the_definitions(models):
    ours, right = models["float32"]
    inputs = right.prepare(asked(False))
    assert np.array_equal(ours.on("float64").logits(inputs), right.on("float64").logits(inputs))


@pytest.mark.parametrize("format", ["int8", "int4"])
def test_packed_weights_are_multiplied_as_they_are(models, format):
    """Integers with scales: one row by `gemv`, many by a product of what they stand for."""
    rng, machine = np.random.default_rng(0), Launcher(Processor())
    right = minivl.load().weights.decoder.layers[0].mlp.gate_up
    weight = packed(right.weight, format)
    held = interpreter.Resident(machine, weight, np.dtype(np.float32))
    for rows in (1, 9):
        x = rng.normal(size=(rows, right.weight.shape[1])).astype(np.float32)
        found = arrays.to_host(
            interpreter.linear(arrays.to_device(machine, x), right._replace(weight=held, bias=None))
        )
        exact = definition.linear.definition(x.astype(np.float64), right._replace(weight=weight, bias=None))
        assert np.linalg.norm(found - exact) < 1e-6 * np.linalg.norm(exact)


@pytest.mark.parametrize("format", ["int8", "int4"])
def test_a_converted_model_decodes_on_the_device(models, tmp_path, monkeypatch, format):
    """Weights of whole numbers, the tied table too: expanded for a prompt and multiplied as they are in a step, where
    they lie. After loading, nothing as large as a matrix is uploaded."""
    minivl.convert(None, tmp_path / format, weights=format)
    right = minivl.load(tmp_path / format, precision="float32", kernels="definition")
    ours, ran, uploads = right.on("float32", "cuda-runner"), [], []
    launch, upload = step.Step.launch, Processor.upload
    monkeypatch.setattr(step.Step, "launch", lambda self: (ran.append(self.n), launch(self))[1])
    monkeypatch.setattr(Processor, "upload", lambda self, flat: (uploads.append(flat.nbytes), upload(self, flat))[1])
    inputs = right.prepare(asked(False))
    assert ours.generate(inputs, 4, stop_ids=()) == right.generate(inputs, 4, stop_ids=())
    assert ran == [1, 1, 1] and max(uploads) <= inputs.patches.nbytes


@pytest.mark.parametrize("video", [False, True], ids=["picture", "video"])
def test_pixels_become_patches_on_the_device(models, monkeypatch, video):
    """From bytes to patches; what comes back is the patches alone, with the definitions' bits."""
    ours, right = models["float32"]
    launched, run = [], Launcher.__call__
    monkeypatch.setattr(
        Launcher, "__call__", lambda self, file, name, *args, **known: (launched.append(name), run(
            self, file, name, *args, **known))[1])
    found = ours.prepare(asked(video))
    assert np.array_equal(found.patches, right.prepare(asked(video)).patches)
    assert launched.count("standardise") == launched.count("patchify") == 1
    assert ("resize_axis" in launched) != video              # a video's frames are resized by the host, one by one


def test_what_was_written_is_marked_once(models, monkeypatch):
    """The penalty: the ids of the prompt are uploaded for the first token, after that the new one alone."""
    ours, right = models["float32"]
    inputs, sizes, mark = right.prepare(asked(False)), [], calls.mark
    monkeypatch.setattr(calls, "mark", lambda machine, rows, ids, *others: (
        sizes.append(len(ids)), mark(machine, rows, ids, *others))[1])
    options = {"stop_ids": (), "repetition_penalty": 1.3}
    assert ours.generate(inputs, 4, **options) == right.generate(inputs, 4, **options)
    assert sizes == [len(inputs.input_ids), 1, 1, 1]


def test_scores_that_are_no_numbers_are_told(models):
    ours, right = models["float32"]

    def spoil(original):
        def run(x, head):
            made = arrays.to_host(original(x, head))
            made[0, 3] = np.nan
            return arrays.to_device(x.machine, made)

        return run

    with (
        pytest.raises(NotFiniteError, match=r"decoder\.logits is the first stage"),
        minivl.session(replace={"decoder.logits": spoil}),
    ):
        ours.generate(right.prepare(asked(False)), 2)


# ----------------------------------------------------------------------------------------------- arrays


def test_a_devices_array_is_never_taken_for_numpys():
    x = arrays.to_device(Launcher(Processor()), np.zeros((2, 3), np.float32))
    for wrong in (np.asarray, list, lambda x: np.ones(3) + x):
        with pytest.raises(TypeError):
            wrong(x)


def test_views_are_numpys():
    rng, machine = np.random.default_rng(1), Launcher(Processor())
    near = rng.normal(size=(5, 4, 6)).astype(precision("bfloat16"))
    far = arrays.to_device(machine, near)
    for take in (
        lambda x: x[1],
        lambda x: x[:, 1:3],
        lambda x: x[2:4, 3],
        lambda x: x.reshape(-1, 6),
        lambda x: x.reshape(20, 6),
        lambda x: x[-1],
        lambda x: x[:, :2].reshape(5, -1),
        lambda x: x[3:3],
        lambda x: x[None],
        lambda x: x[1, None, 2:],
        lambda x: x.astype(np.float32),
    ):
        found = take(far)
        assert isinstance(found, Array) and len(found) == len(take(near)) and found.size == take(near).size
        assert np.array_equal(arrays.to_host(found), take(near))
    assert far.astype(np.float64).dtype == np.float64 and not isinstance(far.astype(np.float64), Array)
    with pytest.raises(IndexError):
        far[5]
    with pytest.raises(TypeError):
        far[[0, 1]]


# ---------------------------------------------------------------------------------------------- no GPU


def test_without_a_gpu_what_is_missing_is_named(monkeypatch):
    monkeypatch.setattr(device, "has_driver", lambda: False)
    monkeypatch.setattr(device, "find_spec", lambda name: None)
    with pytest.raises(minivl.Error, match='no NVIDIA driver .* no CuPy: pip install .* kernels="cuda-runner"'):
        device.gpu()
    monkeypatch.setattr(device, "find_spec", lambda name: name)
    monkeypatch.setattr(device, "has_toolkit", lambda: False)
    assert [said.partition(" (")[0][:20] for said in device.missing()] == ["no NVIDIA driver", "no CUDA headers or l"]


def test_the_words_of_the_command_line():
    assert [placed("auto", "gpu"), placed("cuda", "runner"), placed("jit", None)] == ["cuda", "cuda-runner", "jit"]
    with pytest.raises(minivl.Error, match="--device must be gpu or runner, got 'tpu'"):
        placed("auto", "tpu")
    with pytest.raises(minivl.Error, match="--kernels jit has none"):
        placed("jit", "gpu")
