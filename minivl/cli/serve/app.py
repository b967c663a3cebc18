"""From a request to a reply: who may ask, in which order, and what goes back.

    Gate        Host, Origin and key, before anything else is looked at
    Answering   POST /v1/chat/completions: a place in the line, body, fields, pictures, the job
    others      GET /v1/models, GET /v1/models/NAME, GET /health

Starlette routes and parses; whatever is refused goes out in the protocol's form. Read next: `fields.py`,
`pictures.py`, `worker.py`.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from time import monotonic, time
from typing import Any
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ...api import VLM
from .fields import Wanted, read
from .limits import DRAINED, DRAINING, PARSED, ServerLimits
from .pictures import opened
from .places import AllowedPlaces
from .refused import Refused
from .replies import END, Completion, event, model, models
from .worker import Job, Worker, hung_up
from .writing import AnswerPart

LOCAL = ("localhost",)                    # names that lead here and nowhere else
HEARD = "minivl.heard"                    # in a request's scope once its body is read to the end


def application(vlm: VLM, name: str, worker: Worker, limits: ServerLimits | None = None,
                places: AllowedPlaces | None = None,
                key: str = "", names: Sequence[str] = ()) -> Starlette:
    """The server as an ASGI application. Raises MissingFile for a model without a tokenizer.

    name: of the model; key: a bearer's token that every request but /health must have, none where it is
        empty; names: of this server, besides addresses and localhost
    """
    limits, made = limits or ServerLimits(), int(time())
    vlm.processor                             # raises where there is none: every request needs it
    line = WaitingLine(limits.together + limits.waiting)

    async def listed(request: Request) -> Response:
        return JSONResponse(models(name, made))

    async def one(request: Request) -> Response:
        if request.path_params["name"] != name:
            raise Refused(f"there is no such model here; this server has {name!r}", 404, "model",
                          "model_not_found")
        return JSONResponse(model(name, made))

    async def health(request: Request) -> Response:
        return JSONResponse({"status": "ok", "asked": line.taken})
    answering = Answering(vlm, name, worker, limits, places or AllowedPlaces(), line)
    routes = [Route("/v1/chat/completions", answering, methods=["POST"]),
              Route("/v1/models", listed), Route("/v1/models/{name:path}", one),
              Route("/health", health)]
    gate = Middleware(Gate, key=key, names=frozenset(one.lower() for one in (*LOCAL, *names)))
    app = Starlette(routes=routes, middleware=[gate], exception_handlers={
        Refused: refusal, HTTPException: no_such_thing, Exception: defect})
    app.router.redirect_slashes = False               # a path is there, or it is not
    return app


# ---- refusals -------------------------------------------------------------------------------------

async def refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    await drained(request)
    # what is left of it is no request
    rest = {} if request.scope.get(HEARD) else {"connection": "close"}
    return JSONResponse(error.document, error.status, {**error.headers, **rest})


async def no_such_thing(request: Request, error: Exception) -> Response:
    """A path or a method that is not there."""
    assert isinstance(error, HTTPException)
    refused = Refused("there are POST /v1/chat/completions, GET /v1/models and GET /health; found "
                      f"{request.method[:16]} {request.scope['path'][:64]}", error.status_code,
                      code="not_found")
    response = await refusal(request, refused)
    response.headers.update(error.headers or {})
    return response


async def defect(request: Request, error: Exception) -> Response:
    refused = Refused("this is a defect of the server; its operator sees what it was", 500,
                      code="internal")
    return JSONResponse(refused.document, refused.status, refused.headers)


async def drained(request: Request) -> None:
    """Read the rest of a request, up to a limit, and throw it away: a client that is still sending would
    otherwise lose its connection before it sees the reply."""
    left = DRAINED
    with suppress(TimeoutError):
        async with asyncio.timeout(DRAINING):
            while left > 0 and not request.scope.get(HEARD):
                message = await request.receive()
                left -= len(message.get("body", b""))
                if message["type"] == "http.disconnect":
                    return


# ---- who may ask ----------------------------------------------------------------------------------

class Gate:
    """Refuses requests that a page of somebody else's made a browser send, and those without the key.

    A name that is not this server's in `Host` is how such a page reaches a server on the reader's own
    machine (DNS rebinding); an address cannot be rebound. `Origin` names the page that asks: none but
    pages of this server may, and it has none.
    """

    def __init__(self, app: ASGIApp, key: str, names: frozenset[str]):
        self.app, self.key, self.names = app, key.encode(), names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)

        async def hear() -> Message:
            message = await receive()
            if message["type"] == "http.request" and not message.get("more_body"):
                scope[HEARD] = True
            return message
        request = Request(scope, hear)
        try:
            self.check(request)
        except Refused as refused:
            response = await refusal(request, refused)
            return await response(scope, hear, send)
        await self.app(scope, hear, send)

    def check(self, request: Request) -> None:
        """Raise Refused for a request that is not answered."""
        hosts = request.headers.getlist("host")
        if len(hosts) != 1 or not self.known(hosts[0]):
            raise Refused("the Host header must be an address, localhost, or a name given with "
                          "--allow-host when the server was started", 403, code="host_not_allowed")
        if "origin" in request.headers:
            raise Refused("requests of web pages are not answered: Origin must not be sent", 403,
                          code="origin_not_allowed")
        if self.key and request.scope["path"] != "/health":
            kind, _, given = request.headers.get("authorization", "").partition(" ")
            if kind.lower() != "bearer" or not hmac.compare_digest(given.strip().encode("latin-1"),
                                                                   self.key):
                raise Refused("a key is needed: send it as `Authorization: Bearer KEY`", 401,
                              code="invalid_api_key")

    def known(self, host: str) -> bool:
        try:
            parts = urlsplit(f"//{host}")
            name = parts.hostname or ""
            parts.port  # raises ValueError for what is no number
        except ValueError:
            return False
        return parts.netloc == host and "@" not in host and (name in self.names or is_address(name))


def is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class WaitingLine:
    """Some requests are answered, some wait, further ones are turned away before their body is read."""

    def __init__(self, most: int):
        self.most, self.taken = most, 0

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place while the body runs. Raises Refused where there is none."""
        if self.taken >= self.most:
            raise Refused(f"{self.taken} requests are being answered or wait; try again later", 429,
                          code="queue_full")
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1


