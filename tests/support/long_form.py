"""Whether the fault tests try everything, or a part of it in half a minute."""

from __future__ import annotations

import os

LONG = os.environ.get("KTRDR_FAULTS") == "long"
