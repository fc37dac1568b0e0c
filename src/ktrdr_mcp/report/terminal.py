"""Line charts of text for terminals: dots of Braille letters, as wide as there is room."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

from ktrdr_mcp.report.drawing import linear_axis

BLANK: Final = 0x2800  # the Braille letter without dots
DOTS: Final = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # by row, then by column
LABEL_CHARACTERS: Final = 9
LEAST_WIDTH: Final = 30


def chart(lines: Mapping[str, Sequence[float]], width: int, height: int = 8) -> str:
    """Lines over as many steps as each has, the first one's end named beside it.

    Args:
        lines: values by name, oldest first; those that are not finite are left out.
        width: characters of the whole.
        height: rows of the drawing.
    Returns:
        rows of text; empty where no line has two values or there is no room.
    """
    room = width - LABEL_CHARACTERS - 1
    drawn = {name: list(values) for name, values in lines.items() if len(values) > 1}
    known = [value for values in drawn.values() for value in values if math.isfinite(value)]
    if not known or width < LEAST_WIDTH:
        return ""
    axis = linear_axis(known, "", ticks=3)
    cells = [[BLANK] * room for _ in range(height)]
    for values in drawn.values():
        for column in range(2 * room):
            value = values[round(column * (len(values) - 1) / (2 * room - 1))]
            if math.isfinite(value):
                share = (value - axis.low) / (axis.high - axis.low)
                row = round((1 - share) * (4 * height - 1))
                cells[row // 4][column // 2] |= DOTS[row % 4][column % 2]
    labels = {0: axis.show(axis.high), height - 1: axis.show(axis.low)}
    rows = [
        f"{labels.get(number, ''):>{LABEL_CHARACTERS}} {''.join(map(chr, row))}"
        for number, row in enumerate(cells)
    ]
    return "\n".join(rows)
