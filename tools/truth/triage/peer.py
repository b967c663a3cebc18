"""A small server that speaks the OpenAI protocol over the package itself, for `minivl triage --url` to be tried on:
with a fault in the model, or a healthy one in some precision, in some batches, with rows computed in pieces.

    with Peer(vlm, wraps=get("gelu-by-tanh").table()) as peer: ask(Server(peer.url), ...)

On 127.0.0.1 alone, on a port that the system chooses. Read next: `served.py`.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

import minivl
from minivl.door.stage import Session, Wrap
from minivl.kernels.definition import log_softmax

LARGEST = 64 << 20                                        # bytes of a request
Answer = tuple[list[int], list[float | None], int]         # ids, log-probabilities, tokens of the prompt


class Peer:
    """wraps: what is planted; batch: so many requests are answered in one run, as far as they come at one time;
    options: of `generate`, for every request; shows_logprobs, shows_counts: what replies hold."""

    def __init__(self, vlm: minivl.VLM, wraps: Mapping[str, Wrap] | None = None, batch: int = 1,
                 options: Mapping[str, Any] | None = None, shows_logprobs: bool = True, shows_counts: bool = True,
                 takes_videos: bool = True):
        self.vlm, self.wraps, self.batch, self.options = vlm, dict(wraps or {}), batch, dict(options or {})
        self.shows_logprobs, self.shows_counts, self.takes_videos = shows_logprobs, shows_counts, takes_videos
        self.asked = 0
        self._lock, self._waiting = threading.Lock(), []                        # type: ignore[var-annotated]
        self._more = threading.Condition()
        peer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                size = int(self.headers.get("Content-Length", 0))
                if not self.path.endswith("/chat/completions") or not 0 < size <= LARGEST:
                    return self.reply(404, {"error": "POST /v1/chat/completions"})
                try:
                    self.reply(200, peer.completion(json.loads(self.rfile.read(size))))
                except ValueError as error:
                    self.reply(400, {"error": str(error)})
                except Exception as error:                 # what a planted fault may make the passes raise
                    self.reply(500, {"error": repr(error)})

            def reply(self, status: int, document: Any) -> None:
                raw = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, *words: Any) -> None:
                """Nothing is said of a request."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> Peer:
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    # ---- a request -----------------------------------------------------------------------------------------------
    def completion(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The reply to one request. Raises ValueError for one that is none."""
        self.asked += 1
        messages = body["messages"]
        if not self.takes_videos and any(item.get("type") == "video" for m in messages for item in m["content"]):
            raise ValueError("videos are not taken")
        ids, numbers, count = self._answered(messages, int(body.get("max_tokens", 16)))
        stops, token = self.vlm.generation.eos_token_ids, self.vlm.tokenizer.bytes_of
        kept = [n for n, one in enumerate(ids) if one not in stops]
        content = [{"token": token(ids[n]).decode("utf-8", "replace"), "bytes": list(token(ids[n])),
                    "logprob": numbers[n]} for n in kept]
        choice = {"index": 0, "message": {"role": "assistant", "content": self.vlm.tokenizer.decode(ids)},
                  "finish_reason": "stop" if len(kept) < len(ids) else "length",
                  "logprobs": {"content": content} if self.shows_logprobs else None}
        return {"object": "chat.completion", "choices": [choice],
                **({"usage": {"prompt_tokens": count}} if self.shows_counts else {})}

    def _answered(self, messages: list[dict[str, Any]], most: int) -> Answer:
        """In one run with whatever else is asked at this time."""
        if self.batch == 1:
            with self._lock:
                return self.run([messages], most)[0]
        mine: dict[str, Any] = {"messages": messages, "most": most}
        with self._more:
            self._waiting.append(mine)
            self._more.notify_all()
            self._more.wait_for(lambda: len(self._waiting) >= self.batch or "answer" in mine, timeout=0.2)
        with self._lock:
            if "answer" not in mine:
                with self._more:
                    group, self._waiting = self._waiting[:self.batch], self._waiting[self.batch:]
                    if mine not in group:                  # somebody else's run begins with others
                        group = [mine, *group[:-1]]
                        self._waiting = [one for one in self._waiting if one is not mine]
                for one, answer in zip(group, self.run([one["messages"] for one in group], most), strict=True):
                    one["answer"] = answer
                with self._more:
                    self._more.notify_all()
        return mine["answer"]

    def run(self, conversations: Sequence[list[dict[str, Any]]], most: int) -> list[Answer]:
        """Several conversations in one run of the model."""
        vlm = self.vlm
        with Session(replace=self.wraps, record="decoder.logits", quiet=True) as s:
            inputs = [vlm.prepare(messages) for messages in conversations]
            try:
                with np.errstate(all="ignore"):
                    answers = vlm.generate(inputs, most, **self.options)
            except minivl.Error:                           # scores that are no numbers: the first word, without end
                return [([0] * most, [None] * most, len(one.input_ids)) for one in inputs]
        steps = list(s.trace.values())
        numbers: list[list[float | None]] = [[] for _ in inputs]
        for number, logits in enumerate(steps):
            going = [n for n, ids in enumerate(answers) if len(ids) > number]
            for row, n in zip(log_softmax(logits.astype(np.float64)), going, strict=True):
                numbers[n].append(float(row[answers[n][number]]))
        return [(ids, own, len(one.input_ids)) for ids, own, one in zip(answers, numbers, inputs, strict=True)]
