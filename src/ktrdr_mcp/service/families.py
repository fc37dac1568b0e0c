"""Which trials and backtests share bars: by content or by symbol and time, in any workspace."""

from __future__ import annotations

import contextlib
import hashlib
import heapq
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

import anyio.to_thread

from ktrdr_mcp.data.content import Sketch
from ktrdr_mcp.data.relations import Relations, Stretch
from ktrdr_mcp.errors import DatabaseError
from ktrdr_mcp.evaluation.multiple_testing import Stream
from ktrdr_mcp.paths import Workspace, record_file
from ktrdr_mcp.schemas.results import TradingScores
from ktrdr_mcp.store.backtests import BacktestLog, LoggedBacktest, read_scores
from ktrdr_mcp.store.record import Others, Outcome, TrialRecord
from ktrdr_mcp.store.task_row import TaskRow
from ktrdr_mcp.store.trials import Standing, Trial, TrialLog, parse_scores

ScoresT = TypeVar("ScoresT")

ENDED: Final = ("completed", "failed", "cancelled")
ALONE: Final = Stream()
NAME_CHARACTERS: Final = 16  # of a workspace's name and of its place


@dataclass(frozen=True)
class Family:
    """The trials that are directly related to one, whose verdict counts those before it.

    Args:
        before: names of those that started before it, oldest first.
        scored: of these, those whose scores were known when it completed.
        later: names of this workspace's that started after it.
        added: trials before it that candidates of other workspaces' tasks count as.
        stream: what had been tried on other bars when the family began.
        recorded: whether other workspaces' trials are counted.
        is_settled: whether all that comes before it is fixed.
    """

    before: Sequence[str] = ()
    scored: Sequence[str] = ()
    later: Sequence[str] = ()
    added: int = 0
    stream: Stream = ALONE
    recorded: bool = True
    is_settled: bool = True

    @property
    def elsewhere(self) -> int:
        """How many trials before it are of other workspaces."""
        return sum("/" in name for name in self.before) + self.added

    def standing(self, claimed: bool, counted: Collection[str]) -> Standing:
        """What is kept of it.

        Args:
            claimed: whether the trial is called skill, also across families.
            counted: names of the trials whose scores the verdict had; what the record could not
                give then stays missing, as the verdict would change with it.
        """
        return Standing(
            foreign={name: name in counted for name in self.before if "/" in name},
            place=self.stream.place,
            claims=self.stream.claims,
            claimed=claimed,
            recorded=self.recorded,
            added=self.added,
        )


def stream_before(
    relations: Relations, first: Trial, earlier: Sequence[Trial], claimed: Collection[str]
) -> Stream:
    """What had been tried on other bars when a family began.

    Args:
        relations: of the trials' windows.
        first: its first trial.
        earlier: all trials that started before that one, oldest first.
        claimed: names of the trials whose claims hold.
    """
    claims = list[Trial]()
    for trial in earlier:
        if trial.completed_at is None or trial.completed_at > first.created_at:
            continue
        holds = trial.claimed or trial.task_id in claimed
        if holds and not any(relations.between(trial.window, other.window) for other in claims):
            claims.append(trial)
    families = relations.count_separate(trial.window for trial in earlier)
    return Stream(1 + families, len(claims))


