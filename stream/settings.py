"""All settings, from command-line options, `FORESHOCK_*` variables, `foreshock.toml` and defaults, in that order.

Secrets may also come from files, which `FORESHOCK_<NAME>_FILE` names or which lie in `secrets_dir`, and are in no
message of this module. Reads configuration only; connects to nothing.
"""

from __future__ import annotations

import ipaddress
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from events.calendar import Calendar
from events.contracts import SERIOUS_DAYS
from events.pseudonyms import KEY_ID_PATTERN, Pseudonyms
from stream.alerts.policy import AlertPolicy, Thresholds
from stream.desk_roles import DeskRole
from stream.portfolio import PortfolioRules
from stream.settings_file import SettingsFileError, line_of, read_settings_file
from stream.topics import LONGEST_NAME, LONGEST_PART, Topics, is_part_of_names

DEFAULT_CONFIG = "foreshock.toml"
PRETRAINED_BUNDLE = Path(__file__).resolve().parent.parent / "model" / "pretrained"


def _part_of_names(text: str) -> str:
    if not is_part_of_names(text):
        raise ValueError("use letters (a-z, A-Z), digits, dots, dashes and underscores: it stands in names of topics")
    return text


NamePart = Annotated[str, AfterValidator(_part_of_names)]
LONGEST_APPLICATION = LONGEST_NAME - len(Topics().changelog(""))

SecurityProtocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
SaslMechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"]


class SettingsError(ValueError):
    """A setting has a wrong value; the message names its key, the value and what is expected."""


