"""The tables of the operator's page: models and which of them scores, what was decided, replays, webhooks, refused
inputs. Reads only.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from sqlalchemy import Connection, func, inspect, literal, select, text

from desk.pages.language import UNKNOWN, Language
from desk.pages.rendering import shown, shown_text
from stream.database.tables import NotedDecision, RefusedInput, RegisteredModel, ReplayRun, UserScore
from stream.outputs import RefusalCode

REFUSED_DAYS = 7
MOST_COUNTED = 10_000
MOST_DECISIONS, MOST_REPLAYS = 20, 20
SAMPLED_USERS = 20_000


@dataclass(frozen=True)
class Listed:
    """A table of the page: what it is called, its heads and rows, and what to say where it has none."""

    id: str
    title: str
    heads: list[str]
    rows: Sequence[Sequence[object]]
    empty: str
    note: str = ""


def tables_of(connection: Connection, say: Language, now: dt.datetime) -> list[Listed]:
    """All of them, in the order of the page."""
    return [
        models(connection, say),
        decisions(connection, say),
        replays(connection, say),
        webhooks(connection, say),
        refused(connection, say, now),
    ]


def models(connection: Connection, say: Language) -> Listed:
    """The registered models, and how many borrowers' latest score is of each."""
    shares = scoring_shares(connection)
    found = connection.execute(
        select(
            RegisteredModel.fingerprint, RegisteredModel.name, RegisteredModel.status, RegisteredModel.alias,
            RegisteredModel.signature, RegisteredModel.registered_by, RegisteredModel.registered_at,
        ).order_by(RegisteredModel.alias.nulls_last(), RegisteredModel.registered_at.desc())
    ).all()  # fmt: skip
    rows: list[list[object]] = [
        [
            one.fingerprint, shown(one.name), say.t(f"model.{one.alias or one.status}"),
            say.t(f"signature.{one.signature}"), f"{shown(one.registered_by)}, {say.minute(one.registered_at)}",
            say.percent(shares.get(one.fingerprint, 0.0), 0),
        ]
        for one in found
    ]  # fmt: skip
    known = {one.fingerprint for one in found}
    rows += [
        [model, UNKNOWN, say.t("model.unregistered"), UNKNOWN, UNKNOWN, say.percent(share, 0)]
        for model, share in shares.items()
        if model not in known
    ]
    heads = ("model", "name", "standing", "signature", "registered", "scores")
    return _listed(say, "models", heads, rows, note=say.t("operations.scores_note"))


def scoring_shares(connection: Connection) -> dict[str, float]:
    """By model the share of borrowers whose latest score it made, most first; of many borrowers by a sample."""
    about = connection.execute(
        text("SELECT greatest(reltuples, 0) FROM pg_class WHERE oid = 'user_scores'::regclass")
    ).scalar_one()
    sampled = UserScore.__table__.tablesample(func.system(min(100.0, 100.0 * SAMPLED_USERS / max(about, 1.0))))
    counts = connection.execute(
        select(sampled.c.model, func.count().label("users")).group_by(sampled.c.model).order_by(literal(2).desc())
    ).all()
    whole = sum(one.users for one in counts)
    return {one.model: one.users / whole for one in sorted(counts, key=lambda one: (-one.users, one.model))}


def decisions(connection: Connection, say: Language) -> Listed:
    """What was decided about models, latest first."""
    found = connection.execute(
        select(
            NotedDecision.decided_at, NotedDecision.fingerprint, NotedDecision.decision, NotedDecision.alias,
            NotedDecision.actor, NotedDecision.reason,
        ).order_by(NotedDecision.number.desc()).limit(MOST_DECISIONS)
    ).all()  # fmt: skip
    rows = [
        [
            say.minute(one.decided_at),
            one.fingerprint,
            say.t(f"decision.{one.decision}", alias=say.t(f"model.{one.alias}") if one.alias else ""),
            shown(one.actor),
            shown_text(one.reason) or UNKNOWN,
        ]
        for one in found
    ]
    heads = ("at", "model", "decision", "who", "reason")
    return _listed(say, "decisions", heads, rows)


def replays(connection: Connection, say: Language) -> Listed:
    """The latest replays."""
    found = connection.execute(
        select(
            ReplayRun.name, ReplayRun.model, ReplayRun.status, ReplayRun.from_at, ReplayRun.to_at, ReplayRun.started_at,
            ReplayRun.counts,
        ).order_by(ReplayRun.started_at.desc()).limit(MOST_REPLAYS)
    ).all()  # fmt: skip
    rows = [
        [
            shown(one.name), one.model, say.t(f"run.{one.status}"), f"{say.day(one.from_at)} – {say.day(one.to_at)}",
            say.minute(one.started_at), say.whole(int(one.counts.get("scored", 0))),
        ]
        for one in found
    ]  # fmt: skip
    heads = ("name", "model", "state", "range", "started", "scored")
    return _listed(say, "replays", heads, rows, note=say.t("operations.replays_note"))


def webhooks(connection: Connection, say: Language) -> Listed:
    """The receivers, and what each is still to be told; their addresses may hold secrets and are not read."""
    if not inspect(connection).has_table("webhooks"):
        return _listed(say, "webhooks", ("name",), [])
    found = connection.execute(
        text(
            "SELECT name, state, failures, paused_until, last_error, "
            "(SELECT count(*) FROM (SELECT FROM webhook_deliveries WHERE webhook = name AND state = 'pending' "
            f"LIMIT {MOST_COUNTED + 1}) AS counted) AS pending, "
            "(SELECT count(*) FROM (SELECT FROM webhook_deliveries WHERE webhook = name AND state = 'dead' "
            f"LIMIT {MOST_COUNTED + 1}) AS counted) AS dead FROM webhooks ORDER BY name"
        )
    ).all()
    rows = [
        [
            shown(one.name),
            say.t(f"webhook.{one.state}") if not one.paused_until else
            say.t("webhook.paused", at=say.minute(one.paused_until)),
            _count(one.pending, say),
            _count(one.dead, say),
            shown_text(one.last_error) if one.last_error else UNKNOWN,
        ]
        for one in found
    ]  # fmt: skip
    return _listed(say, "webhooks", ("name", "state", "waiting", "dead", "last_error"), rows)


def refused(connection: Connection, say: Language, now: dt.datetime) -> Listed:
    """The inputs of the last days that were not used, by why."""
    since = now - dt.timedelta(REFUSED_DAYS)
    rows: list[list[object]] = []
    for code in get_args(RefusalCode):
        recent = (RefusedInput.reason == code) & (RefusedInput.received_at >= since)
        some = select(literal(1)).select_from(RefusedInput).where(recent).limit(MOST_COUNTED + 1).subquery()
        count = connection.execute(select(func.count()).select_from(some)).scalar_one()
        if count:
            latest = connection.execute(
                select(RefusedInput.received_at).where(recent).order_by(RefusedInput.received_at.desc()).limit(1)
            ).one()
            rows.append([code, _count(count, say), say.minute(latest.received_at)])
    return _listed(say, "dead_letters", ("code", "count", "latest"), rows, note=say.t("operations.dead_letters_note"))


def _count(count: int, say: Language) -> str:
    """A count; of more than are counted, that there are more."""
    return say.t("operations.more_than", count=MOST_COUNTED) if count > MOST_COUNTED else say.whole(count)


def _listed(say: Language, name: str, heads: Sequence[str], rows: Sequence[Sequence[object]], note: str = "") -> Listed:
    words = [say.t(f"operations.{head}") for head in heads]
    return Listed(name, say.t(f"operations.{name}"), words, rows, say.t(f"operations.no_{name}"), note)
