"""Where strategies are found: the workspace's own files, then those of this program."""

from __future__ import annotations

import re
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final

from ktrdr_mcp.errors import InvalidStrategy, StrategyNotFound, did_you_mean
from ktrdr_mcp.files import storage_errors
from ktrdr_mcp.limits import MAX_STRATEGY_BYTES
from ktrdr_mcp.paths import NAME_PATTERN, Workspace, strategy_name
from ktrdr_mcp.schemas.requests import BUILT_IN_STRATEGIES
from ktrdr_mcp.strategy.form import Strategy
from ktrdr_mcp.strategy.parsing import parse_strategy

DEFAULT_STRATEGY: Final = "default"
SUFFIX: Final = ".yaml"


def built_in(name: str) -> Traversable | None:
    """The file of one of the program's own strategies: in the package, or in its repository.

    The repository can be a workspace too, whose further strategies belong to it alone.
    """
    if name not in BUILT_IN_STRATEGIES:
        return None
    packaged = resources.files("ktrdr_mcp") / "strategies"
    folder = packaged if packaged.is_dir() else Path(__file__).parents[3] / "strategies"
    return folder / f"{name}{SUFFIX}"


class StrategyCatalog:
    """The strategies that a workspace can use.

    Args:
        workspace: whose own files win over the program's of the same name.
    """

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace

    def names(self) -> list[str]:
        """The names of all strategies, sorted."""
        folder = self.workspace.strategies
        with storage_errors("listing strategies"):
            files = folder.iterdir() if folder.is_dir() else ()
            own = {file.name.removesuffix(SUFFIX) for file in files if is_strategy(file)}
        return sorted({*BUILT_IN_STRATEGIES, *own})

    def text(self, name: str) -> str:
        """A strategy file as it stands.

        Raises:
            InvalidName: the name is not well formed.
            StrategyNotFound: no file has this name; the hint lists those there are.
            InvalidStrategy: the file is too large or not UTF-8 text.
        """
        own = self.workspace.strategy_file(name)
        file = own if own.is_file() else built_in(strategy_name(name))
        if file is None:
            known = self.names()
            raise StrategyNotFound(
                f"There is no strategy '{name}'.{did_you_mean(name, known)}",
                hint=f"Strategies: {', '.join(known)}.",
                field="strategy",
            )
        with storage_errors(f"reading strategy {name}"), file.open("rb") as stream:
            data = stream.read(MAX_STRATEGY_BYTES + 1)
        return decoded(data, name)

    def read(self, name: str) -> Strategy:
        """A strategy, checked for its form.

        Raises:
            InvalidName: the name is not well formed.
            StrategyNotFound: no file has this name; the hint lists those there are.
            InvalidStrategy: the file is malformed; says where and what to write instead.
        """
        return parse_strategy(self.text(name), name)


def is_strategy(file: Traversable) -> bool:
    """Whether a file's name is that of a strategy."""
    stem = file.name.removesuffix(SUFFIX)
    matches = re.fullmatch(NAME_PATTERN.strip("^$"), stem, flags=re.ASCII)
    return file.name.endswith(SUFFIX) and matches is not None and file.is_file()


def decoded(data: bytes, name: str) -> str:
    """The text of a file's bytes."""
    if len(data) > MAX_STRATEGY_BYTES:
        raise InvalidStrategy(
            f"Strategy '{name}': the file is larger than {MAX_STRATEGY_BYTES:,} bytes.",
            hint="Keep strategies small; a usual one has 2,000 bytes.",
            field="strategy",
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidStrategy(
            f"Strategy '{name}': the file is not UTF-8 text.",
            hint="Save it as UTF-8.",
            field="strategy",
        ) from None
