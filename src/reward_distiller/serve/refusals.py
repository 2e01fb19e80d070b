"""Why a request gets no rewards: one status and one sentence, which says what to change and holds none of its text."""

from __future__ import annotations


class Refused(Exception):
    """`status` is HTTP's; `retry_after` is in seconds, for a client that should come again."""

    def __init__(self, status: int, message: str, retry_after: int | None = None):
        super().__init__(message)
        self.status, self.message, self.retry_after = status, message, retry_after

    @property
    def headers(self) -> dict[str, str]:
        return {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}

    @property
    def body(self) -> dict[str, object]:
        return {"error": {"code": self.status, "message": self.message}}
