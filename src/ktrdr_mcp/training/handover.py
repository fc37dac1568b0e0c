"""The prepared data of a training, from its submission to its run in another process.

checkpoints/prepared.npz
  about      JSON: the key, and everything that is no array
  the rest   one array each; the archive's checksums show damage

The file may always be missing: the run then prepares the data again.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from ktrdr_mcp import __version__, files
from ktrdr_mcp.context import checkpoints_of_task
from ktrdr_mcp.data.bars import COLUMNS, Bars
from ktrdr_mcp.data.catalog import BarReader
from ktrdr_mcp.data.content import Grams
from ktrdr_mcp.errors import StorageError
from ktrdr_mcp.evaluation.walk_forward import Split
from ktrdr_mcp.features.build import IndicatorTable
from ktrdr_mcp.features.inputs import Scaler, windows_of
from ktrdr_mcp.schemas.responses import DataUsed
from ktrdr_mcp.strategy.form import Strategy
from ktrdr_mcp.training.dataset import Dataset, Series, SeriesFit, View
from ktrdr_mcp.training.prepare import Prepared, prepare
from ktrdr_mcp.training.spec import TrainingSpec

Array: TypeAlias = npt.NDArray[Any]

NAME: Final = "prepared.npz"
ABOUT: Final = "about"
MAX_BYTES: Final = 256 * 1024**2  # of one file
FREE_SHARE: Final = 0.05  # of the free disk, which one file may take
PARTS: Final = ("train", "validation", "test")

log = logging.getLogger(__name__)


def data_state(spec: TrainingSpec, sources: BarReader) -> list[str] | None:
    """What tells the stored bars of a training from other ones, without reading any.

    Args:
        spec: what is trained.
        sources: where its bars come from.
    Returns:
        one text for each series; None where a source cannot say.
    """
    states = [sources.state_of(one.symbol, one.timeframe) for one in spec.series]
    return None if None in states else [str(state) for state in states]


def key_of(spec: TrainingSpec, state: list[str]) -> str:
    """The SHA-256 of all that decides what is prepared; the task's name is no part of it."""
    what = {name: value for name, value in spec.to_dict().items() if name != "task_id"}
    return hashlib.sha256(files.json_bytes([__version__, what, state])).hexdigest()


def keep(directory: Path, spec: TrainingSpec, state: list[str], prepared: Prepared) -> None:
    """Writes what was prepared, unless it is too large; a disk that takes nothing is no error.

    Args:
        directory: of the task's checkpoints.
        spec: what is to be trained.
        state: of the stored bars, from before they were read.
        prepared: what `prepare` returned.
    """
    arrays = {ABOUT: np.frombuffer(about(key_of(spec, state), prepared), dtype=np.uint8)}
    arrays |= dict(arrays_of(prepared))
    size = sum(array.nbytes for array in arrays.values())
    try:
        files.make_folder(directory)
        if size > min(MAX_BYTES, FREE_SHARE * shutil.disk_usage(directory).free):
            return
        archive = io.BytesIO()
        np.savez(archive, allow_pickle=False, **arrays)
        files.replace(directory / NAME, archive.getbuffer(), durable=False)
    except (OSError, StorageError) as error:
        log.warning("task %s: its data will be prepared again: %s", spec.task_id, error)


def take_or_prepare(directory: Path, spec: TrainingSpec, sources: BarReader) -> Prepared:
    """What was prepared at submission if it is whole and of today's bars, else prepared now.

    The file is gone afterwards, so that a further run after a crash prepares the data again. In a
    search whose parts take it over too, it is there afterwards and stays until the task ends.

    Args:
        directory: of the task's checkpoints.
        spec: what is trained.
        sources: where bars come from.
    Raises:
        KtrdrError: the data do not carry this training.
    """
    kept = take(directory / NAME, spec, sources)
    if kept is not None:
        return kept
    state = data_state(spec, sources) if spec.spread else None
    prepared = prepare(spec, sources)
    if state is not None:
        keep(directory, spec, state, prepared)
    return prepared


def take_prepared(directory: Path, spec: TrainingSpec, sources: BarReader) -> Prepared:
    """What was prepared for its task where a part sees that, else prepared now.

    Args:
        directory: that the part was given.
        spec: of its task.
        sources: where bars come from.
    Raises:
        KtrdrError: the data do not carry this training.
    """
    folder = checkpoints_of_task(directory)
    kept = None if folder is None else take(folder / NAME, spec, sources)
    return prepare(spec, sources) if kept is None else kept


