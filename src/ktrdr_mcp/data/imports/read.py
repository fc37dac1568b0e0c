"""The import itself: files of other tools to checked bars, with all that was understood of them."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ktrdr_mcp import paths
from ktrdr_mcp.data import zones
from ktrdr_mcp.data.bars import COLUMNS, PRICES, Floats, Integers, width_ns
from ktrdr_mcp.data.files import name_parts, open_regular, timeframe_of
from ktrdr_mcp.data.importing import UnderstoodSeries
from ktrdr_mcp.data.imports import cells
from ktrdr_mcp.data.imports.columns import Layout, layout_of
from ktrdr_mcp.data.imports.columns import cells as sampled
from ktrdr_mcp.data.imports.dialects import (
    EXCHANGES,
    Dialect,
    choose,
    dialect_named,
    recognise,
)
from ktrdr_mcp.data.imports.tables import Table, refuse_file, tables
from ktrdr_mcp.data.notes import find_unfinished, series_notes
from ktrdr_mcp.data.stored import stage
from ktrdr_mcp.data.tables import NO_TIME, BarTable
from ktrdr_mcp.data.timestamps import DAY_NS
from ktrdr_mcp.data.validation import check_bars
from ktrdr_mcp.errors import DataInvalid, InvalidName, KtrdrError, quote

Mask = NDArray[np.bool_]
PLACES_NAMED: Final = 3
MOST_FOOTER_LINES: Final = 50
CROSSED_SHARE: Final = 0.3  # of bars whose high lies below their low, where columns are mistaken


@dataclass(frozen=True)
class Wanted:
    """What whoever imports says of the files; the rest is recognised."""

    symbol: str | None = None
    timeframe: str | None = None
    timezone: str | None = None
    dialect: str | None = None


@dataclass
class Part:
    """One table, understood.

    Args:
        table: the table.
        dialect: whose it is.
        layout: where its columns stand.
        symbol: what was traded, if it is known.
        timeframe: as the file's name says it, if it does.
        zone: of its clock, for people.
        written: how its times are written.
        bars: as read, oldest first, unchecked.
        written_ns: when the file was written, UTC nanoseconds.
        left_out: what was left out, each with its count.
    """

    table: Table
    dialect: Dialect
    layout: Layout
    symbol: str | None
    timeframe: str | None
    zone: str
    written: str
    bars: BarTable
    written_ns: int = 0
    left_out: dict[str, int] = field(default_factory=dict)


def import_files(
    files: Sequence[tuple[Path, str]], wanted: Wanted, output: Path | None
) -> list[UnderstoodSeries]:
    """Reads files of other tools; those of one series become one.

    Args:
        files: the files, links already followed, and what messages call them.
        wanted: what is said of them.
        output: where each series is staged, in folders 0, 1, ...; None to only look.
    Returns:
        for each series what was understood of it, with `staged` if it was.
    Raises:
        KtrdrError: a file cannot be imported as it stands.
    """
    parts = list[Part]()
    for path, name in files:
        with (
            open_regular(path, name) as (_, status),
            tempfile.TemporaryDirectory() as folder,
        ):
            found = [part_of(one, wanted) for one in tables(path, name, Path(folder))]
        parts += [replace(part, written_ns=status.st_mtime_ns) for part in found]
    together = dict[tuple[str, str], list[Part]]()
    for part in parts:
        symbol = symbol_of(part, wanted)
        timeframe = timeframe_of_part(part, wanted)
        together.setdefault((symbol, timeframe), []).append(part)
    return [
        finish(series, members, None if output is None else output / str(number))
        for number, (series, members) in enumerate(together.items())
    ]


def importable(path: Path, name: str, symbol: str | None, timeframe: str | None) -> str | None:
    """Whose file it is, if it can be imported and is not read as it is.

    Args:
        path: the file.
        name: as messages call it.
        symbol: what was traded, if its name says it.
        timeframe: the width of a bar, likewise.
    Returns:
        the title of its dialect; no text for a plain table in an unusual form; None if importing
        would be refused, too, or is not needed.
    """
    wanted = Wanted(symbol or "ANY", timeframe)
    try:
        (one,) = import_files([(path, name)], wanted, None)
    except DataInvalid as refusal:
        # Only the zone is missing: that is for the import to ask.
        return title_of(path, name) if refusal.field == "timezone" else None
    except (KtrdrError, pl.exceptions.PolarsError, ValueError):
        return None
    if one["dialect"] != "plain":
        return str(one["title"])
    return "" if one["written"].split(", ")[:1] != ["fields between commas"] else None


def title_of(path: Path, name: str) -> str | None:
    """The title of the dialect of a file that is a table of bars."""
    with tempfile.TemporaryDirectory() as folder:
        table = next(tables(path, name, Path(folder)))
        layout = layout_of(table.header.names, table.head)
        return None if layout is None else recognise(table, layout).title


def part_of(table: Table, wanted: Wanted) -> Part:
    """One table's bars, and what was understood of it. Raises KtrdrError."""
    layout = layout_of(table.header.names, table.head)
    if layout is None:
        raise refuse_file(table.name, "has no column with the times of bars that can be read")
    dialect = recognise(table, layout) if wanted.dialect is None else dialect_named(wanted.dialect)
    dialect.settle(table, layout, wanted.symbol)
    table = of_one_symbol(table, layout, wanted.symbol)
    try:
        return read(table, layout, dialect, wanted)
    except pl.exceptions.PolarsError as error:
        line = re.search(r"line (\d+)", str(error))
        where = f" in line {line[1]}" if line else ""
        raise refuse_file(
            table.name, f"cannot be split into its columns{where}", "Write the file again."
        ) from None


