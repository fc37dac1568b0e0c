"""The memory of the research: what was tried on a series, and what was noted."""

from __future__ import annotations

from dataclasses import asdict
from typing import Final

from ktrdr_mcp.errors import InvalidRequest
from ktrdr_mcp.schemas import requests, responses
from ktrdr_mcp.schemas.responses import fit_page
from ktrdr_mcp.service import replies
from ktrdr_mcp.service.evaluation import Judge
from ktrdr_mcp.store.research import ResearchLog, ResearchNote
from ktrdr_mcp.store.task_row import TaskRow
from ktrdr_mcp.store.tasks import TaskStore

NOTES_SHOWN: Final = 5


class Research:
    """Answers what was tried and what was noted.

    Args:
        tasks: the stored tasks.
        log: looks and notes.
        judge: of completed tasks.
    """

    def __init__(self, tasks: TaskStore, log: ResearchLog, judge: Judge) -> None:
        self._tasks = tasks
        self._log = log
        self._judge = judge

    async def page(self, request: requests.ReadResearch) -> responses.ResearchPage:
        """A page of the trials, newest first; each verdict shown counts as a reading."""
        symbol, timeframe = request.symbol, request.timeframe
        found = await self._tasks.page(request.limit, request.offset, None, symbol, timeframe)
        notes = await self._log.notes(symbol, timeframe, NOTES_SHOWN)
        page = responses.ResearchPage(
            trials=[await self._entry(row) for row in found.rows],
            notes=[note_row(each) for each in notes],
            returned=len(found.rows),
            has_more=found.has_more,
        )
        if request.page_bytes is not None:  # what nobody sees is no reading
            page = fit_page(page, "trials", request.page_bytes)
        shown = found.rows[: page.returned]
        await self._judge.count_readings(row for row in shown if row.status == "completed")
        return page

    async def _entry(self, row: TaskRow) -> responses.ResearchEntry:
        """One trial, not counted as read."""
        verdict, trial = row.error_code or row.status, None
        if row.status == "completed":
            judged = await self._judge.unread(row)
            verdict = f"{judged.verdict.prediction}, {judged.verdict.trading}".replace("_", " ")
            trial = judged.verdict.as_of_trial
        return responses.ResearchEntry(
            task_id=row.task_id,
            trial=trial,
            symbol=row.symbol,
            timeframe=row.timeframe,
            created_at=row.created_at,
            strategy=row.strategy,
            differs=replies.list_differing(row),
            verdict=verdict,
            note=replies.note_of(row),
        )

    async def add_note(self, request: requests.AddNote) -> responses.NoteKept:
        """Keeps a note with a task or a series. Raises KtrdrError."""
        if (request.task_id is None) == (request.symbol is None):
            raise InvalidRequest(
                "A note belongs to a task or to a series.",
                hint="Send task_id, or symbol and, if it is about one, timeframe.",
                field="task_id",
            )
        symbol, timeframe = request.symbol or "", request.timeframe or ""
        if request.task_id is not None:
            row = await self._tasks.get(request.task_id)
            symbol, timeframe = row.symbol, row.timeframe
        kept = await self._log.add_note(symbol, timeframe, request.task_id, request.note)
        return responses.NoteKept(note=note_row(kept))


def note_row(note: ResearchNote) -> responses.ResearchNoteRow:
    """A note as it is told."""
    return responses.ResearchNoteRow(**asdict(note))
