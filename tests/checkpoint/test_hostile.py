"""Damaged and hostile checkpoints: whatever the bytes say, reading ends in ConfigError or CheckpointError, or in the
very tensors that another reader finds in the same bytes. No crash, no hang, no memory beyond the file and 200 MB.

The cases run in a process of their own: a hang is ended there, and an abort is seen as one. Every case is made by a
seeded generator; `python -m tests.checkpoint.test_hostile SEED FIRST COUNT` runs some again and prints what became of
each.
"""

from __future__ import annotations

import faulthandler
import json
import random
import shutil
import subprocess
import sys
import tempfile
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from minivl.checkpoint.read import load_model, read_tensors
from minivl.checkpoint.weight import CheckpointError
from minivl.config import ConfigError, read_config, read_generation, read_preprocessor
from minivl.door.files import MAX_JSON, parse_json

from . import checkpoint_files as files

ROOM = 200 << 20                                             # bytes beyond the size of all files
SECONDS = 30                                                 # a case takes milliseconds
Parts = dict[str, bytes]
VALUES = [0, -1, 1, 2**31, 2**63, 2**64, 10**30, 10**400, 1.5, 1e300, True, False, None, "", "7", "ü" * 99, [], [1], {},
          [[]], {"a": {}}, [-1, 2], [2**62, 2**62], "\ud800", "../../../etc/passwd", "/dev/zero", "C:\\x.safetensors"]


# Ways to spoil the bytes of a file

def truncate(data: bytes, r: random.Random) -> bytes:
    return data[:r.randrange(len(data) + 1)]


def extend(data: bytes, r: random.Random) -> bytes:
    return data + r.randbytes(r.choice([1, 8, 4096]))


def flip_bits(data: bytes, r: random.Random) -> bytes:
    spoilt = bytearray(data)
    reach = r.choice([8, 200, len(spoilt)])                  # the length, the header, anywhere
    for _ in range(r.choice([1, 1, 2, 8]) if spoilt else 0):
        spoilt[r.randrange(min(reach, len(spoilt)))] ^= 1 << r.randrange(8)
    return bytes(spoilt)


def replace_slice(data: bytes, r: random.Random) -> bytes:
    at = r.randrange(len(data) + 1)
    return data[:at] + r.randbytes(r.randrange(9)) + data[at + r.randrange(9):]


def other_encoding(data: bytes, r: random.Random) -> bytes:
    return r.choice([b"\xef\xbb\xbf" + data, data.decode("latin-1").encode(r.choice(["utf-16", "utf-32"])),
                     b"\x00" * len(data), b""])


def nest(data: bytes, r: random.Random) -> bytes:
    depth = r.choice([100, 10_000, 500_000])
    return r.choice([b"[" * depth, b'{"a":' * depth, data[:-1] + b',"deep":' + b"[" * depth + b"]" * depth + b"}"])


def crowd(data: bytes, r: random.Random) -> bytes:
    """JSON that is far bigger in memory than in the file."""
    return data[:-1] + b',"many":[' + r.choice([b"[],", b"{},", b"1,", b'"",']) * r.choice([10**3, 10**5]) + b"1]}"


def repeat_key(data: bytes, r: random.Random) -> bytes:
    key = r.choice(list(json.loads(data)) or ["x"])
    return data[:-1] + b"," + json.dumps(key).encode() + b":" + json.dumps(r.choice(VALUES)).encode() + b"}"


def edit_values(data: bytes, r: random.Random) -> bytes:
    """Valid JSON with one to three values anywhere in it replaced, removed or renamed."""
    root = json.loads(data)
    for _ in range(r.choice([1, 1, 1, 2, 3])):
        part = root
        while part:
            key = r.choice(list(part) if isinstance(part, dict) else range(len(part)))
            if not isinstance(part[key], dict | list) or not part[key] or r.random() < 0.2:
                break
            part = part[key]
        if not part:
            continue
        action = r.random()
        if action < 0.15:
            del part[key]
        elif action < 0.3 and type(part[key]) is int:
            part[key] += r.choice([-1, 1, 8, 2**20, 2**40])
        elif action < 0.4 and isinstance(part, dict):
            part[r.choice(["", "x", "__metadata__", "ü", "lm_head.weight", "a" * 9999])] = part.pop(key)
        else:
            part[key] = r.choice(VALUES)
    return json.dumps(root).encode("utf-8")


JSON_WAYS = [truncate, flip_bits, replace_slice, other_encoding, nest, crowd, repeat_key, *[edit_values] * 8]
BYTE_WAYS = [truncate, extend, flip_bits, replace_slice]


def spoil_header(data: bytes, r: random.Random) -> bytes:
    """A .safetensors file with its header spoilt as JSON is, or its length a lie, or its offsets exchanged."""
    end = 8 + int.from_bytes(data[:8], "little")
    header, rest = data[8:end], data[end:]
    if r.random() < 0.2:
        length = r.choice([0, 1, len(header) - 1, len(header) + 1, len(data), 2**31, 2**40, 2**63, 2**64 - 1])
        return length.to_bytes(8, "little") + header + rest
    if r.random() < 0.25:
        table = json.loads(header)
        names = [name for name in table if name != "__metadata__"]
        a, b = r.choice(names), r.choice(names)
        field = r.choice(["data_offsets", "shape", "dtype"])
        table[a][field], table[b][field] = table[b][field], table[a][field]
        return files.pack(table, rest)
    return files.pack(r.choice(JSON_WAYS)(header, r), rest)


# Ways to spoil a folder

def spoil_a_json(parts: Parts, r: random.Random) -> None:
    name = r.choice([name for name in parts if name.endswith(".json")])
    parts[name] = r.choice(JSON_WAYS)(parts[name], r)