def of_one_symbol(table: Table, layout: Layout, wanted: str | None) -> Table:
    """The rows of one symbol, where rows say theirs. Raises DataInvalid if none was chosen."""
    if layout.symbol is None:
        return table
    column = pl.col(f"c{layout.symbol}").cast(pl.String)
    values = table.frame.select(column.drop_nulls().unique()).collect().to_series().to_list()
    there = sorted(one for one in values if one.strip())
    if not there:
        return table
    one = choose(there, wanted, table.name)
    if not one.isdigit():
        table.about["symbol"] = one
    return table if len(there) == 1 else replace(table, frame=table.frame.filter(column == one))


def read(table: Table, layout: Layout, dialect: Dialect, wanted: Wanted) -> Part:
    """The rows of a table as bars, in order and in UTC. Raises KtrdrError."""
    frame, written, named = parse(table, layout)
    place = frame["place"].to_numpy().astype(np.int64)
    time = cells.within_64_bits(frame["time"])
    columns = {
        name: frame[name].fill_null(float("nan")).to_numpy() * layout.price_scale for name in PRICES
    }
    left_out = dict[str, int]()
    if layout.volume is None:
        columns["volume"] = np.zeros(len(time))
        layout.notes.append("There is no volume: every volume is 0.")
    else:
        columns["volume"] = frame["volume"].fill_null(float("nan")).to_numpy().copy()
    offset = frame["offset"]
    kept = bars_among(time, columns, place, table, left_out)
    if not kept.any():
        raise refuse_file(table.name, "has no line with a time and prices that can be read")
    time, place = time[kept], place[kept]
    columns = {name: column[kept] for name, column in columns.items()}
    if layout.volume is not None:
        columns["volume"] = volumes(columns["volume"], layout)
    says = offset.is_not_null().to_numpy()[kept]
    ahead = offset.fill_null(0).to_numpy()[kept]
    order = ascending(time)
    exact = order is None
    if order is not None:
        if not is_reversed(order):
            layout.notes.append("The bars stood in no order and were sorted by time.")
        time, place, says, ahead = time[order], place[order], says[order], ahead[order]
        columns = {name: column[order] for name, column in columns.items()}
    if says.any() and not says.all():
        raise refuse_file(
            table.name, "has times that name their offset from UTC and others that do not"
        )
    clock = None if wanted.timezone is None else zones.zone(wanted.timezone)
    if says.all():
        zone = named or ("UTC" if not ahead.any() else "named by each time")
        if clock is not None:
            ahead, zone = zones.offsets(time, clock), clock.name
    else:
        time, ahead, zone = convert_to_utc(time, clock, named, layout, table, dialect)
    contiguous = exact and len(place) > 0 and int(place[-1] - place[0]) == len(place) - 1
    bars = BarTable(
        table.name,
        time,
        np.ones(len(time), dtype=np.bool_),
        ahead,
        {name: columns[name] for name in COLUMNS},
        table.place_word if contiguous else "bar",
        int(place[0]) if contiguous else 1,
    )
    refuse_mistaken_columns(bars)
    symbol, timeframe = parse_file_name(table, dialect)
    said = table.about.get("symbol")
    return Part(
        table, dialect, layout, said or symbol, timeframe, zone, written, bars, left_out=left_out
    )


