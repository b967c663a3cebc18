"""A server that speaks the OpenAI protocol, asked from outside: which questions, how they are sent, and
whether its answers depend on how they were asked.

    rows = ask(Server("http://localhost:8000/v1", "my-model"), plan(vlm), say)
    write(rows, Path("candidate.jsonl"))             # then as any other candidate's file: `triage`

    plan.py         the questions, at most 60            ask.py          from a plan to lines
    client.py       one request                       invariance.py   the same question, asked otherwise

Read next: `plan.py`; docs/guide/triage.md.
"""

from __future__ import annotations

from .ask import ask, write
from .client import Server
from .plan import MOST_QUESTIONS, Question, plan

__all__ = ["MOST_QUESTIONS", "Question", "Server", "ask", "plan", "write"]
