"""The registry of models on a real server: what may be decided, by whom, and that all of it is noted for good."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast, get_args
from urllib.parse import quote, urlsplit

import psycopg
import pytest
from psycopg import sql
from typer.testing import CliRunner

from foreshock import app
from stream.database import migration, registry
from stream.database.connection import DatabaseConnection
from stream.database.registry import Approval, Decider, NewModel, RegistryError, Step
from stream.database.tables import MODEL_ALIASES, ModelAlias
from stream.settings import PRETRAINED_BUNDLE

ANN, BOB = Decider("ann", "because"), Decider("bob", "it fits")


def a_model(number: int = 1, **changes: Any) -> NewModel:
    sha256 = f"{number:016x}" + 48 * "0"
    model = NewModel(
        fingerprint=sha256[:16], name="m", bundle="/bundles/m", manifest_sha256=sha256, signature="none",
        signed_by=None, metrics={"horizons": {"90": {"auc": 0.9}}}, card=None, card_sha256=None,
    )  # fmt: skip
    return replace(model, **changes)


ONE, TWO, THREE = (a_model(number).fingerprint for number in (1, 2, 3))


@pytest.fixture
def database(database: DatabaseConnection) -> DatabaseConnection:
    """A database with its tables."""
    migration.upgrade(database)
    return database


@pytest.fixture
def bobs(database: DatabaseConnection) -> Iterator[DatabaseConnection]:
    """The same database as another user of it."""
    parts = urlsplit(database.url)
    name = f"bob-{parts.path.strip('/')}"[:63]
    role = sql.Identifier(name)
    with database.connect() as connection:
        connection.execute(sql.SQL("CREATE ROLE {} SUPERUSER LOGIN PASSWORD 'bobs'").format(role))
    host = parts.netloc.rpartition("@")[2]
    yield DatabaseConnection(f"postgresql://{quote(name)}@{host}{parts.path}", "bobs")
    with database.connect() as connection:
        connection.execute(sql.SQL("DROP ROLE {}").format(role))


def standings(database: DatabaseConnection) -> dict[str, str]:
    return {model.fingerprint: model.standing for model in registry.registered(database)}


def decided(database: DatabaseConnection, fingerprint: str) -> list[tuple[str, str | None, str, str]]:
    found = registry.decisions(database, fingerprint)
    return [(one.decision, one.alias, one.actor, one.reason) for one in found]


def test_the_steps_that_are_offered_are_those_that_can_be_taken(database: DatabaseConnection) -> None:
    others = [("bob", "single", standing) for standing in ("approved", "challenger", "champion", "retired")]
    mine = [("Ann ", "four-eyes", "registered"), ("bob", "four-eyes", "registered")]
    cases = [(*case, step) for case in (*mine, *others) for step in get_args(Step)]
    for number, (actor, approval, standing, step) in enumerate(cases, start=1):
        model, _ = registry.register(database, a_model(number), ANN)
        if standing == "retired":
            registry.retire(database, model.fingerprint, BOB)
        elif standing != "registered":
            registry.approve(database, model.fingerprint, BOB)
            if standing in MODEL_ALIASES:
                registry.give_alias(database, model.fingerprint, cast(ModelAlias, standing), BOB)
        found = registry.find(database, model.fingerprint)
        assert found.standing == standing
        offered = registry.steps(found, actor, cast(Approval, approval))
        decide = partial(
            registry.take_step, database, found.fingerprint, step, Decider(actor, "so", signed_in=True),
            cast(Approval, approval),
        )  # fmt: skip
        if step in offered:
            assert decide().standing != standing
        elif step == standing:
            assert decide().standing == standing, "it is called so already"
        else:
            with pytest.raises(RegistryError):
                decide()


def test_a_model_from_its_registration_to_its_end(database: DatabaseConnection) -> None:
    for number in (1, 2):
        model, noted = registry.register(database, a_model(number), ANN)
        assert (noted, model.standing, model.registered_by) == (True, "registered", "ann")
        registry.approve(database, model.fingerprint, BOB)
    registry.give_alias(database, ONE, "champion", BOB)
    registry.give_alias(database, TWO, "challenger", BOB)
    assert standings(database) == {ONE: "champion", TWO: "challenger"}
    assert registry.find(database, "challenger").fingerprint == TWO

    registry.give_alias(database, TWO, "champion", BOB)
    assert standings(database) == {ONE: "approved", TWO: "champion"}
    registry.give_alias(database, TWO, "champion", BOB)
    registry.retire(database, ONE, ANN)
    assert standings(database) == {ONE: "retired", TWO: "champion"}

    reason = "it fits"
    assert decided(database, ONE) == [
        ("registered", None, "ann", "because"), ("approved", None, "bob", reason), ("named", "champion", "bob", reason),
        ("unnamed", "champion", "bob", reason), ("retired", None, "ann", "because"),
    ]  # fmt: skip
    assert [one[:2] for one in decided(database, TWO)] == [
        ("registered", None), ("approved", None), ("named", "challenger"), ("named", "champion"),
    ]  # fmt: skip


def test_registering_again_changes_nothing_but_where_it_lies_and_who_signed_it(database: DatabaseConnection) -> None:
    registry.register(database, a_model(), ANN)
    model, noted = registry.register(database, a_model(), BOB)
    assert (noted, model.registered_by) == (False, "ann")
    model, noted = registry.register(database, a_model(bundle="/b", signature="valid", signed_by="k"), BOB)
    assert (noted, model.bundle, model.signed_by, model.registered_by) == (True, "/b", "k", "ann")
    model, noted = registry.register(database, a_model(bundle="/b", signature="unchecked"), BOB)
    assert (noted, model.signature, model.signed_by) == (False, "valid", "k")
    assert [(one, who) for one, _, who, _ in decided(database, ONE)] == [("registered", "ann"), ("updated", "bob")]
    with pytest.raises(RegistryError, match="another manifest has the fingerprint"):
        registry.register(database, a_model(manifest_sha256=ONE + 48 * "1"), BOB)
    with pytest.raises(RegistryError, match="characters that PostgreSQL cannot hold"):
        registry.register(database, a_model(2, name="a\0b"), BOB)


def test_four_eyes_are_two_persons(database: DatabaseConnection) -> None:
    registry.register(database, a_model(), ANN)
    for actor in ("ann", " Ann "):
        with pytest.raises(RegistryError, match="another person must approve"):
            registry.approve(database, ONE, Decider(actor, "mine"), "four-eyes")
    signed_in = replace(BOB, signed_in=True)
    assert registry.approve(database, ONE, signed_in, "four-eyes").standing == "approved"
    assert [one.approval for one in registry.decisions(database, ONE)] == [None, "four-eyes"]
    registry.register(database, a_model(2), ANN)
    registry.approve(database, TWO, ANN)
    assert [one.approval for one in registry.decisions(database, TWO)] == [None, "single"]


def test_another_name_makes_nobody_a_second_person(database: DatabaseConnection, bobs: DatabaseConnection) -> None:
    """Who decides by a command says so themselves; who is connected to the database is sure."""
    model, _ = registry.register(bobs, a_model(), ANN)
    login = model.registered_as
    for decider in (BOB, ANN, Decider("carl")):
        with pytest.raises(RegistryError, match="another person" if decider is ANN else f"registered as {login}"):
            registry.approve(bobs, ONE, decider, "four-eyes")
    # Nor does the desk let in who registered it under another name than that of their role.
    assert registry.steps(model, login.upper(), "four-eyes") == ("retire",)
    with pytest.raises(RegistryError, match="another person must approve"):
        registry.approve(database, ONE, Decider(login, signed_in=True), "four-eyes")
    assert registry.approve(database, ONE, BOB, "four-eyes").standing == "approved"


Act = Callable[[DatabaseConnection], object]

ILLEGAL: list[tuple[Act, str]] = [
    (lambda d: registry.give_alias(d, TWO, "champion", ANN), "is registered; only an approved one.*models approve"),
    (lambda d: registry.approve(d, ONE, ANN), "is champion; only a registered one"),
    (lambda d: registry.retire(d, ONE, ANN), "is champion; name another champion first"),
    (lambda d: registry.give_alias(d, ONE, "challenger", ANN), "name another champion first"),
    (lambda d: registry.take_alias(d, ONE, ANN), "name another champion instead"),
    (lambda d: registry.take_alias(d, TWO, ANN), "is registered; only a challenger's"),
    (lambda d: registry.approve(d, THREE, ANN), "is retired; only a registered one"),
    (lambda d: registry.give_alias(d, THREE, "challenger", ANN), "is retired; only an approved one"),
    (lambda d: registry.retire(d, THREE, ANN), "is retired already"),
    (lambda d: registry.find(d, "challenger"), "there is no challenger"),
    (lambda d: registry.find(d, "0000"), "3 models of the registry have a fingerprint that begins"),
    (lambda d: registry.find(d, "000"), "no model '000' is registered"),
    (lambda d: registry.find(d, "ffffffff"), "models register BUNDLE"),
]

AGAINST_THE_RULES = (
    f"UPDATE registered_models SET status = 'registered' WHERE fingerprint = '{THREE}'",
    f"UPDATE registered_models SET status = 'approved' WHERE fingerprint = '{THREE}'",
    f"UPDATE registered_models SET alias = 'challenger' WHERE fingerprint = '{TWO}'",
    f"UPDATE registered_models SET status = 'retired', alias = NULL WHERE fingerprint = '{ONE}'",
    "UPDATE registered_models SET registered_by = 'eve'",
    "UPDATE registered_models SET registered_at = now()",
    "DELETE FROM registered_models",
    "TRUNCATE registered_models",
    "TRUNCATE registered_models CASCADE",
    "UPDATE model_decisions SET reason = ''",
    "UPDATE model_decisions SET reason = '' WHERE false",
    "DELETE FROM model_decisions",
    "TRUNCATE model_decisions",
    "INSERT INTO model_decisions (fingerprint, decision, actor, database_user, reason) "
    f"VALUES ('{ONE}', 'approved', 'eve', 'eve', '')",
    "INSERT INTO registered_models (fingerprint, name, bundle, manifest_sha256, signature, metrics, status, "
    f"registered_by) VALUES ('{9:016x}', '', '', '{9:016x}{'0' * 48}', 'none', '{{}}', 'approved', 'eve')",
)


def test_what_is_not_legal_is_refused_and_not_noted(database: DatabaseConnection) -> None:
    """By the commands with what to do, and by the tables' owner too."""
    for number in (1, 2, 3):
        registry.register(database, a_model(number), ANN)
    registry.approve(database, ONE, BOB)
    registry.give_alias(database, ONE, "champion", BOB)
    registry.retire(database, THREE, BOB)
    before = standings(database), [decided(database, each) for each in (ONE, TWO, THREE)]
    for act, said in ILLEGAL:
        with pytest.raises(RegistryError, match=said):
            act(database)
    with database.connect() as owner:
        for statement in AGAINST_THE_RULES:
            with pytest.raises((psycopg.IntegrityError, psycopg.errors.FeatureNotSupported)):
                owner.execute(statement.encode())
    assert (standings(database), [decided(database, each) for each in (ONE, TWO, THREE)]) == before