def parse(table: Table, layout: Layout) -> tuple[pl.DataFrame, str, str | None]:
    """The cells of bars as numbers: place, time, offset, prices and volume.

    Returns:
        the frame, how its times are written, and the zone that they name, if they do.
    """
    schema = table.frame.collect_schema()
    column, dtype = pl.col(f"c{layout.time}"), schema[f"c{layout.time}"]
    sample = sampled(table.head, layout.time)
    if layout.clock is not None:
        clock = pl.col(f"c{layout.clock}").cast(pl.String).str.strip_chars()
        column = column.cast(pl.String).str.strip_chars() + " " + clock
        dtype = pl.String()
        clocks = sampled(table.head, layout.clock)
        sample = [f"{day} {one}" for day, one in zip(sample, clocks, strict=False)]
    day_first = days_come_first(table, layout, column, sample)
    times, written, named = cells.time_columns(column, dtype, sample, day_first)
    texts = [one for place in layout.prices.values() for one in sampled(table.head, place)]
    comma = cells.uses_decimal_comma(texts, table.delimiter)
    places = dict(layout.prices) | ({} if layout.volume is None else {"volume": layout.volume})

    def collect(clean: bool) -> pl.DataFrame:
        numbers = [
            cells.number_columns(pl.col(f"c{at}"), schema[f"c{at}"], comma, clean).alias(name)
            for name, at in places.items()
        ]
        rows = table.frame.with_row_index("place", offset=table.place)
        return rows.select(pl.col("place"), *times, *numbers).collect(engine="streaming")

    frame = collect(clean=comma)
    if not comma and any(frame[name].null_count() for name in places):
        frame = collect(clean=True)
    return frame, written, named


def days_come_first(table: Table, layout: Layout, column: pl.Expr, sample: Sequence[str]) -> bool:
    """Whether days such as 03/04/2024 are in April: told by all days of the table."""
    match = next(filter(None, map(cells.TIME_TEXT.fullmatch, sample)), None)
    if match is None or match["b"] is None:
        return False
    if layout.day_first is not None:
        return layout.day_first
    day = column.cast(pl.String).str.strip_chars().str.extract(r"^([\d/.-]+)")
    days = table.frame.select(day.drop_nulls().unique()).collect().to_series()
    both = [span_of(days, f"{form}{match['b']}{'%Y' if len(days[0]) > 8 else '%y'}")
            for form in (match["b"].join(("%m", "%d")), match["b"].join(("%d", "%m")))]  # fmt: skip
    return cells.is_day_first(days.to_list(), assumed=both[1] < both[0])


def span_of(days: pl.Series, form: str) -> int:
    """From the first to the last of some days, if they are written so."""
    read_so = days.str.to_date(form, strict=False).cast(pl.Int64)
    first, last = read_so.min(), read_so.max()
    return int(last) - int(first) if isinstance(first, int) and isinstance(last, int) else 10**9


