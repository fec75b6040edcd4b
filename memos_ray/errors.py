"""Every error that memos_ray raises on purpose, in one tree.

    MemosError
    ├── Retryable              the same call may succeed later; the client retries these by itself
    │   ├── Moved              this process does not own the cube (any more): look it up again
    │   ├── Overloaded         a queue is full; `retry_after_s` says when to come back
    │   └── Unavailable        storage, an embedder or an actor cannot be reached just now
    ├── Rejected               the call is at fault; nothing was changed
    │   ├── Invalid            an argument is wrong; `argument` names it
    │   ├── NotFound           there is no such cube, memory or snapshot
    │   ├── Conflict           `if_version` does not hold, or an `op_id` came with another request
    │   └── Forbidden          the principal may not do this
    └── Corrupt                what storage holds cannot be trusted or read; needs `memos-ray doctor`
        └── SchemaTooNew       written by a newer release than this one

Errors cross process borders: each pickles with its typed fields. HTTP status codes are `status`.
"""

from __future__ import annotations

from typing import Any, ClassVar


class MemosError(Exception):
    """Root of the tree. `message` says what was wrong and, where there is one, what would be right."""

    status: ClassVar[int] = 500

    def __init__(self, message: str, **fields: Any) -> None:
        super().__init__(message)
        self.message = message
        self.fields = fields

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, self.fields)

    def __str__(self) -> str:
        return self.message

    def __getattr__(self, name: str) -> Any:
        fields = self.__dict__.get("fields", {})
        if name in fields:
            return fields[name]
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")


def _rebuild(cls: type[MemosError], message: str, fields: dict[str, Any]) -> MemosError:
    return cls(message, **fields)


class Retryable(MemosError):
    """The same call, with the same `op_id`, may succeed later."""

    status = 503


class Moved(Retryable):
    """This process does not own the cube, or owns it no longer. Fields: `cube_id`, `reason`."""

    status = 503


class Overloaded(Retryable):
    """A bounded queue is full, or work that the call waits for is far behind. Fields: `retry_after_s`, seconds; for the
    latter also `pending`, how much of it is left."""

    status = 429


class Unavailable(Retryable):
    """Something that the call needs cannot be reached. Fields: `what`."""

    status = 503


class Rejected(MemosError):
    """The call is at fault; nothing was changed by it."""

    status = 400


class Invalid(Rejected):
    """An argument is wrong. Field: `argument`, its name."""

    status = 422


class NotFound(Rejected):
    """There is no such thing. Fields: `what` ("cube", "memory", "snapshot"), `id`."""

    status = 404


class Conflict(Rejected):
    """The state is not what the call expected. Fields by cause: `expected_version`, `version`, `op_id`."""

    status = 409


class Forbidden(Rejected):
    """The principal may not do this to this cube."""

    status = 403


class Corrupt(MemosError):
    """Storage holds something unreadable or contradictory. Field: `path`."""

    status = 500


class SchemaTooNew(Corrupt):
    """A table was written by a newer release. Fields: `found`, `supported`."""

    status = 500