def spoil_weights(parts: Parts, r: random.Random) -> None:
    name = r.choice([name for name in parts if name.endswith(".safetensors")])
    parts[name] = (spoil_header if r.random() < 0.7 else r.choice(BYTE_WAYS))(parts[name], r)


def drop_a_file(parts: Parts, r: random.Random) -> None:
    del parts[r.choice(list(parts))]


def exchange_files(parts: Parts, r: random.Random) -> None:
    a, b = r.choice(list(parts)), r.choice(list(parts))
    parts[a], parts[b] = parts[b], parts[a]


def redirect_the_index(parts: Parts, r: random.Random) -> None:
    name = "model.safetensors.index.json"
    index = json.loads(parts.get(name) or b'{"weight_map": {"model.norm.weight": "x"}}')
    tensor = r.choice(list(index["weight_map"]))
    index["weight_map"][tensor] = r.choice([
        "../config.json", "..", "/dev/zero", "/etc/passwd", "C:\\x.safetensors", "config.json", "\0", "a\0.safetensors",
        "../folder/model-00001-of-00003.safetensors", "con.safetensors", "none.safetensors", 7, None, ["x"], "",
        "ü" * 400, "//host/x.safetensors", "model.safetensors.index.json", "model-00001-of-00003.safetensors"])
    if r.random() < 0.2:
        index["weight_map"].pop(tensor)
    parts[name] = files.as_json(index)


FOLDER_WAYS: list[Callable[[Parts, random.Random], None]] = [
    spoil_a_json, spoil_a_json, spoil_weights, spoil_weights, spoil_weights, drop_a_file, exchange_files,
    redirect_the_index]


def case(seed: int, number: int) -> Parts:
    """The files of one spoilt checkpoint."""
    r = random.Random(f"{seed} {number}")
    make = r.choice([files.single, files.sharded])
    parts = make(files.tensors(r.choice([np.float32, np.float16])))
    r.choice(FOLDER_WAYS)(parts, r)
    return parts


# What becomes of a case

def read_all(folder: Path) -> str:
    """Read a folder in every way; the outcome as a word. Anything but success and the two errors is raised."""
    outcome = "read"
    for read in (read_config, read_preprocessor, lambda f: read_generation(f, read_config(f)), read_weights):
        try:
            read(folder)
        except (ConfigError, CheckpointError) as error:
            assert 10 < len(str(error)) < 3_000 and str(error).encode("utf-8", "backslashreplace")
            outcome = "refused"
    return outcome


def read_weights(folder: Path) -> None:
    with read_tensors(folder) as found:
        theirs = {}
        for path in folder.glob("*.safetensors"):
            if path.name == "model.safetensors" or not (folder / "model.safetensors").exists():
                theirs |= safetensors.numpy.load_file(path)
        assert found.keys() == theirs.keys()
        for name, array in theirs.items():
            if found[name].format in ("f16", "f32", "f64"):
                ours = found[name].dense(array.dtype)
                assert ours.shape == array.shape and ours.tobytes() == array.tobytes(), name
    model, tensors = load_model(folder, np.float32)
    with tensors:
        model.decoder.embed.rows(np.arange(3), np.float32)


def run(seed: int, first: int, count: int, tell: Callable[[str], object]) -> Counter:
    """Run cases and count outcomes."""
    return watched(lambda number: case(seed, number), read_all, range(first, first + count), tell)


def watched(case_of: Callable[[int], Parts], read: Callable[[Path], str], numbers: Iterable[int],
            tell: Callable[[str], object]) -> Counter:
    """Read the files of each case and count outcomes; a hang ends the process, too much memory is an AssertionError."""
    outcomes: Counter = Counter()
    with tempfile.TemporaryDirectory() as home:
        for number in numbers:
            parts = case_of(number)
            size = sum(map(len, parts.values()))
            folder = files.write(Path(home) / str(number), parts)
            faulthandler.dump_traceback_later(SECONDS, exit=True)
            tracemalloc.start()
            tell(f"{number} ")
            outcome = read(folder)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            faulthandler.cancel_dump_traceback_later()
            tell(f"{outcome} {peak}\n")
            assert peak < size + ROOM, f"case {number}: {peak} bytes for files of {size}"
            outcomes[outcome] += 1
            shutil.rmtree(folder)
    return outcomes


def run_apart(seed: int, count: int) -> Counter:
    done = subprocess.run([sys.executable, "-m", "tests.checkpoint.test_hostile", str(seed), "0", str(count)],
    encoding="utf-8",
                          capture_output=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, f"seed {seed}: {done.stdout[-300:]}\n{done.stderr[-3000:]}"
    return Counter(line.split()[1] for line in done.stdout.splitlines())


def test_spoilt_checkpoints_are_refused_or_read_right():
    outcomes = run_apart(seed=1, count=300)
    assert outcomes.total() == 300
    assert outcomes["refused"] > 150                          # the ways to spoil a checkpoint do spoil it


@pytest.mark.full
def test_many_more_spoilt_checkpoints():
    assert run_apart(seed=2, count=5000).total() == 5000


def test_the_biggest_json_takes_little_memory():
    """The JSON that grows most in memory, a quarter of what is read at most: it may have a quarter of the room."""
    data = b'{"a":[' + b"{}," * (MAX_JSON // 4 // 3) + b"1]}"
    tracemalloc.start()
    parse_json(data, "config.json")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < ROOM // 4


def test_a_sound_checkpoint_is_read(tmp_path):
    for n, make in enumerate((files.single, files.sharded)):
        assert read_all(files.write(tmp_path / str(n), make(files.tensors(np.float32)))) == "read"


if __name__ == "__main__":
    run(*map(int, sys.argv[1:]), sys.stdout.write)
