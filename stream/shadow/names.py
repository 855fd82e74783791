"""How a shadow may be called. Its name is part of the names of its topics and of its consumer group."""

from __future__ import annotations

import re

_NAME = re.compile(r"[A-Za-z0-9._-]{1,100}")


def is_shadow_name(text: str) -> bool:
    """Whether a shadow may be called so: up to 100 letters, digits, dots, dashes and underscores."""
    return _NAME.fullmatch(text) is not None
