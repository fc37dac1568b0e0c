"""Where strategies are found: the workspace's own files, then those of this program.

A strategy that this program wrote beside a saved model, for other programs to read, bears a stamp.
"""

from __future__ import annotations

import hashlib
import re
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final

from ktrdr_mcp import files
from ktrdr_mcp.errors import Conflict, InvalidStrategy, StrategyNotFound, did_you_mean
from ktrdr_mcp.files import storage_errors
from ktrdr_mcp.limits import MAX_STRATEGY_BYTES
from ktrdr_mcp.paths import STRATEGY_PATTERN, Workspace, leads_out, strategy_name
from ktrdr_mcp.schemas.requests import BUILT_IN_STRATEGIES
from ktrdr_mcp.strategy.form import Strategy
from ktrdr_mcp.strategy.parsing import parse_strategy

DEFAULT_STRATEGY: Final = "default"
SUFFIX: Final = ".yaml"
STAMP: Final = re.compile(rb"# Written by ktrdr-mcp [^\n]* sha256:([0-9a-f]{64})\n")


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
        """The names of all strategies, sorted; copies that belong to saved models are none."""
        return sorted({*BUILT_IN_STRATEGIES, *(path.stem for path in self._own())})

    def _own(self) -> list[Path]:
        """The workspace's own files that can be called by name, sorted."""
        return [path for path in self._files() if self._rename(path) is None and not is_ours(path)]

    def _files(self) -> list[Path]:
        """What lies in the folder of strategies, sorted."""
        folder = self.workspace.strategies
        with storage_errors("listing strategies"):
            paths = sorted(folder.iterdir()) if folder.is_dir() else []
            return [path for path in paths if path.is_file()]

    def find_misnamed(self) -> list[tuple[str, str]]:
        """Files that would be strategies under another name: each name, and what helps."""
        found = []
        for path in self._files():
            remedy = self._rename(path)
            if remedy is not None and path.suffix.lower() in (SUFFIX, ".yml"):
                found.append((path.name, remedy))
        return found

    def _rename(self, path: Path) -> str | None:
        """Why a file cannot be called by name and what helps; None if it can."""
        if leads_out(path):
            return "Links that lead out of the folder are not read: put a copy of the file there."
        stem = path.name.rpartition(".")[0]
        if path.suffix != SUFFIX:
            return f"Strategies are read from names that end in {SUFFIX}: rename it to {stem}.yaml."
        if not is_strategy(path):
            usable = re.sub(r"[^A-Za-z0-9._-]+", "_", stem).strip("._-")[:64] or "my_idea"
            return (
                "A strategy's name has up to 64 letters, digits, dots, - and _, and begins with a"
                f" letter or digit: rename it to {usable}{SUFFIX}."
            )
        first = self._first_of(stem)
        if first == stem:
            return None
        return (
            f"Strategies are told apart ignoring case, and {first} is one: rename it to"
            f" {stem}_2{SUFFIX}."
        )

    def _first_of(self, stem: str) -> str:
        """The name that is used of all that differ in case alone."""
        if stem.lower() in BUILT_IN_STRATEGIES:
            return stem.lower()
        alike = [
            path.stem
            for path in self._files()
            if is_strategy(path) and path.stem.lower() == stem.lower()
        ]
        return alike[0] if alike else stem

    def find_name(self, name: str) -> str:
        """The name of the strategy that a caller means; upper and lower case do not matter.

        Raises:
            InvalidName: the name is not well formed.
            StrategyNotFound: no file has this name; the hint lists those there are.
        """
        return self._find(name)[0]

    def _find(self, name: str) -> tuple[str, Traversable]:
        """The strategy that a caller means, and its file."""
        first = self._first_of(strategy_name(name))
        own = self.workspace.strategy_file(first)
        file = own if own.is_file() and not leads_out(own) else built_in(first)
        if file is not None:
            return first, file
        known = self.names()
        raise StrategyNotFound(
            f"There is no strategy '{name}'.{did_you_mean(name, known)}",
            hint=f"Strategies: {', '.join(known)}.",
            field="strategy",
        )

    def save(self, name: str, text: str) -> tuple[int, bool]:
        """Writes a strategy file; what it replaces stays as an earlier version.

        Args:
            name: as `paths.model_name` checks those that are written here.
            text: the file.
        Returns:
            the number of the version, and whether it is new.
        Raises:
            Conflict: the name is that of one of this program's own strategies.
            StorageError: the disk refused it, or a link leads elsewhere; nothing was changed.
        """
        if name in BUILT_IN_STRATEGIES:
            raise Conflict(
                f"{name} is one of the program's own strategies.",
                hint="Save yours under another name.",
                field="name",
            )
        path = self.workspace.strategy_file(self._first_of(name))
        self.workspace.refuse_links(path)
        versions, data = self._versions(path.stem), text.encode()
        if path.is_file():
            with storage_errors(f"reading strategy {name}"):
                present = path.read_bytes()
            if not versions or versions[-1].read_bytes() != present:
                versions.append(self._keep(path.stem, len(versions) + 1, present))
            if present == data:
                return len(versions), False
        self._keep(path.stem, len(versions) + 1, data)
        files.make_folder(path.parent)
        files.replace(path, data)
        return len(versions) + 1, True

    def _keep(self, stem: str, version: int, data: bytes) -> Path:
        """Writes a version of a file to the program's own folder."""
        path = self.workspace.strategy_version(stem, version)
        files.make_folder(path.parent, 0o700)
        files.replace(path, data, 0o600)
        return path

    def _versions(self, stem: str) -> list[Path]:
        """The versions that were kept of a file, oldest first."""
        found: list[Path] = []
        while (path := self.workspace.strategy_version(stem, len(found) + 1)).is_file():
            self.workspace.refuse_links(path)
            found.append(path)
        return found

    def text(self, name: str, version: int | None = None) -> str:
        """A strategy file as it stands, or as a version of it that was saved here.

        Raises:
            InvalidName: the name is not well formed.
            StrategyNotFound: no file has this name; the hint lists those there are.
            InvalidStrategy: the file is too large or not UTF-8 text.
        """
        if version is not None:
            kept = self._versions(self._first_of(strategy_name(name)))
            if version > len(kept):
                raise StrategyNotFound(
                    f"There is no version {version} of strategy '{name}'.",
                    hint=f"{len(kept)} versions were saved here; without one, the file is read.",
                    field="version",
                )
            with storage_errors(f"reading strategy {name}"):
                return decode(kept[version - 1].read_bytes(), name)
        called, file = self._find(name)
        with storage_errors(f"reading strategy {called}"), file.open("rb") as stream:
            data = stream.read(MAX_STRATEGY_BYTES + 1)
        return decode(data, called)

    def read(self, name: str) -> Strategy:
        """A strategy, checked for its form.

        Raises:
            InvalidName: the name is not well formed.
            StrategyNotFound: no file has this name; the hint lists those there are.
            InvalidStrategy: the file is malformed; says where and what to write instead.
        """
        called = self.find_name(name)
        return parse_strategy(self.text(called), called)


