"""The CUDA interpreter: the kernels of `cuda/` on a GPU, by CuPy, or on the processor, by the runner.

    vlm = minivl.load(folder, precision="bfloat16", kernels="cuda")
    vlm = minivl.load(kernels="cuda-runner")        # no GPU: the same kernels and the same calls, slowly

    from minivl.kernels.cuda import check
    print(check("scale.cu"))                        # a kernel of your own, in every build and schedule

Weights are uploaded once; arrays stay on the device from the first patch to the scores, and a step of
decoding is one graph that is replayed. float32 and bfloat16 run on the device; a model in float64 or
float16 stays with the host and the definitions.

Read next: `interpreter.py`, which kernel stands in for what; `device.py`, the two places to run;
`cuda/attention.cu`, the first kernel to read;
`runner.py` and `checking.py`, how the processor runs and checks them.
"""

from .checking import check

__all__ = ["check"]
