"""What all errors have in common."""

from __future__ import annotations

from typing import Any, ClassVar


class KtrdrError(Exception):
    """A failure that the caller can read and act on.

    Args:
        message: one sentence that says what was wrong and where.
        hint: what to do next.
        field: dotted path of the request field at fault, if there is one.
    """

    code: ClassVar[str] = "internal_error"
    http_status: ClassVar[int] = 500

    def __init__(self, message: str, *, hint: str, field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.field = field

    def to_dict(self) -> dict[str, Any]:
        """The one error shape of every face."""
        error = {"code": self.code, "message": self.message, "hint": self.hint, "field": self.field}
        return {"success": False, "detail": self.message, "error": error}


def kinds_by_code() -> dict[str, type[KtrdrError]]:
    """Every error class by its code; the base class has the first claim on its own."""
    kinds: dict[str, type[KtrdrError]] = {}
    waiting: list[type[KtrdrError]] = [KtrdrError]
    for kind in waiting:
        kinds.setdefault(kind.code, kind)
        waiting.extend(kind.__subclasses__())
    return kinds


def single(error: BaseException) -> BaseException:
    """What a task group wrapped, if it is one exception alone."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
