"""What answering together gives a server: tokens a second of several clients at once, beside the same requests
one after the other, and whether the answers are the same.

    python -m tools.bench.served [--clients 4] [--requests 2] [--tokens 64] [--model DIR] [--keep]

Without --model: 3B widths with two decoder layers, in bfloat16, compiled. Rows are not kept from one request
to the next, so that both ways compute the same. Read next: `README.md`; `minivl/cli/serve/worker.py`.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

from .long_prompt import checkpoint
from .record import ROOT, Figure, say

WORDS = "One two three four five six seven eight nine ten, and what comes after them? " * 4


class Served(NamedTuple):
    """What a number of clients got: seconds of all, tokens, and each text by the number of its request."""
    seconds: float
    tokens: int
    texts: list[str]


@contextmanager
def server(folder: Path, clients: int, options: Sequence[str]) -> Iterator[str]:
    """The address of `minivl serve` in a process of its own."""
    words = [sys.executable, "-m", "minivl.cli", "serve", "--model", str(folder), "--name", "model", "--port",
             "0", "--together", str(clients), "--max-waiting", "64", "--prompt-cache", "0", *options]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stderr is not None
        said = ""
        while not (found := re.search(r"http://[\d.]+:\d+", said)):
            line = process.stderr.readline()
            if not line:
                sys.exit(said)
            said += line
        try:
            yield found[0]
        finally:
            process.terminate()


def asked(url: str, number: int, tokens: int) -> tuple[str, int]:
    """The text of one answer, and its tokens."""
    body = {"messages": [{"role": "user", "content": f"{number}. {WORDS}"}], "max_tokens": tokens,
            "temperature": 0}
    request = urllib.request.Request(f"{url}/v1/chat/completions", json.dumps(body).encode(),
                                     {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=600) as reply:
        found: dict[str, Any] = json.loads(reply.read())
    return found["choices"][0]["message"]["content"], found["usage"]["completion_tokens"]


def served(url: str, clients: int, requests: int, tokens: int) -> Served:
    """All requests by so many clients at a time."""
    start = perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        replies = list(pool.map(lambda n: asked(url, n, tokens), range(requests)))
    return Served(perf_counter() - start, sum(count for _, count in replies), [text for text, _ in replies])


def main() -> None:
    """Measure, print, and keep when asked to."""
    options = argparse.ArgumentParser(prog="python -m tools.bench.served", description=__doc__.split("\n", 1)[0])
    options.add_argument("--clients", type=int, default=4, help="at once (4)")
    options.add_argument("--requests", type=int, default=2, help="of each client (2)")
    options.add_argument("--tokens", type=int, default=64, help="of each answer, at most (64)")
    options.add_argument("--model", type=Path, help="a checkpoint's folder")
    options.add_argument("--precision", default="bfloat16")
    options.add_argument("--kernels", default="jit")
    options.add_argument("--keep", action="store_true", help="write the figures into tools/bench/results/")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = given.model or checkpoint(Path(made) / "model")
        way = ["--precision", given.precision, "--kernels", given.kernels]
        with server(folder, given.clients, way) as url:
            count = given.clients * given.requests
            served(url, given.clients, given.clients, 4)                     # compiled, and threads are there
            alone, together = (served(url, n, count, given.tokens) for n in (1, given.clients))
    rates = [one.tokens / one.seconds for one in (alone, together)]
    same = sum(a == b for a, b in zip(alone.texts, together.texts, strict=True))
    figures = [Figure("one after the other", rates[0], "tokens/s"),
               Figure(f"{given.clients} clients together", rates[1], "tokens/s")]
    for figure in figures:
        print(f"{figure.name:<40} {figure.value:9.2f} {figure.unit}")
    print(f"{'together against one after the other':<40} {rates[1] / rates[0]:9.2f} times as many")
    print(f"{'answers that are the same':<40} {same:6} of {count}")
    say("served", figures, given.keep)


if __name__ == "__main__":
    main()
