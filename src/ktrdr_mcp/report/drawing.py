"""Charts as SVG: scales, axes and marks. Colours come from the page's style by class alone.

A drawing is 640 units wide and scales with the page. It needs no script and no other file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html import escape
from typing import Final

WIDTH: Final = 640
LEFT: Final = 62  # room for the labels of the vertical axis
RIGHT: Final = 14
TOP: Final = 12
BOTTOM: Final = 44  # room for the labels and the unit of the horizontal axis
TICKS: Final = 5
DAY_S: Final = 86_400
YEAR_S: Final = 365.25 * DAY_S

Point = tuple[float, float]
Format = Callable[[float], str]


@dataclass(frozen=True)
class Axis:
    """What an axis measures.

    Args:
        unit: what stands beside it: "epoch", "log loss (nats)", "UTC".
        ticks: labelled values, ascending, and where the axis begins and ends.
        show: writes a value.
        logarithmic: whether equal factors are equal distances; all values are above zero then.
    """

    unit: str
    ticks: tuple[float, ...]
    show: Format = field(default=lambda value: f"{value:g}")
    logarithmic: bool = False

    @property
    def low(self) -> float:
        """The first value."""
        return self.ticks[0]

    @property
    def high(self) -> float:
        """The last value."""
        return self.ticks[-1]


@dataclass(frozen=True)
class Scale:
    """A map from values to places on the drawing, linear or by logarithm.

    Args:
        axis: which values.
        start: place of the lowest value, in units of the drawing.
        end: place of the highest.
    """

    axis: Axis
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """The place of a value, rounded to a tenth; beyond the ends it stays at the end."""
        axis = self.axis
        inside = min(max(value, axis.low), axis.high)
        if axis.logarithmic:
            share = math.log(inside / axis.low) / math.log(axis.high / axis.low)
        else:
            share = (inside - axis.low) / (axis.high - axis.low)
        return round(self.start + share * (self.end - self.start), 1)


def linear_axis(
    values: Iterable[float], unit: str, show: Format | None = None, ticks: int = TICKS
) -> Axis:
    """An axis that covers some values with round ticks.

    Args:
        values: finite or not; only finite ones count.
        unit: what stands beside it.
        show: writes a value; by default with as many digits as its ticks need.
        ticks: about how many.
    """
    finite = [value for value in values if math.isfinite(value)] or [0.0]
    low, high = min(finite), max(finite)
    if low == high:
        margin = abs(low) / 10 or 0.5
        low, high = low - margin, high + margin
    step = round_step((high - low) / max(ticks - 1, 1))
    first, last = math.floor(low / step), math.ceil(high / step)
    digits = max(-math.floor(math.log10(step)), 0)
    places = tuple(round(number * step, digits + 2) for number in range(first, last + 1))
    return Axis(unit, places, show or (lambda value: f"{value:.{digits}f}"))


MANY_TIMES: Final = 8  # from here on, growth is shown by factors


def growth_axis(values: Iterable[float], unit: str) -> Axis:
    """An axis of prices or growth: by factors where they differ many times, else linear."""
    known = [value for value in values if math.isfinite(value)]
    if not known or min(known) <= 0 or max(known) < MANY_TIMES * min(known):
        return linear_axis(known, unit)
    powers = range(math.floor(math.log10(min(known))), math.ceil(math.log10(max(known))) + 1)
    ticks = [10.0**power for power in powers]
    if len(ticks) < 4:
        low, high = min(known), max(known)
        ticks = [factor * tick for tick in ticks for factor in (1, 2, 5)]
        first = max(place for place, tick in enumerate(ticks) if tick <= low)
        last = min((place for place, tick in enumerate(ticks) if tick >= high), default=len(ticks))
        ticks = ticks[first : last + 1]
    return Axis(f"{unit}, by factors", tuple(ticks), lambda value: f"{value:,g}", True)


def round_step(least: float) -> float:
    """The smallest of 1, 2, 2.5, 5 times a power of ten that is not below a positive number."""
    power = 10 ** math.floor(math.log10(least))
    steps = (factor * power for factor in (1.0, 2.0, 2.5, 5.0, 10.0))
    return float(next(step for step in steps if step >= least * (1 - 1e-9)))


def time_axis(first_s: float, last_s: float, ticks: int = TICKS) -> Axis:
    """An axis of UTC time between two moments in seconds since 1970."""
    last_s = max(last_s, first_s + 1)
    span, count = last_s - first_s, ticks - 1
    form = "%Y" if span > 6 * YEAR_S else "%b %Y" if span > 0.5 * YEAR_S else "%d %b"
    if span < 4 * DAY_S:
        form = "%d %b %H:%M"
    places = tuple(first_s + span * number / count for number in range(ticks))
    return Axis("UTC", places, lambda value: datetime.fromtimestamp(value, UTC).strftime(form))


def seconds(text: str) -> float:
    """Seconds since 1970 of a time in ISO 8601."""
    return datetime.fromisoformat(text).timestamp()


class Chart:
    """A drawing with two axes, to which marks are added from back to front.

    Args:
        title: what it is, for those who cannot see it.
        horizontal: the axis below.
        vertical: the axis on the left.
        height: units of the drawing.
    """

    def __init__(self, title: str, horizontal: Axis, vertical: Axis, height: int = 260) -> None:
        self.title = title
        self.height = height
        self.horizontal, self.vertical = horizontal, vertical
        self.x = Scale(horizontal, LEFT, WIDTH - RIGHT)
        self.y = Scale(vertical, height - BOTTOM, TOP)
        self._marks: list[str] = []
        self._labels = 0

    def line(self, points: Sequence[Point], style: str) -> None:
        """A line through finite points; a value that is not finite interrupts it."""
        path, pen = [], "M"
        for x, y in points:
            if not (math.isfinite(x) and math.isfinite(y)):
                pen = "M"
                continue
            path.append(f"{pen}{self.x(x)} {self.y(y)}")
            pen = "L"
        self._marks.append(f'<path class="line {style}" d="{"".join(path)}"/>')

    def area(self, points: Sequence[Point], base: float, style: str) -> None:
        """What lies between points and a value of the vertical axis."""
        if not points:
            return
        there = "L".join(f"{self.x(x)} {self.y(y)}" for x, y in points)
        start, end, floor = self.x(points[0][0]), self.x(points[-1][0]), self.y(base)
        self._marks.append(
            f'<path class="area {style}" d="M{start} {floor}L{there}L{end} {floor}Z"/>'
        )

    def bar(self, left: float, right: float, value: float, style: str, base: float = 0.0) -> None:
        """A bar over a stretch of the horizontal axis."""
        x, y = self.x(left), min(self.y(value), self.y(base))
        width = max(round(self.x(right) - x - 1, 1), 0.5)
        height = round(abs(self.y(value) - self.y(base)), 1)
        self._marks.append(
            f'<rect class="bar {style}" x="{x}" y="{y}" width="{width}" height="{height}"/>'
        )

    def band(self, left: float, right: float, style: str) -> None:
        """A stretch of the horizontal axis, shaded from top to bottom."""
        x = self.x(left)
        width = max(round(self.x(right) - x, 1), 0)
        self._marks.append(
            f'<rect class="band {style}" x="{x}" y="{TOP}" width="{width}" '
            f'height="{self.height - BOTTOM - TOP}"/>'
        )

    def upright(self, value: float, style: str, label: str = "") -> None:
        """A vertical line at a value, with a label at its top."""
        x = self.x(value)
        self._marks.append(f'<path class="rule {style}" d="M{x} {TOP}V{self.height - BOTTOM}"/>')
        if label:
            end = x > WIDTH * 0.6
            anchor = ' text-anchor="end"' if end else ""
            self._marks.append(
                f'<text class="label {style}" x="{round(x + (-5 if end else 5), 1)}" '
                f'y="{TOP + 12 + 20 * self._labels}"{anchor}>{escape(label)}</text>'
            )
            self._labels += 1

    def level(self, value: float, style: str) -> None:
        """A horizontal line at a value."""
        self._marks.append(
            f'<path class="rule {style}" d="M{LEFT} {self.y(value)}H{WIDTH - RIGHT}"/>'
        )

    def dot(self, x: float, y: float, style: str, error: float | None = None) -> None:
        """A point, with a whisker of its error on both sides."""
        if error is not None:
            self._marks.append(
                f'<path class="rule {style}" d="M{self.x(x)} {self.y(y - error)}'
                f'V{self.y(y + error)}"/>'
            )
        self._marks.append(f'<circle class="dot {style}" cx="{self.x(x)}" cy="{self.y(y)}" r="4"/>')

    def text(self, x: float, y: float, words: str) -> None:
        """A word centred above a place."""
        self._marks.append(
            f'<text class="label" text-anchor="middle" x="{self.x(x)}" '
            f'y="{round(self.y(y) - 7, 1)}">{escape(words)}</text>'
        )

    def svg(self) -> str:
        """The drawing as an `svg` element."""
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {self.height}" '
            f'role="img"><title>{escape(self.title)}</title>{self._axes()}'
            f"{''.join(self._marks)}</svg>"
        )

    def _axes(self) -> str:
        """Grid, labels and units."""
        floor, parts = self.height - BOTTOM, []
        for value in self.vertical.ticks:
            y = self.y(value)
            parts.append(
                f'<path class="grid" d="M{LEFT} {y}H{WIDTH - RIGHT}"/>'
                f'<text class="tick" text-anchor="end" x="{LEFT - 7}" y="{round(y + 4, 1)}">'
                f"{escape(self.vertical.show(value))}</text>"
            )
        last = len(self.horizontal.ticks) - 1
        for number, value in enumerate(self.horizontal.ticks):
            anchor = "start" if number == 0 else "end" if number == last else "middle"
            parts.append(
                f'<text class="tick" text-anchor="{anchor}" x="{self.x(value)}" '
                f'y="{floor + 17}">{escape(self.horizontal.show(value))}</text>'
            )
        parts.append(f'<path class="axis" d="M{LEFT} {floor}H{WIDTH - RIGHT}"/>')
        parts.append(
            f'<text class="unit" text-anchor="end" x="{WIDTH - RIGHT}" y="{self.height - 6}">'
            f"{escape(self.horizontal.unit)}</text>"
            f'<text class="unit" x="4" y="{self.height - 6}">{escape(self.vertical.unit)}</text>'
        )
        return "".join(parts)


SPARKS: Final = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float], width: int = 40) -> str:
    """Values as a line of block characters, thinned out evenly to a width.

    Args:
        values: oldest first; those that are not finite are left out.
        width: the most characters.
    """
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return ""
    count = min(width, len(finite))
    last = len(finite) - 1
    shown = [finite[round(last * number / max(count - 1, 1))] for number in range(count)]
    low, high = min(shown), max(shown)
    step = (high - low) / (len(SPARKS) - 1) or 1.0
    return "".join(SPARKS[round((value - low) / step)] for value in shown)
