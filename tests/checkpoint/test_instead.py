"""Folders that hold something else than this model's weights: each refusal says what it found, and what to do."""

from __future__ import annotations

import json

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from minivl.checkpoint.read import load_model, read_tensors
from minivl.door.errors import Error

from . import checkpoint_files as files

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 123456\n"
FOLDERS = [  # files beside config.json, what the message must say
    (
        {"model-00001-of-00002.safetensors": b"", "model-00002-of-00002.safetensors": b""},
        "without its index.*copy the index",
    ),
    (
        {"model-00002-of-00003.safetensors": b""},
        "without its index.*2 are missing as well, first number 1",
    ),
    ({"qwen-q4_k_m.gguf": b"GGUF"}, "qwen-q4_k_m.gguf: version should have 4 bytes"),
    (
        {
            "adapter_config.json": b'{"base_model_name_or_path": "Qwen/X"}',
            "adapter_model.safetensors": b"",
        },
        "adapter.*for Qwen/X.*merge",
    ),
    ({"adapter_model.bin": b""}, "adapter.*merge"),
    (
        {"pytorch_model.bin": b"", "training_args.bin": b"", "optimizer.pt": b""},
        r"pytorch_model\.bin is a pickle.*save_pretrained",
    ),
    ({"pytorch_model.bin.index.json": b"{}"}, "pickle"),
    ({"model.onnx": b""}, "ONNX"),
    ({"weights.npz": b""}, "MLX"),
    ({"model.safetensors.incomplete": b""}, "unfinished download"),
    ({"flax_model.msgpack": b""}, "Flax"),
    ({"tf_model.h5": b""}, "TensorFlow"),
    ({"consolidated.safetensors": b""}, r"holds consolidated\.safetensors.*call it model\.safetensors"),
    ({"model.fp16.safetensors": b"", "model.bf16.safetensors": b""}, "several variants.*copy the one"),
    ({"model.safetensors": b""}, r"model\.safetensors: is empty \(0 bytes\)"),
    ({"model.safetensors": POINTER}, "LFS pointer.*git lfs pull"),
    ({"model.safetensors.index.json": POINTER}, "LFS pointer.*git lfs pull"),
    ({"model.safetensors": b"<!DOCTYPE html>\n<html>403</html>"}, "web page"),
    ({"model.safetensors": b"\0" * 4096}, "nothing but zeros"),
    ({"model.safetensors": b"PK\x03\x04" + bytes(26) + b"archive/data.pkl" + bytes(90)}, "pickle"),
    ({"model.safetensors": b"GGUF\3\0\0\0" + bytes(64)}, "GGUF"),
]


@pytest.mark.parametrize(("inside", "words"), FOLDERS)
@pytest.mark.parametrize("config", [True, False])
def test_a_folder_that_holds_something_else_is_told_for_what_it_is(inside, words, config, tmp_path):
    files.write(tmp_path, inside | ({"config.json": files.as_json(files.CONFIG)} if config else {}))
    if not config and ("model.safetensors" in inside or "model.safetensors.index.json" in inside):
        words = (
            r"config\.json: there is no such file"  # the weights are there: the config is what lacks
        )
    with pytest.raises(Error, match=words) as error:
        load_model(tmp_path, "float32")
    assert len(str(error.value)) < 500


@pytest.mark.parametrize(
    ("name", "data"),
    [("config.json", POINTER), ("config.json", b"<html></html>"), ("config.json", b"")],
)
def test_a_config_that_is_something_else_is_told_for_what_it_is(name, data, tmp_path):
    files.write(tmp_path, {name: data})
    with pytest.raises(Error, match="LFS pointer|web page|empty"):
        load_model(tmp_path, "float32")


def test_a_checkpoint_one_level_down_is_pointed_at(tmp_path):
    for n, inner in enumerate(("checkpoint-500", "snapshots/abc")):
        files.write(tmp_path / str(n) / inner, files.single({}))
        with pytest.raises(Error, match=f"one level down: name the folder .*{inner}"):
            load_model(tmp_path / str(n), "float32")


PROJECTION = "model.layers.0.self_attn.q_proj"


