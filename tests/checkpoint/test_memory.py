"""What loading for the compiled interpreter leaves in memory: the packed weights, and no page of the checkpoint that it
read them from. Measured in a process of its own, as Linux counts it, on a model of the 3B's form with 63 million
parameters; `python -m tools.bench.load_3b FOLDER --kernels jit` measures the full width.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from minivl.checkpoint.convert import convert

from .narrow import language_file, make_narrow

MIB = 1 << 20
PROGRAM = """
import json, re, sys, threading
from pathlib import Path
import numpy as np
import minivl
from minivl.checkpoint.names import weights_of
from minivl.checkpoint.packed import packed
from minivl.checkpoint.weight import Stored
from minivl.kernels import jit

def now():
    text = Path("/proc/self/status").read_text()
    return [int(re.search(kind + r":\\s+(\\d+) kB", text)[1]) * 1024 for kind in ("RssAnon", "RssFile")]

def watch():
    while not ended.wait(0.001):
        peak[0] = max(peak[0], now()[0])

with minivl.load(sys.argv[1], kernels="definition") as vlm:
    mapped = np.ones((1024, 1024), np.uint16)
    mapped.flags.writeable = False                                 # a type of its own to the compiler, as files are
    for format in ("bf16", "int8", "int4"):                        # compiled before memory is looked at
        packed(Stored(mapped, "bf16"), format, jit.pack)
    before, ended, peak = now(), threading.Event(), [0]
    watcher = threading.Thread(target=watch)
    watcher.start()
    made = jit.prepare(vlm.weights, None if sys.argv[2] == "bf16" else sys.argv[2])
    after = now()
    ended.set(), watcher.join()
    held = sum(getattr(one, "nbytes", 0) for one in weights_of(made).values())
print(json.dumps({"held": held, "peak": peak[0] - before[0], "file": after[1] - before[1]}))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_narrow(tmp_path_factory.mktemp("memory") / "model")


def measured(folder, format):
    done = subprocess.run([sys.executable, "-c", PROGRAM, folder, format], capture_output=True, encoding="utf-8",
                          cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


pytestmark = [pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")]


@pytest.mark.parametrize("format", ["bf16", "int4"])
def test_packing_takes_the_packed_weights_and_gives_the_checkpoints_pages_back(folder, format):
    pytest.importorskip("numba")
    found = measured(folder, format)
    assert found["held"] > (100 if format == "bf16" else 25) * MIB
    assert found["peak"] <= 1.15 * found["held"] + 48 * MIB, found         # and pieces of PIECE numbers, of each thread
    assert found["file"] < 16 * MIB, found


@pytest.mark.parametrize("format", ["bf16", "int4"])
def test_a_gguf_file_is_packed_piece_by_piece_and_its_pages_are_given_back(folder, format):
    """As float32, which its numbers are, or as int4: never more than the packed weights and a piece."""
    pytest.importorskip("numba")
    pytest.importorskip("gguf")
    source = language_file(folder, folder.with_name("gguf"))
    found = measured(source, format)
    assert found["held"] > (150 if format == "bf16" else 20) * MIB
    assert found["peak"] <= 1.15 * found["held"] + 48 * MIB, found
    assert found["file"] < 16 * MIB, found


def test_a_packed_folder_takes_no_memory_of_its_own(folder):
    pytest.importorskip("numba")
    packed = convert(folder, folder.with_name("packed"), "bf16")
    found = measured(packed, "bf16")
    assert found["held"] > 100 * MIB and found["peak"] < 8 * MIB and found["file"] < 8 * MIB, found


@pytest.mark.full
def test_memory_grows_with_the_tokens_of_a_prompt_and_not_with_their_square(folder):
    """Scores of 16,384 tokens would take 4 GiB for each head."""
    pytest.importorskip("numba")
    found = {}
    for tokens in (4096, 16384):
        command = [sys.executable, "-m", "tools.bench.long_prompt", "--one", str(tokens), "--folder", folder]
        done = subprocess.run(command, capture_output=True, encoding="utf-8", cwd=Path(__file__).parents[2])
        assert done.returncode == 0, done.stderr
        found[tokens] = json.loads(done.stdout.splitlines()[-1])["bytes"]
    assert found[16384] <= 1.3 * 4 * found[4096], found