def volumes(values: Floats, layout: Layout) -> Floats:
    """A column of volumes; 0 where none is recorded, or where -1 says so."""
    absent = np.isnan(values) | (values == -1)
    if absent.any():
        layout.notes.append(f"{int(absent.sum()):,} bars have no volume: it is 0 there.")
    return np.where(absent, 0.0, values)


def bars_among(
    time: Integers,
    columns: dict[str, Floats],
    place: Integers,
    table: Table,
    left_out: dict[str, int],
) -> Mask:
    """bool[n]: the rows that are bars; what else there is is counted, or refused.

    Args:
        time: int64[n]; NO_TIME where there is none.
        columns: float64[n] each; NaN where there is no number.
        place: int64[n], the line or row of each.
        table: whose rows they are.
        left_out: takes what is left out.
    Raises:
        DataInvalid: lines among the bars have no time.
    """
    timely = time != NO_TIME
    priced = np.column_stack([~np.isnan(columns[name]) for name in PRICES])
    none, every = ~priced.any(axis=1), priced.all(axis=1)
    kept = timely & ~none
    empty = int((timely & none).sum())
    if empty:
        left_out["without prices"] = empty
    other = ~timely
    if other.any():
        last = int(np.flatnonzero(kept)[-1]) if kept.any() else -1
        behind = other & (np.arange(len(time)) > last)
        within = other & ~behind & ~none
        bad = within | (behind & every)
        if behind.sum() > MOST_FOOTER_LINES:
            bad |= behind & ~none
        if bad.any():
            rows = np.flatnonzero(bad)
            listed = ", ".join(f"{table.place_word} {place[row]}" for row in rows[:PLACES_NAMED])
            more = " and others" if len(rows) > PLACES_NAMED else ""
            raise refuse_file(
                table.name,
                f"has {len(rows):,} lines with a time that cannot be read, at {listed}{more}",
                "Correct or remove these lines.",
            )
        left_out["blank lines, repeated names and footers"] = int(other.sum())
    return np.asarray(kept, dtype=np.bool_)


def ascending(time: Integers) -> NDArray[np.intp] | None:
    """The order in which times rise; None if they do already."""
    steps = np.diff(time)
    if bool((steps >= 0).all()):
        return None
    if bool((steps <= 0).all()):
        return np.arange(len(time))[::-1]
    if (steps < 0).sum() > len(steps) // 2:  # newest first, but for a few
        backwards = np.arange(len(time))[::-1]
        return backwards[np.argsort(time[::-1], kind="stable")]
    return np.argsort(time, kind="stable")


def is_reversed(order: NDArray[np.intp]) -> bool:
    """Whether an order is from the last to the first."""
    return bool((np.diff(order) == -1).all())


def convert_to_utc(
    time: Integers,
    clock: zones.Zone | None,
    named: str | None,
    layout: Layout,
    table: Table,
    dialect: Dialect,
) -> tuple[Integers, Integers, str]:
    """Times of the file's own clock in UTC, how far that is ahead, and its name.

    Raises:
        DataInvalid: the zone must be said, or is not the right one.
    """
    none = np.zeros(len(time), dtype=np.int64)
    if not (time % DAY_NS).any():
        return time, none, "none: days"
    name = named or layout.zone
    if clock is None and name is None:
        guesses = "; ".join(f"--timezone {zone} ({why})" for zone, why in layout.guesses)
        raise DataInvalid(
            f"{table.name} is recognised as {dialect.title}, whose times are of a clock that the"
            " file does not name.",
            hint=f"Say its zone: {guesses}.",
            field="timezone",
        )
    zone = zones.zone(str(name)) if clock is None else clock
    if zone.is_utc:
        return time, none, "UTC"
    utc, absent = zones.to_utc(time, zone)
    if absent.any():
        row = int(np.flatnonzero(absent)[0])
        moment = np.datetime64(int(time[row]), "ns").astype("datetime64[s]")
        raise DataInvalid(
            f"{table.name} has {int(absent.sum()):,} times that clocks in {zone.name} never show,"
            f" the first {str(moment).replace('T', ' ')}: they were set forward over it.",
            hint="Name another zone with --timezone.",
            field="timezone",
        )
    return utc, time - utc, zone.name


