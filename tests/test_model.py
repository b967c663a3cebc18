"""The shape of the house: what model.py may hold, that contracts speak the glossary's letters, and precision."""

import ast
import importlib
import pkgutil
import re
import statistics
from pathlib import Path

import numpy as np
import pytest

import minivl
from minivl.checkpoint.tree import Linear, Norm
from minivl.checkpoint.weight import weight
from minivl.door.contract import AXES, parse
from minivl.kernels import definition as kernels

PACKAGE = Path(minivl.__file__).parent


def functions():
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield file, node


def test_the_forward_pass_fits_on_one_screen():
    lines = (PACKAGE / "model.py").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 60 and max(map(len, lines)) <= 110


def test_the_forward_pass_holds_only_stage_calls_views_and_the_cache():
    tree = ast.parse((PACKAGE / "model.py").read_text(encoding="utf-8"))
    assert not [n for n in ast.walk(tree) if isinstance(n, ast.BinOp | ast.Compare | ast.If | ast.With | ast.Lambda)]
    methods = {n.func.attr for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)}
    assert methods == {"admit", "append", "parts"}                        # `parts` cuts a batch into views of it


def test_functions_are_short():
    lengths = [node.end_lineno - node.lineno + 1 for _, node in functions()]
    assert statistics.median(lengths) <= 12
    assert not [(file.name, node.name) for file, node in functions() if node.end_lineno - node.lineno + 1 > 40]


def test_lines_hold_one_thought():
    """95 of 100 lines have at most 105 columns. Pages and data that a command writes are no lines to read."""
    widths = sorted(len(line) for file in PACKAGE.rglob("*.py")
                    for line in file.read_text(encoding="utf-8").splitlines() if line.strip())
    assert widths[int(0.95 * len(widths))] <= 105


def test_model_code_knows_no_tool():
    for file in [PACKAGE / "model.py", PACKAGE / "run" / "cache.py", *(PACKAGE / "passes").glob("*.py"),
                 *(PACKAGE / "kernels").glob("*.py")]:
        names = {n.module or "" for n in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
                 if isinstance(n, ast.ImportFrom)}
        assert not {n for n in names if re.search(r"watch|plot|cli|commands|trace|provenance|api", n)}, file


def every_door():
    from minivl import model, passes
    names = [module.name for module in pkgutil.iter_modules(passes.__path__)]
    modules = [model, kernels, *(importlib.import_module(f"minivl.passes.{name}") for name in names)]
    return {id(v): v for m in modules for v in vars(m).values() if hasattr(v, "contract")}.values()


def test_contracts_speak_the_glossary():
    for door in every_door():
        for terms in parse(door.contract):
            letters = {re.sub(r"\d", "", axis) for axes in terms for axis in axes} - {"", "_", "*"}
            assert letters <= set(AXES), door.label


def test_the_architecture_page_lists_every_stage_with_its_contract():
    page = (PACKAGE.parent / "docs" / "guide" / "architecture.md").read_text(encoding="utf-8")
    for door in every_door():
        label = door.label.replace("{0}", "N").rpartition("kernel.")[2]
        assert label.rpartition(".")[2] in page, label


# ---- rounding ------------------------------------------------------------------------------------------------------

def test_statistics_in_float16_do_not_overflow():
    """Squares beyond 65504 have zeroed whole rows of a port in float16 (lablup/mlxcel#1601)."""
    x = np.array([[3000, 4000, 0, 0]], np.float16)
    out = kernels.rms_norm(x, Norm(weight(np.ones(4, np.float32)), 1e-6))
    assert out.dtype == np.float16 and np.allclose(out.astype(float), [[1.2, 1.6, 0, 0]], atol=2e-3)


def test_bfloat16_rounds_once_after_a_wide_sum():
    """NumPy's own bfloat16 product rounds after every addition: 1 + 256 times 1/256 would stay 1."""
    from ml_dtypes import bfloat16
    x = np.full((1, 257), 1 / 256, bfloat16)
    x[0, 0] = 1
    w = Linear(weight(np.ones((1, 257), bfloat16)), None)
    assert kernels.linear(x, w) == 2 and kernels.linear(x, w).dtype == bfloat16


def test_a_value_too_large_for_float16_becomes_infinite_without_a_warning():
    w = Linear(weight(np.full((1, 2), 300, np.float32)), None)
    assert np.isinf(kernels.linear(np.full((1, 2), 300, np.float16), w)).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_attention_survives_huge_scores_and_a_single_key(dtype):
    q = np.full((2, 2, 4), 1e4, dtype)
    out = kernels.attend(q, q, q, np.array([[0, 1, 0, 1], [1, 2, 0, 2]]), True)
    assert out.dtype == dtype and np.allclose(out, 1e4)


def test_kernels_leave_their_inputs_alone():
    rng = np.random.default_rng(0)
    x, table = rng.normal(size=(4, 6)).astype(np.float32), np.array([[0, 4, 0, 4]])
    heads = x.reshape(4, 2, 3)
    before = x.tobytes()
    kernels.put_rows(x, np.array([1]), np.zeros((1, 6), np.float32))
    kernels.attend(heads, heads, heads, table, False)
    kernels.log_softmax(x), kernels.gelu(x), kernels.add(x, x)
    assert x.tobytes() == before


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("keys", [5, 7])
def test_attention_in_strips_equals_attention_at_once(monkeypatch, causal, keys):
    """A strip of queries is only a matter of memory; when more keys than queries are there, decoding goes on."""
    rng = np.random.default_rng(keys)
    q, k, v = (rng.normal(size=(n, a, 4)) for n, a in ((5, 4), (keys, 2), (keys, 2)))
    at_once = kernels.attend(q, k, v, np.array([[0, 5, 0, keys]]), causal)
    monkeypatch.setattr(kernels, "STRIP", 2)
    assert np.allclose(kernels.attend(q, k, v, np.array([[0, 5, 0, keys]]), causal), at_once, rtol=0, atol=1e-15)
    mask = np.arange(keys) <= np.arange(5)[:, None] + keys - 5 if causal else np.ones((5, keys), bool)
    scores = np.where(mask, np.einsum("qae,kae->aqk", q, k.repeat(2, 1)) / 2, -np.inf)
    weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    assert np.allclose(at_once, np.einsum("aqk,kae->qae", weights, v.repeat(2, 1)))
