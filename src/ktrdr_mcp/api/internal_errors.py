"""What a caller learns of a defect in this program."""

from __future__ import annotations

from ktrdr_mcp.errors import KtrdrError


def internal_error(what: str) -> KtrdrError:
    """A sentence that shows nothing of the defect's inside; the log has it.

    Args:
        what: what failed.
    """
    return KtrdrError(
        f"{what} failed because of a defect in this program.",
        hint="Call it once more; if it fails again, report it with the server's standard error.",
    )