class Families:
    """Finds the families of trials, and tells other workspaces of this one's.

    Args:
        workspace: whose trials they are.
        trial_log: this workspace's.
        backtests: likewise.
    """

    def __init__(self, workspace: Workspace, trial_log: TrialLog, backtests: BacktestLog) -> None:
        self._workspace = workspace
        self._log = trial_log
        self._backtests = backtests
        self._relations = Relations()
        self._record: TrialRecord | None = None

    async def of(self, row: TaskRow) -> Family:
        """The family of a task; of a reproduction, that of the task that it reproduces."""
        if row.test_start is None or row.test_end is None:
            return Family()
        origin = row.group_id or row.task_id
        own = await self._log.trials()
        trial = next((each for each in own if each.task_id == origin), None)
        if trial is None:  # a reproduction of a task that is gone
            trial = trial_of(row)
            own.append(trial)
        standing = await self._log.standing(origin)
        others = None if standing is not None else await (await self._open_record()).others()
        await self._load_sketches(
            each.window for each in [*own, *(others.trials if others else [])]
        )
        if standing is not None:
            return await anyio.to_thread.run_sync(self._restore_settled, trial, own, standing)
        claimed = await self._log.find_claimed()
        merged = merge(own, others.trials if others else [], await self._name())
        return await anyio.to_thread.run_sync(self._open, trial, merged, claimed, others)

    async def before_here(self, task_id: str) -> list[str]:
        """This workspace's trials that are related to one and started before it."""
        own = await self._log.trials()
        trial = next((each for each in own if each.task_id == task_id), None)
        if trial is None:  # a reproduction
            return []
        await self._load_sketches(each.window for each in own)
        return list((await anyio.to_thread.run_sync(self._relatives, trial, own)).before)

    def _restore_settled(self, trial: Trial, own: Sequence[Trial], standing: Standing) -> Family:
        """A family whose earlier trials are fixed."""
        found = self._relatives(trial, own)
        if standing.place is None:
            stream = self._stream(trial, own, found, ())
        else:
            stream = Stream(standing.place, standing.claims)
        scored = [name for name, known in standing.foreign.items() if known]
        return replace(
            found,
            before=[*found.before, *standing.foreign],
            scored=[*found.scored, *scored],
            added=standing.added,
            stream=stream,
            recorded=standing.recorded is not False,
        )

    def _open(
        self,
        trial: Trial,
        trials: Sequence[Trial],
        claimed: Collection[str],
        others: Others | None,
    ) -> Family:
        """A family among some trials, oldest first; `others` is None if they are not known."""
        found = self._relatives(trial, trials)
        added = sum(
            each.trials
            for each in (others.additions if others else ())
            if each.set_id in found.before and each.added_at <= trial.created_at
        )
        stream = self._stream(trial, trials, found, claimed)
        recorded = others is not None
        return replace(found, added=added, stream=stream, recorded=recorded, is_settled=False)

    def _relatives(self, trial: Trial, trials: Sequence[Trial]) -> Family:
        """A family, without what had been tried on other bars when it began."""
        at = trials.index(trial)
        known_at = trial.completed_at or ""
        before = [
            each for each in trials[:at] if self._relations.between(each.window, trial.window)
        ]
        later = [
            each
            for each in trials[at + 1 :]
            if not each.is_foreign and self._relations.between(each.window, trial.window)
        ]
        return Family(
            before=[each.task_id for each in before],
            scored=[
                each.task_id
                for each in before
                if each.status == "completed" and (each.completed_at or "~") <= known_at
            ],
            later=[each.task_id for each in later],
        )

    def _stream(
        self, trial: Trial, trials: Sequence[Trial], family: Family, claimed: Collection[str]
    ) -> Stream:
        """What had been tried on other bars when a family began: it compares all their windows."""
        began = family.before[0] if family.before else trial.task_id
        at = next(place for place, each in enumerate(trials) if each.task_id == began)
        return stream_before(self._relations, trials[at], trials[:at], claimed)

    async def scores(self, names: Sequence[str]) -> dict[str, str]:
        """What trials came to, as JSON by name, wherever they are of."""
        found = await self._log.find_scores(names)
        foreign = [name for name in names if "/" in name and name not in found]
        if foreign:
            read = await (await self._open_record()).scores(foreign) or {}
            found |= await anyio.to_thread.run_sync(readable, read)
        return found

    async def settle(self, task_id: str, standing: Standing, scores: Mapping[str, str]) -> None:
        """Fixes what a completed trial is judged beside. Raises StorageError.

        Args:
            task_id: of the trial.
            standing: what is kept.
            scores: of all trials that it counts.
        """
        foreign = {name: scores[name] for name in standing.foreign if name in scores}
        await self._log.settle(task_id, standing, foreign)

    async def send(self) -> None:
        """Adds to the record what it does not have of this workspace. Raises StorageError."""
        record, trials = await self._open_record(), await self._log.trials()
        additions = await self._log.additions()
        logged = await self._backtests.list_all()
        missing = await record.missing(trials, additions, [each.what for each in logged])
        if not missing:
            return
        unsettled = set(await self._log.find_unsettled())
        new = [each for each in trials if each.task_id in missing.trials]
        ended = [
            each
            for each in trials
            if each.task_id in missing.outcomes
            and each.task_id not in unsettled
            and each.status in ENDED
        ]
        scores = await self._log.find_scores([each.task_id for each in ended])
        claimed = await self._log.find_claimed()
        outcomes = [
            Outcome(
                each.task_id,
                each.status,
                each.completed_at or "",
                each.task_id in claimed,
                scores.get(each.task_id),
            )
            for each in ended
        ]
        counted = [each for each in additions if each.set_id in missing.additions]
        traded = await self._backtests.scores(missing.backtests)
        made = [(each, traded[each.what]) for each in logged if each.what in traded]
        if new or outcomes or counted or made:
            found = [*(each.sketch for each in new), *(each.stretch.sketch for each, _ in made)]
            sketches = await self._log.sketches({key for key in found if key is not None})
            await record.add(new, sketches, outcomes, counted, made)

    async def backtests_elsewhere(self, what: str) -> list[TradingScores] | None:
        """What other workspaces' backtests came to that were made on the bars of one before it.

        A copy of a workspace has the backtests of the original, and the same backtest again is
        none: both count once.

        Args:
            what: names the one; not logged yet, as on a full disk, it has none before it.
        Returns:
            the scores that this version can read, oldest first; None if the record cannot be used.
        """
        await self.send()  # before it is read: of two made at once, one at least counts the other
        logged = await self._backtests.list_all()
        at = next((place for place, each in enumerate(logged) if each.what == what), None)
        if at is None:
            return []
        record, own = await self._open_record(), logged[at]
        recorded = await record.backtests()
        if recorded is None:
            return None
        counted = {each.what for each in logged[: at + 1]}
        before: dict[str, LoggedBacktest] = {}
        for each in recorded:
            if each.what not in counted and each.made_at <= own.made_at:  # see `merge`
                before.setdefault(each.what, each)
        await self._load_sketches([own.stretch, *(each.stretch for each in before.values())])
        related = await anyio.to_thread.run_sync(self._select_made_on, own.stretch, before.values())
        if not related:
            return []
        scores = await record.backtest_scores(related)
        if scores is None:
            return None
        return await anyio.to_thread.run_sync(lambda: list(read_all(scores, read_scores)))

    def _select_made_on(
        self, stretch: Stretch, backtests: Iterable[LoggedBacktest]
    ) -> list[LoggedBacktest]:
        """Those that were made on the bars of a stretch."""
        return [each for each in backtests if self._relations.between(each.stretch, stretch)]

    async def _load_sketches(self, windows: Iterable[Stretch]) -> None:
        """Reads the sketches that are not known yet."""
        known = self._relations.sketches
        keys = {each.sketch for each in windows if each.sketch is not None} - known.keys()
        if keys:
            known |= await self._log.sketches(keys)
        if keys := keys - known.keys():
            known |= await (await self._open_record()).sketches(keys) or {}

    async def _name(self) -> str:
        """The name by which other workspaces know this one: a copy of it has another."""
        identity = await self._log.workspace()
        return f"{identity[:NAME_CHARACTERS]}-{place_of(self._workspace)}"

    async def _open_record(self) -> TrialRecord:
        """The record of all workspaces; its file is opened at each use."""
        if self._record is None:
            self._record = TrialRecord(record_file(self._workspace), await self._name())
        return self._record


