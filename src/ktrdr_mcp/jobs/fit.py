"""Whether a worker and what it is given belong together."""

from __future__ import annotations

import logging
import platform
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from ktrdr_mcp import __version__
from ktrdr_mcp.errors import LabUnavailable, quote

OWN: Final = "ktrdr-mcp"
REFUSED: Final = (OWN, "python", "ray")  # another one may compute something else, or not at all
# Another version of these costs the last bits or proposes other candidates; it trains nevertheless.
LIBRARIES: Final = ("torch", "numpy", "scipy", "optuna")

log = logging.getLogger(__name__)


@cache
def own_versions() -> Mapping[str, str]:
    """The versions of this program, of Python and of what computes; imports none of them."""
    found = {OWN: __version__, "python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "none"
    return found


def check_fit(
    envelope: Mapping[str, Any], workspace: str | None, own: Mapping[str, str] | None = None
) -> None:
    """Refuses what this worker cannot run as it was meant.

    Args:
        envelope: an executors.base.Envelope as JSON.
        workspace: whose bars this worker reads; None if it reads what it is given.
        own: the versions here, by default those of this process.
    Raises:
        LabUnavailable: names everything that differs.
    """
    given, own = envelope["versions"], own_versions() if own is None else own
    differences = [
        f"{name} {own.get(name, 'none')} instead of {given[name]}"
        for name in REFUSED
        if name in given and major_of(name, given[name]) != major_of(name, own.get(name, "none"))
    ]
    where = envelope["bars"].get("workspace")
    if workspace is not None and where is not None and where != workspace:
        differences.append(f"the workspace {quote(workspace)} instead of {quote(where)}")
    if differences:
        raise LabUnavailable(
            f"A worker with another set-up was to run this: it has {' and '.join(differences)}.",
            hint="Install the server's versions where the workers run. If ktrdr-mcp was installed"
            " anew while the server ran, end it with 'ktrdr-mcp lab stop' and start again.",
        )
    for name in LIBRARIES:
        if name in given and given[name] != own.get(name, "none"):
            log.warning(
                "%s is %s here and %s at the server; the last bits may differ",
                name,
                own.get(name, "none"),
                given[name],
            )


def major_of(name: str, text: str) -> str:
    """What must be equal of a version: of Python the first two numbers, else all of it."""
    return ".".join(text.split(".")[:2]) if name == "python" else text
