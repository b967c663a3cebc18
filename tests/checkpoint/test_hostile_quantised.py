"""Damaged and hostile .gguf and AWQ files: whatever the bytes say, loading ends in one of the documented errors, or in
a model whose every tensor can be read. No crash, no hang, no memory beyond the files and 200 MB.

Files are written byte by byte here, with the place of every count, length, size, type and offset known, so that each
can be a lie. The cases run in a process of their own: a hang is ended there, and an abort is seen as one.
`python -m tests.checkpoint.test_hostile_quantised KIND SEED FIRST COUNT` runs some again and prints what became of
each.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tracemalloc
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import minivl
from minivl.api import TINY
from minivl.checkpoint.gguf import GGUF
from minivl.checkpoint.names import weights_of
from minivl.checkpoint.weight import CheckpointError

from . import checkpoint_files as plain
from .quantised_files import QUANTISATION, awq_of
from .test_hostile import BYTE_WAYS, JSON_WAYS, ROOM, VALUES, spoil_header, watched

LIES = [0, 1, 2, 3, 7, 8, 31, 33, 255, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**61, 2**62, 2**63 - 1, 2**63,
        2**64 - 32, 2**64 - 1]
U32, F32, TEXT, LIST, BOOL = 4, 6, 8, 9, 7
Parts = dict[str, bytes]


class Written:
    """Bytes of a .gguf file as they grow, and where each integer of the header stands: (start, bytes)."""

    def __init__(self):
        self.data, self.fields = bytearray(), []

    def number(self, value, size):
        self.fields.append((len(self.data), size))
        self.data += int(value).to_bytes(size, "little")

    def text(self, value):
        self.number(len(value.encode()), 8)
        self.data += value.encode()

    def value(self, value, kind=None):
        """A value of metadata with its type before it."""
        if isinstance(value, list):
            self.number(LIST, 4)
            inner = TEXT if isinstance(value[0], str) else F32 if isinstance(value[0], float) else U32
            self.number(inner, 4)
            self.number(len(value), 8)
            for one in value:
                self.plain(one)
        else:
            self.number({str: TEXT, float: F32, bool: BOOL, int: U32}[type(value)], 4)
            self.plain(value)

    def plain(self, value):
        if isinstance(value, str):
            self.text(value)
        elif isinstance(value, float):
            self.fields.append((len(self.data), 4))
            self.data += np.float32(value).tobytes()
        else:
            self.number(value, 1 if isinstance(value, bool) else 4)


def gguf_file(metadata: dict, tensors: dict[str, tuple[tuple[int, ...], int, bytes]]) -> tuple[bytes, list]:
    """The bytes of a file, and where its integers stand. tensors: name -> shape, type, numbers"""
    out = Written()
    out.data += b"GGUF"
    for value, size in ((3, 4), (len(tensors), 8), (len(metadata), 8)):
        out.number(value, size)
    for key, value in metadata.items():
        out.text(key)
        out.value(value)
    start = 0
    for name, (shape, kind, numbers) in tensors.items():
        out.text(name)
        out.number(len(shape), 4)
        for size in shape[::-1]:
            out.number(size, 8)
        out.number(kind, 4)
        out.number(start, 8)
        start += len(numbers) + -len(numbers) % 32
    out.data += bytes(-len(out.data) % 32)
    for _, _, numbers in tensors.values():
        out.data += numbers + bytes(-len(numbers) % 32)
    return bytes(out.data), out.fields


def small_model() -> tuple[dict, dict, dict, dict]:
    """Metadata and tensors of a language model of two layers, 64 wide, in Q8_0, and of its tower."""
    file = json.loads((TINY / "tokenizer.json").read_text(encoding="utf-8"))
    words, kinds = [f"[PAD{i}]" for i in range(640)], [5] * 640
    for word, number in file["model"]["vocab"].items():
        words[number], kinds[number] = word, 1
    for one in file["added_tokens"]:
        words[one["id"]], kinds[one["id"]] = one["content"], 3
    merges = [one if isinstance(one, str) else " ".join(one) for one in file["model"]["merges"]]
    said = {"general.architecture": "qwen2vl", "qwen2vl.block_count": 2, "qwen2vl.context_length": 512,
            "qwen2vl.embedding_length": 64, "qwen2vl.feed_forward_length": 96, "qwen2vl.attention.head_count": 4,
            "qwen2vl.attention.head_count_kv": 2, "qwen2vl.rope.freq_base": 1000.0,
            "qwen2vl.attention.layer_norm_rms_epsilon": 1e-6, "qwen2vl.rope.dimension_sections": [2, 3, 3, 0],
            "general.alignment": 32, "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "qwen2",
            "tokenizer.ggml.tokens": words, "tokenizer.ggml.token_type": kinds, "tokenizer.ggml.merges": merges,
            "tokenizer.ggml.eos_token_id": 620, "tokenizer.ggml.add_bos_token": False}
    r = np.random.default_rng(1)

    def wide(*shape):
        return shape, 0, r.standard_normal(shape).astype(np.float32).tobytes()

    def blocks(n, k):
        return (n, k), 8, r.integers(0, 60, (n, k // 32 * 34), np.uint8).tobytes()
    language = {"token_embd.weight": blocks(640, 64), "output_norm.weight": wide(64)}
    for i in range(2):
        language |= {f"blk.{i}.{name}": made for name, made in {
            "attn_norm.weight": wide(64), "ffn_norm.weight": wide(64), "attn_q.weight": blocks(64, 64),
            "attn_k.weight": blocks(32, 64), "attn_v.weight": blocks(32, 64), "attn_q.bias": wide(64),
            "attn_k.bias": wide(32), "attn_v.bias": wide(32), "attn_output.weight": blocks(64, 64),
            "ffn_gate.weight": blocks(96, 64), "ffn_up.weight": blocks(96, 64),
            "ffn_down.weight": blocks(64, 96)}.items()}
    seen = {"general.architecture": "clip", "clip.projector_type": "qwen2.5vl_merger", "clip.use_silu": True,
            "clip.vision.embedding_length": 32, "clip.vision.block_count": 2, "clip.vision.attention.head_count": 2,
            "clip.vision.feed_forward_length": 64, "clip.vision.patch_size": 14, "clip.vision.projection_dim": 64,
            "clip.vision.attention.layer_norm_epsilon": 1e-6, "clip.vision.n_wa_pattern": 2,
            "clip.vision.image_mean": [0.5, 0.4, 0.3], "clip.vision.image_std": [0.5, 0.4, 0.3]}
    tower = {"v.patch_embd.weight": wide(32, 3, 14, 14), "v.patch_embd.weight.1": wide(32, 3, 14, 14),
             "v.post_ln.weight": wide(32), "mm.0.weight": blocks(128, 128), "mm.0.bias": wide(128),
             "mm.2.weight": blocks(64, 128), "mm.2.bias": wide(64)}
    for i in range(2):
        tower |= {f"v.blk.{i}.{name}": made for name, made in {
            "ln1.weight": wide(32), "ln2.weight": wide(32),
            "attn_out.weight": blocks(32, 32), "attn_out.bias": wide(32),
            **{f"attn_{part}.weight": blocks(32, 32) for part in "qkv"},
            **{f"attn_{part}.bias": wide(32) for part in "qkv"}, "ffn_gate.weight": blocks(64, 32),
            "ffn_gate.bias": wide(64), "ffn_up.weight": blocks(64, 32), "ffn_up.bias": wide(64),
            "ffn_down.weight": blocks(32, 64), "ffn_down.bias": wide(32)}.items()}
    return said, language, seen, tower


LANGUAGE, LANGUAGE_TENSORS, SEEN, TOWER_TENSORS = small_model()


def lie(data: bytes, fields: list, r: random.Random) -> bytes:
    """One to three integers of the header that are something else."""
    spoilt = bytearray(data)
    for _ in range(r.choice([1, 1, 1, 2, 3])):
        start, size = r.choice(fields if r.random() < 0.5 else fields[:60] + fields[-120:])
        value = int.from_bytes(spoilt[start:start + size], "little")
        value = r.choice([*LIES, value + 1, value - 1, value * 2, value ^ 1 << r.randrange(8 * size)])
        spoilt[start:start + size] = (value % (1 << 8 * size)).to_bytes(size, "little")
    return bytes(spoilt)


def exchange(table: dict, r: random.Random) -> dict:
    """Keys, values or whole entries of a table that stand elsewhere, or something else in their place."""
    found, (a, b) = dict(table), r.sample(list(table), 2)
    way = r.randrange(5)
    if way == 0:
        found[a], found[b] = found[b], found[a]
    elif way == 1:
        del found[a]
    elif way == 2:
        found = {r.choice(["", "x", "é" * 200, b, "general.name"]) if key == a else key: value
                 for key, value in found.items()}
    elif way == 3 and not isinstance(found[a], tuple):
        found[a] = r.choice([0, 1, 7, 2**31, 2**32 - 1, 1e30, float("nan"), float("inf"), -1.0, "", "x" * 5000, True,
                             [1, 2], ["a"], [0.5]])
    return found


def spoilt_gguf(r: random.Random) -> Parts:
    said, language, seen, tower = LANGUAGE, LANGUAGE_TENSORS, SEEN, TOWER_TENSORS
    way, first = r.random(), r.random() < 0.6
    if way < 0.35:                                                       # a sound file of something else
        if r.random() < 0.6:
            said, seen = (exchange(said, r), seen) if first else (said, exchange(seen, r))
        else:
            language, tower = (exchange(language, r), tower) if first else (language, exchange(tower, r))
    files = [gguf_file(said, language), gguf_file(seen, tower)]
    data, fields = files[not first]
    if 0.35 <= way < 0.75:
        data = lie(data, fields, r)
    elif way >= 0.75:
        data = r.choice(BYTE_WAYS)(data, r)
    made = [one for one, _ in files]
    made[not first] = data
    return {"model.gguf": made[0], "mmproj.gguf": made[1]}


def sound_awq() -> Parts:
    """A small model whose matrices are multiples of 8 by 16, in groups of 8, and its folder."""
    config = plain.CONFIG | {"hidden_size": 24, "intermediate_size": 16,
                             "quantization_config": QUANTISATION | {"group_size": 8}}
    arrays = {}
    for name, array in plain.tensors(np.float32).items():
        if "layers." in name and "mlp" in name:
            array = np.resize(array, (24, 16) if "down" in name else (16, 24))
        if name.startswith("model.layers.") and name.endswith("_proj.weight") and array.shape[0] % 8 == 0:
            arrays |= {name.removesuffix("weight") + part: value for part, value in awq_of(array, 8)[0].items()}
        else:
            arrays[name] = array.astype(np.float16)
    return plain.single(arrays, config)


AWQ = sound_awq()


def spoilt_awq(r: random.Random) -> Parts:
    parts = dict(AWQ)
    if r.random() < 0.3:
        config = json.loads(parts["config.json"])
        said = config["quantization_config"]
        key = r.choice(list(said))
        said[key] = r.choice([*VALUES, 4, 8, 16, 24, 64, -1, "awq", "gemm"])
        parts["config.json"] = r.choice([plain.as_json(config), r.choice(JSON_WAYS)(parts["config.json"], r)])
    else:
        way = spoil_header if r.random() < 0.75 else r.choice(BYTE_WAYS)
        parts["model.safetensors"] = way(parts["model.safetensors"], r)
    return parts


KINDS: dict[str, Callable[[random.Random], Parts]] = {"gguf": spoilt_gguf, "awq": spoilt_awq}


def outcome_of(folder: Path) -> str:
    """Load a folder and read every tensor of it; anything but success and a documented error is raised."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with minivl.load(folder, kernels="definition") as vlm:
                for weight in weights_of(vlm.weights).values():
                    weight.rows(np.arange(min(2, weight.shape[0])), np.float32)
    except minivl.Error as error:
        assert 10 < len(str(error)) < 3_000 and str(error).encode("utf-8", "backslashreplace")
        return "refused"
    return "read"


