"""The sentence that a comparison ends in."""

from __future__ import annotations

import pytest

from ktrdr_mcp.evaluation.compare import Difference
from ktrdr_mcp.schemas import responses
from ktrdr_mcp.service.evaluation import summary

BETTER, WORSE = Difference(2.0, 0.01, 40), Difference(-2.0, 0.01, 40)
ALIKE, APART = Difference(0.5, 0.4, 40), None
SENTENCES = {
    "all": ([BETTER, BETTER], "is best on validation and foresees more than every other."),
    "some": ([BETTER, ALIKE], "but not significantly better than 1 of 2 others."),
    "no time in common": ([APART, BETTER], "but not significantly better than 1 of 2 others."),
    "worse": ([WORSE], "but foresees significantly less than 1 of 1 others"),
    "worse and better": ([WORSE, BETTER, ALIKE], "less than 1 of 3 others on the time that both"),
}


def task(number: int) -> responses.ComparedTask:
    return responses.ComparedTask(
        task_id=f"task{number}",
        rank=number,
        val_gain=0.1 / number,
        val_accuracy=0.5,
        val_loss=1.0,
        test_accuracy=0.4,
        prediction="inconclusive",
        statistic=0.0,
    )


@pytest.mark.parametrize("case", SENTENCES)
def test_the_summary_says_where_the_first_on_validation_is_better_and_where_worse(case) -> None:
    found, expected = SENTENCES[case]
    tasks = [task(number) for number in range(1, len(found) + 2)]
    told = summary(tasks, found, {})
    assert told.startswith("task1 is best on validation")
    assert expected in told
