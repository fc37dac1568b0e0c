"""Blocks: their grid, their sums and what is stored of them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ktrdr_mcp.evaluation.blocks import MAX_BLOCKS, BlockSums, block_sums, block_width, reach_bars
from ktrdr_mcp.schemas.results import Blocks

TIME = np.arange(5_000, dtype=np.int64) * 60 * 10**9


@given(st.integers(0, 200), st.integers(1, 400), st.integers(1, 60))
@settings(max_examples=60, deadline=None)
def test_blocks_share_out_all_rows_and_keep_their_width(first: int, count: int, width: int) -> None:
    rows = np.arange(first, first + count)
    values = np.random.default_rng(count).normal(size=count)
    blocks = block_sums(values, rows, TIME, width)
    assert blocks.sums.sum() == pytest.approx(values.sum(), abs=1e-9)
    minute = 60 * 10**9
    lengths = (blocks.stop - blocks.start) // minute + 1
    assert lengths.sum() == count
    assert (blocks.start[1:] == blocks.stop[:-1] + minute).all()
    if len(blocks) > 1:
        assert (2 * lengths >= width).all()
        assert (2 * lengths < 3 * width).all()
    assert all(start // minute % width == 0 for start in blocks.start[1:].tolist())


def test_a_later_start_moves_no_block() -> None:
    values = np.random.default_rng(0).normal(size=300)
    early = block_sums(values, np.arange(100, 400), TIME, 24)
    late = block_sums(values[13:], np.arange(113, 400), TIME, 24)
    assert np.array_equal(early.start[2:], late.start[1:])
    assert np.allclose(early.sums[2:], late.sums[1:])


def test_a_block_is_stored_and_read_back_as_it_was() -> None:
    blocks = block_sums(np.random.default_rng(0).normal(size=90), np.arange(90), TIME, 24)
    back = BlockSums.of(Blocks.from_json(json.loads(json.dumps(blocks.to_stored().to_json()))))
    assert np.array_equal(back.sums, blocks.sums)
    assert np.array_equal(back.start, blocks.start)
    assert np.array_equal(back.stop, blocks.stop)
    assert len(block_sums(np.empty(0), np.empty(0, np.int64), TIME, 24)) == 0


def test_blocks_widen_rather_than_become_too_many() -> None:
    assert block_width(1_000, 24) == 24
    assert block_width(24 * MAX_BLOCKS + 1, 24) == 48
    assert block_width(1_000_000, 24) == 24 * 32


def test_blocks_go_by_how_far_labels_really_look() -> None:
    ahead = np.full(500, 30)
    assert reach_bars(1, ahead) == 30
    assert reach_bars(48, ahead) == 48
    assert reach_bars(8, np.empty(0, np.int64)) == 8
