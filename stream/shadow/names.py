"""How a shadow may be called.

Its name is part of the names of its topics and of its consumer group, and of commands that pages name: it needs no
quotes there, and is not taken for an option.
"""

from __future__ import annotations

from stream.topics import LONGEST_NAME, LONGEST_PART, Topics, is_part_of_names, shadow_application


def is_shadow_name(text: str) -> bool:
    """Whether a shadow may be called so: up to 100 letters, digits, dots, dashes and underscores, no dot or dash at
    the beginning."""
    return 0 < len(text) <= LONGEST_PART and is_part_of_names(text) and not text.startswith((".", "-"))


def fits(application_id: str, shadow: str) -> bool:
    """Whether Kafka takes the names that the topics of a shadow of this application get."""
    return len(Topics().changelog(shadow_application(application_id, shadow))) <= LONGEST_NAME
