"""What commands have in common."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from foreshock.options import event_progress
from foreshock.terminal import console, errors
from stream.logs import set_up_logging
from stream.settings import load_settings


@pytest.fixture
def _as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.usefixtures("_as_before")
@pytest.mark.parametrize("log_format", ["text", "json"])
def test_standard_error_has_nothing_but_json_where_the_log_is_json(log_format: str) -> None:
    set_up_logging(load_settings(log_format=log_format))
    assert event_progress(errors).disable == (log_format == "json")
    assert not event_progress(console).disable
