"""Commands on webhooks: who is told of alerts by HTTP, and the process that tells them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Annotated, Any

import typer
from kafka.errors import KafkaError

from foreshock.options import (
    TIME,
    TIMES,
    AsJson,
    Yes,
    confirmed,
    database_of,
    done_by,
    kafka_failure,
    kafka_of,
    takes_settings,
    utc_ms,
)
from foreshock.tables import Column, Table
from foreshock.terminal import console, fail, print_json, tell
from stream.case_records import CASE_ACTIONS
from stream.database.errors import DatabaseError
from stream.database.webhook_tables import DELIVERY_STATES
from stream.kafka.connection import KafkaConnection
from stream.kafka.provisioning import ProvisioningError
from stream.kafka.topic_reader import TopicUnreadable
from stream.outputs import ALERT_KINDS, LEVELS
from stream.settings import Settings
from stream.webhooks import receivers
from stream.webhooks.addresses import ForbiddenAddress
from stream.webhooks.deliveries import Delivery, DeliveryTable, Waiting
from stream.webhooks.messages import Filter
from stream.webhooks.receivers import Webhook
from stream.webhooks.sealing import SealError
from stream.webhooks.service import address_rules, sealing_keys, topic_ids
from stream.webhooks.signing import written_secret

webhooks_app = typer.Typer(help="Receivers by HTTP that are told of alerts.", no_args_is_help=True)

ALL = "all"
DEFAULT_OVERLAP_HOURS = 24.0

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Name of the webhook.", show_default=False)]


@webhooks_app.command("add")
@takes_settings("bootstrap_servers", "database_url", "topic_prefix", "stack_dir")
def add(
    *,
    settings: Settings,
    name: NameArgument,
    address: Annotated[str, typer.Argument(metavar="URL", help="Where it listens, https://…", show_default=False)],
    level: Annotated[
        list[str] | None, typer.Option(help="Only of this level; may be repeated.", show_default="all levels")
    ] = None,
    transition: Annotated[
        list[str] | None,
        typer.Option(help="Only opened, escalated or cleared; may be repeated.", show_default="all, without --action"),
    ] = None,
    product: Annotated[
        list[str] | None, typer.Option(help="Only of this product; may be repeated.", show_default="all products")
    ] = None,
    action: Annotated[
        list[str] | None,
        typer.Option(help="Also this action of the desk, or all; may be repeated.", show_default="none"),
    ] = None,
    from_beginning: Annotated[
        bool, typer.Option("--from-beginning", help="Tell it all that the topics hold, not only what is new.")
    ] = False,
    actor: Annotated[str | None, typer.Option(help="Who adds it.", show_default="the user of this machine")] = None,
    as_json: AsJson = False,
) -> None:
    """Add a webhook, and print its secret, this once.

    It is told of alerts that are published from now on. An alert of which the product is not known passes `--product`.
    Needs Kafka, PostgreSQL and `webhook_key`; `foreshock webhooks run` delivers.

        foreshock webhooks add crm https://crm.example.com/foreshock --level HIGH
    """
    from stream.webhooks.replaying import ends, tell_everything

    wants = _filter(level, transition, product, action)
    keys = sealing_keys(settings)
    try:
        address_rules(settings).target(address)
    except ForbiddenAddress as error:
        raise typer.BadParameter(str(error), param_hint="URL") from None
    with _failures(kafka := kafka_of(settings)):
        database, ids, made_by = database_of(settings), topic_ids(kafka, settings), done_by(actor)
        if from_beginning:
            # Nothing is sent before all is in its place; if this ends in between, it stands disabled in the list.
            secret = receivers.add(database, keys, name, address, wants, {}, made_by, state="disabled")
            tell_everything(kafka, settings, DeliveryTable(database), ids, name)
            receivers.set_state(database, name, "active")
        else:
            secret = receivers.add(database, keys, name, address, wants, ends(kafka, settings, ids), made_by)
    _tell_secret(name, secret, as_json=as_json)


@webhooks_app.command("list")
@takes_settings("database_url", "stack_dir")
def list_(*, settings: Settings, as_json: AsJson = False) -> None:
    """Show all webhooks, and how each does.

    Of an address only the host is shown: the rest may hold a secret. Needs PostgreSQL.

        foreshock webhooks list
    """
    table = DeliveryTable(database_of(settings))
    with _failures():
        found, waiting = table.webhooks(), {each.name: each for each in table.standings()}
    rows = [(webhook, waiting.get(webhook.name, Waiting(webhook.name, 0, 0, 0.0))) for webhook in found]
    if as_json:
        print_json([_as_json(settings, webhook, own) for webhook, own in rows])
        return
    shown = Table(
        "name", "host", "state", "wants", Column("pending", numeric=True), Column("dead", numeric=True),
        Column("oldest", numeric=True), Column("last error", prose=True),
    )  # fmt: skip
    for webhook, own in rows:
        shown.add_row(
            webhook.name, _host(settings, webhook), _stands(webhook), _wants(webhook.wants), f"{own.pending:,}",
            f"{own.dead:,}", f"{own.oldest_s:.0f} s" if own.pending else "", webhook.last_error or "",
        )  # fmt: skip
    console.print(shown if rows else "there is no webhook; `foreshock webhooks add NAME URL` adds one")


@webhooks_app.command("remove")
@takes_settings("database_url", "stack_dir")
def remove(*, settings: Settings, name: NameArgument, yes: Yes = False, as_json: AsJson = False) -> None:
    """Remove a webhook, with what it is still to be told.

    Needs PostgreSQL.

        foreshock webhooks remove crm
    """
    with _failures():
        receivers.find(database_of(settings), name)
        confirmed(f"Remove webhook {name}, with all that it is still to be told?", yes=yes)
        pending = receivers.remove(database_of(settings), name)
    tell(as_json, {"name": name, "pending": pending}, f"webhook {name} is removed; {pending:,} messages were pending")


@webhooks_app.command("disable")
@takes_settings("database_url", "stack_dir")
def disable(*, settings: Settings, name: NameArgument, as_json: AsJson = False) -> None:
    """Stop telling a webhook; what it is to be told is kept.

    Needs PostgreSQL.

        foreshock webhooks disable crm
    """
    with _failures():
        receivers.set_state(database_of(settings), name, "disabled")
    line = f"webhook {name} is disabled; `foreshock webhooks enable {name}` tells it what came meanwhile"
    tell(as_json, {"name": name, "state": "disabled"}, line)


@webhooks_app.command("enable")
@takes_settings("database_url", "stack_dir")
def enable(*, settings: Settings, name: NameArgument, as_json: AsJson = False) -> None:
    """Tell a webhook again that was disabled, or has said that it is gone.

    Needs PostgreSQL.

        foreshock webhooks enable crm
    """
    with _failures():
        receivers.set_state(database_of(settings), name, "active")
    tell(as_json, {"name": name, "state": "active"}, f"webhook {name} is active")


@webhooks_app.command("rotate")
@takes_settings("database_url", "stack_dir")
def rotate(
    *,
    settings: Settings,
    name: NameArgument,
    overlap_hours: Annotated[
        float, typer.Option(min=0, max=24 * 90, help="Hours in which messages bear both signatures.")
    ] = DEFAULT_OVERLAP_HOURS,
    as_json: AsJson = False,
) -> None:
    """Give a webhook a new secret, and print it, this once.

    Until the overlap ends messages are signed with both. Needs PostgreSQL and `webhook_key`.

        foreshock webhooks rotate crm
    """
    with _failures():
        secret = receivers.rotate(database_of(settings), sealing_keys(settings), name, overlap_hours * 3600)
    _tell_secret(name, secret, as_json=as_json)


@webhooks_app.command("reseal")
@takes_settings("database_url", "stack_dir")
def reseal(*, settings: Settings, as_json: AsJson = False) -> None:
    """Encrypt all secrets with the first key of `webhook_key`.

    After a new key was put before the former ones, which may go afterwards. Needs PostgreSQL.

        foreshock webhooks reseal
    """
    with _failures():
        changed = receivers.reseal(database_of(settings), sealing_keys(settings))
    line = f"the secrets of {changed} webhooks were encrypted anew; former keys may leave webhook_key"
    tell(as_json, {"changed": changed}, line)


@webhooks_app.command("deliveries")
@takes_settings("database_url", "stack_dir")
def deliveries(
    *,
    settings: Settings,
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Only of this webhook.", show_default=False)
    ] = None,
    state: Annotated[
        str | None, typer.Option(help="Only those that are pending, delivered or dead.", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many, the newest.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Show messages, what became of them, and why.

    Needs PostgreSQL.

        foreshock webhooks deliveries crm --state dead
    """
    _one_of("--state", [state] if state else None, DELIVERY_STATES)
    with _failures():
        found = DeliveryTable(database_of(settings)).listed(name, state, limit)
    if as_json:
        print_json([asdict(delivery) for delivery in found])
        return
    shown = Table(
        "webhook", "message", "type", "user", "state", Column("tries", numeric=True), "when",
        Column("last error", prose=True),
    )  # fmt: skip
    for one in found:
        shown.add_row(
            one.webhook, one.message_id, one.type, one.user_id, one.state, str(one.attempts), _when(one),
            one.last_error or "",
        )  # fmt: skip
    console.print(shown if found else "there is none")


