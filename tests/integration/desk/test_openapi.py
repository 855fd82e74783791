"""The API as its description says: generated requests to every operation, and what the description itself must hold."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import schemathesis
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    ignored_auth,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.testclient import TestClient

from desk.access import tokens
from desk.api.reference import coded, describe, operations
from desk.app import create_app
from desk.problems import TITLES
from stream.database.connection import DatabaseConnection
from stream.database.writer import DatabaseWriter
from stream.settings import load_settings
from tests.integration.test_database_writer import a_score, an_alert

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    ignored_auth,
]

EXAMPLES = 12
"""Requests to each operation, valid and invalid ones."""


def nobody() -> Any:
    return create_app(load_settings(), DatabaseConnection("postgresql://nobody@127.0.0.1:1/none"))


@pytest.fixture(scope="module")
def served(desk_database: DatabaseConnection) -> Iterator[tuple[Any, str]]:
    """An application whose database holds a user with an alert, and a token."""
    with DatabaseWriter(desk_database) as writer:
        writer.write([a_score("u0000003", 1)], [an_alert("opened", 1, "alert-1", user_id="u0000003")], [])
    with desk_database.open_engine().begin() as connection:
        _, text = tokens.create(
            connection, "generated", "lead", products=None, days=1, by="tests", now=dt.datetime.now(dt.UTC)
        )
    app = create_app(load_settings(desk_public_url="http://testserver"), desk_database)
    yield app, text
    app.state.desk.engine.dispose()


@pytest.fixture(scope="module")
def api_schema(served: tuple[Any, str]) -> Any:
    async def started_once(scope: Any, receive: Any, send: Any) -> None:
        """The application without its start and end, which else came with every request."""
        if scope["type"] == "lifespan":
            for step in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{step}.complete"})
        else:
            await served[0](scope, receive, send)

    return schemathesis.openapi.from_asgi("/openapi.json", started_once)


PATHS = [(one.method, one.path) for one in operations(describe(nobody()))]


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["valid", "invalid"])
@pytest.mark.parametrize(("method", "path"), PATHS)
def test_generated_requests_are_answered_as_described(
    api_schema: Any, served: tuple[Any, str], method: str, path: str, mode: GenerationMode
) -> None:
    if mode is GenerationMode.NEGATIVE and path in ("/livez", "/readyz"):
        return  # they take nothing that could be wrong
    operation = api_schema[path][method.lower()]

    @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
    @hypothesis.settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.generate],
    )
    def ask(case: Any) -> None:
        case.call_and_validate(headers={"Authorization": f"Bearer {served[1]}"}, checks=CHECKS)

    ask()


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    return describe(nobody())


def test_every_operation_says_what_it_takes_and_answers(described: dict[str, Any]) -> None:
    assert described["openapi"].startswith("3.1")
    seen = list(operations(described))
    assert {"/v1/users/{user_id}/score", "/v1/score", "/v1/alerts", "/v1/alerts/next"} <= {one.path for one in seen}
    for one in seen:
        said = described["paths"][one.path][one.method.lower()]
        assert one.summary, one.path
        assert one.description, one.path
        if one.path.startswith("/v1"):
            assert said["security"] == [{"token": []}], one.path
            assert {"401", "403", "422", "429", "503"} <= set(said["responses"]), one.path
        for parameter in said.get("parameters", ()):
            assert parameter.get("description"), (one.path, parameter["name"])


def test_every_reference_leads_somewhere(described: dict[str, Any]) -> None:
    def references(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            if isinstance(value.get("$ref"), str):
                yield value["$ref"]
            for inner in value.values():
                yield from references(inner)
        elif isinstance(value, list):
            for inner in value:
                yield from references(inner)

    schemas = described["components"]["schemas"]
    named = {reference.rpartition("/")[2] for reference in references(described)}
    assert named <= set(schemas)
    assert set(schemas) <= named | {"ProblemDetails"}, "described, and used nowhere"


def test_code_is_told_from_text_and_markup_is_text() -> None:
    assert coded("a `<b>` & `c`") == "a <code>&lt;b&gt;</code> &amp; <code>c</code>"
    assert coded("an odd ` <i>") == "an odd ` &lt;i&gt;"


def test_the_page_shows_everything_and_runs_nothing(described: dict[str, Any]) -> None:
    with TestClient(nobody(), base_url="http://localhost") as client:
        answer = client.get("/docs/api")
        assert answer.status_code == 200
        for one in operations(described):
            assert f'id="{one.anchor}"' in answer.text
        for name in described["components"]["schemas"]:
            assert f'id="schema-{name}"' in answer.text
        assert "`" not in answer.text
        assert "<code>foreshock token create</code>" in answer.text
        assert not re.search(r"<script|<style|\son\w+=|style=|https?://", answer.text)
        policy = answer.headers["content-security-policy"]
        assert "unsafe" not in policy
        assert policy.startswith("default-src 'none'")
        assert client.get("/docs/api.css").headers["content-type"].startswith("text/css")
        assert client.get("/openapi.json").json() == described
        targets = set(re.findall(r'href="#([^"]+)"', answer.text))
        assert targets <= set(re.findall(r'id="([^"]+)"', answer.text))


def test_every_problem_is_explained_in_the_guide() -> None:
    guide = (Path(__file__).parents[3] / "docs" / "api.md").read_text(encoding="utf-8")
    assert set(TITLES) <= set(re.findall(r"^\| `(\w+)` \|", guide, re.MULTILINE))
