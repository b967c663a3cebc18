"""How a request is refused: a status of HTTP, and the document that the protocol has for it.

Read next: `app.py`, which sends it.
"""

from __future__ import annotations

from typing import Any

from ...door.errors import Error

KINDS = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


class Refused(Error):
    """A request that is not answered. The reply's `error.message` says what must hold, what was found
    and what to do; `param` names the field, `code` the reason in one word, for programs."""

    def __init__(self, message: str, status: int = 400, param: str | None = None,
                 code: str | None = None):
        super().__init__(message)
        self.status, self.param, self.code = status, param, code

    @property
    def document(self) -> dict[str, Any]:
        """What the reply says."""
        kind = KINDS.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}

    @property
    def headers(self) -> dict[str, str]:
        """What the reply says to programs: when to come again, or not at all."""
        if self.status == 401:
            return {"www-authenticate": "Bearer"}
        if self.status == 429:
            return {"retry-after": "1"}
        return {"x-should-retry": "false"} if self.status in (500, 504) else {}
