"""The embedded stack as fixtures: one broker, and for each worker one database server, started when a test first asks.

Names are what keeps tests apart: `topic_prefix` for topics and groups, `database` for a database of one's own.
"""

from __future__ import annotations

import functools
import itertools
import logging
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

# Workers of pytest-xdist share the cores: a pool of threads in each would fight with the others. Read by PyTorch and
# NumPy when they are first imported, here and in the processes that tests start.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import hypothesis
import pytest
from _pytest.assertion import rewrite
from psycopg import sql

from stream.database.connection import DatabaseConnection
from stream.embedded.kafka import EmbeddedKafka
from stream.embedded.postgres import EmbeddedPostgres
from stream.kafka.connection import KafkaConnection
from stream.kafka.coordinator import await_coordinator
from stream.logs import QUIET_LOGGERS, REPEAT_PASSWORDS, StandardError
from tests import forked, shared
from tests.untraced import remember_trace, traced, untraced

_NUMBERS = itertools.count(1)

# Processes that tests start find the plugin of the coverage tool before anything of the project is imported.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")]))

# A deadline for an example would measure the machine, which others use too, and not the code.
hypothesis.settings.register_profile("foreshock", deadline=None)
hypothesis.settings.load_profile("foreshock")


EXPORTS = "files that export bundles"
TOGETHER = {
    "integration/pages/": "integration/pages/",
    "unit/model/training/": EXPORTS,
    "unit/model/networks/": EXPORTS,
    "unit/model/test_bundle.py": EXPORTS,
    "unit/model/comparison/test_served.py": EXPORTS,
    "unit/model/datasets/test_recipe.py": EXPORTS,
    "unit/foreshock/test_comparison.py": EXPORTS,
}
"""Files and folders that one worker of pytest-xdist takes as if they were one file, by a name for them: what is slow to
begin is begun once, a browser over a portfolio, and PyTorch's exporter."""

LONGEST_FIRST = (
    "integration/test_worker.py",
    "integration/test_security.py",
    "integration/pages/",
    *(start for start, name in TOGETHER.items() if name is EXPORTS),
    "integration/test_bench.py",
    "integration/test_live_arrival.py",
    "integration/test_hand_over.py",
    "integration/test_restarts.py",
    "integration/test_event_archive.py",
    "integration/test_embedded_stack.py",
    "integration/test_lineage.py",
    "integration/test_broker_outage.py",
    "integration/test_replay.py",
    "integration/test_people.py",
    "integration/test_demo.py",
    "integration/test_sink.py",
    "integration/",
    "unit/model/comparison/",
    "unit/model/datasets/",
    "unit/model/baselines/",
    "unit/stream/scoring/",
    "unit/model/",
)
"""Files and folders in the order in which workers of pytest-xdist take them; all others follow."""


def pytest_xdist_auto_num_workers() -> int:
    """Two workers more than there are cores: while some wait for servers, the others compute."""
    return len(os.sched_getaffinity(0)) + 2


def pytest_sessionstart(session: pytest.Session) -> None:
    """Each worker of pytest-xdist rewrites the assertions of a share of the modules, where that is not done yet.

    They then import all of them in step with one another, and each would rewrite every one.
    """
    worker = getattr(session.config, "workerinput", None)
    if worker is None or sys.dont_write_bytecode:
        return
    state = session.config.stash[rewrite.assertstate_key]
    share = slice(int(worker["workerid"].removeprefix("gw")), None, worker["workercount"])
    for path in sorted(Path(__file__).parent.rglob("test_*.py"))[share]:
        kept = rewrite.get_cache_dir(path) / f"{path.stem}{rewrite.PYC_TAIL}"
        if rewrite._read_pyc(path, kept) is None and rewrite.try_makedirs(kept.parent):
            source_hash, code = rewrite._rewrite_test(path, session.config)
            rewrite._write_pyc(state, code, source_hash, kept)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A long file that starts last keeps one worker busy while the others have nothing left to do."""
    if not hasattr(config, "workerinput"):
        return
    here = Path(__file__).parent

    def place(item: pytest.Item) -> int:
        path = item.path.relative_to(here).as_posix()
        return next((n for n, start in enumerate(LONGEST_FIRST) if path.startswith(start)), len(LONGEST_FIRST))

    items.sort(key=place)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With `--dist loadfile`, what stands in `TOGETHER` goes to workers as one file."""
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class Together(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            path = file.removeprefix("tests/")
            return next((name for start, name in TOGETHER.items() if path.startswith(start)), file)

    return Together(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, Any, Any]:
    """What a failed test shows may hold lone surrogates, and a worker of pytest-xdist that sends them ends the run."""
    return _sendable((yield))


def _sendable(part: Any) -> Any:
    if isinstance(part, str):
        return part.encode(errors="backslashreplace").decode()
    if isinstance(part, dict):
        return {_sendable(name): _sendable(value) for name, value in part.items()}
    if isinstance(part, list | tuple):
        return type(part)(map(_sendable, part))
    return part


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, Any, Any]:
    """Modules of tests, which are not measured, are rewritten and run; what they import is measured all the same."""
    trace = remember_trace()
    sys.settrace(None)
    try:
        return (yield)
    finally:
        sys.settrace(trace)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, Any, Any]:
    """Hypothesis takes longer to make an example than most tests take to try it."""
    of_hypothesis = getattr(pyfuncitem.obj, "hypothesis", None)
    if of_hypothesis is None or sys.gettrace() is None:
        return (yield)
    inner_test = of_hypothesis.inner_test
    of_hypothesis.inner_test = traced(inner_test)
    trace = remember_trace()
    sys.settrace(None)
    try:
        return (yield)
    finally:
        sys.settrace(trace)
        of_hypothesis.inner_test = inner_test


