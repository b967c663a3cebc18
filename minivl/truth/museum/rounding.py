"""Numbers rounded to narrower types and back, without a package: what faults of precision are made
of."""

from __future__ import annotations

import numpy as np


def to_bfloat16(x: np.ndarray) -> np.ndarray:
    """float32 with the 8 leading bits that bfloat16 keeps, to nearest even; still float32."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)


def to_float16(x: np.ndarray) -> np.ndarray:
    """float16; what is too large becomes infinite."""
    with np.errstate(over="ignore"):
        return x.astype(np.float16)


ROUNDED = {"bfloat16": to_bfloat16, "float16": to_float16}
