"""What is wrong with bars that do not contradict themselves: jumps, gaps, odd openings, repeats.

Every finding is a sentence with its place and its size. Nothing is changed here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ktrdr_mcp import paths
from ktrdr_mcp.data.bars import MONDAY_OFFSET_DAYS, Bars, Floats, Integers, width_ns
from ktrdr_mcp.data.timestamps import DAY_NS, MINUTE_NS, SECOND_NS, format_timestamp
from ktrdr_mcp.errors import DataInvalid

Mask = NDArray[np.bool_]
HOUR_NS: Final = 60 * MINUTE_NS
WEEK_NS: Final = 7 * DAY_NS
PLACES_NAMED: Final = 3
FEWEST_BARS: Final = 40  # with fewer, a series has no rhythm of its own
FEWEST_GAPS: Final = 4  # fewer may all be weekends
LARGEST_SHARE_AT_ONCE: Final = 0.1
MOST_SHARE: Final = 0.95

# Jumps, as logarithms of a ratio of prices and in standard deviations of the moves around them.
SPLITS: Final = (1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 10.0, 12.0, 15.0, 20.0, 25.0, 30.0, 50.0)
SMALLEST_JUMP: Final = 0.18
SPLIT_DEVIATIONS, SPIKE_DEVIATIONS, JUMP_DEVIATIONS = 8.0, 12.0, 20.0
SPLIT_TOLERANCE: Final = (0.02, 0.045)  # at least, at most; 2.5 standard deviations in between
LARGE_JUMP: Final = 0.37
LARGE_WICK: Final = 0.25
AROUND_BARS: Final = 100
LEVEL_BARS: Final = 5  # that tell whether a new level of prices lasts
DEVIATIONS_OF_MEDIAN: Final = 1.4826  # of a normal distribution, for the median of its sizes
CANDIDATES: Final = 1_000

# Missing stretches.
USUAL_SHARE: Final = 0.5  # of the weeks in which a place in the week has a bar
HOLIDAYS_SESSIONS: Final = 4.5  # no exchange with a weekend closes for longer but at its new year
HOLIDAYS_ROUND_THE_CLOCK: Final = 1.5  # the same where a day has more than this share of bars
ROUND_THE_CLOCK_SHARE: Final = 0.8
FEWEST_IN_SESSION: Final = 3
SEASON_DAYS: Final = 25  # a holiday by the moon moves by less from year to year
YEAR_DAYS: Final = 365.25
CHANCE: Final = 0.01  # of finding a stretch so long where bars are left out at random

# Of daily bars: when the last stock exchange (New York in winter) closes, where a day is named
# without its place, and when an exchange has closed by its own clock.
LAST_CLOSE_UTC_NS, LAST_CLOSE_LOCAL_NS = 21 * HOUR_NS, 18 * HOUR_NS
SATURDAY: Final = 5  # Monday is 0

COMMON_SHARE: Final = 0.05  # of the bars, for an opening within the hour or day to be usual
OVERLAP: Final = 0.9  # of the smallest usual distance

RUN_MOVES: Final = 32
DISTINCT_MOVES: Final = 16  # fewer in a run may be chance: a flat or tick-rounded stretch
MOVE_STEP: Final = 1e-9
LARGEST_REPEATED_SHARE: Final = 0.01  # of the rows that results are measured on


def series_notes(bars: Bars) -> list[str]:
    """Everything that whoever uses these bars should know of them.

    Args:
        bars: a checked series; all that is stored of it.
    """
    return [
        *spacing_notes(bars),
        *stamp_notes(bars),
        *jump_notes(bars),
        *missing_notes(bars),
        *grid_notes(bars),
        *repeat_notes(bars),
    ]


def spacing_notes(bars: Bars) -> list[str]:
    """A note if the bars lie closer together or further apart than their file's name says."""
    if len(bars) < 2 or not bars.timeframe:
        return []
    gaps, width = np.diff(bars.time), width_ns(bars.timeframe)
    usual_ns = int(np.median(gaps))
    apart = f"The bars are usually {usual_ns / width_ns('1m'):g} minutes apart, which"
    if usual_ns < width:
        return [f"{apart} is less than {bars.timeframe}."]
    if usual_ns == width or usual_ns % width or not is_wider(gaps, width):
        return []
    alike = next((name for name in paths.TIMEFRAME_MINUTES if width_ns(name) == usual_ns), None)
    if alike is None:
        return [f"{apart} is more than {bars.timeframe}."]
    rename = f"if so, rename the file to {paths.series_in_file_name(bars.symbol, alike)}"
    return [f"{apart} looks like {alike}, not {bars.timeframe}: {rename}."]


