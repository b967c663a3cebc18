"""CUDA kernels, and the CPU that runs them where there is no GPU.

Read next: `runner.py`, then `cuda/README.md`.
"""
