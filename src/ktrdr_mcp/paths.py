"""The only place where a caller's text becomes a name or a path."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import platformdirs

from ktrdr_mcp.errors import InvalidName, StorageError, did_you_mean, quote

TASK_ID_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"
NAME_PATTERN: Final = r"^[a-z0-9][a-z0-9_-]{0,63}$"
HANDLE_PATTERN: Final = r"^[0-9a-f]{32}$"
STRATEGY_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"  # of files that others wrote too
# Between slashes stands something that begins like a symbol: no "..", and nothing empty.
SYMBOL_PATTERN: Final = r"^(?=.{1,32}$)[A-Z0-9^][A-Z0-9.=^:-]*(/[A-Z0-9^][A-Z0-9.=^:-]*)*$"
NOT_IN_FILE_NAMES: Final = "/:"  # of what a symbol may have; each stands there as %XX
TIMEFRAME_MINUTES: Final[Mapping[str, int]] = {
    "1m": 1,
    "5m": 5,
    "15m": 15,
    "30m": 30,
    "1h": 60,
    "4h": 240,
    "1d": 1_440,
    "1w": 10_080,
}


def match_whole(text: object, pattern: str, field: str, what: str) -> str:
    """The text itself, if it matches the allow-list pattern as a whole.

    Args:
        text: what the caller sent.
        pattern: the regular expression that the whole text must match.
        field: the request field it came from.
        what: the word for it in the message.
    Raises:
        InvalidName: it is not text, or does not match.
    """
    if isinstance(text, str) and re.fullmatch(pattern.strip("^$"), text, flags=re.ASCII):
        return text
    raise InvalidName(
        f"{quote(text)} is not a valid {what}.",
        hint=f"A {what} must match {pattern}.",
        field=field,
    )


def task_id(text: object, field: str = "task_id") -> str:
    """A well-formed task id. Raises InvalidName."""
    return match_whole(text, TASK_ID_PATTERN, field, "task id")


def handle(text: object, field: str = "handle") -> str:
    """A well-formed handle of a task. Raises InvalidName."""
    return match_whole(text, HANDLE_PATTERN, field, "handle")


def model_name(text: object, field: str = "model_name") -> str:
    """A well-formed model name. Raises InvalidName."""
    try:
        return match_whole(text, NAME_PATTERN, field, "model name")
    except InvalidName as error:
        usable = re.sub(r"[^a-z0-9_-]+", "_", str(text)[:64].lower()).strip("_-")
        meant = f" Did you mean '{usable}'?" if isinstance(text, str) and usable else ""
        raise InvalidName(error.message + meant, hint=error.hint, field=field) from None


def strategy_name(text: object, field: str = "strategy") -> str:
    """A well-formed strategy name. Raises InvalidName."""
    return match_whole(text, STRATEGY_PATTERN, field, "strategy name")


def symbol(text: object, field: str = "symbol") -> str:
    """A well-formed symbol in upper case. Raises InvalidName."""
    # str.upper turns some letters outside ASCII into ASCII ones, so those are refused first.
    upper = text.upper() if isinstance(text, str) and text.isascii() else text
    return match_whole(upper, SYMBOL_PATTERN, field, "symbol")


def symbol_in_file_name(of_symbol: str) -> str:
    """A symbol as the names of files and folders have it: `BTC/USDT` is `BTC%2FUSDT`."""
    return "".join(f"%{ord(one):02X}" if one in NOT_IN_FILE_NAMES else one for one in of_symbol)


def symbol_of_file_name(text: str) -> str:
    """The symbol that a file's name has, as users write it; its letters may have any case.

    Raises:
        InvalidName: it is no symbol, or is encoded in another way than this program's.
    """
    decoded = text
    for one in NOT_IN_FILE_NAMES:
        decoded = re.sub(f"%{ord(one):02X}", one, decoded, flags=re.IGNORECASE)
    found = symbol(decoded)
    if symbol_in_file_name(found) != text.upper():
        raise InvalidName(
            f"{quote(text)} is not a symbol in a file's name.",
            hint=f"A file of {found} is called {symbol_in_file_name(found)}_TIMEFRAME.",
            field="symbol",
        )
    return found


def series_in_file_name(of_symbol: str, of_timeframe: str) -> str:
    """How the names of a series' files and folders begin, for example `BTC%2FUSDT_1h`."""
    return f"{symbol_in_file_name(symbol(of_symbol))}_{timeframe(of_timeframe)}"


def as_wide_as(text: str) -> str | None:
    """The timeframe that a text such as 60min, 1day or 24h says in other words, if any does."""
    match = re.fullmatch(r"(\d{0,5}) ?(m|h|d|w)(in|inute|our|ay|eek)?(s|ly)?", text, re.ASCII)
    if match is None:
        return None
    minutes = int(match[1] or 1) * {"m": 1, "h": 60, "d": 1_440, "w": 10_080}[match[2]]
    return next((name for name, width in TIMEFRAME_MINUTES.items() if width == minutes), None)


def timeframe(text: object, field: str = "timeframe") -> str:
    """A known timeframe, whatever its case. Raises InvalidName."""
    if isinstance(text, str) and text in TIMEFRAME_MINUTES:
        return text
    folded = text.lower() if isinstance(text, str) and text.isascii() else ""
    if folded in TIMEFRAME_MINUTES and not str(text).endswith("M"):  # which others write for months
        return folded
    same = as_wide_as(folded)
    meant = f" Did you mean '{same}'?" if same else did_you_mean(folded[:16], TIMEFRAME_MINUTES)
    raise InvalidName(
        f"{quote(text)} is not a timeframe.{meant}",
        hint=f"Use one of {', '.join(TIMEFRAME_MINUTES)}.",
        field=field,
    )


