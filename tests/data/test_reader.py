"""The reader's process: kept for the next file, ended when idle, and never the caller's trouble."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event, Thread

import pytest

from ktrdr_mcp.data import reader as reading
from ktrdr_mcp.data import tables
from ktrdr_mcp.data.reader import Reader, Readers
from ktrdr_mcp.data.series import FileState, StoredSeries
from ktrdr_mcp.errors import DataInvalid, LimitExceeded

HEADER = b"timestamp,open,high,low,close,volume\n"
ROWS = b"2024-01-01T00:00:00Z,1,1,1,1,1\n2024-01-01T01:00:00Z,1,1,1,1,1\n"
WAIT_S = 20.0


@pytest.fixture
def reader() -> Iterator[Reader]:
    made = Reader()
    yield made
    made.close()


def stored(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def read(reader: Reader, path: Path) -> StoredSeries:
    return reader.read(FileState.of(path, path.stat()), path.name, "X", "1h")


def wait_for(condition: Callable[[], bool]) -> None:
    """Looks until it is so, as nothing tells when a process of others has ended."""
    end = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_one_process_reads_one_file_after_the_other(reader: Reader, tmp_path: Path) -> None:
    path = stored(tmp_path / "X_1h.csv", HEADER + ROWS)
    assert len(read(reader, path).table.time) == 2
    first = reader.pid
    assert first is not None
    assert read(reader, path).table.columns["close"].tolist() == [1.0, 1.0]
    assert reader.pid == first


def test_an_idle_process_is_ended_and_another_begins(tmp_path: Path) -> None:
    path = stored(tmp_path / "X_1h.csv", HEADER + ROWS)
    reader = Reader(idle_s=0.05)
    try:
        read(reader, path)
        wait_for(lambda: reader.pid is None)
        assert len(read(reader, path).table.time) == 2
    finally:
        reader.close()


def test_a_process_that_held_much_is_not_kept(
    reader: Reader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "MAX_RESIDENT_BYTES", 1)
    read(reader, stored(tmp_path / "X_1h.csv", HEADER + ROWS))
    assert reader.pid is None


def test_a_process_that_died_costs_nothing(reader: Reader, tmp_path: Path) -> None:
    path = stored(tmp_path / "X_1h.csv", HEADER + ROWS)
    read(reader, path)
    first = reader.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: reader.pid is None)
    assert len(read(reader, path).table.time) == 2


def test_a_refusal_leaves_the_process_alive(reader: Reader, tmp_path: Path) -> None:
    with pytest.raises(DataInvalid, match="no column open"):
        read(reader, stored(tmp_path / "bad.csv", b"a,b\n1,2\n"))
    first = reader.pid
    assert first is not None
    read(reader, stored(tmp_path / "X_1h.csv", HEADER + ROWS))
    assert reader.pid == first


def test_a_file_that_is_not_the_one_that_was_looked_at_is_refused(
    reader: Reader, tmp_path: Path
) -> None:
    path = stored(tmp_path / "X_1h.csv", HEADER + ROWS)
    earlier = FileState(path, path.stat().st_mtime_ns - 1, path.stat().st_size)
    with pytest.raises(DataInvalid, match="was changed while"):
        reader.read(earlier, path.name, "X", "1h")


def test_zero_bytes_are_refused_before_they_take_memory(reader: Reader, tmp_path: Path) -> None:
    path = tmp_path / "X_1h.csv"
    with path.open("wb") as file:
        file.write(HEADER + ROWS)
        file.truncate(1024**3)  # a hole, which reads as zeros
    begin = time.monotonic()
    with pytest.raises(DataInvalid, match="line 4"):
        read(reader, path)
    assert time.monotonic() - begin < WAIT_S
    assert reader.pid is not None  # not ended for what it held


@pytest.mark.parametrize("before", [0, 1, 40_000])
def test_a_long_line_is_refused_with_its_number(
    reader: Reader, tmp_path: Path, before: int
) -> None:
    row = b"2024-01-01T00:00:00Z,1,1,1,1,1\n"
    content = HEADER + row * (2 + before) + b"x" * (tables.MAX_LINE_BYTES + 1) + b"\n" + row
    with pytest.raises(DataInvalid, match=f"in line {4 + before}"):
        read(reader, stored(tmp_path / "X_1h.csv", content))


def test_too_many_fields_are_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MAX_FIELDS", 17)
    path = stored(tmp_path / "X_1h.csv", HEADER + ROWS)
    with path.open("rb") as file, pytest.raises(LimitExceeded, match="3 lines of 6 columns"):
        tables.read_csv(file, path.name)


class Held(Reader):
    """A reader that reads files of a size only when it is let go."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size, self.begun, self.go_on = size, Event(), Event()

    def read(self, state: FileState, name: str, symbol: str, timeframe: str) -> StoredSeries:
        if state.size >= self.size:
            self.begun.set()
            assert self.go_on.wait(WAIT_S)
        return super().read(state, name, symbol, timeframe)


def test_small_files_do_not_wait_for_large_ones(tmp_path: Path) -> None:
    small = stored(tmp_path / "X_1h.csv", HEADER + ROWS[:31])
    large = stored(tmp_path / "Y_1h.csv", HEADER + ROWS)
    size = large.stat().st_size
    held = [Held(size), Held(size)]
    readers = Readers(held, large_bytes=size)

    def read_large() -> None:
        readers.read(FileState.of(large, large.stat()), large.name, "Y", "1h")

    threads = [Thread(target=read_large) for _ in range(2)]
    try:
        for thread in threads:
            thread.start()
        wait_for(lambda: any(each.begun.is_set() for each in held))
        found = readers.read(FileState.of(small, small.stat()), small.name, "X", "1h")
        assert len(found.table.time) == 1
        assert not all(each.begun.is_set() for each in held)
    finally:
        for each in held:
            each.go_on.set()
        for thread in threads:
            thread.join(WAIT_S)
        readers.close()


def test_a_bar_that_was_under_way_when_its_file_was_written_is_left_out(
    reader: Reader, tmp_path: Path
) -> None:
    path = stored(tmp_path / "X_1h.csv", HEADER + ROWS)
    written = 1_704_067_200 + 3_600 + 1_200  # 2024-01-01T01:20:00Z
    os.utime(path, (written, written))
    found = read(reader, path)
    assert found.table.time.tolist() == [1_704_067_200 * 10**9]
    assert "2024-01-01T02:00:00Z" in found.notes[-1]
    os.utime(path, (written + 2_400, written + 2_400))
    assert len(read(reader, path).table.time) == 2
