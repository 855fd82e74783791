"""The SQL of the dashboards runs on this release's schema."""

from __future__ import annotations

import json
from pathlib import Path

from stream.database import migration
from stream.database.connection import DatabaseConnection

FOLDER = Path(__file__).parents[2] / "deploy" / "grafana" / "dashboards"
QUERIES = {
    f"{path.stem}: {panel['title']}": target["rawSql"]
    for path in sorted(FOLDER.glob("*.json"))
    for panel in json.loads(path.read_text())["panels"]
    for target in panel.get("targets", [])
    if "rawSql" in target
}


def test_every_query_runs(database: DatabaseConnection) -> None:
    migration.upgrade(database)
    assert len(QUERIES) > 5
    with database.connect() as connection:
        for title, query in QUERIES.items():
            columns = connection.execute(query).description
            assert columns, title
