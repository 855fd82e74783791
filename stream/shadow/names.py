"""How a shadow may be called.

Its name is part of the names of its topics and of its consumer group, and of commands that pages name: it needs no
quotes there, and is not taken for an option.
"""

from __future__ import annotations

import re

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")


def is_shadow_name(text: str) -> bool:
    """Whether a shadow may be called so: up to 100 letters, digits, dots, dashes and underscores, no dot or dash at
    the beginning."""
    return _NAME.fullmatch(text) is not None
