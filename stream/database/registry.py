"""The registry of models: which bundles are known, how they stand, and who decided so.

    registered → approved → retired        a model that is not wanted is retired, and stays in the list
                 champion, challenger       what one approved model each is called

Each decision is one transaction, under a lock that decisions take in turn. What is legal is said by the database's
triggers as well (revision 0004), which also note each decision. Reads no bundle: `NewModel` says what was found in one.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import psycopg
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from stream.database.connection import Connection, DatabaseConnection
from stream.database.errors import DatabaseError, translated
from stream.database.tables import MODEL_ALIASES, ModelAlias, ModelDecision, ModelStatus, SignatureState

Approval = Literal["single", "four-eyes"]
Step = Literal["approve", "champion", "challenger", "unname", "retire"]
"""What may be decided about a model: the functions below, and for an alias its name."""

LEAST_DIGITS = 4
"""Of a fingerprint that is not written out."""

_INSERT = """
INSERT INTO registered_models (fingerprint, name, bundle, manifest_sha256, signature, signed_by, metrics, card,
    card_sha256, registered_by)
VALUES (%(fingerprint)s, %(name)s, %(bundle)s, %(manifest_sha256)s, %(signature)s, %(signed_by)s, %(metrics)s, %(card)s,
    %(card_sha256)s, %(registered_by)s)
"""
_UPDATE = """
UPDATE registered_models SET bundle = %(bundle)s, signature = %(signature)s, signed_by = %(signed_by)s, card = %(card)s,
    card_sha256 = %(card_sha256)s
WHERE fingerprint = %(fingerprint)s
"""
_STANDS = "UPDATE registered_models SET status = %s, alias = %s WHERE fingerprint = %s"
_MODELS = """
SELECT fingerprint, name, bundle, manifest_sha256, signature, signed_by, metrics, card, card_sha256, status, alias,
    registered_by, registered_at, (
        SELECT database_user FROM model_decisions AS noted
        WHERE noted.fingerprint = registered_models.fingerprint AND decision = 'registered' ORDER BY number LIMIT 1
    ) AS registered_as
