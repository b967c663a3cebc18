"""The benchmark of speed, at tiny sizes: it runs end to end, its numbers are those of the rounds, a busy machine keeps
nothing, and a side that fails takes no other with it."""

import json
import shutil
import subprocess
import sys
from argparse import Namespace
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import pytest

import minivl
from minivl.kernels.jit import tiers
from tools.bench import record
from tools.bench.record import RESULTS, machine
from tools.bench.speed import __main__ as command
from tools.bench.speed import report, sides, worker, workload
from tools.bench.speed.workload import FULL, QUICK
from tools.checkpoints.make_checkpoint import make_checkpoint

ROOT = Path(__file__).parent.parent.parent
UNITS = {"load": "s", "decode at 16": "s/token", "memory": "GiB"}


def test_it_runs_end_to_end_in_turns(tmp_path):
    pytest.importorskip("numba")
    done = subprocess.run(
        [sys.executable, "-m", "tools.bench.speed", "--quick", "--rounds", "2", "--threads", "1", "--only",
         "minivl-definition-bf16-float32", "minivl-jit-int8-bfloat16", "--folder", str(tmp_path / "model"),
         "-o", str(tmp_path / "out")], cwd=ROOT, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    turns = [line.partition(": ")[0] for line in done.stderr.splitlines() if line.startswith("round ")]
    assert turns == [f"round {n}, {side}" for n in (1, 2)
                     for side in ("minivl-definition-bf16-float32", "minivl-jit-int8-bfloat16")]
    page = (tmp_path / "out" / "speed.md").read_text(encoding="utf-8")
    assert page in done.stdout and (tmp_path / "out" / "speed.png").read_bytes()[:4] == b"\x89PNG"
    first, second = (line.split(" | ") for line in page.splitlines() if line.startswith("| minivl-"))
    assert float(first[-2]) < 1e-5 < 1e-3 < float(second[-2]) < 0.2            # errors: float32, and int8 in bfloat16
    assert "of a plain read" in first[6] and second[9] == "-" != first[9]      # the photo is minivl's, not a mode's


def test_transformers_is_a_side(tmp_path):
    pytest.importorskip("transformers")
    folder = workload.checkpoint(QUICK, tmp_path / "model")
    worker.write_golden(folder, QUICK, tmp_path / "golden.npz")
    import torch
    threads = torch.get_num_threads()
    bench = worker.Bench("transformers-float32-sdpa", folder, 1, QUICK)
    bench.run()
    torch.set_num_threads(threads)
    assert set(bench.rows) == set(workload.rows(QUICK)) and set(bench.reads) == {"decode at 16", "decode at 64"}
    assert max(bench.errors(tmp_path / "golden.npz").values()) < 1e-5
    seen = bench.engine.prepare_photo(workload.photo(QUICK))
    ours = sides.Minivl("definition", "float32", folder, 1).prepare_photo(workload.photo(QUICK))
    assert np.abs(seen["pixel_values"] - ours.pixel_values).max() < 1e-5        # both prepare the same thing


def test_some_rows_alone(tmp_path):
    folder = workload.checkpoint(QUICK, tmp_path / "model")
    for rows in (["decode*", "prefill 16"], ["vision 56x56"], ["load"], ["photo"]):
        bench = worker.Bench("minivl-definition-bf16-float32", folder, 1, QUICK, rows)
        bench.run()
        named = {row for row in workload.rows(QUICK) if any(fnmatchcase(row, pattern) for pattern in rows)}
        assert set(bench.rows) == named | {"load", "memory"}
    done = subprocess.run([sys.executable, "-m", "tools.bench.speed", "--quick", "--rows", "decode*", "no such row"],
                          cwd=ROOT, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 2 and "no row matches no such row; they are load, vision 56x56" in done.stderr


def test_the_workload_is_what_is_said_of_it():
    config = workload.config(FULL)
    assert (config.text.num_hidden_layers, config.vision.depth) == (6, 8)
    assert config.vision.fullatt_block_indexes == (7,) and config.tie_word_embeddings
    from minivl.checkpoint.names import shapes
    numbers = {name: int(np.prod(shape)) for name, shape in shapes(config).items()}
    read = [count for name, count in numbers.items() if ".layers." in name or "embed_tokens" in name]
    assert 0.96e9 < sum(numbers.values()) < 0.98e9 and 0.77e9 < sum(read) < 0.78e9
    patches, grid = workload.patches(config, (448, 448))
    assert patches.shape == (1024, 1176) and grid.tolist() == [[1, 32, 32]]
    assert list(workload.rows(FULL)) == ["load", "vision 448x448", "vision 1288x966", "prefill 512", "prefill 4096",
                                         "decode at 512", "decode at 8192", "memory", "photo"]
    assert not set(workload.tokens(config, 600)) & {config.image_token_id, config.video_token_id}


def test_bytes_of_a_token_are_counted_as_they_lie_in_memory(tmp_path):
    pytest.importorskip("numba")
    folder = workload.checkpoint(QUICK, tmp_path)
    stored = sides.Minivl("definition", "float32", folder, 1).read_a_token()
    text = workload.config(QUICK).text
    heads = (text.num_attention_heads + 2 * text.kv_heads) * text.head_dim
    layer = text.hidden_size * (heads + text.hidden_size + 3 * text.intermediate_size) + heads + 2 * text.hidden_size
    assert stored == 2 * (text.num_hidden_layers * layer + text.vocab_size * text.hidden_size)
    packed = {}
    for format in ("bf16", "int8", "int4"):
        side = sides.SIDES[f"minivl-jit-{format}-float32"]
        assert side.packed == format
        packed[format] = side.start(workload.packed_checkpoint(folder, format), 1).read_a_token()
    assert packed["bf16"] > packed["int8"] > 0 and packed["bf16"] >= stored         # tiles are padded


def one(load, decode, share):
    return {"rows": {"load": load, "decode at 16": decode}, "reads": {"decode at 16": share}, "errors": {},
            "facts": {}}


ROUNDS = [{"a": {**one(1.0, 0.5, 0.6), "errors": {"logits": 1e-3}}, "b": one(2.0, 1.0, 0.2)},
          {"a": one(10.0, 0.7, 0.8), "b": one(5.0, 0.7, 0.4)},
          {"a": one(3.0, 0.6, 0.7)}]


def test_ratios_are_of_pairs_and_numbers_are_medians():
    found = {figure.name: figure.value for figure in report.figures(ROUNDS, "b", UNITS)}
    assert found["load, a"] == 3.0 and found["load, b"] == 3.5
    assert found["load, a over b"] == 1.25                     # of 0.5 and 2, not 3 over 3.5
    assert found["decode at 16, a: share of a plain read"] == 0.7 and found["error of logits, a"] == 1e-3
    assert not [name for name in found if "memory" in name or "b over" in name]


def test_how_many_times_as_fast_is_of_pairs_too(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(report, "PAIRS", (("a", "b"), ("b", "c")))
    figures = report.figures(ROUNDS, "b", UNITS)
    assert {figure.name: figure.value for figure in figures}["load: a as fast as b"] == 1.25     # of 2 and 0.5
    lines = ["| | a over b |", "|---|---|", "| load | 1.25 |", "| decode at 16 | 1.50 |"]      # no side c, no memory
    assert report.as_fast(figures).splitlines() == lines
    file = record.keep("speed", figures, tmp_path, machine())
    given(monkeypatch, "--table", str(file))
    assert command.main() == 0
    assert capsys.readouterr().out.startswith(f"{report.table(figures)}\n{report.as_fast(figures)}\nspeed: ")
    for damage in (lambda: file.write_text("{}"), file.unlink):
        damage()
        with pytest.raises(SystemExit, match="2"):
            command.main()
        assert file.name in capsys.readouterr().err


def test_every_pair_is_of_sides_that_there_are():
    assert {side for pair in report.PAIRS for side in pair} <= set(sides.SIDES)


def test_the_table_has_a_line_for_each_side():
    head, _, first, second = report.table(report.figures(ROUNDS, "b", UNITS)).splitlines()
    assert head.startswith("| side | load, s | decode at 16, s/token | error of")
    assert first == "| a | 3 (1.25 x) | 600 ms (0.75 x), 70% of a plain read | 1.0e-03 | - |"
    assert second == "| b | 3.5 | 850 ms, 30% of a plain read | - | - |"
    alone = report.table(report.figures([{"a": one(1.0, 0.5, 0.6)}, {"c": one(2.0, 0.5, 0.6)}], "a", UNITS))
    assert alone.splitlines()[3] == "| c | 2 | 500 ms, 60% of a plain read | - | - |"         # no pair, no ratio


def given(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["speed", *words])


@pytest.mark.parametrize(("load", "words", "said"), [
    (1.9, ["--keep"], "the machine is busy: load average 1.9"),
    (0.1, ["--keep", "--quick"], "leave one of the two out"),
    (0.1, ["--only", "nobody"], "no side matches nobody; they are minivl-definition-bf16-float32"),
    (0.1, ["--rounds", "0"], "--rounds must be at least 1, got 0"),
    (0.1, ["--rounds", "-3"], "--rounds must be at least 1, got -3"),
    (0.1, ["--threads", "0"], "--threads must be from 1 to "),
    (0.1, ["--threads", "9999"], "this process may use; got 9999"),
    (0.1, ["--only", "minivl-definition-bf16-*", "--base", "minivl-definition-bf16"],
     "--base must be a side that runs, got 'minivl-definition-bf16'; they are "
     "minivl-definition-bf16-float32, minivl-definition-bf16-bfloat16")])
def test_what_cannot_be_kept_is_refused_before_anything_runs(monkeypatch, capsys, load, words, said):
    monkeypatch.setattr(command, "load_average", lambda: load)
    monkeypatch.setattr(command.os, "cpu_count", lambda: 2)
    monkeypatch.setattr(command, "measured", lambda *args: pytest.fail("it ran"))
    given(monkeypatch, *words)
    with pytest.raises(SystemExit) as left:
        command.main()
    assert left.value.code == 2 and said in capsys.readouterr().err


def test_a_result_is_compared_with_the_last_one_and_kept_when_the_machine_was_idle(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(command, "keep", lambda *args, **more: record.keep(*args, folder=tmp_path, **more))
    monkeypatch.setattr(command, "kept", lambda name: record.kept(name, tmp_path))
    monkeypatch.setattr(command, "ROOT", tmp_path)
    facts = {**record.machine(), "others": 0.02}
    asked = Namespace(base="b", output=None, quick=False, keep=True, tier=None, rows=["*"])
    for _ in range(2):
        command.told(ROUNDS, FULL, facts, asked)
    said = capsys.readouterr()
    assert "load, a                            " in said.out and "1.00 x" in said.out and "kept in speed-" in said.err
    command.told(ROUNDS, FULL, facts | {"others": 0.4}, asked)
    assert "had 40% of the processors meanwhile; nothing is kept" in capsys.readouterr().err
    (result,) = record.kept("speed", tmp_path)[-1:]
    assert result.machine["others"] == 0.02


def test_a_side_that_fails_is_named_and_one_that_is_missing_is_left_out(monkeypatch, capsys, tmp_path):
    missing = sides.Side("x", None, ("no_such_package",))
    monkeypatch.setitem(command.SIDES, "x", missing)
    assert command.chosen(["x"]) == [] and "x: left out, not installed: no_such_package" in capsys.readouterr().err
    asked = Namespace(threads=1, quick=True, tier=None, rows=["*"])
    assert command.turn("minivl-definition-bf16-float32", tmp_path / "none", asked, None) is None
    assert "minivl-definition-bf16-float32: ended with 1: " in capsys.readouterr().err


@pytest.mark.parametrize("missing", ["avx512_bf16", "numba"])
def test_a_tier_that_this_machine_lacks_is_refused_before_anything_is_made(monkeypatch, capsys, missing):
    if missing == "numba":
        monkeypatch.setitem(sys.modules, "minivl.kernels.jit", None)
        monkeypatch.setitem(sys.modules, "minivl.kernels.jit.tiers", None)
        wanted = 'to know the tiers of this machine, --tier needs Numba: pip install "minivl[jit]"'
    else:
        monkeypatch.setattr(tiers, "lacking", lambda tier: [missing] if tier.name == "avx512-bf16" else [])
        wanted = "the tier 'avx512-bf16' (--tier) needs avx512_bf16, which this machine lacks: the best"
    monkeypatch.setattr(workload, "checkpoint", lambda *given: pytest.fail("a checkpoint was made"))
    given(monkeypatch, "--quick", "--tier", "avx512-bf16", "--only", "minivl-definition-bf16-float32")
    with pytest.raises(SystemExit, match="2"):
        command.main()
    assert wanted in " ".join(capsys.readouterr().err.split())


def test_mkl_has_the_instructions_of_the_tier():
    """Intel's names: E1 adds VNNI to AVX-512, E3 products of bfloat16."""
    wanted = {"avx2": "AVX2", "avx512": "AVX512", "avx512-vnni": "AVX512_E1", "avx512-bf16": "AVX512_E3"}
    assert {tier: command.held(tier)["MKL_ENABLE_INSTRUCTIONS"] for tier in command.HELD} == wanted


def test_programs_are_held_to_the_instructions_of_a_tier(monkeypatch, capsys, tmp_path):
    """Both sides of a ratio; what is built for one processor is left out; results lie under another name."""
    asked, seen = Namespace(threads=1, quick=True, tier="avx2", rows=["load"]), []

    def run(words, **more):
        seen.append(more["env"])
        return subprocess.CompletedProcess(words, 0, "{}\n", "")
    monkeypatch.setattr(command.subprocess, "run", run)
    command.turn("transformers-float32-sdpa", tmp_path, asked, None)
    assert {name: seen[0][name] for name in ("MINIVL_TIER", *command.BY)} == {
        "MINIVL_TIER": "avx2", "ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2", "OPENBLAS_CORETYPE": "Haswell", "NUMBA_CPU_NAME": "haswell",
        "NUMBA_CPU_FEATURES": "+avx2"}
    command.turn("transformers-float32-sdpa", tmp_path, Namespace(threads=1, quick=True, tier=None, rows=["*"]), None)
    assert "MINIVL_TIER" not in seen[1]
    assert not command.chosen(["llama.cpp-bf16", "openvino-*"], "avx2")
    said = capsys.readouterr().err
    assert all(f"{name}: left out, it cannot be held to avx2: " in said
               for name in ("llama.cpp-bf16", "openvino-f16", "openvino-q8_0", "openvino-q4_0"))
    assert command.kind(asked) == "speed-avx2" and set(command.HELD) < set(tiers.TIERS)


GELU = """
import re
import numpy as np
from minivl.kernels import jit
jit.gelu(np.ones((4, 64), np.float32))
code = chr(10).join(jit.function("gelu").inspect_asm().values())
print(len(re.findall("%ymm", code)), *re.findall(r"%zmm|%k[0-7]|%ymm1[6-9]|%ymm[23][0-9]", code))
"""


@pytest.mark.skipif(not {"avx2", "fma"} <= tiers.flags(), reason="instructions of x86-64")
def test_loops_of_numba_are_held_to_the_tier_too(monkeypatch, tmp_path):
    """No register of AVX-512 in a kernel, on whatever processor."""
    asked, seen, run = Namespace(threads=1, quick=True, tier="avx2", rows=["load"]), [], subprocess.run
    monkeypatch.setattr(command.subprocess, "run", lambda words, **more: seen.append(more["env"]) or
                        subprocess.CompletedProcess(words, 0, "{}\n", ""))
    command.turn("minivl-jit-bf16-float32", tmp_path, asked, None)
    done = run([sys.executable, "-c", GELU], env={**seen[0], "MINIVL_CACHE": "off"}, cwd=ROOT, capture_output=True,
               encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    vectors, *higher = done.stdout.split()
    assert int(vectors) > 0 and not higher


def test_only_a_folder_that_was_made_here_is_removed(monkeypatch, capsys, tmp_path):
    model, packed = tmp_path / "model", tmp_path / "model-int8"
    for theirs in (model, packed):
        theirs.mkdir()
        (theirs / "notes.txt").write_text("mine", encoding="utf-8")
        for text in (None, "{}", "no JSON"):
            if text:
                (theirs / "config.json").write_text(text, encoding="utf-8")
            given(monkeypatch, "--quick", "--only", "minivl-definition-bf16-float32", "--folder", str(model))
            with pytest.raises(SystemExit, match="2"):
                command.main()
            said = capsys.readouterr().err
            assert f"{theirs} is in the way" in said and "name a new folder with --folder" in said
            assert (theirs / "notes.txt").read_text(encoding="utf-8") == "mine"
            assert not (tmp_path / "model.partial").exists()
        theirs.rename(tmp_path / f"kept {theirs.name}")


def test_what_was_made_here_is_made_anew_for_another_form(tmp_path):
    model = tmp_path / "model"
    workload.packed_checkpoint(workload.checkpoint(QUICK, model), "int8")
    assert (model / workload.MARK).is_file() and (tmp_path / "model-int8" / workload.MARK).is_file()
    (tmp_path / "model-int4").mkdir()                                     # an empty one is nobody's
    (model / "config.json").write_text("{}", encoding="utf-8")
    workload.checkpoint(QUICK, model)
    assert json.loads((model / "config.json").read_text(encoding="utf-8")) and not (tmp_path / "model-int8").exists()
    assert (workload.packed_checkpoint(model, "int4") / "packed.json").is_file()


def asked_for(monkeypatch, capsys, model, *sides):
    """What the command says when it is refused."""
    given(monkeypatch, "--quick", "--only", *sides, "--folder", str(model))
    with pytest.raises(SystemExit, match="2"):
        command.main()
    return capsys.readouterr().err


@pytest.mark.parametrize("copied", ["minivl convert", "cp -r"])
def test_a_copy_of_what_was_made_here_is_its_owners(monkeypatch, capsys, tmp_path, copied):
    ours, theirs = workload.checkpoint(QUICK, tmp_path / "model"), tmp_path / "theirs"
    if copied == "minivl convert":
        minivl.convert(ours, theirs, "int8")
        assert not [path.name for path in theirs.iterdir() if "made-by" in path.name]
    else:
        shutil.copytree(ours, theirs)
    (theirs / "notes.txt").write_text("mine", encoding="utf-8")
    (theirs / "config.json").write_text("{}", encoding="utf-8")
    said = asked_for(monkeypatch, capsys, theirs, "minivl-definition-bf16-float32")
    why = "there is no" if copied == "minivl convert" else "was copied or moved here"
    assert f"{theirs} is in the way" in said and why in said and "remove it yourself" in said
    assert (theirs / "notes.txt").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("damage", ["removed", "cut", "of other shapes", "beside others"])
def test_a_checkpoint_without_its_weights_is_made_anew(tmp_path, damage):
    model = workload.checkpoint(QUICK, tmp_path / "model")
    weights = model / "model.safetensors"
    right = weights.read_bytes()
    other = {"removed": b"", "cut": right[:-1], "of other shapes": right.replace(b"[64]", b"[46]")}.get(damage, right)
    weights.write_bytes(other)
    if damage == "removed":
        weights.unlink()
    if damage == "beside others":
        (model / "model-00001-of-00002.safetensors").write_bytes(right)
    workload.checkpoint(QUICK, model)
    assert weights.read_bytes() == right and [path.name for path in model.glob("*.safetensors")] == [weights.name]


def test_packed_weights_of_something_else_are_made_anew(tmp_path):
    model = workload.checkpoint(QUICK, tmp_path / "model")
    target = workload.packed_checkpoint(model, "int8")
    right = (target / "packed.safetensors").read_bytes()

    def again():
        assert workload.packed_checkpoint(model, "int8") == target
        assert (target / "packed.safetensors").read_bytes() == right
    other = tmp_path / "other"
    make_checkpoint(workload.config(QUICK), other, seed=1)
    for source, format in ((other, "int8"), (model, "int4")):
        shutil.rmtree(target)
        minivl.convert(source, target, format)
        workload.mark(target)
        again()
    (target / "packed.safetensors").unlink()
    again()
    (target / "packed.safetensors").write_bytes(right[:-1])
    again()
    before = (target / "packed.safetensors").stat().st_mtime_ns
    again()
    assert (target / "packed.safetensors").stat().st_mtime_ns == before            # and what is right is left


def test_a_folder_of_others_in_place_of_packed_weights_is_refused(monkeypatch, capsys, tmp_path):
    pytest.importorskip("numba")
    model = workload.checkpoint(QUICK, tmp_path / "model")
    theirs = tmp_path / "model-int8"
    theirs.mkdir()
    (theirs / "notes.txt").write_text("mine", encoding="utf-8")
    monkeypatch.setattr(command, "turn", lambda *given: pytest.fail("it ran"))
    said = asked_for(monkeypatch, capsys, model, "minivl-jit-int8-float32")
    assert f"{theirs} is in the way" in said and (theirs / "notes.txt").read_text(encoding="utf-8") == "mine"


def test_a_checkpoint_without_a_mark_is_used(tmp_path):
    model = workload.checkpoint(QUICK, tmp_path / "model")
    (model / workload.MARK).unlink()
    before = (model / "model.safetensors").stat().st_mtime_ns
    assert workload.checkpoint(QUICK, model) == model and (model / "model.safetensors").stat().st_mtime_ns == before


def test_every_mode_of_minivl_is_a_side_and_the_slow_ones_run_when_they_are_named():
    modes = {f"minivl-{kernels}-{format}-{precision}" for kernels in ("definition", "jit")
             for format in ("bf16", "int8", "int4") for precision in ("float32", "bfloat16")}
    modes.add("minivl-jit-int8-int8")                                  # activations of 8 bits
    assert modes == {name for name in sides.SIDES if name.startswith("minivl")}
    usual = {side.name for side in command.chosen(sides.USUAL)}
    assert not {name for name in usual if "definition-int" in name}
    assert [side.name for side in command.chosen(["*definition-int4-float32"])] == ["minivl-definition-int4-float32"]


def test_what_a_side_needs_is_made_in_a_process_of_its_own_before_anything_is_timed(monkeypatch, tmp_path):
    asked = Namespace(threads=1, quick=True, tier=None, rows=["*"], folder=tmp_path, rounds=1)
    turns = []
    monkeypatch.setattr(workload, "checkpoint", lambda *given: tmp_path)
    monkeypatch.setattr(command, "turn", lambda name, *given: turns.append((name, *given[3:])))
    command.measured([sides.SIDES["openvino-f16"], sides.SIDES["transformers-float32-sdpa"]], workload.QUICK, asked)
    assert turns == [("openvino-f16", "--make"), ("golden",), ("openvino-f16",), ("transformers-float32-sdpa",)]
    made = []
    monkeypatch.setitem(sides.SIDES, "openvino-f16", sides.Side("openvino-f16", None, makes=made.append))
    monkeypatch.setattr(sys, "argv", ["worker", "openvino-f16", str(tmp_path), "--make"])
    monkeypatch.setattr(worker, "pin", lambda threads: None)
    worker.main()
    assert made == [tmp_path]


def test_compiled_code_is_made_before_a_row_is_timed(monkeypatch, tmp_path):
    """Of every compiled side, from the packed folder that it starts from; each kind of row has run."""
    asked, turns, ran = Namespace(threads=1, quick=True, tier=None, rows=["*"], folder=tmp_path, rounds=1), [], []
    monkeypatch.setattr(workload, "checkpoint", lambda *given: tmp_path)
    monkeypatch.setattr(workload, "packed_checkpoint", lambda folder, format: folder / format)
    monkeypatch.setattr(command, "turn", lambda name, folder, *given: turns.append((name, folder, *given[2:])))
    compiled = [side for side in sides.SIDES.values() if side.name.startswith("minivl-jit")]
    command.measured(compiled, workload.QUICK, asked)
    assert turns[:len(compiled)] == [(side.name, tmp_path / side.packed, "--make") for side in compiled]
    for kind in ("vision", "prefill", "prepare_photo"):
        monkeypatch.setattr(sides.Minivl, kind, lambda self, *given, kind=kind: ran.append((kind, self.of)))
    monkeypatch.setattr(sides.Minivl, "decoding", lambda self, *given: lambda: ran.append(("decode", self.of)))
    vlm = Namespace(config=workload.config(workload.QUICK))
    monkeypatch.setattr(sides.Minivl, "__init__", lambda self, *of: self.__dict__.update(vlm=vlm, of=of))
    for side in compiled:
        side.makes(tmp_path)
    modes = [("jit-int8" if side.name.endswith("int8-int8") else "jit", side.start.args[1], tmp_path, 1)
             for side in compiled]
    assert ran == [(kind, mode) for mode in modes for kind in ("vision", "prefill", "decode", "prepare_photo")]


def test_a_result_without_pairs_has_no_table_of_them(monkeypatch, capsys):
    given(monkeypatch, "--table", str(RESULTS / "speed-20261201T050007Z.json"))
    assert command.main() == 0
    said = capsys.readouterr().out
    assert "| minivl-jit-int8-int8 | 1.61" in said and "\n| |" not in said and "\n\nspeed: 2026-12-01" in said
    assert report.as_fast([]) == "" and "How many times" not in report.page(ROUNDS, "b", UNITS, "about", 1.0)


def test_a_file_that_is_no_result_is_not_to_be_removed(monkeypatch, capsys):
    given(monkeypatch, "--table", str(ROOT / "README.md"))
    with pytest.raises(SystemExit, match="2"):
        command.main()
    said = " ".join(capsys.readouterr().err.split())
    assert "README.md: is no result of a benchmark" in said and "A result is a file that --keep wrote" in said
    assert "emove" not in said


def test_the_help_says_what_the_disk_must_hold():
    said = " ".join(command.arguments().format_help().split())
    assert "2 GB; its packed forms, beside it, 4 GB" in said


def test_a_base_that_gave_nothing_is_said(monkeypatch, capsys):
    asked = Namespace(base="c", output=None, quick=True, keep=False, tier=None, rows=["*"])
    assert command.told(ROUNDS, QUICK, {**machine(), "others": 0.0}, asked) == 0
    assert "c gave no result: ratios are formed to a" in capsys.readouterr().err


def test_the_table_of_another_benchmark_is_refused(monkeypatch, capsys):
    other = next(path for path in RESULTS.glob("*.json") if not path.name.startswith("speed"))
    monkeypatch.setattr(sys, "argv", ["speed", "--table", str(other)])
    with pytest.raises(SystemExit):
        command.main()
    assert "and --table shows those of this one" in capsys.readouterr().err


def test_who_else_worked_is_noticed():
    busy, own = command.processor_seconds() or pytest.skip("not told here")
    assert busy > 0 and own >= 0 and command.share_of_others(None) is None
    assert 0 <= command.share_of_others((busy - 100, own)) <= 1


def test_llama_cpp_is_asked_as_its_binding_wants(monkeypatch, tmp_path):
    """On a stand-in for the binding, which is compiled where it is installed."""
    opened = []

    class Llama:
        def __init__(self, path, n_threads, n_threads_batch, verbose, **options):
            self.options, self.seen, self.scores = options, [], np.zeros((64, 5))
            opened.append((path, n_threads, options))

        def eval(self, ids):
            self.seen += ids
            self.eval_logits = [[0.0, 0.0, 3.0]]

        def reset(self):
            self.seen = []
    module = Namespace(Llama=Llama, __version__="0")
    monkeypatch.setitem(sys.modules, "llama_cpp", module)
    (tmp_path / "decoder-q8_0.gguf").write_bytes(b"12345678")
    engine = sides.LlamaCpp("q8_0", tmp_path, 2)
    assert engine.prefill([4, 5]) == 2 and engine.read_a_token() == 8 and engine.facts() == {"llama_cpp": "0"}
    step = engine.decoding(7, 3)
    step()
    assert len(engine.model.seen) == 8 and engine.logits([1, 2, 3]).shape == (3, 5)
    assert opened[0][1] == 2 and not hasattr(engine, "vision") and not hasattr(engine, "prepare_photo")


def test_openvino_is_a_side(tmp_path):
    """Its scores are those of the definitions over weights rounded to float16, token by token and in one go."""
    pytest.importorskip("openvino_genai", reason="the package openvino-genai is not installed")
    pytest.importorskip("gguf", reason="the package gguf is not installed")
    folder = workload.checkpoint(QUICK, tmp_path / "model")
    bench = worker.Bench("openvino-f16", folder, 1, QUICK)
    bench.run()
    assert set(bench.rows) == {row for row in workload.rows(QUICK) if not row.startswith(("vision", "photo"))}
    ours, ids = sides.Minivl("definition", "float32", folder, 1), workload.tokens(bench.config, 12)
    assert worker.off(bench.engine.logits(ids), ours.logits(ids)) < 1e-3
    assert bench.engine.prefill(ids) == ours.prefill(ids) and list(bench.engine.facts()) == ["openvino"]


def test_json_is_what_a_worker_prints(monkeypatch, capsys, tmp_path):
    folder = workload.checkpoint(QUICK, tmp_path)
    given(monkeypatch, "minivl-definition-bf16-float32", str(folder), "--quick")
    monkeypatch.setattr(worker, "pin", lambda threads: None)
    worker.main()
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {"rows", "reads", "errors", "facts"} and set(found["rows"]) == set(workload.rows(QUICK))