def test_a_change_by_hand_is_noted_with_who_was_connected(database: DatabaseConnection) -> None:
    registry.register(database, a_model(), ANN)
    with database.connect() as owner:
        owner.execute("UPDATE registered_models SET status = 'retired'")
        user = owner.info.user
    *_, last = registry.decisions(database, ONE)
    assert (last.decision, last.actor, last.database_user, last.reason) == ("retired", user, user, "")


def test_decisions_at_once_take_turns(database: DatabaseConnection) -> None:
    """At any time at most one champion; who registers the same model at once registers it once."""
    with ThreadPoolExecutor(4) as pool:
        noted = list(pool.map(lambda _: registry.register(database, a_model(), ANN)[1], range(4)))
    assert sorted(noted) == [False, False, False, True]
    for number in (2, 3):
        registry.register(database, a_model(number), ANN)
    for fingerprint in (ONE, TWO, THREE):
        registry.approve(database, fingerprint, BOB)
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda each: registry.give_alias(database, each, "champion", BOB), (ONE, TWO, THREE)))
    assert sorted(standings(database).values()) == ["approved", "approved", "champion"]


@pytest.fixture
def models(database: DatabaseConnection) -> Callable[..., Any]:
    """Calls `foreshock models …`; returns what it prints as JSON, or its error where one is expected."""
    runner = CliRunner()

    def call(*arguments: str, fails: bool = False, as_json: bool = True) -> Any:
        options = ["--database-url", database.url, *(["--json"] if as_json else [])]
        result = runner.invoke(app, ["models", *arguments, *options])
        assert result.exit_code == int(fails), result.output
        if fails:
            return result.stderr
        return json.loads(result.stdout) if as_json else result.stdout

    return call


