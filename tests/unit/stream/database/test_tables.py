import re
from pathlib import Path

import pytest

from stream.database import staging
from stream.database.migration import head
from stream.database.schema import METADATA

DOCUMENT = Path(__file__).parents[4] / "docs" / "database.md"


@pytest.mark.parametrize("table", sorted(METADATA.tables))
def test_every_table_and_column_is_documented(table: str) -> None:
    named = set(re.findall(r"`(\w+)`", DOCUMENT.read_text(encoding="utf-8")))

    assert {table, *METADATA.tables[table].columns.keys()} <= named


@pytest.mark.parametrize(
    ("table", "staged", "not_staged"),
    [
        ("score_history", staging.SCORES, set()),
        ("user_scores", staging.SCORES, {"updated_at"}),
        ("alert_events", staging.ALERTS, {"received_at"}),
        ("contracts", staging.CONTRACTS, {"updated_at"}),
        ("contract_products", staging.PRODUCTS, {"updated_at"}),
        ("user_events", staging.EVENTS, set()),
        ("dead_letters", staging.DEAD_LETTERS, {"received_at"}),
    ],
)
def test_every_column_is_staged(table: str, staged: staging.Staging, not_staged: set[str]) -> None:
    assert set(METADATA.tables[table].columns.keys()) - not_staged == set(staged.names) - {"is_latest"}


def test_revisions_form_one_line() -> None:
    assert re.fullmatch(r"\d{4}", head())