def stamp_notes(bars: Bars) -> list[str]:
    """A note of bars whose times lie just before the full minute, as those of their ends do."""
    if len(bars) < FEWEST_GAPS:
        return []
    before_ns = MINUTE_NS - bars.time % MINUTE_NS
    if np.mean(before_ns <= SECOND_NS) < MOST_SHARE:
        return []
    last = bars.timestamp(len(bars) - 1)
    text = (
        f"The bars are stamped just before the full minute (the last {last}), as ends are, and are"
    )
    return [f"{text} taken as opening then, one bar too late: put the opening times first."]


def is_wider(gaps: Integers, width: int) -> bool:
    """Whether hardly any two bars follow one another at once, as they do within a trading day."""
    return len(gaps) >= FEWEST_GAPS and bool(np.mean(gaps <= width) < LARGEST_SHARE_AT_ONCE)


def place(bars: Bars, index: int) -> str:
    """When a bar is, as its file would say: a day, or a time within one."""
    daily = bars.timeframe and width_ns(bars.timeframe) >= DAY_NS
    return bars.day(index) if daily else bars.timestamp(index)


def list_first(sentences: list[str]) -> str:
    """The first few of some findings, and how many follow."""
    more = len(sentences) - PLACES_NAMED
    first = "; ".join(sentences[:PLACES_NAMED])
    return f"{first}{f'; and {more} more' if more > 0 else ''}"


def rhythm_ns(bars: Bars) -> int:
    """The distance of bars that follow one another, whatever the file's name says."""
    if not bars.timeframe or spacing_notes(bars):
        return int(np.median(np.diff(bars.time)))
    return width_ns(bars.timeframe)


# Jumps


def jump_notes(bars: Bars) -> list[str]:
    """A note of prices that look like an unadjusted split or like an error."""
    if len(bars) < FEWEST_BARS:
        return []
    found = [text for _, text in sorted([*level_jumps(bars), *wicks(bars)])]
    if not found:
        return []
    return [f"The price jumps: {list_first(found)}. Unadjusted splits change every figure."]


def level_jumps(bars: Bars) -> Iterator[tuple[int, str]]:
    """The bars before which the price jumps, with a sentence each."""
    close = np.log(bars.close)
    by_close = np.diff(close)
    by_open = np.log(bars.open[1:]) - close[:-1]
    moves = np.where(np.abs(by_open) >= SMALLEST_JUMP, by_open, by_close)
    least = max(SMALLEST_JUMP, SPLIT_DEVIATIONS * deviation(by_close))
    steps = np.sqrt(1 + missing_bars(bars))  # over a gap, as many moves come at once
    behind = 0  # where the bars of the last spike end
    for before in np.flatnonzero(np.abs(moves) > least)[:CANDIDATES].tolist():
        move = float(moves[before])
        sigma = float(steps[before]) * deviation_around(by_close, before)
        if before + 1 <= behind or abs(move) < SPLIT_DEVIATIONS * sigma:
            continue
        earlier = float(np.median(close[max(0, before + 1 - LEVEL_BARS) : before + 1]))
        later = close[before + 1 : before + 1 + 2 * LEVEL_BARS]
        change = float(np.median(later)) - earlier
        if len(later) > 2 and abs(change) < abs(move) / 2:
            if abs(move) > SPIKE_DEVIATIONS * sigma:
                behind = before + 1 + LEVEL_BARS
                ratio = say_ratio(float(np.exp(move)))
                when = place(bars, before + 1)
                yield before + 1, f"on {when} it is {ratio} the bars around (a wrong price?)"
        elif looks_split(move, sigma) or abs(move) > max(LARGE_JUMP, JUMP_DEVIATIONS * sigma):
            verb = "falls to" if move < 0 else "rises to"
            ratio, when = say_ratio(float(np.exp(move))), place(bars, before + 1)
            yield before + 1, f"on {when} the price {verb} {ratio} the bar before (a split?)"


def looks_split(move: float, sigma: float) -> bool:
    """Whether a move is that of a usual split, but for the move of a day."""
    least, most = SPLIT_TOLERANCE
    off = min(abs(abs(move) - float(np.log(split))) for split in SPLITS)
    return off < min(most, max(least, 2.5 * sigma))


def say_ratio(ratio: float) -> str:
    """A ratio of prices in words: "0.25 of" or "4 times"."""
    return f"{ratio:.3g} of" if ratio < 1 else f"{ratio:.3g} times"