@dataclass(frozen=True)
class Workspace:
    """The folder that holds data, strategies, models and the program's own files."""

    root: Path

    @property
    def data(self) -> Path:
        """Where the user's bars lie."""
        return self.root / "data"

    @property
    def strategies(self) -> Path:
        """Where the user's strategy files lie."""
        return self.root / "strategies"

    @property
    def models(self) -> Path:
        """Where saved models are published."""
        return self.root / "models"

    @property
    def internal(self) -> Path:
        """The program's own folder."""
        return self.root / ".ktrdr"

    @property
    def database(self) -> Path:
        """The file of tasks and registry."""
        return self.internal / "ktrdr.db"

    def task_directory(self, identifier: str) -> Path:
        """The folder of one task."""
        return self.internal / "tasks" / task_id(identifier)

    def bundle_directory(self, identifier: str) -> Path:
        """Where a completed task leaves its bundle."""
        return self.task_directory(identifier) / "bundle"

    def checkpoints_directory(self, identifier: str) -> Path:
        """Where a running task keeps its state."""
        return self.task_directory(identifier) / "checkpoints"

    def data_file(self, of_symbol: str, of_timeframe: str, suffix: str) -> Path:
        """The path of one series; the suffix is ".csv" or ".parquet"."""
        return self.data / f"{series_in_file_name(of_symbol, of_timeframe)}{suffix}"

    def strategy_file(self, name: str) -> Path:
        """The path of one strategy file."""
        return self.strategies / f"{strategy_name(name)}.yaml"

    def strategy_version(self, name: str, version: int) -> Path:
        """The path of one kept version of a strategy file."""
        return self.internal / "strategies" / strategy_name(name) / f"{version:04}.yaml"

    def model_directory(self, name: str, of_symbol: str, of_timeframe: str, version: int) -> Path:
        """Where one version of a saved model lies."""
        series = series_in_file_name(of_symbol, of_timeframe)
        return self.models / model_name(name) / f"{series}_v{version}"

    def relative(self, path: Path) -> str:
        """A path as replies show it: relative to the workspace, with forward slashes."""
        return path.relative_to(self.root).as_posix()

    def refuse_links(self, path: Path) -> None:
        """Refuses a path if it or a folder above it, in the workspace, is a link.

        What is written through a link would lie elsewhere, and reading would not find it.

        Args:
            path: below the workspace's root; it need not exist.
        Raises:
            StorageError: names the link.
        """
        for each in (path, *path.parents):
            if each == self.root or not each.is_relative_to(self.root):
                return
            if each.is_symlink():
                raise StorageError(
                    f"{quote(self.relative(each))} in the workspace is a link, and neither models"
                    " nor tasks are read or written through links.",
                    hint="Put a folder in its place, with what it leads to; or move the whole"
                    " workspace to where there is room, and name it with --workspace.",
                )

    def inside(self, relative: str) -> Path:
        """The path of a stored relative name.

        Args:
            relative: a name that `relative` made.
        Raises:
            StorageError: it leads outside the workspace, or through a link.
        """
        self.refuse_links(self.root / relative)
        path = (self.root / relative).resolve()
        if not path.is_relative_to(self.root.resolve()):
            raise StorageError(
                "A stored path leads outside the workspace.",
                hint="The registry was altered by hand; restore it from a backup.",
            )
        return path


def leads_out(path: Path) -> bool:
    """Whether a file is a link to what lies outside its folder."""
    if not path.is_symlink():
        return False
    folder = os.path.realpath(path.parent)
    return not Path(os.path.realpath(path)).is_relative_to(folder)


def find_workspace(
    argument: str | None = None,
    environment: Mapping[str, str] | None = None,
    current: Path | None = None,
) -> Workspace:
    """The workspace to open: argument, KTRDR_WORKSPACE, current folder, user's data folder.

    Args:
        argument: the `--workspace` option, if given.
        environment: environment variables; the process's own by default.
        current: the current folder; the process's own by default.
    """
    environment = os.environ if environment is None else environment
    current = Path.cwd() if current is None else current
    named = argument or environment.get("KTRDR_WORKSPACE")
    if named:
        return Workspace(Path(named).expanduser().resolve())
    if any((current / name).is_dir() for name in ("data", "strategies")):
        return Workspace(current.resolve())
    return Workspace(user_folder(environment).resolve())


USER_FOLDER_VARIABLE: Final = "KTRDR_DATA_HOME"


def user_folder(environment: Mapping[str, str] | None = None) -> Path:
    """The folder in which this program keeps what belongs to the user and not to a workspace.

    Args:
        environment: environment variables; the process's own by default.
    """
    environment = os.environ if environment is None else environment
    named = environment.get(USER_FOLDER_VARIABLE)
    if named:
        return Path(named).expanduser()
    return Path(platformdirs.user_data_dir("ktrdr-mcp", appauthor=False))


RECORD_VARIABLE: Final = "KTRDR_TRIAL_RECORD"
RECORD: Final = "trials.db"
OWN_RECORD: Final = f".ktrdr/{RECORD}"  # a workspace's own


def record_file(workspace: Workspace) -> Path | None:
    """Where the record of the trials of all workspaces lies; None if the user has no folder.

    A relative path in the variable lies in the workspace, which then counts its own trials alone.
    """
    named = os.environ.get(RECORD_VARIABLE)
    if named:
        return workspace.root / Path(named).expanduser()
    try:
        return user_folder() / RECORD
    except RuntimeError:  # nobody's home
        return None
