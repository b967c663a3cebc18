"""One command on a machine with a GPU, unattended, under six minutes: are the kernels right there, and how fast?

    python -m tools.gpu_check [--json FILE]       # needs a GPU, CuPy, and torch for the comparison
    python -m tools.gpu_check --device runner     # the whole way on the processor, small; times mean nothing
    python -m tools.gpu_check plan                # planned bytes and operations, and the 3B model's predicted step
    python -m tools.gpu_check cubins              # registers and spills for every generation of cards; needs nvcc

1. every case of every kernel; 2. the embedded model's tokens in both precisions; 3. every stage of a random model of
the 3B's widths beside the definitions in float64; 4. what this card copies and multiplies at most, and each kernel
beside it; 5. tokens a second and prefill of the random 3B, beside PyTorch and without kernels that overlap. A part
that fails is told and the next one runs; one that would begin after the time is up is left out and told. Exit code 1
when something is wrong.

Read next: `parity.py`, `speed.py`, `plan.py`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

from minivl.door.files import write_whole
from minivl.kernels.cuda.device import OPEN, Device, NoDevice
from minivl.kernels.cuda.interpreter import made

from . import beside_torch, cubins, parity, plan, speed
from .checkpoint import model
from .sizes import Sizes, on_a_card, on_the_processor

LIMIT = 330.0  # seconds after which no further part begins


def parts(device: Device, sizes: Sizes) -> dict[str, Callable[[], Any]]:
    """What is asked, in order of worth."""
    card = device.name == "gpu"
    return {
        "kernels": lambda: parity.kernel_cases(device),
        "embedded model": lambda: parity.embedded_tokens(device, 8),
        "stages in float32": lambda: parity.stages(device, sizes, "float32"),
        "stages in bfloat16": lambda: parity.stages(device, sizes, "bfloat16"),
        "ceilings": lambda: speed.ceilings(device, sizes)._asdict(),
        "speed": lambda: [told(one) for one in speed.kernels(device, sizes)],
        "ours": lambda: speed.decoding(model(sizes.config, "bfloat16", made(device, "cuda")), device, sizes),
        "torch": lambda: beside_torch.measured(sizes, card),
        "not early": lambda: speed.decoding(
            model(sizes.config, "bfloat16", made(patient(device), "cuda")), device, sizes
        ),
    }


def patient(device: Device) -> Device:
    """The same device, on which no kernel begins before the one in front of it has ended: what that is worth."""
    return OPEN["gpu"](early=False) if device.name == "gpu" else device


def told(one: speed.Timed) -> dict[str, Any]:
    """A kernel's figures as plain data."""
    return {
        "kernel": one.call.kernel,
        "shape": one.call.shape,
        "seconds": one.seconds,
        "bytes_per_second": one.bandwidth,
        "flops_per_second": one.rate,
    }


def run(device: Device, sizes: Sizes, limit: float = LIMIT, tell: Callable[[str], Any] = print) -> dict[str, Any]:
    """All parts: name -> what was found, with its seconds."""
    start, found = perf_counter(), {}
    for name, part in parts(device, sizes).items():
        if perf_counter() - start > limit:
            found[name] = {"left_out": f"{limit:.0f} s are over"}
            continue
        tell(f"{name} ...")
        begin = perf_counter()
        try:
            found[name] = {"found": part()}
        except Exception as error:  # the next part may still tell something
            found[name] = {"error": f"{type(error).__name__}: {error}"}
        found[name]["seconds"] = perf_counter() - begin
    return found


def wrongs(found: dict[str, Any]) -> list[str]:
    """What is wrong, in words."""
    said = [f"{name}: {part['error']}" for name, part in found.items() if "error" in part]
    said += [f"{name}: left out, {part['left_out']}" for name, part in found.items() if "left_out" in part]
    said += found["kernels"].get("found", {}).get("wrong", [])
    said += [
        f"embedded model in {name}: other tokens than the definitions', {one['tokens']}"
        for name, one in found["embedded model"].get("found", {}).items()
        if not one["same"]
    ]
    for name in ("stages in float32", "stages in bfloat16"):
        part = found[name].get("found", {})
        said += [
            f"{name}: {key} is {error:.2e} off, at most {part['bound']:.1e}"
            for key, error in part.get("over", {}).items()
        ]
    return said


def table(found: dict[str, Any]) -> list[str]:
    """The figures as a page."""
    most = found["ceilings"].get("found")
    lines = (
        [
            f"This card: {most['bandwidth'] / 1e12:.2f} TB/s copied, {most['bfloat16'] / 1e12:.1f} TFLOP/s in "
            f"bfloat16, {most['float32'] / 1e12:.1f} in float32.",
            "",
            "| kernel | shapes | us | GB/s | of the copy | GFLOP/s | of the product |",
            "|---|---|---|---|---|---|---|",
        ]
        if most
        else []
    )
    for one in found["speed"].get("found", []) if most else []:
        shape = " ".join(f"{key}={value}" for key, value in one["shape"].items())
        lines.append(
            f"| {one['kernel']} | {shape} | {one['seconds'] * 1e6:.1f} | {one['bytes_per_second'] / 1e9:.0f} "
            f"| {one['bytes_per_second'] / most['bandwidth']:.0%} | {one['flops_per_second'] / 1e9:.0f} "
            f"| {one['flops_per_second'] / most['bfloat16']:.1%} |"
        )
    for name, part in (("minivl", "ours"), ("torch", "torch"), ("minivl, no kernel early", "not early")):
        if one := found[part].get("found"):
            lines.append(
                f"{name}: {one['tokens_per_second']:.1f} tokens a second, {one['prefill_seconds'] * 1e3:.1f} ms for a "
                "prompt"
            )
    cases = found["kernels"].get("found", {})
    return [f"{cases.get('cases', 0)} cases of kernels, {len(cases.get('wrong', []))} wrong", *lines]


def main(words: list[str] | None = None) -> int:
    """Exit code 0 when everything is right, 1 when something is not, 2 without a device."""
    options = argparse.ArgumentParser(prog="python -m tools.gpu_check", description=(__doc__ or "").split("\n", 1)[0])
    options.add_argument("what", nargs="?", choices=("all", "plan", "cubins"), default="all")
    options.add_argument("--device", choices=tuple(OPEN), default="gpu")
    options.add_argument("--json", type=Path, help="where all figures go")
    chosen = options.parse_args(words)
    if chosen.what != "all":
        return plan.main() if chosen.what == "plan" else cubins.main()
    try:
        device = OPEN[chosen.device]()
    except NoDevice as error:
        print(error, file=sys.stderr)
        return 2
    found = run(device, on_a_card() if device.name == "gpu" else on_the_processor())
    if chosen.json:
        words_of = json.dumps(found, indent=1).encode()
        write_whole(chosen.json, lambda file: file.write(words_of))
    print("\n".join(table(found)))
    said = wrongs(found)
    print("\n".join(said), file=sys.stderr)
    return 1 if said else 0


if __name__ == "__main__":
    raise SystemExit(main())
