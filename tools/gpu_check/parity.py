"""Are the kernels right on this device? Every case of the tests, the embedded model's tokens, and every stage of a
random model of real widths beside the definitions in float64.

Read next: `speed.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import minivl
import minivl.show.samples
from minivl.api import VLM
from minivl.door.stage import unwatched
from minivl.kernels.cuda.arrays import to_host
from minivl.kernels.cuda.device import Device, Launcher
from minivl.kernels.cuda.interpreter import made
from minivl.run.inputs import Inputs
from tests.kernels.cuda.cases import FILES, wrong

from .checkpoint import model, prompt
from .sizes import Sizes

BOUNDS = {"float32": 5e-6, "bfloat16": 2.0**-7}  # of one stage on its own inputs, relative


def kernel_cases(device: Device) -> dict[str, Any]:
    """Every case of every kernel: how many there are, and what is wrong."""
    machine, said, count = Launcher(device), [], 0
    for name, cases in FILES.items():
        for case in cases():
            count += 1
            try:
                message = wrong(case, machine)
            except Exception as error:  # one kernel that fails must not hide the others
                message = f"{case.name}: {type(error).__name__}: {error}"
            if message:
                said.append(f"{name}: {message}")
    return {"cases": count, "wrong": said}


def embedded_tokens(device: Device, tokens: int) -> dict[str, Any]:
    """The embedded model's answer to a question about a picture: the definitions' own, in both precisions."""
    vlm, found = minivl.load(), {}
    sample = next(one for one in minivl.show.samples.load_samples() if one.fps is None)
    content = [{"type": "image", "image": str(sample.paths[0])}, {"type": "text", "text": sample.question}]
    inputs = vlm.prepare([{"role": "user", "content": content}])
    for name in BOUNDS:
        ours, right = (
            vlm.on(name, kernels).generate(inputs, tokens, stop_ids=())
            for kernels in (made(device, "cuda"), "definition")
        )
        found[name] = {"same": ours == right, "tokens": ours}
    return found


def stages(device: Device, sizes: Sizes, name: str) -> dict[str, Any]:
    """Each stage on the device beside the definition in float64 on the same inputs: the worst ones."""
    vlm = model(sizes.parity, name, made(device, "cuda"))
    inputs = prompt(sizes.parity, 24, sizes.picture)
    errors = beside_float64(vlm, inputs)
    worst = sorted(errors.items(), key=lambda row: -row[1])[:5]
    return {
        "stages": len(errors),
        "bound": BOUNDS[name],
        "worst": dict(worst),
        "over": {key: error for key, error in errors.items() if not error <= BOUNDS[name]},
    }


def beside_float64(vlm: VLM, inputs: Inputs) -> dict[str, float]:
    """Relative errors by stage: the definitions run as a shadow in float64, on what each stage was given."""
    with minivl.session(shadow={"vision.*": in_float64, "decoder.*": in_float64}, tolerance=0.0, quiet=True) as seen:
        vlm.generate(inputs, 2, stop_ids=())
    if seen.failures:
        key, error = next(iter(seen.failures.items()))
        raise RuntimeError(f"{key} in float64: {error}") from error
    return dict(seen.guilty)


def in_float64(original: Callable[..., Any]) -> Callable[..., Any]:
    """A stage in float64: outside of the session its kernels are the definitions."""

    def run(*args: Any) -> Any:
        with unwatched():
            return original(*map(widened, args))

    return run


def widened(value: Any) -> Any:
    """A stage's argument for the host in float64."""
    value = to_host(value)
    floats = isinstance(value, np.ndarray) and value.dtype.kind in "fV"
    return value.astype(np.float64) if floats else np.dtype(np.float64) if isinstance(value, np.dtype) else value