def refuse_mistaken_columns(bars: BarTable) -> None:
    """Refuses a table whose columns can hardly be open, high, low and close."""
    with np.errstate(invalid="ignore"):
        crossed = bars.columns["high"] < bars.columns["low"]
    if len(crossed) and crossed.mean() > CROSSED_SHARE:
        share = f"{crossed.mean():.0%}"
        raise refuse_file(
            bars.name,
            f"has a high below its low in {share} of the bars: its columns are in another order",
            "Give it a first line that names its columns: time, open, high, low, close, volume.",
        )


def parse_file_name(table: Table, dialect: Dialect) -> tuple[str | None, str | None]:
    """Symbol and timeframe that a file's name says, in its tool's way or another's."""
    stem = table.stem
    while (suffix := PurePath(stem).suffix.lower()) and len(suffix) <= 8 and suffix[1:].isalpha():
        stem = stem[: -len(suffix)]
    if dialect.file_name is not None:
        match = re.fullmatch(dialect.file_name, stem)
        if match is not None:
            groups = match.groupdict()
            minutes = groups.get("timeframe") or ""
            unit = f"{minutes}m" if minutes.isdigit() else minutes.replace("_", "")
            return tool_symbol(groups["symbol"], dialect), timeframe_of(unit.removesuffix("ute"))
    parts = name_parts(table.stem)
    if parts is None or parts[1] is None:
        return None, None
    words = [one for one in re.split(r"[ _,-]+", stem) if one.upper() not in EXCHANGES]
    return (words[0] if words and parts[0] not in stem.upper() else parts[0]), parts[1]


def tool_symbol(text: str, dialect: Dialect) -> str:
    """A symbol of a file's name as its users write it: BTC_USDT of freqtrade is BTC/USDT."""
    if dialect.name != "freqtrade":
        return text
    base, quote, *settled = text.split("_")
    return f"{base}/{quote}" + (f":{settled[0]}" if settled else "")


def symbol_of(part: Part, wanted: Wanted) -> str:
    """What was traded. Raises DataInvalid if nobody says it."""
    if wanted.symbol is not None:
        return wanted.symbol
    try:
        return paths.symbol((part.symbol or "").strip())
    except InvalidName:
        said = f" ({quote(part.symbol)} is no symbol)" if part.symbol else ""
        raise DataInvalid(
            f"{part.table.name} is recognised as {part.dialect.title}, but neither its columns nor"
            f" its name say what was traded{said}.",
            hint="Say it with --symbol.",
            field="symbol",
        ) from None


def timeframe_of_part(part: Part, wanted: Wanted) -> str:
    """The width of a bar: what is said, else the usual distance, else what the name says.

    Raises:
        DataInvalid: none that is known.
    """
    steps = np.diff(part.bars.time)
    steps = steps[steps > 0]
    usual = 0
    if len(steps):
        values, counts = np.unique(steps, return_counts=True)
        usual = int(values[np.argmax(counts)])
    known = {width_ns(name): name for name in paths.TIMEFRAME_MINUTES}
    found = known.get(usual) or (part.timeframe if not usual or len(steps) < 3 else None)
    if wanted.timeframe is not None:
        if usual and usual < width_ns(wanted.timeframe):
            raise DataInvalid(
                f"{part.table.name} has bars {usual / width_ns('1m'):g} minutes apart, which are"
                f" not {wanted.timeframe} bars.",
                hint=f"Import them as {found or 'they are'}: wider bars are made of them when they"
                " are asked for.",
                field="timeframe",
            )
        return wanted.timeframe
    if found is not None:
        return found
    distance = f"are usually {usual / width_ns('1m'):g} minutes apart" if usual else "are too few"
    raise DataInvalid(
        f"{part.table.name} is recognised as {part.dialect.title}, and its bars {distance}, which"
        " is no timeframe.",
        hint=f"Say it with --timeframe: one of {', '.join(paths.TIMEFRAME_MINUTES)}.",
        field="timeframe",
    )


