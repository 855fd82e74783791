"""Every name of aiokafka, faust, mode and kafka-python that they do not promise to keep, and that this code uses.

Two tests hold the list to the truth: what is listed exists with these parameters in the installed version, and what the
code uses is listed. Who raises an upper bound in `pyproject.toml` reads here what may have moved.
"""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.util
import inspect
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kafka.record.default_records
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import AIOKafkaConnection
from aiokafka.consumer.fetcher import Fetcher, PartitionRecords
from aiokafka.consumer.subscription_state import Assignment, SubscriptionState, TopicPartitionState
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.producer.transaction_manager import TransactionManager
from aiokafka.record.default_records import _DefaultRecordBatchPy
from faust import Schema, Table
from faust.stores.base import SerializedStore
from faust.tables.recovery import Recovery
from faust.transport.drivers import aiokafka as driver

ROOT = Path(__file__).parents[4]
PACKAGES = ("stream", "reports", "bench", "foreshock")
LIBRARIES = ("aiokafka", "faust", "kafka", "mode")

METHODS: dict[type[Any], dict[str, str]] = {
    AIOKafkaClient: {"_metadata_update": "self cluster_metadata topics", "force_metadata_update": "self"},
    AIOKafkaConnection: {"send": "self request expect_response", "_send_sasl_token": "self payload expect_response"},
    Fetcher: {"_proc_fetch_request": "self assignment node_id request", "seek_to": "self tp offset"},
    PartitionRecords: {"_consumer_record": "self tp record", "_unpack_records": "self"},
    _DefaultRecordBatchPy: {"_maybe_uncompress": "self", "_read_msg": "self decode_varint"},
    kafka.record.default_records.DefaultRecordBatch: {"_maybe_uncompress": "self", "_read_msg": "self decode_varint"},
    TransactionManager: {"maybe_add_partition_to_txn": "self tp"},
    Assignment: {"state_value": "self tp"},
    TopicPartitionState: {"consumed_to": "self position", "reset_to": "self position"},
    ConsumerRebalanceListener: {"on_partitions_assigned": "self assigned", "on_partitions_revoked": "self revoked"},
    driver.AIOKafkaConsumerThread: {
        "_create_worker_consumer": "self transport",
        "_ensure_consumer": "self",
        "_fetch_records": "self consumer active_partitions timeout max_records",
        "_stopped_set": "self",
        "on_start": "self",
        "on_thread_stop": "self",
        "seek_to_committed": "self",
    },
    driver.Consumer: {
        "_drain_messages": "self fetcher",
        "_filter_tps_with_pending_acks": "self topics",
        "_get_active_partitions": "self",
        "_getmany": "self active_partitions timeout",
        "_is_changelog_tp": "self tp",
        "_new_consumer_thread": "self",
        "_new_offset": "self tp",
        "_wait_next_records": "self timeout",
        "ack": "self message",
        "commit_and_end_transactions": "self",
        "on_buffer_drop": "self tp",
        "on_buffer_full": "self tp",
        "on_partitions_assigned": "self assigned generation_id",
        "on_partitions_revoked": "self revoked",
        "perform_seek": "self",
        "seek_to_committed": "self",
        "wait_empty": "self",
        "wait_first": "self coros timeout",
    },
    driver.Producer: {
        "_ensure_producer": "self",
        "_new_producer": "self transactional_id",
        "_settings_extra": "self",
        "on_stop": "self",
    },
    Schema: {
        "loads_key": "self app message loads serializer",
        "loads_value": "self app message loads serializer",
    },
    SerializedStore: {
        "_clear": "self",
        "_contains": "self key",
        "_del": "self key",
        "_get": "self key",
        "_iteritems": "self",
        "_iterkeys": "self",
        "_itervalues": "self",
        "_set": "self key value",
        "_size": "self",
        "apply_changelog_batch": "self batch to_key to_value",
        "backup_partition": "self tp flush purge keep",
        "on_rebalance": "self assigned revoked newly_assigned generation_id",
        "on_recovery_completed": "self active_tps standby_tps",
        "persisted_offset": "self tp",
        "reset_state": "self",
        "restore_backup": "self tp latest backup_id",
        "set_persisted_offset": "self tp offset",
    },
    Table: {
        "_changelog_topic_name": "self",
        "_new_changelog_topic": "self retention compacting deleting",
        "on_changelog_event": "self event",
    },
}
"""Methods that are called, replaced or overridden, with their parameters."""

