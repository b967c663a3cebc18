"""Stored numbers as the numbers that are meant: types by every name that toolchains have for them, and
bfloat16 that came as integers.

Read next: `files.py`, which reads them.
"""

from __future__ import annotations

import re

import numpy as np

NAMES = {
    "float64": ("f64", "fp64", "double"), "float32": ("f32", "fp32", "float", "single"),
    "float16": ("f16", "fp16", "half"), "bfloat16": ("bf16", "bf"),
    "int64": ("i64", "long"), "int32": ("i32", "int"), "int16": ("i16", "short"),
    "int8": ("i8", "char", "s8"),
    "uint64": ("u64",), "uint32": ("u32",), "uint16": ("u16",), "uint8": ("u8", "byte"),
    "bool": ("boolean",),
}
KINDS = {alias: name for name, aliases in NAMES.items() for alias in (name, *aliases)}
LARGE = 2.0**40  # numbers of no stage; bits that were taken for others are


def kind_of(word: object) -> str | None:
    """The type that a word means (`fp32`, `torch.bfloat16`, `<f4`), or None."""
    text = str(word).strip().lower().removeprefix("torch.").removeprefix("np.").removeprefix("numpy.")
    if text in KINDS:
        return KINDS[text]
    found = re.fullmatch(r"[<>=|]?([fiu])([1248])", text)  # as NumPy writes them: <f4
    name = f"{ {'f': 'float', 'i': 'int', 'u': 'uint'}[found[1]]}{8 * int(found[2])}" if found else ""
    return name if name in NAMES else None


def size_of(kind: str) -> int:
    """Bytes of one number."""
    return 2 if kind == "bfloat16" else np.dtype(kind).itemsize


def from_bytes(data: np.ndarray, kind: str) -> np.ndarray:
    """Bytes as numbers, lowest byte first, as devices write them; bfloat16 widened to float32."""
    if kind == "bfloat16":
        return from_bits(data.view("<u2"))
    return data.view(np.dtype(kind).newbyteorder("<"))


def from_bits(bits: np.ndarray) -> np.ndarray:
    """bfloat16 that came as 16-bit integers, as float32: the upper half of its bits."""
    return (np.ascontiguousarray(bits).view(np.uint16).astype(np.uint32) << 16).view(np.float32)


def plain(array: np.ndarray) -> np.ndarray:
    """The same numbers in this machine's byte order, and in float64 where they are wider than that."""
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        return array.astype(np.float64)
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def real(array: np.ndarray) -> bool:
    """Whether an array holds numbers as a stage may: no complex ones, and no text."""
    return array.dtype.kind in "fiub" or array.dtype.name == "bfloat16"


def meant(array: np.ndarray) -> tuple[np.ndarray, str]:
    """The numbers that an array of 16-bit integers most likely holds, and their type; any other array as
    it is, with no word."""
    if array.dtype not in (np.uint16, np.int16) or array.size < 2:
        return array, ""
    wide = from_bits(array)
    if likely(wide):
        return wide, "bfloat16"
    half = np.ascontiguousarray(array).view(np.float16)
    return (half, "float16") if likely(half) else (array, "")


def likely(numbers: np.ndarray) -> bool:
    """Whether numbers could be those of a stage: finite, most of them neither huge nor tiny."""
    with np.errstate(invalid="ignore", over="ignore"):
        size = np.abs(numbers.astype(np.float64))
        good = (size == 0) | ((size > 1 / LARGE) & (size < LARGE))
    return bool(good.mean() > 0.9) and bool(size[np.isfinite(size)].any())
