"""A streamed model gives, bit for bit, what one in memory gives, in the memory that it was given."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import minivl
from minivl.checkpoint.convert import convert
from minivl.checkpoint.safetensors import MappedFile
from minivl.checkpoint.streamed import Part, Reader, Span
from minivl.cli import app
from minivl.door.errors import ArgumentError
from minivl.run.streaming import bytes_of, kept_blocks, reader_of, spent
from minivl.show.samples import load_samples
from tests.checkpoint.narrow import make_narrow
from tests.checkpoint.quantised_files import gguf_pair

MIB = 1 << 20


@pytest.fixture(scope="module")
def picture():
    return str(next(one for one in load_samples() if one.fps is None).paths[0])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_narrow(tmp_path_factory.mktemp("streamed") / "model")


def talk(vlm, picture):
    return vlm.prepare([{"role": "user", "content": [{"type": "image", "image": picture},
                                                     {"type": "text", "text": "What is this?"}]}])


# ---- the same numbers ----------------------------------------------------------------------------------

@pytest.mark.parametrize(("kernels", "weights"), [("definition", "stored"), ("definition", "int4"), ("jit", "stored"),
                                                  ("jit", "bf16"), ("jit-int8", "int8")])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_scores_and_tokens_are_those_of_a_model_in_memory(picture, tmp_path, kernels, weights, precision):
    if kernels.startswith("jit"):
        pytest.importorskip("numba")
    path = None if weights == "stored" else convert(minivl.api.TINY, tmp_path / "packed", weights)
    with minivl.load(path, precision, kernels) as held, \
            minivl.load(path, precision, kernels, memory="400MiB") as streamed:
        inputs = talk(held, picture)
        assert np.array_equal(streamed.logits(inputs), held.logits(inputs))
        assert streamed.generate(inputs, 6) == held.generate(inputs, 6)


def test_gguf_files_are_streamed_too(tmp_path):
    gguf_pair(tmp_path)
    with minivl.load(tmp_path, kernels="definition") as held, \
            minivl.load(tmp_path, kernels="definition", memory="400MiB") as streamed:
        inputs = minivl.Inputs.from_ids([1, 2, 3], held.config)
        assert np.array_equal(streamed.logits(inputs), held.logits(inputs))
        assert all(part.bytes for part in reader_of(streamed.weights).parts)


def test_sessions_look_as_ever(picture):
    with minivl.load(kernels="definition") as held, minivl.load(kernels="definition", memory="400MiB") as streamed:
        inputs = talk(held, picture)
        with minivl.session(record="*") as right:
            held.logits(inputs)
        with minivl.session(record="*", verify=True) as seen:
            streamed.logits(inputs)
        assert list(seen.trace) == list(right.trace)
        assert np.array_equal(seen.trace["decoder.layers.2.add_mlp"], right.trace["decoder.layers.2.add_mlp"])


# ---- memory --------------------------------------------------------------------------------------------

PROGRAM = """
import json, re, sys, threading
from pathlib import Path
import numpy as np
import minivl
from minivl.checkpoint.packed import packed
from minivl.checkpoint.weight import Stored
from minivl.kernels import jit