def run(kind: str, seed: int, first: int, count: int, tell: Callable[[str], object]) -> Counter:
    return watched(lambda number: KINDS[kind](random.Random(f"{kind} {seed} {number}")), outcome_of,
                   range(first, first + count), tell)


def run_apart(kind: str, seed: int, count: int) -> Counter:
    words = [sys.executable, "-m", "tests.checkpoint.test_hostile_quantised", kind, str(seed), "0", str(count)]
    done = subprocess.run(words, encoding="utf-8", capture_output=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, f"{kind} {seed}: {done.stdout[-300:]}\n{done.stderr[-3000:]}"
    return Counter(line.split()[1] for line in done.stdout.splitlines())


@pytest.mark.parametrize("kind", KINDS)
def test_spoilt_files_are_refused_or_read(kind):
    outcomes = run_apart(kind, seed=1, count=150)
    assert outcomes.total() == 150 and outcomes["refused"] > 75, outcomes


@pytest.mark.full
@pytest.mark.parametrize(("kind", "count"), [("gguf", 10_000), ("awq", 5_000)])
def test_many_more_spoilt_files(kind, count):
    """Together with `test_many_more_spoilt_checkpoints`, 20,000."""
    assert run_apart(kind, seed=2, count=count).total() == count


@pytest.mark.parametrize("kind", KINDS)
def test_sound_files_are_read(kind, tmp_path):
    parts = AWQ if kind == "awq" else {"model.gguf": gguf_file(LANGUAGE, LANGUAGE_TENSORS)[0],
                                       "mmproj.gguf": gguf_file(SEEN, TOWER_TENSORS)[0]}
    assert outcome_of(plain.write(tmp_path, parts)) == "read"


NUMBER = (64,), 0, bytes(256)
SAID = {"general.architecture": "llama", "x": [1, 2, 3]}


def told(data, old, new, count=1):
    """A file with some of its bytes exchanged."""
    assert data.count(old) >= count, old
    return data.replace(old, new, count)


def small(metadata=SAID, **tensors):
    return gguf_file(metadata, {"a": NUMBER, "b": NUMBER} | tensors)[0]


def eight(number):
    return number.to_bytes(8, "little")


@pytest.mark.parametrize(("data", "words"), [
    (told(small(), b"GGUF" + b"\3\0\0\0", b"GGUF" + b"\1\0\0\0"), "version is 1, should be 2 or 3"),
    (told(small(), b"GGUF" + b"\3\0\0\0", b"GGUF" + b"\0\0\0\3"), "version is 50331648 .it is big-endian"),
    (told(small(), eight(2), eight(2**61)), "the number of tensors is 2305843009213693952; .* bytes are left"),
    (told(small(), eight(2) + eight(2), eight(2) + eight(2**62)), "the number of metadata is 4611686018427387904; "),
    (told(small(), b"\4\0\0\0" + eight(3), b"\4\0\0\0" + eight(2**62 + 3)), "'x' is 4611686018427387907; .* are left"),
    (told(small(), eight(5) + b"llama", eight(2**63) + b"llama"), "has 9223372036854775808 bytes, should have at most"),
    (told(small(), b"llama", b"ll\xffma"), "architecture' is no UTF-8"),
    (told(small(), eight(1) + b"b", eight(1) + b"a"), "tensor 'a' is there twice"),
    (small({"general.architecture": "llama", "general.architecturf": 1}).replace(b"turf", b"ture"), "is there twice"),
    (told(small(), eight(64) + bytes(4) + eight(256), eight(64) + bytes(4) + eight(0)),
     "'b' begins at byte 0 .*begin at 256"),
    (told(small(), eight(64) + bytes(4) + eight(256), eight(64) + bytes(4) + eight(512)),
     "begins at byte 512 .*begin at 256"),
    (told(small(), eight(64), eight(2**40)), "should have 4398046511104 bytes .*the file ends at"),
    (told(small(), eight(64), eight(2**62)), "is no list of sizes"),
    (told(small(), eight(64), eight(0)), "is no list of sizes"),
    (told(small(), b"a\1\0\0\0" + eight(64), b"a\5\0\0\0" + eight(64)), "has 5 axes, should have 1 to 4"),
    (small(b=((64,), 23, bytes(256))), "'b' is IQ4_XS, which is not read; take a file in Q8_0"),
    (small(b=((64,), 99, bytes(256))), "of type 99, which is not known"),
    (small(b=((64,), 8, bytes(68))), "is a vector in q8_0, should be stored as F32"),
    (small(b=((2, 33), 8, bytes(68))), "rows of 33 are no multiple of 32, a block of q8_0"),
    (small() + bytes(32), "the header speaks of .* bytes, the file has"),
    (small()[:-33], "should have 256 bytes .*fetch it again"),
    (told(small(SAID | {"y": True}), b"y" + b"\7\0\0\0\1", b"y" + b"\7\0\0\0\2"), "'y' should be true or false, is 2"),
    (told(small(SAID | {"y": 1}), b"y" + b"\4\0\0\0", b"y" + b"\15\0\0\0"), "has values of type 13"),
])
def test_a_header_that_lies_is_refused_by_what_is_wrong(tmp_path, data, words):
    (tmp_path / "x.gguf").write_bytes(data)
    with pytest.raises(CheckpointError, match=words):
        GGUF(tmp_path / "x.gguf")


def test_a_header_is_read_as_it_was_written(tmp_path):
    (tmp_path / "x.gguf").write_bytes(small())
    file = GGUF(tmp_path / "x.gguf")
    assert file.metadata["x"].tolist() == [1, 2, 3] and list(file.tensors) == ["a", "b"]
    file.close()


def test_a_header_full_of_texts_takes_little_memory(tmp_path):
    """What grows most in memory: short texts, as many as a header may have."""
    count = (1 << 25) // 9 // 8
    out = Written()
    out.data += b"GGUF"
    for value, size in ((3, 4), (0, 8), (1, 8)):
        out.number(value, size)
    out.text("x")
    for value, size in ((LIST, 4), (TEXT, 4), (count, 8)):
        out.number(value, size)
    out.data += (b"\2" + bytes(7) + b"ab") * count
    (tmp_path / "x.gguf").write_bytes(out.data)
    tracemalloc.start()
    with pytest.raises(minivl.Error, match="general.architecture"):
        minivl.load(tmp_path / "x.gguf")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < ROOM // 8 + len(out.data)                 # an eighth of the largest header


if __name__ == "__main__":
    run(sys.argv[1], *map(int, sys.argv[2:]), sys.stdout.write)