def is_strategy(file: Traversable) -> bool:
    """Whether a file's name is that of a strategy."""
    stem = file.name.removesuffix(SUFFIX)
    matches = re.fullmatch(STRATEGY_PATTERN.strip("^$"), stem, flags=re.ASCII)
    return file.name.endswith(SUFFIX) and matches is not None and file.is_file()


def decode(data: bytes, name: str) -> str:
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


def stamp(text: str, model_name: str, version: int) -> bytes:
    """A strategy file that says who wrote it.

    Args:
        text: the file's YAML.
        model_name: the model that it is for.
        version: of the model.
    """
    body = text.encode()
    first = (
        f"# Written by ktrdr-mcp for model {model_name}, version {version}; a later version"
        f" replaces it, unless it was edited. sha256:{hashlib.sha256(body).hexdigest()}\n"
    )
    return first.encode() + body


def is_ours(path: Path) -> bool:
    """Whether a file is exactly what this program wrote beside a model."""
    if path.is_symlink() or not path.is_file() or path.stat().st_size > MAX_STRATEGY_BYTES:
        return False
    with path.open("rb") as file:
        first = file.readline(1_000)
        found = STAMP.fullmatch(first)
        body = file.read() if found is not None else b""
    return found is not None and hashlib.sha256(body).hexdigest() == found[1].decode()
