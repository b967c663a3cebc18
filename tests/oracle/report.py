"""The errors of every stage as a table: `python -m tests.oracle.report [float32|bfloat16|float16] [fixture]`."""

import sys

from .comparison import angles_of, errors, minivl_trace, reference_traces
from .strategies import FIXTURES


def lines(name: str, precision: str) -> list[str]:
    """Markdown: stage, minivl's relative L2 error, the reference's, and their ratio where both round."""
    case = FIXTURES[name]
    exact, theirs = reference_traces(case, precision)
    table = errors(minivl_trace(case, precision, going_on_with=angles_of(exact)), exact, theirs, precision)
    head = ["| stage | minivl | reference | ratio |", "|---|---|---|---|"]
    return head + [f"| {row.stage} | {row.ours:.2e} | {row.theirs:.2e} | {_ratio(row.ours, row.theirs)} |"
                   for row in table]


def _ratio(ours: float, theirs: float) -> str:
    return f"{ours / theirs:.2f}" if theirs else "exact" if not ours else "inf"


def main(precision: str = "float32", name: str = "picture, video, picture") -> None:
    print(f"{name}, {precision}: relative L2 error against true float64\n")
    print("\n".join(lines(name, precision)))


if __name__ == "__main__":
    main(*sys.argv[1:])
