"""Charts as SVG: scales, axes and marks. Colours come from the page's style by class alone.

A drawing is 640 units wide, or 320 among several, and scales with the page. It needs no
script and no other file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html import escape
from itertools import pairwise
from typing import Final

WIDTH: Final = 640
SMALL_WIDTH: Final = 320  # of a drawing among several
LEFT: Final = 62  # room for the labels of the vertical axis
RIGHT: Final = 14
TOP: Final = 12
BOTTOM: Final = 44  # room for the labels and the unit of the horizontal axis
TICKS: Final = 5
LETTER: Final = 6.5  # units that a letter of a label takes
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
        margin: room beyond both ends, in units of the values.
    """

    unit: str
    ticks: tuple[float, ...]
    show: Format = field(default=lambda value: f"{value:g}")
    logarithmic: bool = False
    margin: float = 0.0

    @property
    def low(self) -> float:
        """Where it begins."""
        return self.ticks[0] - self.margin

    @property
    def high(self) -> float:
        """Where it ends."""
        return self.ticks[-1] + self.margin


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
    digits = decimals_of(step)
    places = tuple(round(number * step, digits) for number in range(first, last + 1))
    return Axis(unit, places, show or (lambda value: format_signed(f"{value:.{digits}f}")))


def share_axis(values: Iterable[float], unit: str) -> Axis:
    """A linear axis of shares, in percent."""
    whole = linear_axis([100 * value for value in values], unit)
    ticks = tuple(round(tick / 100, 12) for tick in whole.ticks)
    return Axis(unit, ticks, lambda value: f"{whole.show(100 * value)}%")


def epoch_axis(first: float, last: float) -> Axis:
    """An axis of epochs, whose ticks are whole numbers."""
    places = {round(first + (last - first) * part / (TICKS - 1)) for part in range(TICKS)}
    return Axis("epoch", tuple(map(float, sorted(places))), lambda value: f"{value:,.0f}")


def decimals_of(step: float) -> int:
    """How many decimals write a step without loss."""
    return next((n for n in range(12) if abs(round(step, n) - step) < 1e-6 * step), 12)


def format_signed(number: str) -> str:
    """A written number with a true minus sign, and none before a zero."""
    return number.lstrip("-") if not float(number) else number.replace("-", "\N{MINUS SIGN}")


MANY_TIMES: Final = 8  # from here on, growth is shown by factors


def growth_axis(values: Iterable[float], unit: str, ticks: int = TICKS) -> Axis:
    """An axis of prices, growth or rates: by factors where they differ many times, else linear."""
    known = [value for value in values if math.isfinite(value)]
    if not known or min(known) <= 0 or max(known) < MANY_TIMES * min(known):
        return linear_axis(known, unit, ticks=ticks)
    powers = range(math.floor(math.log10(min(known))), math.ceil(math.log10(max(known))) + 1)
    places = [10.0**power for power in powers]
    if len(places) < 4:
        low, high = min(known), max(known)
        places = [factor * place for place in places for factor in (1, 2, 5)]
        first = max(number for number, place in enumerate(places) if place <= low)
        over = (number for number, place in enumerate(places) if place >= high)
        places = places[first : min(over, default=len(places)) + 1]
    return Axis(f"{unit}, by factors", tuple(places), lambda value: f"{value:,g}", True)


def round_step(least: float) -> float:
    """The smallest of 1, 2, 2.5, 5 times a power of ten that is not below a positive number."""
    power = 10 ** math.floor(math.log10(least))
    steps = (factor * power for factor in (1.0, 2.0, 2.5, 5.0, 10.0))
    return float(next(step for step in steps if step >= least * (1 - 1e-9)))


