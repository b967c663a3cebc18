"""Small changes to the sources of the compiled kernels, one at a time: each is a mistake that somebody could make.

    for mutant in mutants("products"):         # a name, and a module in which one thing is changed
        noticed(mutant)                        # what a check on the emulator said, or None

What is changed: numbers by one, signs, operands and arguments in the other order (where that means something else),
comparisons, conditions, statements left out, sums that start anew, words for each other (`low`, `high`).
"""

from __future__ import annotations

import ast
import copy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
import pytest

from minivl.checkpoint import layout
from minivl.kernels import definition, jit, stored
from minivl.kernels.jit import build, decoding, int8

from .compiled import Quick, assert_exact_enough, drawn, drawn_layer, guarded, meant, running, steps_of
from .laws import laws_of_packers, laws_of_packing, laws_of_tiles, laws_of_words

OTHER = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.FloorDiv: ast.Mod, ast.Mod: ast.FloorDiv,
         ast.LShift: ast.RShift, ast.RShift: ast.LShift, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
         ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Eq: ast.NotEq, ast.Gt: ast.GtE, ast.And: ast.Or, ast.Or: ast.And}
WORDS = {"low": "high", "high": "low", "add": "subtract", "subtract": "add", "multiply": "add", "first": "more",
         "more": "first", "many": "one", "min": "max", "max": "min", "signed_byte": "nibble", "one": "two",
         "two": "three", "three": "four", "scales": "zeros", "zeros": "scales", "tile_zero": "tile_load"}

# what takes its arguments in any order, from which one on
COMMUTE = {"min": 0, "max": 0, "minimum": 0, "multiply_add": 0, "multiply": 0, "add": 0, "dot_bf16": 1}


class Mutant(NamedTuple):
    """A changed module: `where` is its file and function, `what` the line before and after."""
    module: str
    where: str
    what: str
    tree: ast.Module

    @property
    def name(self) -> str:
        return f"{self.module}.{self.where}: {self.what}"


def source_of(module: str) -> Path:
    """Where it stands: the order of tiles is the checkpoint's, the rest lies beside the kernels."""
    return Path((layout if module == "layout" else jit).__file__).parent / f"{module}.py"


def mutants(module: str) -> Iterator[Mutant]:
    """All of them, in the order of the source."""
    tree = ast.parse(source_of(module).read_text(encoding="utf-8"))
    for function in [node for node in tree.body if isinstance(node, ast.FunctionDef)]:
        original = list(ast.walk(function))
        minus = {id(node.operand) for node in original if isinstance(node, ast.UnaryOp)}     # -1: the rest of a shape
        for number in range(len(original)):
            if id(original[number]) in minus:
                continue
            for way in changes_of(original[number]):
                changed = copy.deepcopy(function)
                node = list(ast.walk(changed))[number]
                before = statement_of(changed, node)
                old = ast.unparse(before) if before is not None else ""
                if before is None or way(node) is False:
                    continue
                ast.fix_missing_locations(changed)
                new = short(old, ast.unparse(before))
                rest = [changed if one is function else one for one in tree.body]
                yield Mutant(module, function.name, new, ast.Module(rest, []))


def short(old: str, new: str) -> str:
    """The first line that differs, before and after."""
    olds, news = old.splitlines(), new.splitlines()
    for a, b in zip(olds, news, strict=False):
        if a != b:
            return f"{a.strip()} -> {b.strip()}"
    return f"{olds[-1].strip()} -> nothing"


def statement_of(function: ast.FunctionDef, node: ast.AST) -> ast.stmt | None:
    """The innermost statement around a node; None for a signature, a decorator and a text."""
    found = None
    for one in ast.walk(function):
        if isinstance(one, ast.stmt) and one is not function and any(inner is node for inner in ast.walk(one)):
            found = one                        # ast.walk goes outside in
    if isinstance(found, ast.FunctionDef) or (isinstance(found, ast.Expr) and isinstance(found.value, ast.Constant)):
        return None
    return found


