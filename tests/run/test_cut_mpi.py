"""The same over MPI: processes that mpirun has started, on this machine. Skipped where there is no
MPI."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import minivl
from minivl.cli.words import app
from minivl.show.samples import load_samples

ROOT = Path(__file__).parents[2]
MPIRUN = shutil.which("mpirun", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")


def has_mpi() -> bool:
    """Whether mpi4py finds a library: asked in a process of its own, where loading it does no harm."""
    asked = [sys.executable, "-c", "from mpi4py import MPI"]
    return MPIRUN is not None and subprocess.run(asked, capture_output=True).returncode == 0


pytestmark = pytest.mark.skipif(not has_mpi(), reason="no MPI here: pip install mpi4py mpich")


def job(ranks, *words, program=("-m", "minivl.cli"), timeout=240, said=""):
    """What a job says: its exit code, stdout and stderr."""
    command = [MPIRUN, "-n", str(ranks), sys.executable, *program, *map(str, words)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", cwd=ROOT, timeout=timeout, input=said,
                          env=os.environ | {"COLUMNS": "200"})
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def asked():
    sample = next(one for one in load_samples() if one.fps is None)
    return [str(sample.paths[0]), sample.question, "--kernels", "definition"]


@pytest.mark.parametrize("cut", ["tensor=2", "pipeline=2", "tensor=2,pipeline=2"])
def test_a_job_answers_once_with_the_words_of_one_process(asked, cut):
    alone = CliRunner().invoke(app, ["ask", *asked])
    ranks = eval(re.sub(r"\w+=", "", cut).replace(",", "*"))
    code, out, err = job(ranks, "ask", *asked, "--parallel", cut, "--costs")
    assert code == 0, err
    answer, *table = out.splitlines()
    assert answer == alone.stdout.splitlines()[0]
    assert "DIFFERENT" not in out and sum(line.endswith("equal") for line in table) == 5
    assert sum(bool(re.match(r"\d ", line)) for line in table) == ranks


@pytest.mark.parametrize("name", ["ground", "parse", "chat"])
def test_other_commands_run_in_a_job_too_and_one_rank_writes(name, asked, tmp_path):
    picture, question, *kernels = asked
    folders = [tmp_path / "alone", tmp_path / "job"]
    said = []
    for folder, ranks in zip(folders, (1, 2), strict=True):
        folder.mkdir()
        words = {"ground": ["ground", picture, "Find the pink cross.", "-o", folder / "found.png", "--json"],
                 "parse": ["parse", picture, "--format", "json", "-o", folder / "page.json"],
                 "chat": ["chat", picture]}[name] + kernels
        talk = f"{question}\nAnd where is it?\n/save {folder / 'talk.json'}\n" if name == "chat" else ""
        cut = ["--parallel", "tensor=2"] if ranks > 1 else []
        code, out, err = job(ranks, *words, *cut, said=talk)
        assert "minivl: rank" not in err, err
        written = {file.name: file.read_bytes() for file in folder.iterdir()}
        said.append((code, out.replace(str(folder), ""), written))
    assert said[0] == said[1] and (said[0][1] or name == "parse")
    assert name == "parse" or said[0][2]


def test_a_job_of_another_size_is_told_how_it_is_started(asked):
    code, out, err = job(2, "ask", *asked, "--parallel", "tensor=2,pipeline=2")
    assert code == 2 and out == ""
    assert "needs 4 ranks, this job has 2: start it with mpirun -n 4" in err


def test_an_error_of_all_ranks_is_told_once(asked):
    code, _, err = job(4, "ask", *asked, "--parallel", "tensor=4")
    assert code == 2 and err.count("does not divide its key heads (2)") == 1, err


FAILING = """
import sys
import minivl
vlm = minivl.load(kernels="definition", parallel="tensor=2")
inputs = minivl.Inputs.from_ids([1, 2, 3], vlm.config)
if vlm.rank.seat.rank == 1:
    {act}
print(vlm.generate(inputs, 200, stop_ids=()))
"""


@pytest.mark.parametrize(("act", "said"), [
    ("raise RuntimeError('no more disk')", r"no more disk\s+minivl: rank 1 of 2 has failed, so the job ends"),
    ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", r"KILLED BY SIGNAL: 9|signal 9"),
])
def test_a_rank_that_dies_ends_the_job_and_nobody_hangs(tmp_path, act, said):
    path = tmp_path / "failing.py"
    path.write_text(FAILING.format(act=act), encoding="utf-8")
    code, out, err = job(2, program=(path,), timeout=60)
    assert code != 0 and "[" not in out
    assert re.search(said, out + err), out + err


PROGRAM = """
import sys
import minivl
with minivl.load(kernels="definition", precision="float64", parallel="tensor=2,pipeline=2") as vlm:
    inputs = minivl.Inputs.from_ids([1, 2, 3, 4], vlm.config)
    print(vlm.generate(inputs, 9, do_sample=True, seed=4, stop_ids=()), flush=True)
"""


def test_a_program_of_ones_own_gives_the_same_on_every_rank(tmp_path):
    path = tmp_path / "own.py"
    path.write_text(PROGRAM, encoding="utf-8")
    code, out, err = job(4, program=(path,))
    with minivl.load(kernels="definition", precision="float64") as vlm:
        inputs = minivl.Inputs.from_ids([1, 2, 3, 4], vlm.config)
        right = vlm.generate(inputs, 9, do_sample=True, seed=4, stop_ids=())
    assert code == 0 and out.count(str(right)) == 4 and out.count("[") == 4, (out, err)