def place_of(workspace: Workspace) -> str:
    """What a workspace's name in the record ends with, whatever database it has."""
    return hashlib.sha256(str(workspace.root).encode()).hexdigest()[:NAME_CHARACTERS]


async def recorded_sketches(workspace: Workspace) -> dict[tuple[str, str], Sketch]:
    """What the record knows of the bars that a workspace's tasks were tested on.

    Returns:
        each sketch by task id and beginning of the tested window; none without a record.
    """
    place = place_of(workspace)
    return await TrialRecord(record_file(workspace), place).read_tested(place) or {}


def readable(scores: Mapping[str, str]) -> dict[str, str]:
    """Those of other workspaces' scores that this version can read; the rest count as missing."""
    return {name: text for name, text in scores.items() if list(read_all([text], parse_scores))}


def read_all(texts: Iterable[str], read: Callable[[str], ScoresT]) -> Iterator[ScoresT]:
    """What other workspaces wrote, as far as this version can read it."""
    for text in texts:
        with contextlib.suppress(DatabaseError):
            yield read(text)


def trial_of(row: TaskRow) -> Trial:
    """A task as a trial that is known by symbol and time."""
    start, end = row.test_start or "", row.test_end or ""
    return Trial(
        row.task_id, row.status, row.symbol, row.created_at, row.completed_at, start, end, None
    )


def merge(own: Sequence[Trial], others: Sequence[Trial], name: str) -> list[Trial]:
    """All trials in the order of their starts.

    Args:
        own: this workspace's, oldest first; whatever the clock did, they stay so.
        others: those of other workspaces; what a copy of a workspace took along, or a database
            that was made anew has again, is counted once.
        name: of this workspace.
    """
    keyed, latest = list[tuple[tuple[str, str], Trial]](), ""
    for trial in own:
        latest = max(latest, trial.created_at)
        keyed.append(((latest, name), trial))
    known: set[tuple[str, str, str]] = set()  # of copies by their start, of one place by that
    foreign = list[tuple[tuple[str, str], Trial]]()
    for each in own:
        known |= identities(each, f"{name}/{each.task_id}")
    for each in sorted(others, key=lambda one: one.completed_at is None):  # ends are not lost
        if known.isdisjoint(same := identities(each, each.task_id)):
            foreign.append(((each.created_at, ""), each))  # of one second, both count the other
        known |= same
    ordered = heapq.merge(
        keyed,
        sorted(foreign, key=lambda pair: (pair[0], pair[1].task_id)),
        key=lambda pair: pair[0],
    )
    return [trial for _, trial in ordered]


def identities(trial: Trial, name: str) -> set[tuple[str, str, str]]:
    """What tells that two rows are of one trial: its start, or its place, each with its window.

    Args:
        trial: one row.
        name: of its workspace and task.
    """
    workspace, task_id = name.split("/", 1)
    place = workspace.split("-")[-1]
    return {(task_id, trial.created_at, trial.test_start), (task_id, place, trial.test_start)}