def finish(series: tuple[str, str], parts: list[Part], folder: Path | None) -> UnderstoodSeries:
    """Joins the parts of a series, checks it, writes it, and says what was understood.

    Args:
        series: symbol and timeframe.
        parts: its tables.
        folder: where to stage it; None to only look.
    Raises:
        DataInvalid: its bars contradict themselves.
    """
    left_out = dict[str, int]()
    for part in parts:
        for what, count in part.left_out.items():
            left_out[what] = left_out.get(what, 0) + count
    table = without_repeats(join_tables([part.bars for part in parts]), left_out)
    bars = check_bars(table, *series)
    notes = list(dict.fromkeys(note for part in parts for note in part.layout.notes))
    known_at = (max(part.written_ns for part in parts), cells.now_ns())
    if len(bars) > 1 and find_unfinished(bars, known_at):
        bars = bars.slice(0, len(bars) - 1)
        left_out["unfinished last bar"] = 1
    found = series_notes(bars)
    staged = None if folder is None else stage(bars, folder, found)
    first = parts[0]
    return {
        "symbol": series[0],
        "timeframe": series[1],
        "files": [part.table.name for part in parts],
        "dialect": first.dialect.name,
        "title": first.dialect.title,
        "written": ", ".join([*first.table.packed, describe_kind(first.table), first.written]),
        "columns": column_names(first),
        "timezone": first.zone,
        "bars": len(bars),
        "first_bar": bars.timestamp(0),
        "last_bar": bars.timestamp(len(bars) - 1),
        "left_out": [f"{count:,} {what}" for what, count in left_out.items()],
        "notes": [*notes, *found],
        "staged": staged,
    }


def join_tables(tables_of_bars: list[BarTable]) -> BarTable:
    """The bars of several tables in the order of their times."""
    first = tables_of_bars[0]
    if len(tables_of_bars) == 1:
        return first
    time = np.concatenate([one.time for one in tables_of_bars])
    order = np.argsort(time, kind="stable")
    return replace(
        first,
        name=f"The {len(tables_of_bars)} files together",
        time=time[order],
        names_offset=np.ones(len(time), dtype=np.bool_),
        offset=np.concatenate([one.offset for one in tables_of_bars])[order],
        columns={
            name: np.concatenate([one.columns[name] for one in tables_of_bars])[order]
            for name in COLUMNS
        },
        place_word="bar",
        first_place=1,
    )


def without_repeats(table: BarTable, left_out: dict[str, int]) -> BarTable:
    """The bars without those that are there twice with the same values."""
    if len(table.time) < 2:
        return table
    same = table.time[1:] == table.time[:-1]
    for name in COLUMNS:
        same &= table.columns[name][1:] == table.columns[name][:-1]
    if not same.any():
        return table
    left_out["repeated bars"] = int(same.sum())
    return replace(table.part(np.r_[True, ~same]), place_word="bar", first_place=1)


def describe_kind(table: Table) -> str:
    """What kind of file it is, for people."""
    marks = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
    return f"fields between {marks[table.delimiter]}" if table.kind == "csv" else table.kind


def column_names(part: Part) -> dict[str, str]:
    """The column that each value was taken from."""
    names, layout = part.table.header.names, part.layout
    places = {"time": layout.time, **layout.prices}
    if layout.clock is not None:
        places["clock"] = layout.clock
    if layout.volume is not None:
        places["volume"] = layout.volume
    return {
        role: (names[place] if place < len(names) and names[place] else f"column {place + 1}")
        for role, place in places.items()
    }
