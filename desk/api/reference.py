"""OpenAPI of the API, and the page that shows it: rendered here, from the description alone, without any script."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
from fastapi import APIRouter, FastAPI, Request
from fastapi.openapi.utils import get_openapi
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup, escape
from starlette.responses import Response

from desk.access.dependencies import open_to_all
from desk.api.described import ProblemDetails
from desk.api.scoring import posted_schema

router = APIRouter(include_in_schema=False, dependencies=[open_to_all])

PAGE, STYLE = "/docs/api", "/docs/api.css"
DESCRIPTION = """\
Scores, alerts and cases of Foreshock for other services. Send a token of `foreshock token create` with each request, as
`Authorization: Bearer fsk_…`; its role and products decide what it may see and do. Times are UTC (RFC 3339). Errors are
`application/problem+json` (RFC 9457). Reads of personal data are noted in an audit.
"""
TAGS = [
    {"name": "users", "description": "The latest score of a user, their alerts and their events."},
    {"name": "scoring", "description": "Scores of histories that are posted."},
    {"name": "alerts", "description": "The queue of cases: list, take the next one, act."},
    {"name": "portfolio", "description": "Figures of all borrowers together."},
    {"name": "health", "description": "For whoever restarts processes and sends them requests."},
]

_FOLDER = Path(__file__).resolve().parents[1]


def describe(app: FastAPI) -> dict[str, Any]:
    """OpenAPI 3.1 of an application."""
    found = get_openapi(
        title="Foreshock",
        version=version("foreshock"),
        summary="Early warning of defaults: scores, alerts and cases.",
        description=DESCRIPTION,
        routes=app.routes,
        tags=TAGS,
    )
    body, events = posted_schema()
    problem_schema = ProblemDetails.model_json_schema(ref_template="#/components/schemas/{model}")
    nested = problem_schema.pop("$defs", {})
    schemas = {**found["components"]["schemas"], "PostedHistory": body, **events, **nested}
    schemas["ProblemDetails"] = problem_schema
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    found["components"]["schemas"] = dict(sorted(schemas.items()))
    return found


@router.get("/openapi.json")
def openapi(request: Request) -> Response:
    """The description as JSON."""
    return Response(msgspec.json.encode(_described(request.app)), media_type="application/json")


@router.get(PAGE)
def page(request: Request) -> Response:
    """The description as a page."""
    described = _described(request.app)
    schemas = described["components"]["schemas"]
    text = (
        _environment()
        .get_template("api.html.j2")
        .render(
            info=described["info"],
            tags=described["tags"],
            operations=list(operations(described)),
            schemas=[(name, schema, list(members(schema))) for name, schema in schemas.items()],
        )
    )
    return Response(text, media_type="text/html")


@router.get(STYLE)
def style() -> Response:
    """The look of the page."""
    return Response((_FOLDER / "static" / "api.css").read_bytes(), media_type="text/css")


def _described(app: FastAPI) -> dict[str, Any]:
    """Made with the first request: by then all routes are there."""
    if app.openapi_schema is None:
        app.openapi_schema = describe(app)
    return app.openapi_schema


@functools.cache
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(_FOLDER / "templates"),
        autoescape=select_autoescape(("j2", "html")),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["coded"] = coded
    return made


def coded(text: str) -> Markup:
    """Text as HTML, with what stands between backticks as code."""
    parts = text.split("`")
    if len(parts) % 2 == 0:  # one of them has no other
        return escape(text)
    code = Markup("<code>{}</code>")
    return Markup("").join(code.format(part) if number % 2 else escape(part) for number, part in enumerate(parts))


@dataclass(frozen=True)
class Operation:
    """One method of one path, as the page shows it."""

    tag: str
    method: str
    path: str
    summary: str
    description: str
    parameters: list[dict[str, Any]]
    body: str
    example: str
    responses: list[tuple[str, str, str]]

    @property
    def anchor(self) -> str:
        """Its place on the page."""
        letters = (letter if letter.isalnum() else "-" for letter in f"{self.method}{self.path}")
        return "".join(letters).strip("-")


def operations(described: dict[str, Any]) -> Iterator[Operation]:
    """Every operation in the order of the paths."""
    for path, methods in described["paths"].items():
        for method, said in methods.items():
            body, example = _body(said)
            yield Operation(
                tag=said["tags"][0],
                method=method.upper(),
                path=path,
                summary=said["summary"],
                description=said.get("description", ""),
                parameters=[
                    {**one, "type": type_of(one["schema"]), "description": one.get("description", "")}
                    for one in said.get("parameters", ())
                ],
                body=body,
                example=example,
                responses=[(status, one["description"], _schema_of(one)) for status, one in said["responses"].items()],
            )


def members(schema: dict[str, Any]) -> Iterator[tuple[str, str, bool, str]]:
    """Name, type, whether it is required, and description of each member of a schema."""
    required = schema.get("required", ())
    for name, member in schema.get("properties", {}).items():
        yield name, type_of(member), name in required, member.get("description", "")


def type_of(schema: dict[str, Any]) -> str:
    """A schema in a few words, e.g. `array of EventBody` or `number or null`."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    for choice in ("anyOf", "oneOf"):
        if choice in schema:
            return " or ".join(dict.fromkeys(type_of(one) for one in schema[choice]))
    if "const" in schema:
        return repr(schema["const"])
    if "enum" in schema:
        return " | ".join(str(value) for value in schema["enum"])
    kind = schema.get("type", "any")
    if isinstance(kind, list):
        return " or ".join(kind)
    if kind == "array":
        return f"array of {type_of(schema.get('items', {}))}"
    return f"{kind} ({schema['format']})" if "format" in schema else str(kind)


def _body(said: dict[str, Any]) -> tuple[str, str]:
    content = said.get("requestBody", {}).get("content", {}).get("application/json")
    if content is None:
        return "", ""
    examples = content.get("examples", {})
    example = next((one["value"] for one in examples.values()), None)
    shown = "" if example is None else msgspec.json.format(msgspec.json.encode(example), indent=2).decode()
    return type_of(content["schema"]), shown


def _schema_of(response: dict[str, Any]) -> str:
    content = next(iter(response.get("content", {}).values()), None)
    return "" if content is None else type_of(content.get("schema", {}))