def wicks(bars: Bars) -> Iterator[tuple[int, str]]:
    """The bars whose high or low lies far from open and close."""
    top = np.log(bars.high / np.maximum(bars.open, bars.close))
    bottom = np.log(np.minimum(bars.open, bars.close) / bars.low)
    moves = np.diff(np.log(bars.close))
    least = max(LARGE_WICK, JUMP_DEVIATIONS * deviation(moves))
    for index in np.flatnonzero(np.maximum(top, bottom) > least)[:CANDIDATES].tolist():
        sigma = deviation_around(moves, min(index, len(moves) - 1))
        if max(top[index], bottom[index]) > JUMP_DEVIATIONS * sigma:
            high = top[index] > bottom[index]
            ratio = float(np.exp(top[index] if high else -bottom[index]))
            name = "high" if high else "low"
            text = f"on {place(bars, index)} the {name} is {say_ratio(ratio)} its open and close"
            yield index, f"{text} (a wrong price?)"


def deviation(moves: Floats) -> float:
    """The standard deviation of moves, whatever the few largest of them are."""
    return float(DEVIATIONS_OF_MEDIAN * np.median(np.abs(moves))) if len(moves) else 0.0


def deviation_around(moves: Floats, index: int) -> float:
    """The same of the moves around one, without it."""
    before = moves[max(0, index - AROUND_BARS) : index]
    return deviation(np.r_[before, moves[index + 1 : index + 1 + AROUND_BARS]])


# Missing stretches


def missing_notes(bars: Bars) -> list[str]:
    """A note of the stretches in which the series' own rhythm has bars and the file has none."""
    if len(bars) < FEWEST_BARS:
        return []
    missing = missing_bars(bars)
    rows = np.flatnonzero(missing)
    if not len(rows):
        return []
    longest = int(rows[np.argmax(missing[rows])])
    between = f"between {bars.timestamp(longest)} and {bars.timestamp(longest + 1)}"
    total = int(missing[rows].sum())
    if len(rows) == 1:
        return [f"{count_bars(total)} missing {between}."]
    most = int(missing[longest])
    return [f"{count_bars(total)} missing in {len(rows)} places; the longest: {most} {between}."]


def count_bars(bars: int) -> str:
    """So many bars, with their verb."""
    return f"{bars:,} bar{' is' if bars == 1 else 's are'}"


def missing_bars(bars: Bars) -> Integers:
    """int64[n-1]: how many bars are missing between each bar and the next, 0 where none are."""
    width = rhythm_ns(bars)
    none = np.zeros(len(bars) - 1, dtype=np.int64)
    if width >= WEEK_NS:
        return np.maximum(np.rint(np.diff(bars.time) / width).astype(np.int64) - 1, 0)
    unit = min(width, DAY_NS)
    if WEEK_NS % unit:
        return none
    local = bars.local_time() + MONDAY_OFFSET_DAYS * DAY_NS
    week, slot = local // WEEK_NS, local % WEEK_NS // unit
    slots = WEEK_NS // unit
    key = week * slots + slot
    seen = key[np.r_[True, np.diff(key) != 0]]
    weeks = 1 + int(np.count_nonzero(np.diff(week)))
    usual = np.bincount(seen % slots, minlength=slots) >= USUAL_SHARE * weeks
    if weeks < 2 or not usual.any():
        return none
    before = np.r_[0, np.cumsum(usual)]
    rank = week * before[-1] + before[slot]  # of usual places before this one
    missing = np.maximum(np.diff(rank) - usual[slot[:-1]], 0)
    kept = missing >= fewest_by_chance(missing, len(bars))
    if not usual.all():
        kept &= ~is_closure(bars, missing, usual, unit)
    return np.where(kept, missing, 0)


def fewest_by_chance(missing: Integers, bars: int) -> int:
    """How long a stretch must be, so that bars left out here and there do not make one."""
    longest, total = int(missing.max()), int(missing.sum())
    share = (total - longest) / max(1, bars + total - longest)
    if share <= 0:
        return 1
    return int(np.ceil(np.log(CHANCE / (bars + total)) / np.log(share)))


