"""Whatever is sent to `minivl serve` is answered or refused as its page says; it neither ends nor hangs,
and its memory is bounded. 200 requests, and 2,000 in `make test-full`.
"""

import collections
import json
import re
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from .requests import drawn, send

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
# those of docs/guide/serve.md, without a key
STATUSES = {200, 400, 403, 404, 405, 408, 413, 415, 429, 504}
MOST = 500 << 20                                                       # bytes of memory, all told
LIMITS = ["--max-body", "2000000", "--max-new-tokens", "4", "--max-prompt-tokens", "2000",
          "--max-seconds", "20",
          "--max-pixels", "4000000", "--max-waiting", "3", "--together", "3", "--max-frames", "12",
          "--prompt-cache", "4000000"]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """(process, port, where its words go) of a server in a process of its own."""
    said = tmp_path_factory.mktemp("served") / "stderr"
    with said.open("w") as err, subprocess.Popen([sys.executable, "-m", "minivl.cli", "serve", "--port",
                                                  "0", *LIMITS],
                                                 stderr=err) as process:
        while not (found := re.search(r"http://127.0.0.1:(\d+)/", said.read_text())):
            assert process.poll() is None, said.read_text()
        yield process, int(found[1]), said
        process.terminate()
        assert process.wait(30) == 0


def memory(process, name):
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(rf"{name}:\s+(\d+) kB", status)[1]) << 10


def judged(reply):
    """The status of the first reply of a connection; what is no document of the protocol fails."""
    head, _, rest = reply.partition(b"\r\n\r\n")
    status = int(re.match(rb"HTTP/1\.1 (\d{3}) ", head)[1])
    if status == 100:
        return judged(rest)
    assert status in STATUSES, (status, rest[:300])
    body = rest[:int(length[1])] if (length := re.search(rb"content-length: (\d+)",
                                                         head.lower())) else rest
    if status != 200 and body:
        error = json.loads(body)["error"]
        assert error.keys() == {"message", "type", "param",
                                "code"} and error["message"] and error["code"] != "internal"
        assert len(body) < 4000 and b"Traceback" not in body
    return status


@pytest.mark.parametrize("count", [200, pytest.param(2000, marks=pytest.mark.full)])
def test_whatever_is_sent_is_answered_or_refused(server, count):
    process, port, said = server
    statuses = collections.Counter()

    def one(seed):
        name, data, how, seconds = drawn(seed)
        try:
            reply = send(port, data, how, seconds, seed)
        except TimeoutError:
            assert seconds < 1, f"{name}: no reply within {seconds} seconds"
            return "not whole"
        if reply is None:
            return "not heard"
        # a server may close a connection on what is not whole, and say nothing
        return judged(reply) if reply else "closed"
    with ThreadPoolExecutor(6) as pool:
        for seed, status in zip(range(count), pool.map(one, range(count)), strict=True):
            statuses[status] += 1
            assert process.poll() is None, drawn(seed)[0]
    print(count, dict(statuses), f"most memory {memory(process, 'VmHWM') >> 20} MiB")
    assert statuses["closed"] < count / 10, statuses
    assert statuses[200] > count / 20 and statuses[400] > count / 5, statuses
    assert memory(process, "VmHWM") < MOST
    assert "Traceback" not in said.read_text(), said.read_text()[-3000:]
    for _ in range(100):  # those that nobody listened to are over too
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=30) as reply:
            state = json.loads(reply.read())
        if not state["asked"]:
            break
        time.sleep(0.1)
    assert state == {"status": "ok", "asked": 0}
