"""Numbers in compiled code: reading and writing float32 and bfloat16 the same way.

NumPy has no bfloat16 that Numba knows, so arrays of it come here as their 16 bits (uint16). A kernel
says `get(x, i)` and `put(x, i, value)`; both also run as plain Python, for the emulator.

Read next: `drivers.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.extending import overload, register_jitable

from ...checkpoint.weight import precision

BFLOAT16 = precision("bfloat16")
U16, U32, F32 = np.uint16, np.uint32, np.float32


@register_jitable
def widened(bits: Any) -> Any:
    """A bfloat16's bits as the float32 that they are: its upper half."""
    return U32(U32(bits) << U32(16)).view(F32)


@register_jitable
def nearest(value: Any) -> Any:
    """A float32 rounded to bfloat16, to nearest even; NaN stays NaN."""
    bits = F32(value).view(U32)
    odd = U32(U32(bits >> U32(16)) & U32(1))
    up = U32(bits + U32(U32(0x7FFF) + odd))            # never beyond 32 bits but for a NaN
    kept = up if value == value else U32(bits | U32(0x400000))
    return U16(U32(kept >> U32(16)))


ROUND = F32(12582912)                          # 1.5 * 2^23: added and taken away, it rounds to even
LOG2_E = F32(1.4426950408889634)
LN2_HIGH, LN2_LOW = F32(0.693359375), F32(-2.12194440e-4)    # their sum is ln 2; the first has 9 bits
TERMS = tuple(F32(term) for term in (1 / 5040, 1 / 720, 1 / 120, 1 / 24, 1 / 6, 1 / 2, 1, 1))


@register_jitable
def exponential(x: Any) -> Any:
    """exp of a float32 within two units in the last place, in plain arithmetic: loops around it become
    vectors. 0 below the normal numbers and infinity above the largest; NaN stays.

    x = n ln 2 + r with |r| <= ln 2 / 2; exp(r) by its series, 2^n by its bits.
    """
    inside = min(max(x, F32(-87.33)), F32(88.72))
    n = F32(np.floor(F32(inside * LOG2_E + F32(0.5))))
    r = F32(F32(inside - F32(n * LN2_HIGH)) - F32(n * LN2_LOW))
    y = TERMS[0]
    y = F32(y * r + TERMS[1])
    y = F32(y * r + TERMS[2])
    y = F32(y * r + TERMS[3])
    y = F32(y * r + TERMS[4])
    y = F32(y * r + TERMS[5])
    y = F32(y * r + TERMS[6])
    y = F32(y * r + TERMS[7])
    half = np.int32(n) >> np.int32(1)                          # 2^128 is no float32: in two factors
    y = F32(y * U32((half + np.int32(127)) << np.int32(23)).view(F32))
    y = F32(y * U32((np.int32(n) - half + np.int32(127)) << np.int32(23)).view(F32))
    y = y if x >= F32(-87.33) else F32(0)
    y = y if x <= F32(88.72) else F32(np.inf)
    return y if x == x else x


def get(x: Any, i: Any) -> Any:
    """Number i of a float32 array, or of bfloat16 bits, as float32."""
    return widened(x[i]) if x.dtype == np.uint16 else x[i]


def put(x: Any, i: Any, value: Any) -> None:
    """Write number i of a float32 array, or of bfloat16 bits, rounded once."""
    x[i] = nearest(value) if x.dtype == np.uint16 else value


def rounded(x: Any, value: Any) -> Any:
    """A float32 rounded to the type of array x, and a float32 again."""
    return widened(nearest(value)) if x.dtype == np.uint16 else value


@overload(rounded)
def _rounded(x, value):                        # type: ignore[no-untyped-def]
    if x.dtype == types.uint16:
        return lambda x, value: widened(nearest(value))
    return lambda x, value: value


@overload(get)
def _get(x, i):                                # type: ignore[no-untyped-def]
    """An unsigned index cannot count from the end, so nothing is asked about its sign and loops become
    vectors. Numba compares the parameters with those inside, names and types: neither has types."""
    if x.dtype == types.uint16:
        return lambda x, i: widened(x[np.uintp(i)])
    return lambda x, i: x[np.uintp(i)]


@overload(put)
def _put(x, i, value):                         # type: ignore[no-untyped-def]
    if x.dtype == types.uint16:
        def write(x, i, value):                # type: ignore[no-untyped-def]
            x[np.uintp(i)] = nearest(value)
    else:
        def write(x, i, value):                # type: ignore[no-untyped-def]
            x[np.uintp(i)] = value
    return write


def bits(x: np.ndarray) -> np.ndarray:
    """An array as compiled code takes it: float32 as it is, bfloat16 as its bits; not copied."""
    return x.view(np.uint16) if x.dtype == BFLOAT16 else x