ATTRIBUTES: dict[type[Any], set[str]] = {
    AIOKafkaConsumer: {
        "_client",
        "_coordinator",
        "_fetch_max_wait_ms",
        "_fetcher",
        "_isolation_level",
        "_subscription",
    },
    AIOKafkaProducer: {"_txn_manager"},
    Assignment: {"tps"},
    BatchBuilder: {"_builder", "_relative_offset"},
    PartitionRecords: {"_records", "_records_iterator", "next_fetch_offset"},
    _DefaultRecordBatchPy: {"_buffer", "_decompressed", "_num_records", "_pos", "last_offset_delta"},
    kafka.record.default_records.DefaultRecordBatch: {
        "_buffer",
        "_decompressed",
        "_num_records",
        "_pos",
        "last_offset_delta",
    },
    Recovery: {"_generation_id", "signal_recovery_start"},
    SubscriptionState: {"subscription"},
    TopicPartitionState: {"has_valid_position", "lso", "position"},
    driver.AIOKafkaConsumerThread: {"_consumer", "_stopped"},
    driver.Consumer: {"_thread", "_unacked_messages", "_waiting_for_ack"},
}
"""Attributes and properties that are read or set."""

MODULES: dict[str, dict[str, str | None]] = {
    "aiokafka.abc": {"AbstractTokenProvider": None},
    "aiokafka.client": {"AIOKafkaClient": None},
    "aiokafka.conn": {"AIOKafkaConnection": None, "CloseReason": None},
    "aiokafka.codec": {
        "_detect_xerial_stream": "payload",
        "lz4_encode": "payload level",
        "snappy_encode": "payload xerial_compatible xerial_blocksize",
        "zstd_encode": "payload level",
    },
    "aiokafka.consumer.fetcher": {"PartitionRecords": None},
    "aiokafka.consumer.subscription_state": {"TopicPartitionState": None},
    "aiokafka.partitioner": {"murmur2": "data"},
    "aiokafka.protocol.produce": {"ProduceRequest": "transactional_id required_acks timeout topics"},
    "aiokafka.record.default_records": {
        "DefaultRecordBatch": None,
        "DefaultRecordBatchBuilder": None,
        "_DefaultRecordBatchPy": None,
    },
    "aiokafka.record._crecords.default_records": {},
    "aiokafka.record.memory_records": {"MemoryRecords": None},
    "faust.stores.base": {"SerializedStore": None},
    "faust.transport.drivers.aiokafka": {},
    "faust.worker": {"Worker": None},
    "kafka.codec": {},
    "kafka.net.compat": {"KafkaNetClient": "net manager configs"},
    "kafka.net.sasl": {"get_sasl_mechanism": "name"},
    "kafka.net.sasl.oauth": {"AbstractTokenProvider": None},
    "kafka.record.default_records": {},
    "mode.utils.futures": {"notify": "fut result"},
}
"""Modules beside `PROMISED`, and what is imported of them, with the parameters of what is called."""

PROMISED = {
    "aiokafka", "aiokafka.errors", "aiokafka.structs", "faust", "faust.exceptions", "faust.types", "kafka",
    "kafka.admin", "kafka.errors", "mode",
}  # fmt: skip
"""Modules that the libraries document."""


def written_parameters(owner: type[Any], name: str) -> str:
    """Parameters of a method as the library's source has them: this process may have replaced the method."""
    defining = next(base for base in owner.__mro__ if name in vars(base))
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(defining))).body
    assert isinstance(tree, ast.ClassDef)
    methods = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    arguments = next(node.args for node in methods if node.name == name)
    extra = [argument for argument in (arguments.vararg, arguments.kwarg) if argument is not None]
    everything = [*arguments.posonlyargs, *arguments.args, *extra[: arguments.vararg is not None]]
    everything += [*arguments.kwonlyargs, *extra[arguments.vararg is not None :]]
    return " ".join(argument.arg for argument in everything)


def parameters(function: Any) -> str:
    return " ".join(inspect.signature(function).parameters)


@pytest.mark.parametrize(
    ("owner", "name", "expected"),
    [(owner, *method) for owner, methods in METHODS.items() for method in methods.items()],
)
def test_a_method_is_there_and_takes_what_it_is_given(owner: type[Any], name: str, expected: str) -> None:
    assert written_parameters(owner, name) == expected


@pytest.mark.parametrize(
    ("owner", "name"), [(owner, name) for owner, names in ATTRIBUTES.items() for name in sorted(names)]
)
def test_an_attribute_is_there(owner: type[Any], name: str) -> None:
    assert hasattr(owner, name) or name in _set_on_instances(owner), f"{owner.__qualname__} has no {name}"