class Settings(BaseSettings):
    """All settings. The name of a field is its key in `foreshock.toml`; `FORESHOCK_<NAME>` is its variable."""

    model_config = SettingsConfigDict(env_prefix="FORESHOCK_", env_ignore_empty=True, extra="forbid", frozen=True)

    bootstrap_servers: str | None = Field(
        None, description="Kafka brokers, `host:port,…`; unset means the embedded stack that `foreshock up` started."
    )
    database_url: str | None = Field(
        None,
        repr=False,
        description="PostgreSQL, `postgresql://user:password@host:port/name`; unset means the embedded stack.",
    )
    database_password: SecretStr | None = Field(
        None, description="Password for PostgreSQL, so that none needs to stand in `database_url`."
    )
    insecure: bool = Field(
        False, description="Allow connections without TLS to Kafka and PostgreSQL on other machines."
    )
    security_protocol: SecurityProtocol = Field(
        "PLAINTEXT", description="Kafka: `PLAINTEXT`, `SSL`, `SASL_PLAINTEXT` or `SASL_SSL`."
    )
    sasl_mechanism: SaslMechanism | None = Field(
        None, description="Kafka: `SCRAM-SHA-512`, `SCRAM-SHA-256`, `PLAIN` or `OAUTHBEARER`."
    )
    sasl_username: str | None = Field(None, description="Kafka: user for SCRAM and PLAIN.")
    sasl_password: SecretStr | None = Field(None, description="Kafka: password for SCRAM and PLAIN.")
    oauth_token_command: str | None = Field(
        None,
        description="Kafka: command that writes the token for OAUTHBEARER to its standard output, bare or as JSON with "
        "`access_token` and `expires_in`. Put no secret into it: users of the machine can read a command line.",
    )
    sasl_oauthbearer_token_endpoint_url: str | None = Field(
        None, description="Kafka: address of the OAuth token endpoint, `https://…`, for OAUTHBEARER."
    )
    sasl_oauthbearer_client_id: str | None = Field(None, description="Kafka: client id at the token endpoint.")
    sasl_oauthbearer_client_secret: SecretStr | None = Field(
        None, description="Kafka: the client's secret at the token endpoint."
    )
    sasl_oauthbearer_scope: str | None = Field(None, description="Kafka: scope to ask the token endpoint for.")
    sasl_oauthbearer_cafile: Path | None = Field(
        None,
        description="Kafka: PEM file of the authorities that sign the token endpoint's certificate; unset means the "
        "system's.",
    )
    ssl_cafile: Path | None = Field(
        None,
        description="Kafka: PEM file of the authorities that sign brokers' certificates; unset means the system's.",
    )
    ssl_certfile: Path | None = Field(None, description="Kafka: PEM file of the client's certificate, for mutual TLS.")
    ssl_keyfile: Path | None = Field(
        None, description="Kafka: PEM file of the client's private key; unset means that `ssl_certfile` holds it."
    )
    ssl_keyfile_password: SecretStr | None = Field(None, description="Kafka: password of `ssl_keyfile`.")
    ssl_check_hostname: bool = Field(
        True, description="Kafka: whether a broker's certificate must be for the host that was asked."
    )
    secrets_dir: Path | None = Field(
        None,
        description="Folder of files that hold secrets, each named as its setting, e.g. `sasl_password`: as container "
        "platforms mount them.",
    )
    stack_dir: Path = Field(Path(".foreshock"), description="Folder of the embedded stack: data, logs and addresses.")
    topic_prefix: NamePart = Field(
        "", max_length=LONGEST_PART, description="Put before every topic name, e.g. `risk.` for `risk.scores`."
    )
    partitions: int = Field(4, ge=1, le=10_000, description="Partitions of every topic that `topics create` makes.")
    replication_factor: int = Field(1, ge=1, le=9, description="Replicas of every topic that `topics create` makes.")
    application_id: NamePart = Field(
        "foreshock",
        min_length=1,
        max_length=LONGEST_APPLICATION,
        description="Consumer group of the workers; names the changelog.",
    )
    readers_id: NamePart | None = Field(
        None,
        min_length=1,
        max_length=LONGEST_APPLICATION,
        description="What the consumer groups of sink and webhooks begin with; unset means `application_id`. Set it to "
        "the `application_id` of before when that changes, as after a hand-over: they go on where they are.",
    )
    input_retention_days: float | None = Field(
        None,
        gt=0,
        le=36_500,
        description="Days that `topics create` lets events be kept, by their record's time; unset means without limit.",
    )
    output_retention_days: float | None = Field(
        None, gt=0, le=36_500, description="The same for scores and alerts, and for those of replays."
    )
    dead_letter_retention_days: float = Field(90.0, gt=0, le=36_500, description="The same for dead letters.")
    pseudonym_key: SecretStr | None = Field(
        None,
        description="Secret of the pseudonyms that `simulate`, `person forget` and the like put in the place of "
        "`user_id`: at least 64 hexadecimal digits. Workers and sink need none.",
    )
    pseudonym_key_id: str = Field(
        "p1", pattern=KEY_ID_PATTERN, description="Name of `pseudonym_key`, with which its pseudonyms begin."
    )
    bundle: Path = Field(PRETRAINED_BUNDLE, description="Model bundle folder.")
    bundle_public_key: Path | None = Field(
        None,
        description="PEM file of the Ed25519 keys that bundles must be signed with; unset means that none need be.",
    )
    approval: Literal["single", "four-eyes"] = Field(
        "single",
        description="Who may approve a model: anybody (`single`), or only another person than registered it "
        "(`four-eyes`).",
    )

    batch_max_records: int = Field(
        16_000, ge=1, le=100_000, description="Most records that one poll hands to the scorer."
    )
    merge_idle_ms: int = Field(
        2_000,
        ge=0,
        le=60_000,
        description="Longest wait for a lagging topic before event-time merging goes on without it.",
    )
    commit_interval_s: float = Field(
        1.0, gt=0, le=60, description="Longest time from a score to its commit, together with states and offsets."
    )
    session_timeout_s: float = Field(
        6.0, ge=1, le=300, description="After this silence the group gives a dead worker's partitions to others."
    )
    heartbeat_interval_s: float = Field(
        2.0, gt=0, le=100, description="How often a worker tells the group it is alive."
    )
    broker_timeout_s: float = Field(
        60.0,
        ge=1,
        le=86_400,
        description="A worker or sink that reaches no broker for so long ends, for its supervisor to start it again.",
    )
    stall_timeout_s: float = Field(
        60.0,
        ge=5,
        le=3_600,
        description="A worker or sink whose event loop hangs for so long ends at once, for others to take over.",
    )
    liveness_timeout_s: float = Field(
        120.0,
        ge=5,
        le=86_400,
        description="`/livez` fails when a worker or sink has something to do and commits nothing for so long.",
    )
    state_dir: Path | None = Field(
        None,
        description="Folder of the users' rows on a local disk, one for each worker; unset keeps them in memory only.",
    )
    resident_users: int | None = Field(
        None,
        ge=1,
        description="Most users in memory, the least recently seen leave it; needs `state_dir`, unset means all.",
    )
    state_memory_mib: int = Field(
        256, ge=8, le=1_048_576, description="Memory for reading and writing `state_dir`, beside the users in memory."
    )
    standby_replicas: int = Field(0, ge=0, le=8, description="Workers that keep a warm copy of each partition's state.")

    watchdog: bool = Field(
        True, description="Publish a `missed` repayment when an instalment stays unpaid past its grace."
    )
    grace_days: float = Field(
        3.0, ge=0, le=90, description="Days after the due date before an unpaid instalment is missed."
    )
    watchdog_clock: Literal["event", "wall"] = Field(
        "event",
        description="Time that the grace runs on: event time of the partition, or also wall time once caught up.",
    )

    lender_time_zone: str = Field(
        "UTC", description="Time zone of the lender's days, by its IANA name: when a due date ends, days past due."
    )
    serious_days: float = Field(
        SERIOUS_DAYS,
        ge=1,
        le=3_650,
        description="Days past due from which a contract is serious, and its borrower HIGH.",
    )
    materiality_absolute: float = Field(
        0.0, ge=0, description="A contract counts as past due when more than this is overdue, in its currency."
    )
    materiality_relative: float = Field(
        0.0, ge=0, le=1, description="And when more than this share of its balance is overdue."
    )
    loss_given_default: float = Field(
        0.45,
        ge=0,
        le=1,
        description="Share of the exposure that a default loses, for the expected loss; 0.45 is what the Basel "
        "foundation approach has for senior unsecured claims.",
    )
    currency_rates: dict[str, float] = Field(
        default_factory=dict,
        description="Value of one unit of each currency in the currency of reports, e.g. `{EUR = 1.0, SEK = 0.09}`; "
        "needed where a borrower's contracts are in several currencies.",
    )

    alert_relative_rise: float = Field(
        1.0, ge=0, description="Deterioration: score at least this share above the user's baseline (1.0 is double)."
    )
    alert_absolute_rise: float = Field(
        0.02,
        ge=0,
        le=1,
        description="Deterioration: score at least this far above the user's baseline, in probability.",
    )
    alert_sticky_events: int = Field(2, ge=1, le=255, description="Consecutive events that a rise must hold for.")
    alert_extreme_score: float = Field(0.5, gt=0, le=1, description="A score this high needs no confirmation.")
    alert_cure_days: float = Field(30.0, ge=0, le=3_650, description="Days of calm before an open alert is cleared.")
    alert_cooldown_days: float = Field(
        14.0, ge=0, le=3_650, description="Days after clearing before a new alert opens."
    )
    alert_dpd_backstop: float = Field(30.0, gt=0, le=3_650, description="Days past due that always open an alert.")
    baseline_half_life_events: float = Field(
        50.0, gt=0, description="Events after which a score's weight in the baseline halves."
    )

    score_history: bool = Field(True, description="Keep every score in PostgreSQL, not only each user's latest.")
    event_history: bool = Field(
        True, description="Keep every event in PostgreSQL, for the desk: it shows them, and sees promises kept by them."
    )
    sink_retry_s: float = Field(
        1.0, gt=0, le=300, description="First pause before the sink tries a failed database again."
    )
    webhook_key: SecretStr | None = Field(
        None,
        description="Key that encrypts the secrets of webhooks in the database: 64 hexadecimal digits; more, with "
        "commas between them, are former keys that still open what they have encrypted.",
    )
    webhook_networks: str | None = Field(
        None,
        description="Networks that webhooks may reach although they are not public, e.g. `10.1.0.0/16,127.0.0.0/8`.",
    )
    webhook_cafile: Path | None = Field(
        None, description="PEM file of the authorities that sign receivers' certificates; unset means the system's."
    )
    webhook_timeout_s: float = Field(
        15.0, ge=1, le=120, description="Longest time for a try to deliver a message to a webhook, answer included."
    )
    webhook_attempts: int = Field(
        10, ge=1, le=100, description="Tries after which a message to a webhook is dead; ten take about a day."
    )
    webhook_concurrency: int = Field(
        8, ge=1, le=256, description="Messages that one process has under way to one webhook, of different users."
    )
    webhook_keep_days: float = Field(
        30.0, gt=0, le=3_650, description="Days that delivered and dead messages are kept, to be told again."
    )
    metrics_port: int | None = Field(
        None,
        ge=0,
        le=65_535,
        description="Port at which a worker, a sink, `webhooks run` or a desk serves `/metrics`, `/livez` and "
        "`/readyz`; 0 takes a free one.",
    )
    metrics_host: str = Field(
        "127.0.0.1", description="Address that they are served on, without authentication; `0.0.0.0` for all."
    )
    desk_host: str = Field(
        "127.0.0.1",
        description="Address that the desk is served on; one that is not this machine's own needs "
        "`desk_tls_certfile` or `desk_behind_proxy`.",
    )
    desk_port: int = Field(8400, ge=0, le=65_535, description="Port of the desk; 0 takes a free one.")
    desk_workers: int = Field(1, ge=1, le=64, description="Processes of the desk, which share the port.")
    desk_tls_certfile: Path | None = Field(
        None, description="PEM file of the desk's certificate and its chain; the desk is served by HTTPS then."
    )
    desk_tls_keyfile: Path | None = Field(
        None, description="PEM file of its private key; unset means that `desk_tls_certfile` holds it."
    )
    desk_behind_proxy: bool = Field(
        False,
        description="The desk stands behind a proxy that speaks HTTPS to browsers and sets `X-Forwarded-For` and "
        "`X-Forwarded-Proto`.",
    )
    desk_trusted_proxies: list[str] = Field(
        default_factory=lambda: ["127.0.0.1", "::1"],
        description="Addresses or networks of those proxies, whose forwarded headers alone are believed.",
    )
    desk_public_url: str | None = Field(
        None,
        description="Address of the desk as browsers see it, `https://desk.example`; needed for sign-in by OIDC, and "
        "behind a proxy.",
    )
    desk_language: Literal["en", "de"] = Field(
        "en", description="Language of the desk's pages for whoever has chosen none and whose browser asks for neither."
    )
    desk_session_hours: float = Field(
        12.0, gt=0, le=720, description="A browser is signed out so long after it was signed in."
    )
    desk_session_idle_minutes: float = Field(
        60.0, gt=0, le=43_200, description="And when nothing was asked of the desk for so long."
    )
    desk_requests_per_minute: int = Field(
        20_000, ge=1, description="Most requests a minute that the desk takes from one account or token."
    )
    desk_audit_days: int | None = Field(
        None,
        ge=366,
        le=36_500,
        description="The audit of reads of personal data is kept for so long; unset means for ever.",
    )
    desk_oidc_issuer: str | None = Field(
        None, description="OpenID Connect: the identity provider, `https://…`; unset means local accounts alone."
    )
    desk_oidc_client_id: str | None = Field(None, description="OpenID Connect: client id of the desk.")
    desk_oidc_client_secret: SecretStr | None = Field(None, description="OpenID Connect: the client's secret.")
    desk_oidc_cafile: Path | None = Field(
        None,
        description="OpenID Connect: PEM file of the authorities that sign the provider's certificate; unset means the "
        "system's.",
    )
    desk_oidc_scope: str = Field("openid profile", description="OpenID Connect: scopes that are asked for.")
    desk_oidc_name_claim: str = Field("preferred_username", description="Claim that names the account.")
    desk_oidc_role_claim: str = Field(
        "groups", description="Claim whose values decide the role: a path such as `realm_access.roles`."
    )
    desk_oidc_roles: dict[str, DeskRole] = Field(
        default_factory=dict,
        description='Role for each value of that claim, e.g. `{collections = "collector"}`; who has none of them is '
        "not let in, who has several gets the role that may do most.",
    )
    desk_oidc_products_claim: str | None = Field(
        None, description="Claim that lists the products whose cases the account sees; unset means all."
    )
    desk_four_eyes: bool = Field(
        False, description="A second person has to confirm that a HIGH alert was a false alarm."
    )
    desk_daily_cap: int | None = Field(
        None,
        ge=0,
        description="Most cases that an account is given in a day, by `next` and by `desk_auto_assign`; an account's "
        "own cap goes before it, unset means without limit.",
    )
    desk_auto_assign: bool = Field(
        False, description="Cases that nobody has are given to collectors, to those first who have fewest."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe level that is logged. Only `debug` may show what events hold."
    )
    log_format: Literal["text", "json"] = Field(
        "text", description="Lines of the log: `text`, or `json` for one object a line."
    )

    @field_validator(
        "state_dir",
        "secrets_dir",
        "database_url",
        "bundle_public_key",
        "desk_tls_certfile",
        "desk_tls_keyfile",
        "desk_oidc_cafile",
        "webhook_cafile",
        mode="before",
    )
    @classmethod
    def _empty_is_unset(cls, value: object) -> object:
        """An empty path would be the current folder, an empty address a server on this machine."""
        return None if isinstance(value, str) and not value.strip() else value

    @field_validator("stack_dir", "bundle", mode="before")
    @classmethod
    def _names_a_folder(cls, value: object) -> object:
        if isinstance(value, str) and not value.strip():
            raise ValueError("is empty; name a folder, or leave the setting out for its default")
        return value

    @field_validator("webhook_networks")
    @classmethod
    def _are_networks(cls, value: str | None) -> str | None:
        for part in (value or "").split(","):
            if part.strip():
                try:
                    ipaddress.ip_network(part.strip())
                except ValueError as error:
                    raise ValueError(f"{part.strip()!r} is no network ({error}); expected e.g. 10.1.0.0/16") from None
        return value

    @field_validator("lender_time_zone")
    @classmethod
    def _is_a_time_zone(cls, value: str) -> str:
        return Calendar(value).time_zone

    @field_validator("currency_rates")
    @classmethod
    def _are_rates_of_currencies(cls, value: dict[str, float]) -> dict[str, float]:
        for name, rate in value.items():
            if not (len(name) == 3 and name.isascii() and name.isalpha() and name.isupper()):
                raise ValueError(f"{name!r} is no currency; expected three capital letters (ISO 4217)")
            if not 0 < rate < math.inf:
                raise ValueError(f"{name} is worth {rate}; expected a number above 0")
        return value

    @field_validator("resident_users")
    @classmethod
    def _users_out_of_memory_need_a_disk(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and info.data.get("state_dir") is None:
            raise ValueError("users who leave memory need a place on disk; set state_dir, too")
        return value

    @property
    def pseudonyms(self) -> Pseudonyms | None:
        """The key of the pseudonyms, if there is one. Raises `SettingsError`."""
        if self.pseudonym_key is None:
            return None
        try:
            return Pseudonyms.from_hex(self.pseudonym_key_id, self.pseudonym_key.get_secret_value())
        except ValueError as error:
            raise SettingsError(f"pseudonym_key: {error}") from None

    @property
    def readers(self) -> str:
        """What the groups begin with of those who read what workers publish: `sink_group`, `webhook_group`."""
        return self.readers_id or self.application_id

    @property
    def topics(self) -> Topics:
        """Topic names under `topic_prefix`."""
        return Topics(self.topic_prefix)

    def alert_policy(self, thresholds: Thresholds) -> AlertPolicy:
        """The alert policy of a run: `thresholds` from the bundle, the rest from `alert_*` and `baseline_*` settings.

        Raises `PolicyError` when the thresholds make no sense together.
        """
        return AlertPolicy(
            medium=float(thresholds.medium),
            high=float(thresholds.high),
            relative_rise=self.alert_relative_rise,
            absolute_rise=self.alert_absolute_rise,
            sticky_events=self.alert_sticky_events,
            extreme_score=self.alert_extreme_score,
            cure_days=self.alert_cure_days,
            cooldown_days=self.alert_cooldown_days,
            dpd_backstop=self.alert_dpd_backstop,
            baseline_half_life_events=self.baseline_half_life_events,
        )

    def portfolio_rules(self) -> PortfolioRules:
        """How the lender counts days, what is material and what a default loses."""
        return PortfolioRules(
            calendar=Calendar(self.lender_time_zone),
            serious_days=self.serious_days,
            materiality_absolute=self.materiality_absolute,
            materiality_relative=self.materiality_relative,
            loss_given_default=self.loss_given_default,
            currency_rates=self.currency_rates,
        )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        path = config_path()
        found = read_settings_file(path) if path.is_file() else {}
        toml_settings = InitSettingsSource(settings_cls, init_kwargs=found)
        folder = os.environ.get("FORESHOCK_SECRETS_DIR") or found.get("secrets_dir")
        files = SecretFiles(settings_cls, None if folder is None else str(folder))
        return init_settings, env_settings, files, toml_settings


def config_path() -> Path:
    """The TOML file of the settings, which need not be there."""
    return Path(os.environ.get("FORESHOCK_CONFIG") or DEFAULT_CONFIG)


def on_this_machine(host: str) -> bool:
    """Whether a host is written as the loopback interface: what `insecure` need not allow. Asks no name server."""
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost"


def secret_settings() -> tuple[str, ...]:
    """Names of the settings that are or may hold a secret: these may come from files, and no message repeats them."""
    secret = [name for name, field in Settings.model_fields.items() if field.annotation == SecretStr | None]
    return ("database_url", *secret)


class SecretFiles(PydanticBaseSettingsSource):
    """Values of `secret_settings` from the files that `FORESHOCK_<NAME>_FILE` name, else from those in a folder.

    The end of the last line does not count. Raises `SettingsError` naming the setting, and for a value given twice.
    """

    def __init__(self, settings_cls: type[BaseSettings], folder: str | None) -> None:
        super().__init__(settings_cls)
        self._folder = Path(folder) if folder and folder.strip() else None

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002
        variable = f"FORESHOCK_{field_name.upper()}"
        path = os.environ.get(f"{variable}_FILE")
        if field_name not in secret_settings():
            return None, field_name, False
        lying = None if self._folder is None else self._folder / field_name
        given = {variable: os.environ.get(variable), f"{variable}_FILE": path}
        if lying is not None and lying.exists():
            given[str(lying)] = str(lying)
        named = [where for where, value in given.items() if value]
        if len(named) > 1:
            raise SettingsError(f"{field_name}: both {' and '.join(named)} are set; unset one of them")
        if not named or named == [variable]:
            return None, field_name, False
        file = Path(given[named[0]] or "")
        try:
            return file.read_text().rstrip("\r\n"), field_name, False
        except (OSError, UnicodeDecodeError) as error:
            where = f"{variable}_FILE names {path}" if path else f"secrets_dir holds {file}"
            raise SettingsError(f"{field_name}: {where}, which cannot be read ({error})") from None

    def __call__(self) -> dict[str, Any]:
        if self._folder is not None and not self._folder.is_dir():
            raise SettingsError(f"secrets_dir: {self._folder} is not a folder; name one, or leave the setting out")
        found = {name: self.get_field_value(field, name)[0] for name, field in Settings.model_fields.items()}
        return {name: value for name, value in found.items() if value is not None}


def load_settings(config: Path | None = None, **flags: Any) -> Settings:
    """Settings from `flags` (those that are not None), the environment, and the TOML file.

    Raises `SettingsError` naming the key when a value is wrong, or file, line and column when the file is no TOML; also
    when `config` does not exist.
    """
    if config is not None:
        if not config.is_file():
            raise SettingsError(f"config: {config} is not a file; name an existing TOML file")
        os.environ["FORESHOCK_CONFIG"] = str(config.resolve())  # for the processes that this one starts, too
    if flags.get("insecure"):
        os.environ["FORESHOCK_INSECURE"] = "true"  # as above
    try:
        return Settings(**{key: value for key, value in flags.items() if value is not None})
    except SettingsFileError as error:
        raise SettingsError(str(error)) from None
    except ValidationError as error:
        hidden = {(), *((name,) for name in secret_settings())}
        problems = [
            f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}"
            # A misspelt key may hold a secret as well.
            + _got(problem, flags, hidden=problem["loc"][:1] in hidden or problem["type"] == "extra_forbidden")
            for problem in error.errors()
        ]
        raise SettingsError("; ".join(problems)) from None


def _got(problem: Mapping[str, Any], flags: Mapping[str, Any], *, hidden: bool) -> str:
    """The wrong value, and where it stands; only the latter when it is `hidden`."""
    words = "" if hidden else f"got {problem['input']!r}"
    found = f"{words}{_where_set(problem['loc'], flags)}".strip()
    return f" ({found})" if found else ""


def _where_set(loc: tuple[int | str, ...], flags: Mapping[str, Any]) -> str:
    """File and line of a wrong setting, where neither an option nor a variable set it."""
    key, path = str(loc[0]) if loc else "", config_path()
    if flags.get(key) is not None or os.environ.get(f"FORESHOCK_{key.upper()}") or not path.is_file():
        return ""
    line = line_of(path, key)
    return "" if line is None else f" in {path}, line {line}"
