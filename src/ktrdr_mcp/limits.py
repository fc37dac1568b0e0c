"""Bounds that every way in enforces, with the unit in the name."""

from typing import Final

MAX_EPOCHS: Final = 100_000
MAX_PATIENCE_EPOCHS: Final = 1_000_000
MAX_LEARNING_RATE: Final = 1e6
MAX_BATCH_ROWS: Final = 65_536
MAX_LAYERS: Final = 16
MAX_LAYER_UNITS: Final = 1_000_000
MAX_SPLIT_SHARE: Final = 0.9  # exclusive, for each split and for their sum
MAX_SEED: Final = 2**53 - 1  # the largest integer that every JSON client keeps exact
MAX_SEEDS: Final = 64
MAX_FOLDS: Final = 20
MAX_SWEEP_TRIALS: Final = 512  # sets of settings that one sweep tries
MAX_CANDIDATES: Final = 1_024  # sets of settings times seeds
MAX_SPACE_SETTINGS: Final = 16  # that vary in one sweep
MAX_SPACE_VALUES: Final = 64  # listed for one of them

MAX_DESCRIPTION_CHARACTERS: Final = 500
MAX_NOTE_CHARACTERS: Final = 500
MAX_ERROR_CHARACTERS: Final = 220  # so that a failed status stays within STATUS_BYTES
MAX_BODY_BYTES: Final = 1024 * 1024

MAX_WAIT_S: Final = 50.0
MAX_PENDING_TASKS: Final = 20_000
CONCURRENT_TRAININGS: Final = 2
TURN_S: Final = 0.045  # one turn under the lease; the contract promises 50 ms
DRAIN_S: Final = 8.0
DRAIN_EPOCH_S: Final = 4.0  # what a running epoch may take of it to come to its end
CHECKPOINT_INTERVAL_S: Final = 30.0
MAX_CRASHES: Final = 3  # of the process that runs a task, before the task is given up
KEPT_RESULT_DAYS: Final = 30  # of a result that nobody saved, unless `clean` is told otherwise
MAX_DATABASE_BACKUP_BYTES: Final = 32 * 1024**2  # of the copy made at every start

MCP_PAGE_ROWS: Final = 20
MAX_COMPARED_TASKS: Final = 6
MAX_PAGE_ROWS: Final = 1_000
MAX_BAR_ROWS: Final = 200_000  # of one reply
MAX_CURVE_POINTS: Final = 200_000
MAX_SHOWN_EPOCHS: Final = 200  # of a task that trains, or ended without a result

STATUS_BYTES: Final = 600
PERFORMANCE_BYTES: Final = 2_000
SWEEP_BYTES: Final = 1_000  # of what a performance says of a search, beside the rest
EXPLANATION_BYTES: Final = 1_800
PAGE_BYTES: Final = 2_400
TOOL_LIST_BYTES: Final = 22_500

MAX_STRATEGY_BYTES: Final = 256 * 1024
MAX_INDICATORS: Final = 128
MAX_FUZZY_SETS_PER_INDICATOR: Final = 16
MAX_INDICATOR_PERIOD_BARS: Final = 10_000
MAX_WINDOW_BARS: Final = 64  # of values that a network sees at once
MAX_DATA_FILE_BYTES: Final = 2 * 1024**3
MAX_MANIFEST_BYTES: Final = 64 * 1024**2
MAX_IMPORTED_FILES: Final = 5_000
MAX_BUNDLE_JSON_BYTES: Final = 8 * 1024**2
MAX_LOADED_MODELS: Final = 32

MIN_TRAIN_ROWS: Final = 100
MIN_VALIDATION_ROWS: Final = 20
MIN_TEST_ROWS: Final = 20
