"""The report of a training: what it is worth, and what that rests on. Pure functions to HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ktrdr_mcp.report.drawing import (
    Axis,
    Chart,
    epoch_axis,
    growth_axis,
    linear_axis,
    seconds,
    share_axis,
    time_axis,
)
from ktrdr_mcp.report.explanation import explanation_section
from ktrdr_mcp.report.page import (
    decimal,
    facts,
    figure,
    page,
    paragraph,
    percent,
    section,
    table,
    text,
    trials_in_words,
    value,
)
from ktrdr_mcp.report.sweep import Candidate, sweep_section
from ktrdr_mcp.schemas.responses import Explanation, ModelPerformance, TrainingStatus
from ktrdr_mcp.schemas.results import JudgedFold, MonthReturn, TaskResult

Floats = NDArray[np.float64]
Epochs = Sequence[Mapping[str, float]]

CLASSES: Final = ("buy", "hold", "sell")
HISTOGRAM_BINS: Final = 40
NEAR: Final = 0.005  # of a drawdown, as a share: no difference to the eye
STYLES: Final = {
    "skill": "good",
    "survives_costs": "good",
    "no_skill": "bad",
    "loses": "bad",
}
WORDS: Final = {
    "skill": "Directional skill",
    "no_skill": "No directional skill",
    "inconclusive": "Inconclusive",
    "loses": "Loses after costs",
    "survives_costs": "Survives costs",
    "no_timing": "No timing",
}
LUCK: Final = (
    "By chance: {}. Luck T is what the luckiest of as many trials averages, level T what counts as "
    "evidence; spent is what was tried before."
)
UNFINISHED: Final = {
    "pending": "The task waits in the queue; it has measured nothing yet.",
    "training": "The task trains. What it is worth is measured at its end.",
    "failed": "The task failed, so there is no model and nothing to judge.",
    "cancelled": "The task was cancelled, so there is no model and nothing to judge.",
}


@dataclass(frozen=True)
class Price:
    """Closes of the bars that a training used, thinned out: seconds since 1970, and prices."""

    time: Sequence[float]
    close: Sequence[float]


@dataclass(frozen=True, eq=False)
class Luck:
    """What the statistic of the directional test reaches by luck.

    Args:
        draws: float64[n], of one trial under random signs.
        statistic: what was observed.
        upper: 95 % of the luckiest of the family stay below.
        critical: what counts as evidence; None where the level is not said.
        trials: how many the family has.
    """

    draws: Floats
    statistic: float
    upper: float
    critical: float | None
    trials: int


@dataclass(frozen=True, eq=False)
class TrainingReport:
    """Everything that a report of a task draws.

    Args:
        status: where it stands.
        strategy: its name.
        created_at: when it was started, ISO 8601 UTC.
        settings: those that are not the defaults, in few words.
        epochs: figures of every epoch so far.
        performance: as `get_model_performance` says it; None without a result.
        result: what was measured; None without a result.
        luck: None where the test has no blocks.
        fold_statistics: T of each judged fold alone, in the order of time.
        price: None where the bars are not to be had.
        candidates: of a search, those that have a score.
        explanation: what `explain_model` found last; None where it was not asked.
        notes: what a reader must know besides.
    """

    status: TrainingStatus
    strategy: str
    created_at: str
    settings: str
    epochs: Epochs = ()
    performance: ModelPerformance | None = None
    result: TaskResult | None = None
    luck: Luck | None = None
    fold_statistics: Sequence[float] = ()
    price: Price | None = None
    candidates: Sequence[Candidate] = ()
    explanation: Explanation | None = None
    notes: Sequence[str] = field(default=())


def training_page(report: TrainingReport) -> str:
    """The report as one HTML file."""
    status, performance, result = report.status, report.performance, report.result
    title = f"{status.symbol} {status.timeframe}, {report.strategy}"
    parts = [
        f"<h1>{text(title)}</h1>",
        paragraph(
            f"Task <code>{text(status.task_id)}</code>, started {day_and_time(report.created_at)}"
            f" UTC. {text(report.settings) or 'Default settings'}.",
            "soft",
        ),
        *(paragraph(text(note)) for note in report.notes),
    ]
    if performance is None or result is None:
        parts += [describe_unfinished(report), epochs_section(report.epochs, None)]
        return page(title, parts)
    parts += [
        verdict_section(performance),
        luck_section(report.luck),
        folds_section(report, result),
        equity_section(report, result, performance),
        epochs_section(report.epochs, result.training_metrics.best_epoch),
        classes_section(performance, result),
        calibration_section(result),
        months_section(result.months),
        sweep_section(performance.sweep, report.candidates),
        explanation_section(report.explanation),
        settings_section(report, performance, result),
    ]
    return page(title, parts)


def describe_unfinished(report: TrainingReport) -> str:
    """What is to be said of a task without a result."""
    status = report.status
    said = UNFINISHED.get(status.status, f"The task is {status.status}.")
    reason = f" {text(status.error)}" if status.error else ""
    done = f"{status.current_epoch} of {status.total_epochs} epochs"
    return section("State", paragraph(f"{said}{reason}", "lead"), paragraph(f"{done}."))


def verdict_section(performance: ModelPerformance) -> str:
    """The verdict in words, with the size of the edge."""
    verdict, trading = performance.verdict, performance.trading
    tags = " ".join(
        f'<span class="tag {STYLES.get(word, "open")}">'
        f"{about}: {value(f'verdict.{name}', word, word.replace('_', ' '))}</span>"
        for about, name, word in (
            ("direction", "prediction", verdict.prediction),
            ("trading", "trading", verdict.trading),
        )
    )
    more = [
        text(sentence.format(said), 1_000)
        for said, sentence in (
            (verdict.rows, "Judged on {}."),
            (verdict.needs, "It would take: {}"),
            (verdict.luck, LUCK),
        )
        if said
    ]
    more += [value(name, said, sentence) for name, said, sentence in standing(performance)]
    level = (
        []
        if verdict.level is None
        else [
            (
                "Adjusted p must not exceed",
                value("verdict.level", verdict.level, f"{verdict.level:g}"),
            )
        ]
    )
    rows = [
        *edge_rows(performance),
        *level,
        (
            "Net return after costs",
            value(
                "trading.net_total_return",
                trading.net_total_return,
                percent(trading.net_total_return, signed=True),
            ),
        ),
        (
            "Buy and hold, same bars",
            value(
                "trading.buy_and_hold_return",
                trading.buy_and_hold_return,
                percent(trading.buy_and_hold_return, signed=True),
            ),
        ),
        ("Trades", value("trading.trades", trading.trades, f"{trading.trades:,}")),
        (
            "Deepest drawdown",
            value("trading.max_drawdown", trading.max_drawdown, percent(trading.max_drawdown)),
        ),
        (
            "Sharpe ratio, a year",
            value("trading.sharpe", trading.sharpe, decimal(trading.sharpe))
            + (f" ± {decimal(trading.sharpe_error)}" if trading.sharpe_error is not None else ""),
        ),
        (
            "Cost that it could bear",
            value(
                "trading.break_even_cost_bps",
                trading.break_even_cost_bps,
                f"{decimal(trading.break_even_cost_bps, 1)} bps",
            ),
        ),
    ]
    return section(
        "Verdict",
        paragraph(tags),
        paragraph(text(verdict.reason, 2_000), "lead"),
        *(paragraph(each) for each in more),
        facts(rows),
        paragraph(f"Next: {text(performance.next, 1_000)}"),
    )


def standing(performance: ModelPerformance) -> list[tuple[str, Any, str]]:
    """What else decides how far a verdict carries: field, its value, and a sentence of it."""
    verdict, seeds = performance.verdict, performance.seeds
    said: list[tuple[str, Any, str]] = []
    if verdict.suspect:
        alarms = ", ".join(each.replace("_", " ") for each in verdict.suspect)
        said.append(
            ("verdict.suspect", verdict.suspect, f"Alarms, which the details explain: {alarms}.")
        )
    if verdict.holds_across is not None:
        across = "holds" if verdict.holds_across else "does not hold"
        sentence = f"It {across} across all other bars that were tried."
        said.append(("verdict.holds_across", verdict.holds_across, sentence))
    if seeds is not None and seeds.depends_on_seed is not None:
        depends = "depends" if seeds.depends_on_seed else "does not depend"
        sentence = (
            f"It {depends} on the seed: T from {decimal(seeds.t_min)} to {decimal(seeds.t_max)} "
            f"over {seeds.count} seeds."
        )
        said.append(("seeds.depends_on_seed", seeds.depends_on_seed, sentence))
    if verdict.trials_since:
        since = f"Since then, {trials_in_words(verdict.trials_since)} more on related bars"
        sentence = f"{since}; the verdict stays as it was."
        said.append(("verdict.trials_since", verdict.trials_since, sentence))
    return said


def edge_rows(performance: ModelPerformance) -> list[tuple[str, str]]:
    """How large the edge may be: in direction, and in basis points for each trade."""
    rows, edge, trading = [], performance.edge, performance.trading
    if edge is not None:
        accuracy = value("edge.accuracy", edge.accuracy, percent(edge.accuracy))
        low = value("edge.low", edge.low, percent(edge.low))
        high = value("edge.high", edge.high, percent(edge.high))
        base = value("edge.base_rate", edge.base_rate, percent(edge.base_rate))
        rows.append(("Direction right (95 % interval)", f"{accuracy} ({low} to {high})"))
        rows.append(("Right without knowing when", base))
    for name, words in (("gross_bps", "Gross"), ("net_bps", "Net")):
        figures = getattr(trading, name)
        if figures:
            mean, low, high = (
                value(f"trading.{name}.{place}", number, decimal(number, 1))
                for place, number in enumerate(figures)
            )
            rows.append((f"{words} per trade, basis points", f"{mean} ({low} to {high})"))
    return rows


def luck_section(luck: Luck | None) -> str:
    """How T is distributed by luck, with what was observed."""
    if luck is None or not len(luck.draws):
        return ""
    marks = [luck.statistic, luck.critical or luck.upper, *luck.draws.tolist()]
    horizontal = linear_axis(marks, "T, in standard errors", ticks=7)
    counts, edges = np.histogram(luck.draws, HISTOGRAM_BINS, (horizontal.low, horizontal.high))
    share = counts / max(len(luck.draws), 1)
    chart = Chart(
        "Distribution of T by luck, with the observed T",
        horizontal,
        share_axis([0, *share.tolist()], "share of draws"),
    )
    for left, right, height in zip(edges[:-1], edges[1:], share, strict=True):
        chart.bar(float(left), float(right), float(height), "faint")
    if luck.critical is not None:
        chart.upright(luck.critical, "other", "counts as evidence")
    chart.upright(luck.statistic, "own", f"T = {decimal(luck.statistic)}")
    below = float((luck.draws < luck.statistic).mean())
    trials = trials_in_words(luck.trials)
    trials = trials if luck.trials == 1 else f"the best of {trials}"
    return section(
        "Luck",
        figure(
            chart.svg(),
            f"Grey: what T comes to when the signs of time blocks are drawn at random, so that "
            f"there is nothing to foresee; {percent(below)} of the draws stay below the observed "
            f"T. Of {trials} on these bars, 95 % stay below {decimal(luck.upper)} by luck; T "
            f"counts as evidence from {decimal(luck.critical)} on.",
        ),
    )


def folds_section(report: TrainingReport, result: TaskResult) -> str:
    """When the folds trained and were tested, with their T and the price."""
    folds = [fold for fold in result.walk_forward.folds if isinstance(fold, JudgedFold)]
    if not folds:
        return ""
    charts = [price_chart(report.price, result), folds_chart(folds, report.fold_statistics)]
    rows = [
        [
            f"{day(fold.test[0])} to {day(fold.test[1])}",
            f"{fold.test_rows:,}",
            decimal(report.fold_statistics[number])
            if number < len(report.fold_statistics)
            else decimal(None),
            value(
                f"walk_forward.folds.{result.walk_forward.folds.index(fold)}.accuracy",
                fold.accuracy,
                percent(fold.accuracy),
            ),
        ]
        for number, fold in enumerate(folds)
    ]
    failed = [fold for fold in result.walk_forward.folds if not isinstance(fold, JudgedFold)]
    missing = (
        f"{len(failed)} of {result.walk_forward.planned} folds have no predictions: "
        + ", ".join(sorted({str(fold.lost) for fold in failed}))
        + "."
        if failed
        else ""
    )
    if not result.walk_forward.used:
        return section(
            "The tested part",
            paragraph(
                "This training has no walk-forward folds: the verdict rests on the last part of "
                "the rows alone, which one network predicted."
            ),
            charts[0],
        )
    return section(
        "Walk-forward folds",
        *charts,
        table(
            ["tested", "rows", "T", "accuracy"], rows, "Each fold trains on what lies before it."
        ),
        paragraph(missing),
    )


def price_chart(price: Price | None, result: TaskResult) -> str:
    """The close over all bars used, with the tested part shaded."""
    if price is None or len(price.time) < 2:
        return ""
    horizontal = time_axis(price.time[0], price.time[-1])
    chart = Chart(
        "Price over the bars used", horizontal, growth_axis(price.close, "price"), height=210
    )
    tested = [seconds(each) for each in result.walk_forward.tested]
    chart.band(tested[0], tested[1], "own")
    chart.line(list(zip(price.time, price.close, strict=True)), "faint")
    return figure(
        chart.svg(),
        f"Closing price. Shaded: {day(result.walk_forward.tested[0])} to "
        f"{day(result.walk_forward.tested[1])}, the bars that the verdict rests on.",
    )


def folds_chart(folds: Sequence[JudgedFold], statistics: Sequence[float]) -> str:
    """T of each fold over the time that it was tested on."""
    if len(statistics) != len(folds):
        return ""
    first, last = seconds(folds[0].test[0]), seconds(folds[-1].test[1])
    chart = Chart(
        "T of each fold over time",
        time_axis(first, last),
        linear_axis([0.0, *statistics], "T, in standard errors"),
        height=190,
    )
    for fold, statistic in zip(folds, statistics, strict=True):
        chart.bar(
            seconds(fold.test[0]),
            seconds(fold.test[1]),
            statistic,
            "gain" if statistic > 0 else "fall",
        )
    chart.level(0.0, "faint")
    above = sum(statistic > 0 for statistic in statistics)
    return figure(
        chart.svg(),
        f"T of each fold alone: {above} of {len(folds)} folds are above zero. A single fold has "
        "few blocks, so its T says little.",
    )


def equity_section(
    report: TrainingReport, result: TaskResult, performance: ModelPerformance
) -> str:
    """Growth of one unit after costs against buying and holding, and the drawdown."""
    points = [(seconds(each.time), each.equity) for each in result.equity]
    if len(points) < 2:
        return ""
    held = held_growth(report.price, points)
    horizontal = time_axis(points[0][0], points[-1][0])
    chart = Chart(
        "Growth of one unit after costs, beside buying and holding",
        horizontal,
        growth_axis([1.0, *(y for _, y in points), *(y for _, y in held)], "growth of one unit"),
    )
    chart.level(1.0, "faint")
    if held:
        chart.line(held, "other")
    chart.line(points, "own")
    key = [("own", "the model, after costs")] + ([("other", "buy and hold")] if held else [])
    net, hold = performance.trading.net_total_return, performance.trading.buy_and_hold_return
    what = "walk-forward predictions" if result.walk_forward.used else "last part"
    return section(
        f"Trading the {what}",
        figure(
            chart.svg(),
            f"After {result.trading_rule.cost_bps:g} basis points per unit of position change the "
            f"model ends at {percent(net, signed=True)}, buying and holding at "
            f"{percent(hold, signed=True)}. No network was fitted on the bars that it trades here.",
            key,
        ),
        drawdown_figure(points, horizontal, performance.trading.max_drawdown),
    )


def held_growth(
    price: Price | None, points: Sequence[tuple[float, float]]
) -> list[tuple[float, float]]:
    """The growth of one unit held from the first of some times to each of them."""
    if price is None or len(price.time) < 2:
        return []
    time = [each for each, _ in points]
    close = np.interp(time, price.time, price.close)
    return list(zip(time, (close / close[0]).tolist(), strict=True))


def drawdown_figure(points: Sequence[tuple[float, float]], horizontal: Axis, deepest: float) -> str:
    """How far equity lies below its peak so far."""
    equity = np.array([y for _, y in points])
    fall = equity / np.maximum.accumulate(np.maximum(equity, 1.0)) - 1
    chart = Chart(
        "Drawdown",
        horizontal,
        share_axis([0.0, *fall.tolist()], "below the peak"),
        height=160,
    )
    chart.area([(x, float(y)) for (x, _), y in zip(points, fall, strict=True)], 0.0, "loss")
    thinned = (
        ""
        if float(fall.min()) < deepest + NEAR
        else f" It lies between two of the {len(points):,} points that are drawn."
    )
    return figure(chart.svg(), f"The deepest fall from a peak is {percent(deepest)}.{thinned}")


def epochs_section(epochs: Epochs, best: int | None) -> str:
    """Loss and accuracy of every epoch, with the one whose weights are kept."""
    if len(epochs) < 2:
        return ""
    return section(
        "Epochs", epochs_figure(epochs, best, "loss"), epochs_figure(epochs, best, "accuracy")
    )


def epochs_figure(epochs: Epochs, best: int | None, what: str) -> str:
    """Training and validation values of one quantity over the epochs, in words too."""
    ends = [epochs[-1][f"{part}_{what}"] for part in ("train", "val")]
    kept = f" The weights of epoch {best} are kept." if best is not None else ""
    return figure(
        epochs_chart(epochs, best, what),
        f"{what.capitalize()} after each epoch, {ends[0]:.3f} in training and {ends[1]:.3f} in "
        f"validation at the last one.{kept}",
        [("own", "validation"), ("other", "training")],
    )


def loss_curve(epochs: Epochs, best: int | None) -> str:
    """The losses so far as SVG; an empty drawing before there are two epochs."""
    if len(epochs) < 2:
        return '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 1"></svg>'
    return epochs_chart(epochs, best, "loss")


def epochs_chart(epochs: Epochs, best: int | None, what: str) -> str:
    """Training and validation values of one quantity over the epochs, drawn.

    Args:
        epochs: at least two.
        best: the number of the restored epoch; None while there is none.
        what: "loss" or "accuracy".
    """
    number = [float(each.get("epoch", place)) for place, each in enumerate(epochs, start=1)]
    lines = {part: [each[f"{part}_{what}"] for each in epochs] for part in ("train", "val")}
    chart = Chart(
        f"{what.capitalize()} per epoch, training and validation rows",
        epoch_axis(number[0], number[-1]),
        linear_axis([*lines["train"], *lines["val"]], "loss, nats")
        if what == "loss"
        else share_axis([*lines["train"], *lines["val"]], "share of rows"),
        height=220,
    )
    if best is not None:
        chart.upright(best, "faint", f"best: {best}")
    chart.line(list(zip(number, lines["train"], strict=True)), "other")
    chart.line(list(zip(number, lines["val"], strict=True)), "own")
    return chart.svg()


def classes_section(performance: ModelPerformance, result: TaskResult) -> str:
    """The confusion matrix beside the simple rules."""
    figures, simple = performance.test_metrics, performance.baselines
    rows = [
        [
            "the model",
            value(
                "test_metrics.test_accuracy", figures.test_accuracy, percent(figures.test_accuracy)
            ),
            value("test_metrics.f1_score", figures.f1_score, decimal(figures.f1_score)),
        ]
    ] + [
        [
            words,
            value(f"baselines.{name}.accuracy", rule.accuracy, percent(rule.accuracy)),
            value(f"baselines.{name}.macro_f1", rule.macro_f1, decimal(rule.macro_f1)),
        ]
        for name, words, rule in (
            ("majority", "always the most frequent class", simple.majority),
            ("prior", "at random by class shares", simple.prior),
            ("persistence", "what came last", simple.persistence),
            ("logistic", "logistic regression", simple.logistic),
        )
    ]
    period = f"{day(result.test_period[0])} to {day(result.test_period[1])}"
    return section(
        "Classes on the last part",
        confusion_table(result, period),
        table(
            ["rule", "accuracy", "macro F1"],
            rows,
            "The kept network and simple rules on the same rows. Classes are not direction: hold "
            "is predictable from volatility alone, so the verdict does not rest on these.",
        ),
    )


def confusion_table(result: TaskResult, period: str) -> str:
    """What came against what was predicted."""
    if result.confusion is None:
        return paragraph("This task was trained before its confusion counts were kept.", "soft")
    rows = [
        [
            f"came {name}",
            *(
                value(f"confusion.{row}.{column}", count, f"{count:,}")
                for column, count in enumerate(counts)
            ),
        ]
        for row, (name, counts) in enumerate(zip(CLASSES, result.confusion, strict=True))
    ]
    total = sum(map(sum, result.confusion))
    return table(
        ["", *(f"said {name}" for name in CLASSES)],
        rows,
        f"The kept network on {total:,} rows, {period}, which it was never fitted on.",
    )


def calibration_section(result: TaskResult) -> str:
    """Whether probabilities come true as often as they say."""
    bins = result.calibration
    if not bins:
        return ""
    ends = [each.predicted for each in bins] + [
        edge for each in bins for edge in (each.observed - each.error, each.observed + each.error)
    ]
    both = share_axis(ends, "probability of the class that is named")
    chart = Chart(
        "Predicted probabilities and how often they came true",
        both,
        Axis("came true", both.ticks, both.show),
    )
    chart.line([(both.low, both.low), (both.high, both.high)], "faint")
    for each in bins:
        chart.dot(each.predicted, each.observed, "own", each.error)
    off = sum(abs(each.observed - each.predicted) > 2 * each.error for each in bins)
    said = (
        "all lie within two errors of the diagonal"
        if not off
        else f"{off} of {len(bins)} lie more than two errors off the diagonal"
    )
    return section(
        "Calibration",
        figure(
            chart.svg(),
            f"Walk-forward rows, from the least sure to the surest; whiskers are one standard "
            f"error over blocks of time. On the diagonal, probabilities come true as said: {said}.",
        ),
    )


def months_section(months: Sequence[MonthReturn]) -> str:
    """Net returns by month and year."""
    if not months:
        return ""
    years: dict[str, dict[int, str]] = {}
    growth: dict[str, float] = {}
    for place, each in enumerate(months):
        year, month = each.month.split("-")
        earned = each.net_return
        shown = value(f"months.{place}.net_return", earned, decimal(earned * 100, 1))
        years.setdefault(year, {})[int(month)] = tint(shown, earned)
        growth[year] = growth.get(year, 1.0) * (1 + earned)
    rows = [
        [
            year,
            *(found.get(month, "") for month in range(1, 13)),
            tint(decimal((growth[year] - 1) * 100, 1), growth[year] - 1),
        ]
        for year, found in years.items()
    ]
    up = sum(each.net_return > 0 for each in months)
    return section(
        "Returns by month",
        table(
            ["%", *(f"{month}" for month in range(1, 13)), "year"],
            rows,
            f"Percent after costs, UTC months; {up} of {len(months)} months gained.",
        ),
    )


def tint(content: str, number: float) -> str:
    """HTML in the colour of a gain or a fall."""
    style = "good" if number > 0 else "bad" if number < 0 else ""
    return f'<span class="{style}">{content}</span>' if style else content


def settings_section(
    report: TrainingReport, performance: ModelPerformance, result: TaskResult
) -> str:
    """Which bars, which network, and how often these results were looked at."""
    used, info, epochs = result.data, performance.model_info, performance.training_metrics
    readings = performance.test_readings
    rows = (
        f"{used.train_rows:,} training, {used.validation_rows:,} validation,"
        f" {used.test_rows:,} last part"
    )
    best = value("training_metrics.best_epoch", epochs.best_epoch, str(epochs.best_epoch))
    ran = f"{epochs.epochs_completed} of {report.status.total_epochs}, best {best}"
    pairs = [
        ("Bars", f"{used.bars:,}, {day(used.first_bar)} to {day(used.last_bar)}"),
        ("Source", text(used.source)),
        ("Rows", rows),
        ("Network", f"{text(info.architecture)}, {info.parameters_count:,} parameters"),
        ("Epochs", ran),
        (
            "Validation accuracy",
            value(
                "training_metrics.final_val_accuracy",
                epochs.final_val_accuracy,
                percent(epochs.final_val_accuracy),
            ),
        ),
        ("Looked at", f"{readings} {'time' if readings == 1 else 'times'}, this one included"),
    ]
    return section("What was trained", facts(pairs))


def day(moment: str) -> str:
    """The day of a time in ISO 8601."""
    return text(moment[:10])


def day_and_time(moment: str) -> str:
    """Day and minute of a time in ISO 8601."""
    return text(moment[:16].replace("T", " "))