@webhooks_app.command("replay")
@takes_settings("bootstrap_servers", "database_url", "topic_prefix", "stack_dir")
def replay(
    *,
    settings: Settings,
    name: NameArgument,
    message_id: Annotated[
        list[str] | None, typer.Option("--id", help="This message; may be repeated.", show_default=False)
    ] = None,
    dead: Annotated[bool, typer.Option("--dead", help="All that were given up.")] = False,
    since: Annotated[
        dt.datetime | None,
        typer.Option(formats=TIMES, metavar=TIME, help="All that was published from then on, UTC.", show_default=False),
    ] = None,
    until: Annotated[
        dt.datetime | None,
        typer.Option(formats=TIMES, metavar=TIME, help="And before then, UTC.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Tell a webhook again: by id, by time, or what was given up.

    By time, what the topics hold counts, delivered or not, and its filters of today. Messages keep their ids, so that
    receivers recognise them. Needs PostgreSQL, and Kafka with `--since`.

        foreshock webhooks replay crm --since 2026-03-01T08:00:00
    """
    from stream.webhooks.replaying import replay_published

    if bool(message_id) + dead + (since is not None) != 1:
        raise typer.BadParameter("give one of --id, --dead and --since", param_hint="replay")
    if until is not None and since is None:
        raise typer.BadParameter("needs --since", param_hint="--until")
    table = DeliveryTable(database_of(settings))
    if since is None:
        with _failures():
            receivers.find(database_of(settings), name)
            told = table.replay(name, message_id or [], dead=dead)
    else:
        with _failures(kafka := kafka_of(settings)):
            ids = topic_ids(kafka, settings)
            limits = utc_ms(since), None if until is None else utc_ms(until)
            told = replay_published(kafka, settings, table, ids, name, *limits)
    missing = len(set(message_id or [])) - told if message_id else 0
    if missing > 0:
        fail(f"{missing} of these messages are not kept of webhook {name} (any more); {told} are told again")
    tell(as_json, {"name": name, "messages": told}, f"{told:,} messages are told again to webhook {name}")


@webhooks_app.command("run")
@takes_settings(
    "bootstrap_servers",
    "database_url",
    "topic_prefix",
    "application_id",
    "stack_dir",
    "metrics_port",
    "log_format",
)
def run(*, settings: Settings) -> None:
    """Deliver what webhooks are to be told, until stopped.

    Needs Kafka with its topics, PostgreSQL with the current schema, and `webhook_key`. Start several to share the work.

        foreshock webhooks run --config production.toml
    """
    from foreshock.services import admitting, health_of, tell
    from stream.database.probe import DatabaseProbe
    from stream.least_rights import webhook_rights
    from stream.topics import webhook_group
    from stream.webhooks.metrics import WebhookCollector
    from stream.webhooks.service import WebhookService, standing_of

    keys = sealing_keys(settings)
    kafka = admitting(settings, webhook_rights(settings), webhook_group(settings.readers))
    database = database_of(settings)
    service, probe = WebhookService(settings, kafka, database, keys), DatabaseProbe(database)
    health = health_of(settings, lambda: standing_of(service, probe))
    if settings.metrics_port is not None:
        probe.start()
    tell(settings, health, lambda: WebhookCollector(service, health, probe))
    raise typer.Exit(service.run(health.look))


def _filter(
    levels: list[str] | None, transitions: list[str] | None, products: list[str] | None, actions: list[str] | None
) -> Filter:
    _one_of("--level", levels, LEVELS)
    _one_of("--transition", transitions, ALERT_KINDS)
    _one_of("--action", actions, (*CASE_ACTIONS, ALL))
    if actions and not transitions:
        transitions = []  # who asks for actions alone gets them alone
    every_action = ALL in (actions or ())
    return Filter(
        None if not levels else frozenset(levels),
        None if transitions is None else frozenset(transitions),
        None if not products else frozenset(products),
        None if every_action else frozenset(actions or ()),
    )


def _one_of(option: str, given: list[str] | None, allowed: tuple[str, ...]) -> None:
    for one in given or ():
        if one not in allowed:
            raise typer.BadParameter(f"{one!r} is none of {', '.join(allowed)}", param_hint=option)


def _tell_secret(name: str, secret: bytes, *, as_json: bool) -> None:
    if as_json:
        print_json({"name": name, "secret": written_secret(secret)})
        return
    console.print(f"webhook {name}; its secret, which is not shown again:")
    console.print(written_secret(secret))


def _host(settings: Settings, webhook: Webhook) -> str:
    try:
        return str(address_rules(settings).target(webhook.url))
    except ForbiddenAddress:
        return "forbidden"


def _stands(webhook: Webhook) -> str:
    paused = webhook.paused_until is not None and webhook.paused_until > dt.datetime.now(dt.UTC)
    return "paused" if paused and webhook.state == "active" else webhook.state


def _wants(wants: Filter) -> str:
    kinds = {"levels": wants.levels, "transitions": wants.transitions, "products": wants.products}
    words = [f"{kind} {', '.join(sorted(kept)) or 'none'}" for kind, kept in kinds.items() if kept is not None]
    actions = "all" if wants.actions is None else ", ".join(sorted(wants.actions))
    return "; ".join([*words, *([f"actions {actions}"] if actions else [])]) or "all alerts"


def _as_json(settings: Settings, webhook: Webhook, own: Waiting) -> dict[str, Any]:
    filters = {name: None if kept is None else sorted(kept) for name, kept in vars(webhook.wants).items()}
    return {
        "name": webhook.name, "host": _host(settings, webhook), "state": _stands(webhook), **filters,
        "pending": own.pending, "dead": own.dead, "oldest_pending_s": own.oldest_s, "failures": webhook.failures,
        "paused_until": webhook.paused_until, "last_error": webhook.last_error, "created_by": webhook.created_by,
        "created_at": webhook.created_at, "rotated_at": webhook.rotated_at,
        "former_secret_until": webhook.former_secret_until,
    }  # fmt: skip


def _when(one: Delivery) -> str:
    if one.settled_at is not None:
        return f"{one.settled_at:%Y-%m-%d %H:%M:%S}"
    return f"due {one.due_at:%Y-%m-%d %H:%M:%S}"


@contextmanager
def _failures(kafka: KafkaConnection | None = None) -> Iterator[None]:
    """Ends the command with what went wrong."""
    try:
        yield
    except (DatabaseError, SealError, ProvisioningError, TopicUnreadable) as error:
        fail(str(error))
    except (KafkaError, OSError) as error:
        if kafka is None:
            raise
        fail(kafka_failure(error, kafka))
