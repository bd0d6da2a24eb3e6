"""Why a request is refused: the status and the line that its client gets."""

from __future__ import annotations

from typing import ClassVar


class Refusal(Exception):
    """A request that is not answered as it was asked.

    Args:
        message: one line: what is wrong, and what to do.
    """

    status: ClassVar[int] = 400
    kind: ClassVar[str] = "bad_request"
    retry_after: ClassVar[int | None] = None
    """Seconds after which the same request may be answered; None where it never will."""
    closes: ClassVar[bool] = False
    """Whether the connection ends, since the rest of the body is not read."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class BadRequest(Refusal):
    """The request's form is wrong: what it is made of cannot be told."""


class Unauthorized(Refusal):
    """No key, or one that is not known."""

    status = 401
    kind = "unauthorized"


class Forbidden(Refusal):
    """The service was not started so that anyone may do this."""

    status = 403
    kind = "forbidden"


class NotThere(Refusal):
    """No such page, index or item."""

    status = 404
    kind = "not_found"


class TooSlow(Refusal):
    """The body did not come in time."""

    status = 408
    kind = "slow_client"
    closes = True


class TooLarge(Refusal):
    """The body has more bytes than are read."""

    status = 413
    kind = "too_large"
    closes = True


class Unusable(Refusal):
    """A photo, recipe or option that cannot be used as it is."""

    status = 422
    kind = "bad_input"


class Busy(Refusal):
    """The queue is full."""

    status = 429
    kind = "queue_full"
    retry_after = 1


class Unavailable(Refusal):
    """The service starts, ends, or holds all the bytes that it may."""

    status = 503
    kind = "unavailable"
    retry_after = 2


class DeadlinePassed(Refusal):
    """The answer was not there in time."""

    status = 504
    kind = "deadline"


class ClientGone(Refusal):
    """Whoever asked has closed the connection: nobody reads what is sent."""

    status = 499
    kind = "client_gone"
