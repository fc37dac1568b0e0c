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

Points = Sequence[Mapping[str, Any]]  # with time and equity

# Parts of a backtest by their field in the reply: heading, what they are worth as evidence, and
# what is said of their shading.
PARTS: Final = {
    "out_of_sample": (
        "Fresh bars",
        "Bars that the model has not seen: these alone are evidence.",
        "",
    ),
    "choosing": (
        "Bars seen in choosing",
        "Validation and walk-forward, by whose figures the model was chosen: no evidence.",
        "the model was chosen by its figures on these bars",
    ),
    "in_sample": (
        "Bars seen in training",
        "The model was fitted on these bars, so that a gain here says nothing.",
        "the model was fitted on these bars",
    ),
}
ROWS: Final = (
    ("net_total_return", "Net return after costs"),
    ("buy_and_hold_return", "Buy and hold"),
    ("max_drawdown", "Deepest drawdown"),
    ("exposure", "Share of bars with a position"),
    ("win_rate", "Share of trades that gained"),
)


def model_page(reply: ModelBacktest, curves: Mapping[str, Any], held: Mapping[str, Any]) -> str:
    """The report as one HTML file.

    Args:
        reply: the backtest's.
        curves: points of each part's equity, by the part's name.
        held: the same of one unit bought and held.
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
            *(
                part_section(
                    name, getattr(reply, name), curves.get(name) or [], held.get(name) or []
                )
                for name in PARTS
            ),
        ],
    )


def part_section(name: str, figures: BacktestFigures | None, points: Points, held: Points) -> str:
    """One part of the range: its equity, and its figures."""
    if figures is None:
        return ""
    heading, worth, seen = PARTS[name]
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
        equity_figure(points, held, figures, seen),
        table(["", f"{figures.bars:,} bars"], rows),
    )


def equity_figure(points: Points, held: Points, figures: BacktestFigures, seen: str) -> str:
    """Growth after costs beside buying and holding, and the drawdown.

    Args:
        points: of the model's equity; without two nothing is drawn.
        held: of one unit bought and held.
        figures: of the same bars.
        seen: how the model has seen them, which shades them; empty if it has not.
    """
    own, other = (
        [(seconds(each["time"]), float(each["equity"])) for each in line] for line in (points, held)
    )
    if len(own) < 2:
        return ""
    chart = Chart(
        "Growth of one unit after costs, beside buying and holding",
        time_axis(own[0][0], own[-1][0]),
        growth_axis([1.0, *(y for _, y in (*own, *other))], "growth of one unit"),
    )
    if seen:
        chart.band(own[0][0], own[-1][0], "past")
    chart.level(1.0, "faint")
    chart.line(other, "other")
    chart.line(own, "own")
    net, hold = figures.net_total_return, figures.buy_and_hold_return
    shaded = f" Shaded: {seen}." if seen else ""
    grown = figure(
        chart.svg(),
        f"The model ends at {percent(net, signed=True)} after costs, buying and holding at "
        f"{percent(hold, signed=True)}.{shaded}",
        [("own", "the model, after costs"), ("other", "buy and hold")],
    )
    return grown + drawdown_figure(own, chart.horizontal, figures.max_drawdown)