def is_closure(bars: Bars, missing: Integers, usual: Mask, unit: int) -> Mask:
    """bool[n-1]: whether a market with a weekend may just have been closed there.

    Args:
        bars: the series.
        missing: int64[n-1], the bars that its rhythm has between each bar and the next.
        usual: bool[slots], the places in the week that usually have a bar.
        unit: the width of a place, nanoseconds.
    """
    days = usual.reshape(7, -1).sum(axis=1)
    session = float(np.median(days[days > 0]))  # bars
    round_the_clock = unit < DAY_NS and session > ROUND_THE_CLOCK_SHARE * (DAY_NS // unit)
    allowed = HOLIDAYS_ROUND_THE_CLOCK if round_the_clock else HOLIDAYS_SESSIONS
    day = bars.session_days()
    same_day = (np.diff(day) == 0) & (missing >= FEWEST_IN_SESSION)
    closed: Mask = missing <= allowed * session
    closed |= is_seasonal(day[:-1], missing, session)
    result: Mask = closed & ~same_day
    return result


def is_seasonal(day: Integers, missing: Integers, session: float) -> Mask:
    """bool[n-1]: whether a stretch comes again at that time of another year, as holidays do."""
    result = np.zeros(len(missing), dtype=np.bool_)
    rows = np.flatnonzero(missing >= 2 * session)[:CANDIDATES]
    for row in rows.tolist():
        apart = np.abs(day[rows] - day[row])
        years = np.rint(apart / YEAR_DAYS)
        alike = (missing[rows] * 2 >= missing[row]) & (missing[rows] <= missing[row] * 2)
        near = np.abs(apart - years * YEAR_DAYS) <= SEASON_DAYS
        result[row] = bool((alike & near & (years >= 1)).any())
    return result


# Openings


def grid_notes(bars: Bars) -> list[str]:
    """A note of bars that open where the series' bars do not."""
    if len(bars) < FEWEST_BARS:
        return []
    rows = np.flatnonzero(off_grid(bars))
    if not len(rows):
        return []
    first = ", ".join(bars.timestamp(row) for row in rows[:PLACES_NAMED].tolist())
    open_ = "bar does not open" if len(rows) == 1 else "bars do not open"
    more = " and others" if len(rows) > PLACES_NAMED else ""
    return [f"{len(rows):,} {open_} where the others do, within their hour or day: {first}{more}."]


def phases(bars: Bars) -> Integers:
    """int64[n], how far into its nominal width, or its day, each bar opens, nanoseconds."""
    return bars.local_time() % min(rhythm_ns(bars), DAY_NS)


def off_grid(bars: Bars) -> Mask:
    """bool[n]: the bars that open at an unusual phase; clocks that are set make none unusual."""
    phase = phases(bars)
    values, position, counts = np.unique(phase, return_inverse=True, return_counts=True)
    common = counts >= COMMON_SHARE * len(bars)
    if counts[common].sum() < len(bars) / 2:
        return np.zeros(len(bars), dtype=np.bool_)  # there is no grid
    unit = min(rhythm_ns(bars), DAY_NS)
    unusual = np.ones(len(values), dtype=np.bool_)
    for usual in values[common].tolist():
        apart = np.abs(values - usual)
        apart = np.minimum(apart, unit - apart)
        unusual &= (apart > 0) & (apart != HOUR_NS)
    return unusual[position]


def find_unfinished(bars: Bars, known_at: Sequence[int] = ()) -> str:
    """Why the last bar is one that was still under way when the file was made; empty if it is not.

    Args:
        bars: all that is stored.
        known_at: when the file was written and when it is read, UTC nanoseconds.
    """
    if len(bars) < 2:
        return ""
    opening, end = int(bars.time[-1]), end_of_last(bars)
    last = f"The last bar, {bars.timestamp(len(bars) - 1)},"
    for timestamp in known_at:
        if opening <= timestamp < end:
            return (
                f"{last} is under way until {format_timestamp(end)}, and the file is from"
                f" {format_timestamp(timestamp // SECOND_NS * SECOND_NS)}: it is unfinished and"
                " left out until the file is written after its end."
            )
    if len(bars) < FEWEST_GAPS + 2:
        return ""
    gaps, width = np.diff(bars.time), rhythm_ns(bars)
    gap, usual = int(gaps[-1]), float(np.quantile(gaps[:-1], 0.01))
    overlaps = gap < OVERLAP * min(usual, width)
    odd = width >= DAY_NS and len(bars) >= FEWEST_BARS and bool(off_grid(bars)[-1])
    if not overlaps and not odd:
        return ""
    return (
        f"{last} opens {duration(gap)} after the one before it, so it was unfinished when the file"
        " was made; it is left out."
    )


def end_of_last(bars: Bars) -> int:
    """When the last bar is over, UTC nanoseconds: for certain, or for a session by what is usual.

    A day of a market with a weekend ends with its session, not at midnight.
    """
    width, opening = rhythm_ns(bars), int(bars.time[-1])
    weekday = (bars.session_days() + MONDAY_OFFSET_DAYS) % 7
    if width != DAY_NS or np.mean(weekday >= SATURDAY) > COMMON_SHARE:
        return opening + width
    somewhere = bars.offset is None and opening % DAY_NS == 0
    return opening + (LAST_CLOSE_UTC_NS if somewhere else LAST_CLOSE_LOCAL_NS)


def duration(nanoseconds: int) -> str:
    """A duration as "2 d 3:04:05", or without what is zero in front."""
    days, rest = divmod(nanoseconds // SECOND_NS, 86_400)
    clock = f"{rest // 3600}:{rest // 60 % 60:02}:{rest % 60:02}"
    return f"{days} d {clock}" if days else clock


# Repeated history


def repeat_notes(bars: Bars) -> list[str]:
    """A note of bars whose moves are those of earlier bars."""
    rows, origin = repeats(bars)
    if not len(rows):
        return []
    first, source = place(bars, int(rows[0])), place(bars, int(origin[0]))
    text = f"{count_bars(len(rows))} moving exactly as earlier bars did: from {first} on as from"
    return [f"{text} {source} on. Is history repeated?"]


def repeats(bars: Bars) -> tuple[Integers, Integers]:
    """The bars that repeat the moves of earlier ones, at least 32 in a row.

    Returns:
        int64[k] indices of the bars that repeat, ascending, and int64[k] of those they repeat.
    """
    none = np.zeros(0, dtype=np.int64)
    count = len(bars) - 1 - RUN_MOVES + 1
    if count < 2:
        return none, none
    # Steps of 1e-9 are finer than any price's, and coarser than what scaling does to a ratio.
    moves = np.rint(np.diff(np.log(bars.close)) / MOVE_STEP).astype(np.int64)
    hashes = run_hashes(moves, count)
    order = np.argsort(hashes, kind="stable")
    same = hashes[order[1:]] == hashes[order[:-1]]
    if not same.any():
        return none, none
    begins = np.r_[True, ~same]
    first = order[np.maximum.accumulate(np.where(begins, np.arange(count), 0))]
    origin_of = np.empty(count, dtype=np.int64)
    origin_of[order] = first
    starts = np.flatnonzero(origin_of != np.arange(count))
    starts = starts[is_informative(moves, starts) & is_equal(moves, starts, origin_of[starts])]
    origin = np.full(len(bars), -1, dtype=np.int64)
    for step in range(RUN_MOVES, 0, -1):  # a move leads from its bar to the next
        origin[starts + step] = origin_of[starts] + step
    rows = np.flatnonzero(origin >= 0)
    return rows, origin[rows]


def require_fresh(bars: Bars, rows: Integers) -> None:
    """Refuses test rows that a network has seen before under other dates.

    Args:
        bars: the series.
        rows: int64[k], indices of the bars that results are measured on.
    Raises:
        DataInvalid: more than 1 % of them repeat earlier bars.
    """
    repeated, origin = repeats(bars)
    at = np.flatnonzero(np.isin(repeated, rows))
    if len(at) <= LARGEST_REPEATED_SHARE * len(rows):
        return
    first, source = int(repeated[at[0]]), int(origin[at[0]])
    raise DataInvalid(
        f"{len(at):,} of the {len(rows):,} test rows of {bars.symbol} {bars.timeframe} move exactly"
        f" as earlier bars did: from {place(bars, first)} on as from {place(bars, source)} on.",
        hint="History is repeated under other dates, so results would be foreseen: take the"
        " repeated bars out of the file, or choose a range without them.",
        field="symbol",
    )


def run_hashes(moves: Integers, count: int) -> NDArray[np.uint64]:
    """uint64[count], a number for each run of moves, equal for equal runs."""
    factor = np.uint64(0x9E3779B97F4A7C15)
    mixed = moves.astype(np.uint64) * np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(31)
    total = np.zeros(count, dtype=np.uint64)
    for step in range(RUN_MOVES):
        total = total * factor + mixed[step : step + count]
    return total


def is_informative(moves: Integers, starts: Integers) -> Mask:
    """bool[len(starts)]: whether a run has so many different moves that it cannot be chance."""
    result = np.zeros(len(starts), dtype=np.bool_)
    for begin in range(0, len(starts), 65_536):
        some = starts[begin : begin + 65_536]
        run = np.sort(np.abs(moves[some[:, None] + np.arange(RUN_MOVES)]), axis=1)
        distinct = (np.diff(run, axis=1) > 0).sum(axis=1) + (run[:, 0] > 0)
        result[begin : begin + 65_536] = distinct >= DISTINCT_MOVES
    return result


def is_equal(moves: Integers, starts: Integers, origins: Integers) -> Mask:
    """bool[len(starts)]: whether the runs that begin at two places are the same."""
    same = np.ones(len(starts), dtype=np.bool_)
    for step in range(RUN_MOVES):
        same &= moves[starts + step] == moves[origins + step]
    return same
