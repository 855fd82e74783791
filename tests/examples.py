"""What several tests need one of: a dead letter."""

from __future__ import annotations

from typing import Any

import msgspec

from stream.outputs import DeadLetter


def dead_letter(**fields: Any) -> DeadLetter:
    """Of a record of `activity` that is no JSON, but for what `fields` say."""
    plain = DeadLetter(
        dead_letter_id="d",
        reason="not_json",
        message="",
        topic="activity",
        partition=3,
        offset=42,
        timestamp_ms=0,
        key=b"u",
        value=b"{",
    )
    return msgspec.structs.replace(plain, **fields)
