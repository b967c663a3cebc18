"""The stages that can be checked, in the order of the passes. One file a family; each holds how inputs
are drawn, the usual mistakes as small wrong versions, and, where it is natural, variants of the rule.

Read next: `vision.py`.
"""

from . import block, decoder, kernels, patches, picture, positions, sampling, vision, windows

EXERCISES = [*picture.EXERCISES, *patches.EXERCISES, *positions.EXERCISES, *windows.EXERCISES,
             *vision.EXERCISES,
             *block.EXERCISES, *kernels.EXERCISES, *decoder.EXERCISES, *sampling.EXERCISES]