def now():
    return int(re.search(r"RssAnon:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024

def watch():
    while not ended.wait(0.001):
        peak[0] = max(peak[0], now())

with minivl.load(kernels="jit") as tiny:                            # compiled before memory is looked at
    tiny.generate(minivl.Inputs.from_ids([1, 2, 3], tiny.config), 2)
mapped = np.ones((1024, 1024), np.uint16)
mapped.flags.writeable = False
packed(Stored(mapped, "bf16"), "bf16", jit.pack)
before, ended, peak = now(), threading.Event(), [0]
watcher = threading.Thread(target=watch)
watcher.start()
with minivl.load(sys.argv[1], kernels="jit", memory=json.loads(sys.argv[2])) as vlm:
    tokens = vlm.generate(minivl.Inputs.from_ids([1, 2, 3, 4, 5], vlm.config), 3, stop_ids=())
    ended.set(), watcher.join()
print(json.dumps({"peak": peak[0] - before, "tokens": tokens}))
"""


def measured(folder, memory):
    done = subprocess.run([sys.executable, "-c", PROGRAM, folder, json.dumps(memory)], capture_output=True,
                          encoding="utf-8", cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_a_streamed_model_has_one_matrix_in_memory_and_not_all(folder):
    """In memory 126 MB are packed; streamed, at most the largest matrix (9 MB) at a time, and no tile of
    a packed folder."""
    pytest.importorskip("numba")
    held, streamed = measured(folder, None), measured(folder, "400MiB")
    tiles = measured(convert(folder, folder.with_name("packed"), "bf16"), "400MiB")
    assert held["tokens"] == streamed["tokens"] == tiles["tokens"]
    peaks = [found["peak"] / MIB for found in (held, streamed, tiles)]
    assert peaks[0] > 100 and peaks[1] < 40 and peaks[2] < 24, peaks


def test_more_memory_keeps_more_blocks_and_too_little_is_refused(folder):
    with minivl.load(folder, kernels="definition") as vlm:
        counts = [len(kept_blocks(vlm.weights, n * MIB, 0)) for n in (330, 345, 360, 380, 420, 4000)]
        assert counts == sorted(counts) and 0 <= counts[0] < counts[-1] == 6
        with pytest.raises(ArgumentError, match="needs at least 0.3"):
            kept_blocks(vlm.weights, 200 * MIB, 0)
        kept = sorted(kept_blocks(vlm.weights, 360 * MIB, 0))                 # spread, so that the disk is never idle
        gaps = np.diff([*kept, kept[0] + 6])
        assert 0 < len(kept) < 6 and gaps.max() - gaps.min() <= 1
    with pytest.raises(ArgumentError, match="memory= streams weights for kernels definition and jit, got 'shapes'"):
        minivl.load(folder, kernels="shapes", memory="1GiB")


def test_what_needs_less_memory_is_said_where_it_would_help(folder):
    packed = convert(folder, folder.with_name("told"), "bf16")
    compiled = '; kernels="jit" (pip install "minivl[jit]") needs less'
    cases = [(folder, "definition", compiled), (packed, "definition", compiled)]
    if find_spec("numba"):
        cases += [(folder, "jit", "; a packed folder (minivl convert) needs less"), (packed, "jit", "")]
    for where, kernels, hint in cases:
        with pytest.raises(ArgumentError, match="this model needs at least") as refused:
            minivl.load(where, kernels=kernels, memory="1MiB")
        assert str(refused.value).endswith(f"got 0.00 GiB{hint}")



@pytest.mark.parametrize(("text", "bytes"), [("8GiB", 8 << 30), ("8G", 8 << 30), ("8 gb", 8 << 30),
                                             ("500MiB", 500 << 20), ("1.5K", 1536), (4096, 4096), ("2T", 2 << 40)])
def test_sizes_are_read(text, bytes):
    assert bytes_of(text) == bytes


@pytest.mark.parametrize("text", ["", "G", "-1G", "8 potatoes", "0", "1e9", "8GiBs"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(ArgumentError, match="memory must be a size such as 8GiB"):
        bytes_of(text)


# ---- the reader ----------------------------------------------------------------------------------------

def reader(tmp_path, kept=()):
    """Two parts of a tower and three of a decoder, of 10,000 bytes each."""
    path = tmp_path / "numbers"
    path.write_bytes(bytes(range(250)) * 200)
    file = MappedFile(path)
    parts = [Part(f"{'tower' if i < 2 else 'decoder'}.{i}", "tower" if i < 2 else "decoder",
                  (Span(file, 10_000 * i, 10_000),), i in kept) for i in range(5)]
    return Reader(parts)


def test_a_part_is_read_before_it_runs_and_the_next_one_meanwhile(tmp_path):
    found = reader(tmp_path)
    found.arrive(0)
    found.arrive(0)
    assert found.times[0].bytes == 10_000 and found.times[0].runs == 1
    found._there[1].wait(10)                                          # asked for without a word from anybody
    assert found.times[1].bytes == 10_000 and found.times[2].bytes == 0
    for at in (1, 2, 3, 4, 2, 3, 4):                                  # the decoder again for the next token
        found.arrive(at)
    found.close()
    assert [one.runs for one in found.times] == [1, 1, 2, 2, 2]
    assert [one.bytes // 10_000 for one in found.times] == [1, 1, 3, 2, 2]       # and the next token's first


def test_what_is_kept_is_read_once(tmp_path):
    found = reader(tmp_path, kept=(3,))
    for at in (0, 1, *(2, 3, 4) * 4):
        found.arrive(at)
    found.close()
    assert found.times[3].bytes == 10_000 and found.times[3].runs == 4
    assert found.times[4].bytes >= 40_000 and sum(one.compute for one in found.times) > 0


def test_a_disk_that_fails_is_told_in_the_models_own_thread(tmp_path):
    found = reader(tmp_path)
    (tmp_path / "numbers").unlink()
    with pytest.raises(FileNotFoundError):
        found.arrive(0)


# ---- the command line ----------------------------------------------------------------------------------

def test_the_command_draws_where_the_time_went(picture):
    done = CliRunner().invoke(app, ["ask", picture, "What is this?", "--memory", "400MiB", "--costs"])
    assert done.exit_code == 0, done.output
    assert "decoder.layers.4" in done.output and "vision.blocks.0" in done.output and "decoder.head" in done.output
    assert done.output.splitlines()[-1].startswith("together") or "together" in done.output


def test_the_command_says_what_memory_means(picture):
    for words, said in ((["--memory", "much"], "memory must be a size"), (["--memory", "1MiB"], "needs at least"),
                        (["--costs"], "--costs tells of a run with --memory or --parallel")):
        done = CliRunner().invoke(app, ["ask", picture, "What is this?", *words])
        assert done.exit_code == 2 and said in done.output, done.output


def test_times_add_up(folder):
    with minivl.load(folder, kernels="definition", memory="400MiB") as vlm:
        vlm.generate(minivl.Inputs.from_ids([1, 2, 3], vlm.config), 3, stop_ids=())
        found = spent(reader_of(vlm.weights))
    layers = [row for row in found.rows if row[0].startswith("decoder")]
    assert len(layers) == 7 and {times.runs for *_, times in layers} == {3}
    assert all(times.bytes >= bytes for _, _, bytes, times in layers)
    assert not any(times.runs for name, *_, times in found.rows if name.startswith("vision"))