def test_the_commands(models: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = Path(shutil.copytree(PRETRAINED_BUNDLE, tmp_path / "bundle"))
    monkeypatch.setenv("FORESHOCK_APPROVAL", "four-eyes")
    found = models("register", str(bundle), "--actor", "ann", "--reason", "new")
    fingerprint = found["fingerprint"]
    assert (found["noted"], found["status"], found["signature"], found["bundle"]) == (
        True, "registered", "none", str(bundle),
    )  # fmt: skip
    assert (found["metrics"]["horizons"]["90"]["auc"], found["card"]) == (0.90908, str(bundle / "MODEL_CARD.md"))
    assert models("register", str(bundle), "--actor", "bob")["noted"] is False
    (bundle / "MODEL_CARD.md").write_text("# Model card: simulator 0123456789abcdef")
    found = models("register", str(bundle), "--actor", "bob")
    assert (found["noted"], found["card"], found["card_sha256"]) == (True, None, None)
    shutil.copy(PRETRAINED_BUNDLE / "MODEL_CARD.md", bundle)
    assert models("register", str(bundle), "--actor", "bob")["card"] == str(bundle / "MODEL_CARD.md")
    assert "another person" in models("approve", fingerprint, "--actor", "ann", "--reason", "good", fails=True)
    assert "the user of the database" in models("approve", fingerprint, "--actor", "bob", "--reason", "so", fails=True)
    monkeypatch.setenv("FORESHOCK_APPROVAL", "single")
    assert models("approve", fingerprint[:6], "--actor", "bob", "--reason", "good")["status"] == "approved"
    assert models("alias", fingerprint, "challenger", "--reason", "shadow")["alias"] == "challenger"
    assert models("alias", "challenger", "none", "--reason", "no")["alias"] is None
    assert models("alias", fingerprint, "champion", "--reason", "first")["alias"] == "champion"
    shown = models("show", "champion")
    assert [each["decision"] for each in shown["decisions"]] == [
        "registered", "updated", "updated", "approved", "named", "unnamed", "named",
    ]  # fmt: skip
    assert [each["fingerprint"] for each in models("list")] == [fingerprint]
    said = models("show", "champion", as_json=False)
    for words in (fingerprint, "approved (single)", "test, 90 days", "auc 0.90908", "named (champion)"):
        assert words in said
    assert "champion" in models("list", as_json=False)
    assert "no-such-bundle" in models("register", "no-such-bundle", fails=True)


def test_the_signature_is_kept_with_who_signed(models: Callable[..., Any], tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(PRETRAINED_BUNDLE, tmp_path / "bundle"))
    private, public = tmp_path / "signing.pem", tmp_path / "signing.pub"
    runner = CliRunner()
    assert runner.invoke(app, ["bundle", "keygen", str(private), str(public)]).exit_code == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FORESHOCK_BUNDLE_PUBLIC_KEY", str(public))
        assert "manifest.json.sig is missing" in models("register", str(bundle), fails=True)
    assert models("register", str(bundle))["signature"] == "none"
    assert runner.invoke(app, ["bundle", "sign", str(bundle), "--key", str(private)]).exit_code == 0
    assert models("register", str(bundle))["signature"] == "unchecked"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FORESHOCK_BUNDLE_PUBLIC_KEY", str(public))
        found = models("register", str(bundle))
    assert (found["signature"], found["noted"], len(found["signed_by"])) == ("valid", True, 16)


def test_a_database_that_was_not_upgraded_is_told(server_database: DatabaseConnection) -> None:
    result = CliRunner().invoke(app, ["models", "list", "--database-url", server_database.url])
    assert result.exit_code == 1
    assert "foreshock db upgrade" in result.stderr