def changes_of(node: ast.AST) -> list[Callable[[ast.AST], object]]:
    """What can be changed about a node of this kind."""
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return [lambda n: setattr(n, "value", n.value + 1)]
    if isinstance(node, ast.BinOp | ast.AugAssign | ast.BoolOp):
        ways: list[Callable] = []
        if type(node.op) in OTHER:
            ways.append(lambda n: setattr(n, "op", OTHER[type(n.op)]()))
        if isinstance(node, ast.AugAssign):
            ways.append(lambda n: morph(n, ast.Assign([n.target], n.value)))
        return ways
    if isinstance(node, ast.Compare) and type(node.ops[0]) in OTHER:
        return [lambda n: setattr(n, "ops", [OTHER[type(n.ops[0])]()])]
    if isinstance(node, ast.Call):
        called = getattr(node.func, "attr", getattr(node.func, "id", ""))
        pairs = [i for i in range(len(node.args) - 1) if i != COMMUTE.get(called)
                 and ast.dump(node.args[i]) != ast.dump(node.args[i + 1])]
        return [lambda n, i=i: swap(n.args, i) for i in pairs[:5]]
    if isinstance(node, ast.Name | ast.Attribute):
        key = "id" if isinstance(node, ast.Name) else "attr"
        if getattr(node, key) in WORDS and isinstance(node.ctx, ast.Load):
            return [lambda n: setattr(n, key, WORDS[getattr(n, key)])]
        return []
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        return [lambda n: morph(n, ast.Pass())]
    if isinstance(node, ast.If):
        return [lambda n: setattr(n, "test", ast.UnaryOp(ast.Not(), n.test))]
    if isinstance(node, ast.IfExp):
        return [lambda n: (lambda a, b: (setattr(n, "body", b), setattr(n, "orelse", a)))(n.body, n.orelse)]
    if isinstance(node, ast.For) and isinstance(node.iter, ast.Tuple):
        return [lambda n: n.iter.elts.pop(), lambda n: n.iter.elts.pop(0)]
    return []


def swap(items: list, i: int) -> None:
    items[i], items[i + 1] = items[i + 1], items[i]


def morph(node: ast.AST, other: ast.AST) -> None:
    """Make a node another one, in its place."""
    node.__class__ = other.__class__
    node.__dict__.clear()
    node.__dict__.update(other.__dict__)


def module_of(mutant: Mutant) -> ModuleType:
    """The changed module, as one of the package; its functions stay plain Python."""
    for node in mutant.tree.body:
        if isinstance(node, ast.FunctionDef):
            node.decorator_list = []
    ast.fix_missing_locations(mutant.tree)
    original = layout if mutant.module == "layout" else getattr(build, mutant.module)
    made = ModuleType(original.__name__)
    made.__package__ = original.__package__
    exec(compile(mutant.tree, str(source_of(mutant.module)), "exec"), made.__dict__)
    return made


# ------------------------------------------------------------------------------------------------- checks

def product(tier, precision, format, height, n, k, threads=1, bias=True):
    """A check: one product on the emulator, with blocks so small that it takes several of each."""
    def check():
        made, machines = drawn(height, n, k, precision, format, bias), []

        def machine(lanes):
            machines.append(Quick(lanes))
            return machines[-1]
        with running(tier, True, threads, small=True, kind=machine):
            assert_exact_enough(made, guarded(made.x, made.w))
        assert all(one.tiles == [None] * 8 for one in machines)                # given back
    return check


def attention():
    """Attention of one block of queries that sees several of keys, against the definition."""
    rng = np.random.default_rng(0)
    q, k, v = (rng.normal(size=(n, heads, 6)).astype(np.float32) for n, heads in ((3, 4), (70, 2), (70, 2)))
    segments = np.array([[0, 3, 0, 70]])
    with running("portable", True, kind=Quick):
        made = jit.attend(q, k, v, segments, True)
    wanted = definition.attend.definition(*(x.astype(np.float64) for x in (q, k, v)), segments, True)
    np.testing.assert_allclose(made, wanted, rtol=1e-4, atol=1e-5)


def attention_in_pairs(tier):
    """The same by products of bfloat16: blocks of queries and of keys that are not full, an odd number of keys, keys
    that two segments see."""
    def check():
        rng = np.random.default_rng(0)
        shapes = ((37, 6, 6), (71, 3, 6), (71, 3, 6))
        q, k, v = (rng.normal(size=shape).astype(np.float32).astype("bfloat16") for shape in shapes)
        segments = np.array([[0, 33, 0, 71], [33, 34, 0, 71], [34, 37, 3, 40]])
        with running(tier, True, kind=Quick):
            assert jit.in_pairs(q, k, v)
            for causal, where in ((True, segments), (False, np.array([[3, 36, 3, 70]]))):
                made = jit.attend(q, k, v, where, causal)
                wanted = definition.attend.definition(*(x.astype(np.float64) for x in (q, k, v)), where, causal)
                np.testing.assert_allclose(made.astype(np.float64), wanted, rtol=2e-2, atol=2e-2)
    return check