@pytest.fixture(scope="session", autouse=True)
def _quicker_exports() -> Iterator[None]:
    """Exporting one bundle takes ten seconds in PyTorch's own code, and twice as long under the coverage tool.

    A third of it goes into the table of what PyTorch can translate, which is made anew for each graph and stays the
    same.
    """
    if "torch" not in sys.modules:
        yield
        return
    import torch
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    table = functools.cache(ONNXRegistry.from_torchlib)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(table))
        patch.setattr("torch.onnx.export", untraced(torch.onnx.export))
        yield


@pytest.fixture(scope="session", autouse=True)
def _end_of_forks() -> Iterator[None]:
    yield
    forked.close()


@pytest.fixture(scope="session", autouse=True)
def _children_may_be_interrupted() -> Iterator[None]:
    """A shell that runs the tests in the background has them ignore SIGINT, and what they start inherits that."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def _no_cover_in_children(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """`no_cover` of pytest-cov holds for the test itself; this makes it hold for the processes that it starts."""
    if request.node.get_closest_marker("no_cover"):
        monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)


def without_settings(patch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("FORESHOCK_")]:
        patch.delenv(name)
    patch.setenv("FORESHOCK_CONFIG", str(Path(__file__).with_name("no-such-file.toml")))


@pytest.fixture(scope="session", autouse=True)
def _no_settings_in_shared_fixtures() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        without_settings(patch)
        yield


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's own `FORESHOCK_*` variables or `foreshock.toml` must not decide what a test sees."""
    without_settings(monkeypatch)


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """Commands that run in this process set up logging for it."""
    root, names = logging.getLogger(), ("", *QUIET_LOGGERS, *REPEAT_PASSWORDS)
    levels, handlers = {name: logging.getLogger(name).level for name in names}, list(root.handlers)
    yield
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    for handler in [found for found in root.handlers if isinstance(found, StandardError) and found not in handlers]:
        root.removeHandler(handler)


@pytest.fixture(scope="session")
def server_folder() -> Iterator[Path]:
    """Where servers keep their data. Not under pytest's own temporary folder: each session that starts takes that away
    from other system users, and PostgreSQL, which refuses to run as root, may be one."""
    with tempfile.TemporaryDirectory(prefix="foreshock-tests-") as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def kafka(server_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaConnection]:
    """A real broker, the same for all workers of pytest-xdist."""
    broker = EmbeddedKafka(server_folder / "kafka", ready_timeout_s=180)

    def start() -> str:
        started = broker.start()
        # A new broker makes the topic of offsets when it is first asked for a group, and has no answer until then.
        await_coordinator(started, "tests")
        return str(started)

    with shared.server(shared.session_folder(tmp_path_factory), "kafka", start, broker.stop) as address:
        yield KafkaConnection.parse(address)


@pytest.fixture(scope="session")
def server_database(server_folder: Path) -> Iterator[DatabaseConnection]:
    """An empty database on a real server. Tests that write take `database` instead."""
    server = EmbeddedPostgres(server_folder / "postgres")
    try:
        yield server.start()
    finally:
        server.stop()


@pytest.fixture(scope="session")
def new_topic_prefix() -> Callable[[], str]:
    """Makes prefixes that nobody else in this session uses, nor another worker of pytest-xdist."""
    return lambda: f"test{shared.WORKER}-{next(_NUMBERS)}."


@pytest.fixture
def topic_prefix(new_topic_prefix: Callable[[], str]) -> str:
    """A prefix that no other test of this session uses, e.g. for `Settings.topic_prefix` and group names."""
    return new_topic_prefix()


@pytest.fixture
def database(server_database: DatabaseConnection) -> Iterator[DatabaseConnection]:
    """A fresh, empty database that is dropped afterwards, whoever is still connected."""
    with _new_database(server_database) as found:
        yield found


@pytest.fixture
def database_encoded(server_database: DatabaseConnection) -> Iterator[Callable[[str], DatabaseConnection]]:
    """Makes a fresh, empty database of the encoding given."""
    with ExitStack() as databases:
        yield lambda encoding: databases.enter_context(_new_database(server_database, encoding))


@contextmanager
def _new_database(server_database: DatabaseConnection, encoding: str = "UTF8") -> Iterator[DatabaseConnection]:
    name = f"test{next(_NUMBERS)}"
    create = (
        "CREATE DATABASE {} ENCODING {} LOCALE 'C' TEMPLATE template0" if encoding != "UTF8" else "CREATE DATABASE {}"
    )
    with server_database.connect() as connection:
        connection.execute(sql.SQL(create).format(sql.Identifier(name), sql.Literal(encoding)))
        yield DatabaseConnection(urlsplit(server_database.url)._replace(path=f"/{name}").geturl())
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
