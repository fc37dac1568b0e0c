"""What our own clients say in the head of a request."""

from __future__ import annotations

from typing import Final

INSTANCE: Final = "X-KTRDR-Instance"  # which laboratory the request is meant for