@pytest.mark.parametrize(("module", "names"), MODULES.items())
def test_a_module_has_what_is_imported(module: str, names: dict[str, str | None]) -> None:
    loaded = importlib.import_module(module)
    for name, expected in names.items():
        found = getattr(loaded, name)
        assert expected is None or parameters(found) == expected


def test_the_builder_of_record_batches_appends_as_it_did() -> None:
    """Compiled code tells no parameters."""
    from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder

    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1_000)
    assert builder.append(0, 5, b"key", b"value", []) is not None
    (record,) = DefaultRecordBatch(memoryview(builder.build()))
    assert (record.offset, record.timestamp, record.key, record.value) == (0, 5, b"key", b"value")


def _set_on_instances(owner: type[Any]) -> set[str]:
    """Names that a class and its bases assign to `self`, or declare in the class or in its slots."""
    names: set[str] = set()
    for base in owner.__mro__[:-1]:
        names |= set(vars(base).get("__annotations__", {})) | set(vars(base).get("__slots__", ()))
        names |= {
            node.attr
            for node in _nodes(inspect.getsource(inspect.getmodule(base) or base))
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self"
        }
    return names


@functools.cache
def _nodes(source: str) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(ast.parse(source)))


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def _of_a_library(module: str | None) -> bool:
    return module is not None and module.partition(".")[0] in LIBRARIES


def library_imports(tree: ast.Module) -> Iterator[tuple[str, str | None]]:
    """Modules of the libraries that are imported, each with the name imported from it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module is not None and _of_a_library(node.module):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                is_module = importlib.util.find_spec(inner) is not None if _is_package(node.module) else False
                yield (inner, None) if is_module else (node.module, alias.name)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names if _of_a_library(alias.name))


def _is_package(module: str) -> bool:
    return hasattr(importlib.import_module(module), "__path__")


def foreign_names(tree: ast.Module) -> set[str]:
    """Private attributes of objects that this module does not define, other than of modules it imports."""
    own: set[str] = set()
    modules: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            own.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self":
            own.add(node.attr)
        elif isinstance(node, ast.AnnAssign) and node.value is not None and isinstance(node.target, ast.Name):
            own.add(node.target.id)
        elif isinstance(node, ast.Import):
            modules |= {alias.asname or alias.name for alias in node.names if not _of_a_library(alias.name)}
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and _is_private(node.attr) and ast.unparse(node.value) not in modules
    } - own


def inherited_names(module: str, tree: ast.Module) -> set[str]:
    """Of classes that extend a library's: the methods that they override, and private names that the library has."""
    found: set[str] = set()
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and _is_private(node.attr)}
    for value in vars(importlib.import_module(module)).values():
        if not inspect.isclass(value) or value.__module__ != module:
            continue
        bases = [base for base in value.__mro__[1:] if _of_a_library(base.__module__)]
        inherited = {name for base in bases for name in vars(base) if not name.startswith("__")}
        overridden = {name for name, member in vars(value).items() if inspect.isfunction(member)}
        found |= (used | overridden) & inherited
    return found


def sources() -> Iterator[tuple[str, ast.Module]]:
    """The modules that import one of the libraries, and all of `stream.kafka`."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            if path.parent.name == "kafka" or any(library_imports(tree)):
                yield ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"), tree


def test_what_is_used_is_listed_and_what_is_listed_is_used() -> None:
    listed = {name for methods in METHODS.values() for name in methods} | set().union(*ATTRIBUTES.values())
    used: set[str] = set()
    for module, tree in sources():
        names = foreign_names(tree) | inherited_names(module, tree)
        assert names <= listed, f"{module} uses {sorted(names - listed)}: add them to the list above, with their owner"
        used |= names
    assert {name for name in listed if _is_private(name)} <= used


def test_what_is_imported_is_promised_or_listed() -> None:
    used: set[tuple[str, str]] = set()
    for module, tree in sources():
        for library, name in library_imports(tree):
            known = library in PROMISED or (library in MODULES and (name is None or name in MODULES[library]))
            assert known, f"{module} imports {name} of {library}: add it to the list above"
            used.add((library, name or ""))
    assert {(library, name) for library, names in MODULES.items() for name in names or [""]} <= used


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("consumer._client.cluster", {"_client"}),
        ("PartitionRecords._consumer_record = replacement", {"_consumer_record"}),
        ("class A:\n    def _own(self): self._own(); self._set = 1; other._set", set()),
        ("import os\nos._exit(1)", set()),
        ("import kafka\nkafka._hidden()", {"_hidden"}),
        ("super()._fetch()", {"_fetch"}),
    ],
)
def test_what_counts_as_foreign(source: str, names: set[str]) -> None:
    assert foreign_names(ast.parse(source)) == names
