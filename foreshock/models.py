"""Commands `models register`, `list`, `show`, `approve`, `alias` and `retire`: the registry of models."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from foreshock.options import AsJson, database_of, machine_user, takes_settings
from foreshock.tables import Column, Table, facts_table
from foreshock.terminal import console, errors, fail, print_json, styled
from model.bundle import SIGNATURE_FILE, Bundle, BundleError
from model.bundle_folder import check_signature, read_manifest_file
from stream.database import registry
from stream.database.errors import DatabaseError
from stream.database.registry import Decider, Decision, NewModel, RegisteredModel
from stream.database.tables import MODEL_ALIASES
from stream.settings import Settings

models_app = typer.Typer(help="The registry of models: known, approved, in use, retired.", no_args_is_help=True)

CARD_FILE = "MODEL_CARD.md"
WHY = "Why, for those who read it later."

ModelArgument = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="Fingerprint, or its first digits, or champion or challenger."),
]
Actor = Annotated[
    str | None,
    typer.Option(help="Who decides.", show_default="the user of this machine"),
]
Reason = Annotated[str, typer.Option(help=WHY, show_default=False)]


class Alias(StrEnum):
    """What `models alias` may call a model."""

    CHAMPION = "champion"
    CHALLENGER = "challenger"
    NONE = "none"


@models_app.command("register")
@takes_settings("database_url", "stack_dir")
def register(
    *,
    settings: Settings,
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Bundle folder.")],
    actor: Actor = None,
    reason: Annotated[str | None, typer.Option(help=WHY, show_default=False)] = None,
    as_json: AsJson = False,
) -> None:
    """Add a bundle to the registry.

    Loads and checks the bundle as a worker does, its signature too where `bundle_public_key` is set. Keeps fingerprint,
    SHA-256, test metrics, where the bundle and its card lie, and who registered it. Registering a bundle again changes
    nothing, unless it lies elsewhere or was signed since. Needs PostgreSQL.

        foreshock models register my-bundle --reason "trained on 2026"
    """
    try:
        model = _found_in(bundle, settings.bundle_public_key)
    except BundleError as error:
        fail(str(error))
    with _decided(actor, reason) as by:
        registered, noted = registry.register(database_of(settings), model, by)
    if as_json:
        print_json(_as_json(registered) | {"noted": noted})
        return
    was = "registered" if noted else "was registered before, nothing changed"
    console.print(f"model {registered.fingerprint}: {was}; it is {registered.standing}")


@models_app.command("list")
@takes_settings("database_url", "stack_dir")
def list_models(*, settings: Settings, as_json: AsJson = False) -> None:
    """Show all models of the registry.

    Needs PostgreSQL.

        foreshock models list
    """
    with _decided():
        models = registry.registered(database_of(settings))
    if as_json:
        print_json([_as_json(model) for model in models])
        return
    table = Table("fingerprint", "name", "stands", "signature", "registered", "by", Column("bundle", prose=True))
    for model in models:
        at = f"{model.registered_at:%Y-%m-%d}"
        signature = model.signed_by or model.signature
        table.add_row(
            model.fingerprint, model.name, model.standing, signature, at, model.registered_by, str(model.bundle)
        )
    console.print(table if models else "no model is registered; `foreshock models register BUNDLE` adds one")


@models_app.command("show")
@takes_settings("database_url", "stack_dir")
def show(*, settings: Settings, model: ModelArgument, as_json: AsJson = False) -> None:
    """Show a model of the registry, and all decisions about it.

    Needs PostgreSQL.

        foreshock models show champion
    """
    database = database_of(settings)
    with _decided():
        found = registry.find(database, model)
        decisions = registry.decisions(database, found.fingerprint)
    if as_json:
        print_json(_as_json(found) | {"decisions": [asdict(decision) for decision in decisions]})
        return
    console.print(facts_table(_facts(found), title=f"model {found.fingerprint}"))
    table = Table("decided", "what", "by", "database user", Column("reason", prose=True))
    for decision in decisions:
        at = f"{decision.decided_at:%Y-%m-%d %H:%M:%S}"
        table.add_row(at, _what(decision), decision.actor, decision.database_user, decision.reason)
    console.print(table)


@models_app.command("approve")
@takes_settings("database_url", "stack_dir")
def approve(
    *, settings: Settings, model: ModelArgument, actor: Actor = None, reason: Reason, as_json: AsJson = False
) -> None:
    """Approve a registered model.

    Where the setting `approval` is `four-eyes`, another person than registered it has to. Needs PostgreSQL.

        foreshock models approve 1d75658e --reason "validated, see card"
    """
    with _decided(actor, reason) as by:
        found = registry.approve(database_of(settings), model, by, settings.approval)
    _told(found, "approved", as_json=as_json)


@models_app.command("alias")
@takes_settings("database_url", "stack_dir")
def alias(
    *,
    settings: Settings,
    model: ModelArgument,
    name: Annotated[Alias, typer.Argument(metavar="ALIAS", help="champion, challenger, or none to take it away.")],
    actor: Actor = None,
    reason: Reason,
    as_json: AsJson = False,
) -> None:
    """Call an approved model champion or challenger.

    Who was called so before stays approved. The champion keeps its name until another gets it. This changes the
    registry alone: workers go on with the bundle that they were started with. Needs PostgreSQL.

        foreshock models alias 1d75658e challenger --reason "shadow in May"
    """
    database = database_of(settings)
    with _decided(actor, reason) as by:
        given = next((given for given in MODEL_ALIASES if given == name.value), None)
        if given is None:
            found = registry.take_alias(database, model, by)
        else:
            found = registry.give_alias(database, model, given, by)
    _told(found, found.standing, as_json=as_json)


@models_app.command("retire")
@takes_settings("database_url", "stack_dir")
def retire(
    *, settings: Settings, model: ModelArgument, actor: Actor = None, reason: Reason, as_json: AsJson = False
) -> None:
    """Retire a model, for good.

    It stays in the registry with its decisions. The champion cannot be retired before another is named. Needs
    PostgreSQL.

        foreshock models retire 1d75658e --reason "replaced in May"
    """
    with _decided(actor, reason) as by:
        found = registry.retire(database_of(settings), model, by)
    _told(found, "retired", as_json=as_json)


def _found_in(bundle: Path, public_key: Path | None) -> NewModel:
    """What a bundle says of itself, when all of it has been checked. Raises `BundleError`."""
    loaded = Bundle.load(bundle, public_key)
    manifest = read_manifest_file(bundle)
    sha256 = hashlib.sha256(manifest).hexdigest()
    if not sha256.startswith(loaded.fingerprint_hex):
        raise BundleError(f"{bundle} was changed while it was read; register it again")
    signed_by = None if public_key is None else check_signature(bundle, manifest, public_key)
    unchecked = (bundle / SIGNATURE_FILE).exists()
    card, card_sha256 = bundle / CARD_FILE, _card_sha256(loaded)
    return NewModel(
        fingerprint=loaded.fingerprint_hex,
        name=loaded.manifest.name,
        bundle=str(bundle.resolve()),
        manifest_sha256=sha256,
        signature="valid" if signed_by is not None else "unchecked" if unchecked else "none",
        signed_by=signed_by,
        metrics=loaded.manifest.metrics.get("test", {}),
        card=None if card_sha256 is None else str(card.resolve()),
        card_sha256=card_sha256,
    )


def _card_sha256(bundle: Bundle) -> str | None:
    """Of a bundle's card; None where there is none of this model. Raises `BundleError`."""
    content = bundle.document(CARD_FILE)
    if content is None or bundle.fingerprint_hex.encode() in content:
        return None if content is None else hashlib.sha256(content).hexdigest()
    errors.print(
        styled("warning:", "bold yellow"),
        f"{bundle.path / CARD_FILE} is the card of another model and is left out; `foreshock card` writes one, then "
        "register again",
    )
    return None