def spoilt(rename=lambda name: name, extra=(), dtype=None) -> dict:
    found = {rename(name): array for name, array in files.tensors().items()}
    if dtype is not None:
        found[PROJECTION + ".weight"] = np.zeros((24, 24), dtype)
    return found | {name: np.zeros(2, np.float32) for name in extra}


TENSORS = {
    "peft, beside": (
        {"extra": [f"{PROJECTION}.lora_A.default.weight", f"{PROJECTION}.lora_B.default.weight"]},
        "adapters.*merge",
    ),
    "peft, base layers": (
        {"rename": lambda name: name.replace("q_proj.", "q_proj.base_layer.")},
        "adapters.*merge",
    ),
    "dora": ({"extra": [f"{PROJECTION}.lora_magnitude_vector.default"]}, "adapters.*merge"),
    "gptq": ({"extra": [f"{PROJECTION}.qweight", f"{PROJECTION}.scales"]}, "quantised.*bf16 release"),
    "bitsandbytes, 4 bits": (
        {
            "extra": [
                f"{PROJECTION}.weight.absmax",
                f"{PROJECTION}.weight.quant_state.bitsandbytes__nf4",
            ]
        },
        "quantised.*bitsandbytes",
    ),
    "bitsandbytes, 8 bits": (
        {"extra": [f"{PROJECTION}.SCB"], "dtype": np.int8},
        "quantised.*bitsandbytes",
    ),
    "fp8": (
        {"extra": [f"{PROJECTION}.weight_scale_inv"], "dtype": ml_dtypes.float8_e4m3fn},
        "quantised.*FP8",
    ),
    "fp8 without scales": ({"dtype": ml_dtypes.float8_e4m3fn}, "quantised.*f8_e4m3"),
    "int8 without scales": ({"dtype": np.int8}, "quantised.*i8"),
    "packed": ({"extra": [f"{PROJECTION}.weight_packed", f"{PROJECTION}.weight_shape"]}, "quantised"),
    "mlx": (
        {
            "rename": lambda name: (
                "vision_tower." + name[7:] if name.startswith("visual.") else "language_model." + name
            )
        },
        "MLX",
    ),
    "compiled": ({"rename": lambda name: "_orig_mod." + name}, "wrapper"),
    "omni": ({"rename": lambda name: "thinker." + name}, "Omni"),
}


@pytest.mark.parametrize("name", TENSORS)
def test_tensors_of_another_kind_are_told_for_what_they_are(name, tmp_path):
    how, words = TENSORS[name]
    files.write(tmp_path, {"config.json": files.as_json(files.CONFIG)})
    safetensors.numpy.save_file(spoilt(**how), tmp_path / "model.safetensors")
    with pytest.raises(Error, match=f"(?s){words}"):
        load_model(tmp_path, "float32")


def test_a_config_of_mlx_says_so(tmp_path):
    files.write(
        tmp_path,
        files.single(files.tensors(), {**files.CONFIG, "quantization": {"group_size": 64, "bits": 4}}),
    )
    with pytest.raises(Error, match="mlx.*bf16 release.*MLX"):
        load_model(tmp_path, "float32")


def test_an_adapter_beside_the_weights_is_not_passed_over_in_silence(tmp_path):
    files.write(tmp_path, files.single(files.tensors()) | {"adapter_config.json": b"{}"})
    with pytest.warns(UserWarning, match="adapter.*not applied"):
        load_model(tmp_path, "float32")[1].close()


def test_a_lone_variant_is_the_model(tmp_path):
    single = files.single(files.tensors())
    files.write(tmp_path, {"model.fp16.safetensors": single.pop("model.safetensors")} | single)
    with read_tensors(tmp_path) as found:
        assert found.keys() == files.tensors().keys()


def test_what_a_message_says_of_a_base_model_is_short(tmp_path):
    files.write(
        tmp_path,
        {"adapter_config.json": json.dumps({"base_model_name_or_path": "x" * 10_000}).encode()},
    )
    with pytest.raises(Error) as error:
        read_tensors(tmp_path)
    assert len(str(error.value)) < 600