def take(path: Path, spec: TrainingSpec, sources: BarReader) -> Prepared | None:
    """Reads what `keep` wrote; None if it is missing, damaged or of something else.

    It is removed, but in a search whose parts read it too.
    """
    if path.is_symlink() or not path.is_file():
        return None
    state = data_state(spec, sources)
    try:
        return None if state is None else read(path, spec, key_of(spec, state))
    except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        log.warning("task %s: its data are prepared again: %s", spec.task_id, error)
        return None
    finally:
        if not spec.spread:
            drop(path, spec)


def drop(path: Path, spec: TrainingSpec) -> None:
    """Removes what `keep` wrote; if that fails, it goes with the checkpoints."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        log.warning("task %s: what was prepared stays: %s", spec.task_id, error)


def about(key: str, prepared: Prepared) -> bytes:
    """Everything that is no array, as JSON."""
    return files.json_bytes(
        {
            "key": key,
            "series": [
                {
                    "symbol": one.bars.symbol,
                    "timeframe": one.bars.timeframe,
                    "first": one.first,
                    "warm_up_bars": one.table.warm_up_bars,
                    "outputs": one.table.names,
                }
                for one in prepared.dataset.series
            ],
            "fits": [
                {
                    "strategy": one.strategy.to_dict(),
                    "scaler": one.scaler.to_dict(),
                    "constant": sorted(one.constant),
                }
                for one in prepared.view.fits
            ],
            "feature_names": prepared.view.feature_names,
            "purged_rows": prepared.split.purged_rows,
            "used": prepared.used.model_dump(mode="json"),
            "warnings": prepared.warnings,
        }
    )


def arrays_of(prepared: Prepared) -> Iterator[tuple[str, Array]]:
    """Every array by its name in the archive."""
    for number, one in enumerate(prepared.dataset.series):
        named = {"time": one.bars.time, **dict(zip(COLUMNS, one.bars.columns(), strict=True))}
        if one.bars.offset is not None:
            named["offset"] = one.bars.offset
        named |= {"label": one.label, "end": one.end, "usable": one.usable}
        named["indicators"] = one.table.values
        yield from ((f"{number}-{name}", array) for name, array in named.items())
    yield "grams", prepared.grams.hashes
    yield "gram-times", prepared.grams.time
    for name in PARTS:
        yield name, getattr(prepared.split, name)


def read(path: Path, spec: TrainingSpec, key: str) -> Prepared | None:
    """What a file holds; None if it is of other data or of another training.

    Raises:
        OSError, EOFError, ValueError, KeyError, TypeError, BadZipFile: it is damaged.
    """
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        found = json.loads(archive[ABOUT].tobytes())
        if found["key"] != key:
            return None
        arrays = {name: archive[name] for name in archive.files if name != ABOUT}
    series = tuple(
        series_from(one, under(arrays, f"{number}-")) for number, one in enumerate(found["series"])
    )
    fits = tuple(
        SeriesFit(
            Strategy.from_dict(one["strategy"]),
            Scaler.from_dict(one["scaler"]),
            frozenset(one["constant"]),
        )
        for one in found["fits"]
    )
    dataset = Dataset(spec.strategy, series)
    return Prepared(
        dataset=dataset,
        split=Split(**{name: arrays[name] for name in PARTS}, purged_rows=found["purged_rows"]),
        view=View(tuple(found["feature_names"]), fits, dataset, windows_of(spec.strategy)),
        used=DataUsed.model_validate(found["used"]),
        warnings=found["warnings"],
        grams=Grams(arrays["grams"], arrays["gram-times"]),
    )


def under(arrays: Mapping[str, Array], prefix: str) -> dict[str, Array]:
    """The arrays whose names begin so, by what follows."""
    return {
        name.removeprefix(prefix): array
        for name, array in arrays.items()
        if name.startswith(prefix)
    }


def series_from(raw: Mapping[str, Any], arrays: Mapping[str, Array]) -> Series:
    """One series from what is no array and its arrays by their own names."""
    bars = Bars(
        raw["symbol"],
        raw["timeframe"],
        arrays["time"],
        *(arrays[name] for name in COLUMNS),
        offset=arrays.get("offset"),
    )
    table = IndicatorTable(tuple(raw["outputs"]), arrays["indicators"], raw["warm_up_bars"])
    return Series(bars, raw["first"], table, arrays["label"], arrays["end"], arrays["usable"])