def attention_of_few():
    """Tokens that are decoded, by products of bfloat16: more keys than a block has, an odd number of them, more
    queries than make a row of products, and heads wider than a line."""
    rng = np.random.default_rng(0)
    shapes = ((5, 6, 34), (150, 2, 34), (150, 2, 34))
    q, k, v = (rng.normal(size=shape).astype(np.float32).astype("bfloat16") for shape in shapes)
    k[70:] *= 3                                # the largest score is not in the first block
    segments = np.array([[0, 1, 0, 149], [1, 4, 30, 45], [4, 5, 60, 61]])
    for rows in ((k, v), (stored.in_bytes(k), stored.in_bytes(v))):
        with running("avx512-bf16", True, kind=Quick):
            made = jit.attend(q, *rows, segments, True)
        numbers = (np.asarray(x).astype(np.float64) for x in rows)
        wanted = definition.attend.definition(q.astype(np.float64), *numbers, segments, True)
        np.testing.assert_allclose(made.astype(np.float64), wanted, rtol=2e-2, atol=2e-2)


def bytes_product(height, n, k, threads=1, tier="amx"):
    """A check: rows of 8 bits by int8 weights, on the emulator."""
    def check():
        made = drawn(height, n, k, "float32", "int8")
        made.x[height // 2] = 0
        with running(tier, True, threads, small=True, kind=Quick):
            y = int8.linear(made.x, made.w)
        np.testing.assert_allclose(y, meant(made.x, made.w), rtol=2e-5, atol=2e-5 * np.abs(y).max())
    return check


def tiny_bytes():
    """Rows so small that their scale has one bit: a number is 143 steps of it, which no byte holds."""
    made = drawn(3, 34, 40, "float32", "int8", bias=False)
    made.x[:] = np.where(np.arange(40) % 3, 2e-43, -2e-43)
    with running("avx512-bf16", True, kind=Quick):
        y = int8.linear(made.x, made.w)
    assert np.abs(y - made.x.astype(np.float64) @ made.w.weight.dense("float64").T).max() < 1e-42


def layer(precision, format="bf16"):
    """A decoder layer in one call, against its kernels one by one; and its threads meet seven times, in order."""
    def check():
        met = []

        def meet(counts, team, times):
            assert counts.dtype == np.int64 and team == 1
            met.append(times)
        with pytest.MonkeyPatch.context() as patch, running("avx512-bf16", True, kind=Quick):
            patch.setattr(build.meeting, "meet_alone", meet)
            patch.setattr(build.meeting, "pass_by", lambda *given: meet(*given) if given[2] != 1 else None)
            for sizes, conversations in (((6, 3, 3, 33, 40), [70, 3]), ((2, 1, 4, 40, 70), [2])):
                made = drawn_layer(*sizes, format, seed=3)
                given = made, sizes[3], conversations, precision
                assert steps_of(*given, True) == steps_of(*given, False)
        assert met == [*range(1, 8)] * (len(met) // 7) and met
    return check


TILES = [product("amx", "float32", "bf16", 64, 40, 100), product("amx", "bfloat16", "bf16", 70, 40, 70)]
PAIRS = [product("avx512-bf16", "bfloat16", "bf16", 13, 40, 70)]
VECTORS = [product("portable", "float32", "bf16", 9, 34, 70), product("avx512", "float32", "bf16", 13, 40, 33)]
FLOATS = [product("avx2", "float32", "f32", 7, 34, 40)]
FEW = [product(tier, "float32", format, height, 34, k) for tier, format, height, k in
       (("avx512", "bf16", 2, 70), ("portable", "bf16", 3, 33), ("avx512", "f32", 4, 33), ("avx2", "int8", 1, 70),
        ("portable", "int8", 4, 40), ("avx512", "int4", 3, 300), ("portable", "int4", 2, 130), ("avx2", "bf16", 1, 70),
        ("avx512", "bf16", 4, 40), ("portable", "bf16", 1, 64), ("avx2", "int4", 1, 130), ("avx2", "int4", 3, 140))]
WHOLE = [product("amx", "float32", "int8", 64, 100, 270), product("amx", "bfloat16", "int4", 70, 100, 300),
         product("portable", "float32", "int4", 5, 34, 130), product("avx512", "bfloat16", "int8", 13, 40, 200)]
SHARED = [product("amx", "float32", "bf16", 130, 200, 33, threads=3), product("amx", "float32", "bf16", 5, 40, 33, 9),
          product("avx512", "float32", "bf16", 3, 200, 33, threads=3, bias=False),
          product("amx", "float32", "int4", 70, 200, 140, threads=2, bias=False)]
BYTES = [bytes_product(70, 40, 150, threads=2), bytes_product(33, 40, 4200),
         bytes_product(25, 40, 150, threads=2, tier="avx512-bf16"), bytes_product(5, 34, 2100, tier="avx512-bf16"),
         bytes_product(3, 34, 70), tiny_bytes]
BY_PAIRS = [attention_of_few, attention_in_pairs("avx512-bf16"), attention_in_pairs("amx")]
FEW_BY_PAIRS = [product("avx512-bf16", "bfloat16", format, height, 40, k)
                for format, height, k in (("int8", 3, 70), ("int4", 2, 300), ("int8", 1, 129), ("int4", 4, 128),
                                          ("int4", 1, 70), ("int8", 4, 64), ("bf16", 1, 71), ("bf16", 3, 64))]
LAYERS = [layer("float32"), layer("bfloat16"), layer("bfloat16", "int4")]
MODULES = ("products", "drivers", "few", "layer", "layout", "attention_bf16", "attention_of_few")
FIRST = {"configure": TILES, "release": TILES, "tiles_bf16": TILES, "split_in_three": [laws_of_packers],
         "pairs_bf16": PAIRS, "widened": [*VECTORS, *FLOATS], "_number": FEW,
         "matrix_vector": [*FEW, *FEW_BY_PAIRS, *LAYERS],
         "grouped_vector": [*FEW, *FEW_BY_PAIRS], "_in_turn": FEW, "_one_step": FEW, "_together": FEW,
         "strided": [attention],
         "strided_pairs": BY_PAIRS, "_two_numbers": FEW_BY_PAIRS,
         "short_pairs": BY_PAIRS, "short_tiles": BY_PAIRS, "_column": VECTORS, "_totals": VECTORS, "_put": VECTORS,
         "_corners": [*TILES, *BYTES],
         "pack_for_tiles": [laws_of_packers], "pack_for_vectors": [laws_of_packers], "expanded_product": WHOLE,
         "tiles_s8": BYTES, "pack_bytes": BYTES, "words_s8": BYTES[2:], "pack_bytes_by_words": BYTES[2:],
         "_scale": BYTES, "_byte": BYTES, "_expanded_group": WHOLE,
         "_few": [*FEW, *FEW_BY_PAIRS], "_few_grouped": [*FEW, *FEW_BY_PAIRS],
         "_one_step_by_pairs": FEW_BY_PAIRS,
         "_scaled": FEW, "widen": FEW, "pair": FEW_BY_PAIRS, "in_place": FEW, "finish_whole": BYTES,
         "_add_up": FEW, "to_the_end": FEW, "piece": FEW,
         "room_of": FEW, "_expander": WHOLE, "add_scaled": WHOLE, "_pairs": WHOLE, "finish_row": TILES[:1],
         "matrix_product": SHARED[:1], "shared": SHARED, "_panel": VECTORS}
EVERY = [*BYTES, *TILES, *PAIRS, *VECTORS, *FLOATS, *FEW, *FEW_BY_PAIRS, *WHOLE, *SHARED,
         laws_of_packers, attention, *BY_PAIRS]


def noticed(mutant: Mutant) -> str | None:
    """What the first check that fails says; None when all pass."""
    try:
        module = module_of(mutant)
        if mutant.module == "layout":
            for format in ("f32", "bf16", "int8", "int4"):
                for n, k in ((1, 1), (70, 150), (33, 31), (16, 64)):
                    laws_of_tiles(module, n, k, format, 1)
                laws_of_words(module, format, 2, 1)
            laws_of_packing(module)
            for size in range(1, 40):
                made = module.aligned((size, 3), np.uint16)
                assert made.shape == (size, 3) and made.ctypes.data % 64 == 0
            return None
        alone = {"attention_bf16": BY_PAIRS, "attention_of_few": BY_PAIRS, "layer": LAYERS}
        checks = alone.get(mutant.module, FIRST.get(mutant.where, []))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(build, mutant.module, module)
            for name in ("room_of", "blocks_of_keys"):         # what is called from Python, by those who import it
                for caller in (jit, decoding):
                    if hasattr(module, name) and hasattr(caller, name):
                        patch.setattr(caller, name, getattr(module, name))
            others = [] if mutant.module in alone else EVERY
            for check in [*checks, *(one for one in others if one not in checks)]:
                check()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


if __name__ == "__main__":
    for name in sys.argv[1:] or MODULES:
        print(name, len(list(mutants(name))))
