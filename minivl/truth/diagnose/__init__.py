"""Which known fault does a trace look like? The bug museum's wrong passes are tried on it, one after
the other.

A fault has no fixed picture: what it does depends on the checkpoint, the picture and the type. So its
signature is made where it is needed: the fault is planted in minivl's own model, which runs on the
candidate's own recorded values, and what comes out at each tap is laid beside what the candidate has
there.

    found = diagnose(vlm, golden, candidate)            # golden: a trace; candidate: somebody's arrays
    found.ranking[0].fault, found.known            # the likeliest fault, and whether it is a known one

    replay.py      one run on the candidate's values, with a fault in it or none
    evidence.py    how near it comes
    rank.py        which faults can be meant, in which order, or none of the known
    report.py      that in words

Read next: `rank.py`, which calls the others.
"""

from __future__ import annotations

from .rank import Diagnosis, Suspect, diagnose

__all__ = ["Diagnosis", "Suspect", "diagnose"]
