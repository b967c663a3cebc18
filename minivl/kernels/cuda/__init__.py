"""CUDA kernels, and the CPU that runs them where there is no GPU.

    from minivl.kernels.cuda import check
    print(check("scale.cu"))                   # a kernel of your own, in every build and schedule

Read next: `runner.py`, then `cuda/README.md`.
"""

from .checking import check

__all__ = ["check"]
