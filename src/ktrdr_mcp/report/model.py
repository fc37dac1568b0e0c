"""The report of a saved model, traded over any range."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from ktrdr_mcp.report.drawing import Chart, growth_axis, seconds, time_axis
from ktrdr_mcp.report.page import (
    decimal,
    figure,
    page,
    paragraph,
    percent,
    section,
    table,
    text,
    value,
)
from ktrdr_mcp.report.training import day, drawdown_figure
from ktrdr_mcp.schemas.responses import BacktestFigures, ModelBacktest

# Parts of a backtest by their field in the reply: heading, and what they are worth as evidence.
PARTS: Final = {
    "out_of_sample": ("Fresh bars", "Bars that the model has not seen: these alone are evidence."),
    "choosing": (
        "Bars seen in choosing",
        "Validation and walk-forward, by whose figures the model was chosen: no evidence.",
    ),
    "in_sample": (
        "Bars seen in training",
        "The model was fitted on these bars, so that a gain here says nothing.",
    ),
}
ROWS: Final = (
    ("net_total_return", "Net return after costs"),
    ("buy_and_hold_return", "Buy and hold"),
    ("max_drawdown", "Deepest drawdown"),
    ("exposure", "Share of bars with a position"),
    ("win_rate", "Share of trades that gained"),
)


def model_page(reply: ModelBacktest, curves: Mapping[str, Any]) -> str:
    """The report as one HTML file.

    Args:
        reply: the backtest's.
        curves: points of each part's equity, by the part's name.
    """
    cost = "long only" if reply.long_only else "long and short"
    return page(
        f"{reply.model_name}, version {reply.version}",
        [
            f"<h1>{text(reply.model_name)}, version {reply.version}</h1>",
            paragraph(
                f"{text(reply.symbol)} {text(reply.timeframe)}, {day(reply.first_bar)} to "
                f"{day(reply.last_bar)}, {cost}, {reply.cost_bps:g} basis points per unit of "
                "position change.",
                "soft",
            ),
            paragraph(text(reply.summary, 2_000), "lead"),
            *(paragraph(text(each)) for each in reply.warnings),
            *(part_section(name, getattr(reply, name), curves.get(name) or []) for name in PARTS),
        ],
    )


def part_section(
    name: str, figures: BacktestFigures | None, points: Sequence[Mapping[str, Any]]
) -> str:
    """One part of the range: its equity, and its figures."""
    if figures is None:
        return ""
    heading, worth = PARTS[name]
    numbers = figures.model_dump()
    rows = [
        [words, value(f"{name}.{key}", numbers[key], percent(numbers[key]))] for key, words in ROWS
    ]
    rows += [
        ["Trades", value(f"{name}.trades", figures.trades, f"{figures.trades:,}")],
        ["Sharpe ratio, a year", value(f"{name}.sharpe", figures.sharpe, decimal(figures.sharpe))],
        [
            "Cost that it could bear",
            value(
                f"{name}.break_even_cost_bps",
                figures.break_even_cost_bps,
                f"{decimal(figures.break_even_cost_bps, 1)} bps",
            ),
        ],
    ]
    return section(
        heading,
        paragraph(worth),
        equity_figure(points, figures.max_drawdown, seen=name != "out_of_sample"),
        table(["", f"{figures.bars:,} bars"], rows),
    )


def equity_figure(points: Sequence[Mapping[str, Any]], deepest: float, *, seen: bool) -> str:
    """Growth of one unit after costs and its drawdown; shaded where the model has seen the bars."""
    line = [(seconds(each["time"]), float(each["equity"])) for each in points]
    if len(line) < 2:
        return ""
    chart = Chart(
        "Growth of one unit after costs",
        time_axis(line[0][0], line[-1][0]),
        growth_axis([1.0, *(y for _, y in line)], "growth of one unit"),
    )
    if seen:
        chart.band(line[0][0], line[-1][0], "past")
    chart.level(1.0, "faint")
    chart.line(line, "own")
    shaded = " Shaded: the model has seen all of them." if seen else ""
    grown = figure(
        chart.svg(), f"One unit grew to {decimal(line[-1][1])} after costs on these bars.{shaded}"
    )
    return grown + drawdown_figure(line, chart.horizontal, deepest)