# ---- a question ------------------------------------------------------------------------------------

class Answering:
    """POST /v1/chat/completions, as an ASGI application of its own: it holds a place in the line until
    the last byte of its reply is out."""

    def __init__(self, vlm: VLM, name: str, worker: Worker, limits: ServerLimits,
                 places: AllowedPlaces, line: WaitingLine):
        self.vlm, self.name, self.worker = vlm, name, worker
        self.limits, self.places, self.line = limits, places, line
        self.parsing = asyncio.Semaphore(PARSED)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        check_media(request)
        with self.line.place():
            raw, job = await body_of(request, self.limits), Job(self.limits)
            listening = asyncio.create_task(stop_when_hung_up(receive, job))
            try:
                # beside the event loop: a body of many bytes takes a while to parse
                async with self.parsing:
                    job.asks(*await asyncio.to_thread(self.understood, raw, job.goes))
                del raw
                self.worker.submit(job)
                # the reply must be out soon after the answer: a client that does not read holds a place
                async with asyncio.timeout_at(asyncio.get_running_loop().time() + job.end - monotonic()
                                              + self.limits.reading):
                    response = await self.reply(job)
                    await response(scope, receive_nothing, send)
            finally:
                listening.cancel()
                self.worker.done(job)

    def understood(self, raw: bytes, goes: Callable[[], None]
                   ) -> tuple[Wanted, list[dict[str, Any]]]:
        """What a body asks for, and its messages with opened pictures. goes: raises where nobody waits
        for that any more. Raises Refused."""
        wanted = read(raw, self.name, self.limits)
        return wanted, opened(wanted.messages, self.vlm.processor, self.places, self.limits, goes)

    async def reply(self, job: Job) -> Response:
        """The reply once its first part is there: whatever is refused until then has a status of its
        own."""
        pieces = job.pieces()
        first = await anext(pieces)
        reply = Completion(self.name, self.vlm.tokenizer, job.wanted.top is not None, job.prompt,
                           job.reused)
        if not job.wanted.stream:
            return JSONResponse(reply.whole([first, *[piece async for piece in pieces]]))
        return StreamingResponse(events(reply, first, pieces, job.wanted.usage),
                                 media_type="text/event-stream",
                                 headers={"cache-control": "no-store"})


async def events(reply: Completion, piece: AnswerPart, rest: AsyncIterator[AnswerPart],
                 counts: bool) -> AsyncIterator[bytes]:
    """A stream's events, from its first piece on. What goes wrong once it has begun is an event too, and
    the last."""
    yield event(reply.first())
    for chunk in reply.chunks(piece):
        yield event(chunk)
    try:
        async for piece in rest:
            for chunk in reply.chunks(piece):
                yield event(chunk)
    except Refused as refused:
        yield event(refused.document)
        return
    if counts:
        yield event(reply.counted(piece.written))
    yield END


def check_media(request: Request) -> None:
    """Refuse what is no plain JSON by its headers. Browsers send JSON to elsewhere only after they have
    asked whether they may, and nobody answers that."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Refused("the body must be JSON, with the header `Content-Type: application/json`", 415,
                      code="unsupported_media_type")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Refused("a compressed body is not read; send it as it is", 415,
                      code="unsupported_media_type")


async def body_of(request: Request, limits: ServerLimits) -> bytes:
    """The body, counted while it is read. Raises Refused for one that is too large or too slow."""
    too_large = Refused(f"the body has more than {limits.body:,} bytes; send smaller pictures, or fewer",
                        413,
                        code="too_large")
    said = request.headers.get("content-length", "0")
    if said.isdecimal() and int(said[:20]) > limits.body:
        raise too_large
    found = bytearray()
    try:
        async with asyncio.timeout(limits.reading):
            async for part in request.stream():
                found += part
                if len(found) > limits.body:
                    raise too_large
    except TimeoutError:
        raise Refused(f"the body did not arrive within {limits.reading:g} seconds", 408,
                      code="too_slow") from None
    except ClientDisconnect:
        raise Refused("the client hung up", 499, code="hung_up") from None
    return bytes(found)


async def stop_when_hung_up(receive: Receive, job: Job) -> None:
    """Stop a job when its client is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
    job.stop(hung_up())


async def receive_nothing() -> Any:
    """For a response that would listen as well: two listeners would take each other's messages."""
    await asyncio.Event().wait()