FROM registered_models ORDER BY registered_at, fingerprint
"""
_DECISIONS = """
SELECT decision, alias, actor, database_user, approval, reason, decided_at FROM model_decisions
WHERE fingerprint = %s ORDER BY number
"""


class RegistryError(DatabaseError):
    """A decision that cannot be made; the message says why, and what to do."""


@dataclass(frozen=True)
class NewModel:
    """What a bundle says of itself. `fingerprint` is the beginning of `manifest_sha256`, which stands for all files."""

    fingerprint: str
    name: str
    bundle: str
    manifest_sha256: str
    signature: SignatureState
    signed_by: str | None
    metrics: Mapping[str, Any]
    card: str | None
    card_sha256: str | None


@dataclass(frozen=True)
class RegisteredModel(NewModel):
    """A model of the registry. `registered_by` is who said to have registered it, `registered_as` the user of the
    database that was connected then."""

    status: ModelStatus
    alias: ModelAlias | None
    registered_by: str
    registered_at: dt.datetime
    registered_as: str

    @property
    def standing(self) -> str:
        """How it stands, in one word: the alias where it has one, else the status."""
        return self.alias or self.status


@dataclass(frozen=True)
class Decision:
    """One decision about a model. `approval` is the rule under which it was approved, None for other decisions."""

    decision: ModelDecision
    alias: ModelAlias | None
    actor: str
    database_user: str
    approval: str | None
    reason: str
    decided_at: dt.datetime


@dataclass(frozen=True)
class Decider:
    """Who decides, and why. Without `actor` it is the user of the database. `signed_in`: a password or an identity
    provider has said that it is `actor`; without it, only who is connected to the database is sure."""

    actor: str | None = None
    reason: str = ""
    signed_in: bool = False


@dataclass(frozen=True)
class _Turn:
    """The registry while a decision is made."""

    connection: Connection
    actor: str
    login: str
    models: list[RegisteredModel]


def registered(database: DatabaseConnection) -> list[RegisteredModel]:
    """Every model, oldest first. Raises `DatabaseUnavailable` and the like, as all functions here."""
    with translated(database.address), database.connect("foreshock-models") as connection:
        return _models(connection)


def find(database: DatabaseConnection, name: str) -> RegisteredModel:
    """The model of a fingerprint, of the beginning of one, or of an alias. Raises `RegistryError`."""
    return _find(registered(database), name)


def decisions(database: DatabaseConnection, fingerprint: str) -> list[Decision]:
    """Everything that was decided about a model, oldest first."""
    with (
        translated(database.address),
        database.connect("foreshock-models") as connection,
        connection.cursor(row_factory=class_row(Decision)) as cursor,
    ):
        return cursor.execute(_DECISIONS, (fingerprint,)).fetchall()


def steps(model: RegisteredModel, actor: str, approval: Approval) -> tuple[Step, ...]:
    """What `actor` may decide about a model as it stands. Whoever decides is told again by the function of the step."""
    if model.status == "retired" or model.alias == "champion":
        return ()
    if model.status == "registered":
        own = approval == "four-eyes" and is_registrar(model, actor)
        return ("retire",) if own else ("approve", "retire")
    return ("champion", "unname", "retire") if model.alias == "challenger" else ("champion", "challenger", "retire")


def take_step(
    database: DatabaseConnection, fingerprint: str, step: Step, by: Decider, approval: Approval
) -> RegisteredModel:
    """Decide so about a model. Raises `RegistryError`."""
    if step == "approve":
        return approve(database, fingerprint, by, approval)
    if step == "retire":
        return retire(database, fingerprint, by)
    if step == "unname":
        return take_alias(database, fingerprint, by)
    return give_alias(database, fingerprint, step, by)


def is_registrar(model: RegisteredModel, actor: str) -> bool:
    """Whether this is who registered the model, by the name that was given or by the user of the database, in whatever
    case it is written."""
    names = {name.strip().casefold() for name in (model.registered_by, model.registered_as)}
    return actor.strip().casefold() in names


def register(database: DatabaseConnection, model: NewModel, by: Decider) -> tuple[RegisteredModel, bool]:
    """Add a model; returns it as it stands, and whether anything was noted.

    One that is there stays as it is, unless its bundle lies elsewhere by now, or was signed or described anew: that is
    noted as `updated`. A signature that was valid is not replaced by one that nobody checked.
    """
    with _turn(database, by) as turn:
        found = next((known for known in turn.models if known.fingerprint == model.fingerprint), None)
        if found is not None and found.manifest_sha256 != model.manifest_sha256:
            raise RegistryError(
                f"another manifest has the fingerprint {model.fingerprint}: its SHA-256 is {found.manifest_sha256}, "
                f"that of {model.bundle} is {model.manifest_sha256}; train the bundle again"
            )
        if found is not None and found.signature == "valid" and model.signature == "unchecked":
            model = replace(model, signature=found.signature, signed_by=found.signed_by)
        values = {name: getattr(model, name) for name in NewModel.__dataclass_fields__}
        values |= {"metrics": Jsonb(dict(model.metrics)), "registered_by": turn.actor}
        changed = found is None or any(
            getattr(found, name) != values[name] for name in ("bundle", "signature", "signed_by", "card", "card_sha256")
        )
        if changed:
            try:
                turn.connection.execute(_INSERT if found is None else _UPDATE, values)
            except (psycopg.DataError, UnicodeEncodeError) as error:
                raise RegistryError(
                    f"{model.bundle!r} or its manifest has characters that PostgreSQL cannot hold ({error}); copy the "
                    "bundle to another folder, or train it again"
                ) from error
        return _find(_models(turn.connection), model.fingerprint), changed


def approve(database: DatabaseConnection, name: str, by: Decider, approval: Approval = "single") -> RegisteredModel:
    """Approve a registered model. Raises `RegistryError`: when it is not, or, under `four-eyes`, when who registered it
    may be the one to approve it: by their name, or by the user of the database unless the approver is signed in."""
    with _turn(database, by, approval) as turn:
        model = _find(turn.models, name)
        if model.status != "registered":
            raise RegistryError(f"model {model.fingerprint} is {model.standing}; only a registered one is approved")
        if approval == "four-eyes" and is_registrar(model, turn.actor):
            raise RegistryError(
                f"model {model.fingerprint} was registered by {model.registered_by}, and approval is four-eyes: "
                "another person must approve it (--actor names who does)"
            )
        if approval == "four-eyes" and not by.signed_in and turn.login == model.registered_as:
            raise RegistryError(
                f"model {model.fingerprint} was registered as {model.registered_as}, the user of the database that is "
                "connected now, and approval is four-eyes: approve it on the desk's page Operations, signed in, or as "
                "another user of the database"
            )
        return _stands(turn, model, "approved", None)


def give_alias(database: DatabaseConnection, name: str, alias: ModelAlias, by: Decider) -> RegisteredModel:
    """Call an approved model champion or challenger; who was called so before is not any more, and stays approved.

    A model that has the alias keeps it, and nothing is noted. Raises `RegistryError`.
    """
    with _turn(database, by) as turn:
        model = _find(turn.models, name)
        if model.alias == alias:
            return model
        if model.status != "approved":
            raise RegistryError(
                f"model {model.fingerprint} is {model.status}; only an approved one can be {alias}"
                + ("" if model.status == "retired" else f" (`foreshock models approve {model.fingerprint}`)")
            )
        if model.alias == "champion":
            raise RegistryError(
                f"model {model.fingerprint} is champion; name another champion first, then it can be {alias}"
            )
        for other in turn.models:
            if other.alias == alias:
                _stands(turn, other, "approved", None)
        return _stands(turn, model, "approved", alias)


def take_alias(database: DatabaseConnection, name: str, by: Decider) -> RegisteredModel:
    """Leave the challenger, which stays approved, without this alias. Raises `RegistryError` for any other model: the
    champion loses its alias to the next one only."""
    with _turn(database, by) as turn:
        model = _find(turn.models, name)
        if model.alias != "challenger":
            raise RegistryError(
                f"model {model.fingerprint} is {model.standing}; only a challenger's name can be taken away"
                + (", name another champion instead" if model.alias == "champion" else "")
            )
        return _stands(turn, model, "approved", None)


def retire(database: DatabaseConnection, name: str, by: Decider) -> RegisteredModel:
    """Retire a model, for good; a challenger loses its alias. Raises `RegistryError` for the champion and for one that
    is retired."""
    with _turn(database, by) as turn:
        model = _find(turn.models, name)
        if model.status == "retired":
            raise RegistryError(f"model {model.fingerprint} is retired already")
        if model.alias == "champion":
            raise RegistryError(f"model {model.fingerprint} is champion; name another champion first")
        return _stands(turn, model, "retired", None)


@contextmanager
def _turn(database: DatabaseConnection, by: Decider, approval: Approval | None = None) -> Iterator[_Turn]:
    """One transaction, which other decisions wait for."""
    with (
        translated(database.address),
        database.connect("foreshock-models") as connection,
        connection.transaction(),
    ):
        connection.execute("LOCK TABLE registered_models IN SHARE ROW EXCLUSIVE MODE")
        actor = (by.actor or "").strip()
        found = connection.execute(
            "SELECT set_config('foreshock.reason', %s, true), set_config('foreshock.approval', %s, true), "
            "set_config('foreshock.actor', coalesce(nullif(%s, ''), session_user), true), session_user::text",
            (by.reason, approval or "", actor),
        ).fetchone()
        assert found is not None
        yield _Turn(connection, str(found[2]), str(found[3]), _models(connection))


def _models(connection: Connection) -> list[RegisteredModel]:
    with connection.cursor(row_factory=class_row(RegisteredModel)) as cursor:
        return cursor.execute(_MODELS).fetchall()


def _stands(turn: _Turn, model: RegisteredModel, status: ModelStatus, alias: ModelAlias | None) -> RegisteredModel:
    turn.connection.execute(_STANDS, (status, alias, model.fingerprint))
    return _find(_models(turn.connection), model.fingerprint)


def _find(models: list[RegisteredModel], name: str) -> RegisteredModel:
    if name in MODEL_ALIASES:
        found = [model for model in models if model.alias == name]
        if not found:
            raise RegistryError(f"there is no {name}; `foreshock models list` shows the models")
        return found[0]
    found = [model for model in models if len(name) >= LEAST_DIGITS and model.fingerprint.startswith(name.lower())]
    if len(found) != 1:
        raise RegistryError(
            f"{len(found)} models of the registry have a fingerprint that begins with {name!r}: give one of "
            "`foreshock models list`, or champion or challenger"
            if found
            else f"no model {name!r} is registered: give a fingerprint of `foreshock models list`, at least its first "
            f"{LEAST_DIGITS} digits, or champion or challenger; `foreshock models register BUNDLE` adds one"
        )
    return found[0]
