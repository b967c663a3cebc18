"""What the tools say of a port that nobody here wrote: every variant, dumped in every way.

    python -m tools.truth.foreign                      # the table of acceptance
    python -m tools.truth.foreign --ways mixed bits --variants bf16 --names --verbose

For every dump: is a healthy port accused; is the first bad tap the first at which this port, in this storage, leaves
its own healthy run; is the guilty pass among those that are named. What is visible is measured on the port alone,
never by the tools that are judged. Read next: `sweep.py`.
"""

from __future__ import annotations

import argparse
from itertools import product

from .dumps import WAYS
from .sweep import Sweep, table
from .variants import VARIANTS


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    words.add_argument("--variants", nargs="+", default=[one.name for one in VARIANTS])
    words.add_argument("--names", action="store_true", help="give the right names; without it they are guessed")
    words.add_argument("--local", action="store_true", help="stage by stage")
    words.add_argument("--hidden", action="store_true", help="each fault on the scene that hides it")
    words.add_argument("--verbose", action="store_true")
    given = words.parse_args()
    with Sweep(local=given.local, named=given.names, hidden=given.hidden) as sweep:
        chosen = [one for one in VARIANTS if one.name in given.variants]
        rows = []
        for one, way in product(chosen, given.ways):
            if row := sweep.judge(one, way):
                rows.append(row)
                if given.verbose or not row.right:
                    print(row.told(), flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()