@contextmanager
def _decided(actor: str | None = None, reason: str | None = None) -> Iterator[Decider]:
    """Who decides and why; ends the command with what the registry says against it."""
    for option, text in (("--actor", actor), ("--reason", reason)):
        if text is not None and not text.strip():
            fail(f"{option} is empty; say who decides, and why", code=2)
    try:
        yield Decider(machine_user() if actor is None else actor, reason or "")
    except DatabaseError as error:
        fail(str(error))


def _told(found: RegisteredModel, what: str, *, as_json: bool) -> None:
    if as_json:
        print_json(_as_json(found))
    else:
        console.print(f"model {found.fingerprint} is {what}")


def _facts(model: RegisteredModel) -> Iterator[tuple[str, str]]:
    yield "name", model.name
    yield "stands", model.standing
    yield "bundle", model.bundle
    yield "SHA-256 of the manifest", model.manifest_sha256
    yield "signature", f"valid, by key {model.signed_by}" if model.signed_by else model.signature
    yield "card", model.card or "none"
    if model.card_sha256:
        yield "SHA-256 of the card", model.card_sha256
    for days, measured in _horizons(model).items():
        yield f"test, {days} days", ", ".join(f"{name} {value}" for name, value in measured.items())


def _horizons(model: RegisteredModel) -> dict[str, dict[str, Any]]:
    found = model.metrics.get("horizons", {})
    return found if isinstance(found, dict) else {}


def _what(decision: Decision) -> str:
    detail = decision.alias if decision.decision in ("named", "unnamed") else decision.approval
    return f"{decision.decision} ({detail})" if detail else decision.decision


def _as_json(model: RegisteredModel) -> dict[str, Any]:
    return asdict(model)