def time_axis(first_s: float, last_s: float) -> Axis:
    """An axis of UTC time between two moments in seconds since 1970."""
    last_s = max(last_s, first_s + 1)
    span = last_s - first_s
    ticks = 3 if span < 4 * DAY_S else 4  # labels have room on a phone, too
    form = "%Y" if span > 6 * YEAR_S else "%b %Y" if span > 0.5 * YEAR_S else "%d %b"
    if span < 4 * DAY_S:
        form = "%d %b %H:%M"
    places = tuple(first_s + span * number / (ticks - 1) for number in range(ticks))
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
        width: likewise.
        left: room for the labels of the vertical axis.
    """

    def __init__(
        self,
        title: str,
        horizontal: Axis,
        vertical: Axis,
        height: int = 260,
        *,
        width: int = WIDTH,
        left: int = LEFT,
    ) -> None:
        self.title = title
        self.height, self.width, self.left = height, width, left
        self.horizontal, self.vertical = horizontal, vertical
        self.x = Scale(horizontal, left, width - RIGHT)
        self.y = Scale(vertical, height - BOTTOM, TOP)
        self._marks: list[str] = []
        self._labels: list[str] = []  # above all marks

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
            end = x > self.width * 0.6
            anchor = ' text-anchor="end"' if end else ""
            self._labels.append(
                f'<text class="label {style}" x="{round(x + (-5 if end else 5), 1)}" '
                f'y="{TOP + 12 + 20 * len(self._labels)}"{anchor}>{escape(label)}</text>'
            )

    def level(self, value: float, style: str) -> None:
        """A horizontal line at a value."""
        self._marks.append(
            f'<path class="rule {style}" d="M{self.left} {self.y(value)}H{self.width - RIGHT}"/>'
        )

    def dot(self, x: float, y: float, style: str, error: float | None = None) -> None:
        """A point, with a whisker of its error on both sides."""
        if error is not None:
            self._marks.append(
                f'<path class="whisker {style}" d="M{self.x(x)} {self.y(y - error)}'
                f'V{self.y(y + error)}"/>'
            )
        self._marks.append(f'<circle class="dot {style}" cx="{self.x(x)}" cy="{self.y(y)}" r="4"/>')

    def across(self, x: float, y: float, style: str, error: float) -> None:
        """A point with a horizontal whisker of its error."""
        self._marks.append(
            f'<path class="whisker {style}" '
            f'd="M{self.x(x - error)} {self.y(y)}H{self.x(x + error)}"/>'
        )
        self.dot(x, y, style)

    def dots(self, points: Iterable[Point], style: str) -> None:
        """Many points of one style, to the unit, as round ends of lines without length."""
        path = "".join(f"M{self.x(x):.0f} {self.y(y):.0f}h0" for x, y in points)
        self._marks.append(f'<path class="dots {style}" d="{path}"/>')

    def reach(self, low: float, high: float, y: float, style: str) -> None:
        """A horizontal stroke from one value to another."""
        self._marks.append(
            f'<path class="reach {style}" d="M{self.x(low)} {self.y(y)}H{self.x(high)}"/>'
        )

    def svg(self) -> str:
        """The drawing as an `svg` element."""
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" '
            f'role="img"><title>{escape(self.title)}</title>{self._axes()}'
            f"{''.join(self._marks)}{''.join(self._labels)}</svg>"
        )

    def _axes(self) -> str:
        """Grid, labels and units."""
        floor, parts = self.height - BOTTOM, []
        end = self.width - RIGHT
        for value in self.vertical.ticks:
            y = self.y(value)
            parts.append(
                f'<path class="grid" d="M{self.left} {y}H{end}"/>'
                f'<text class="tick" text-anchor="end" x="{self.left - 7}" y="{round(y + 4, 1)}">'
                f"{escape(self.vertical.show(value))}</text>"
            )
        for value in self._choose_labels():
            x = self.x(value)
            anchor = "start" if x == self.left else "end" if x == end else "middle"
            parts.append(
                f'<text class="tick" text-anchor="{anchor}" x="{x}" '
                f'y="{floor + 17}">{escape(self.horizontal.show(value))}</text>'
            )
        parts.append(f'<path class="axis" d="M{self.left} {floor}H{end}"/>')
        parts.append(
            f'<text class="unit" text-anchor="end" x="{end}" y="{self.height - 6}">'
            f"{escape(self.horizontal.unit)}</text>"
            f'<text class="unit" x="4" y="{self.height - 6}">{escape(self.vertical.unit)}</text>'
        )
        return "".join(parts)

    def _choose_labels(self) -> tuple[float, ...]:
        """The ticks of the horizontal axis whose labels have room: all, or each so-many-th."""
        ticks, axis = self.horizontal.ticks, self.horizontal
        widest = max(len(axis.show(each)) for each in ticks) * LETTER + LETTER
        places = (self.x(each) for each in ticks)
        gap = min(after - before for before, after in pairwise(places))
        return ticks[:: max(math.ceil(widest / max(gap, 1)), 1)]


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
