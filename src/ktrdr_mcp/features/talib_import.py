"""TA-Lib, imported without polars, which it would load for series that it is never given."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Final

POLARS: Final = "polars"
_absent: ModuleType | None = sys.modules.get(POLARS)
sys.modules[POLARS] = None  # type: ignore[assignment]
try:
    import talib
    from talib.abstract import Function  # type: ignore[attr-defined]
finally:
    if _absent is None:
        del sys.modules[POLARS]
    else:
        sys.modules[POLARS] = _absent

__all__ = ["Function", "talib"]
