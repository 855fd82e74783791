import psycopg
import pytest
from psycopg import errors as sql_errors

from stream.database.errors import DatabaseForbidden, DatabaseOutdated, DatabaseUnavailable, is_transient, translated

TRANSIENT = [
    sql_errors.ConnectionFailure,
    sql_errors.DeadlockDetected,
    sql_errors.SerializationFailure,
    sql_errors.DiskFull,
    sql_errors.TooManyConnections,
    sql_errors.AdminShutdown,
    sql_errors.CannotConnectNow,
    sql_errors.QueryCanceled,
    sql_errors.IoError,
    sql_errors.ReadOnlySqlTransaction,
    sql_errors.LockNotAvailable,
    sql_errors.IdleInTransactionSessionTimeout,
    psycopg.OperationalError,
    psycopg.InterfaceError,
]
LASTING = [
    sql_errors.CheckViolation,
    sql_errors.UniqueViolation,
    sql_errors.NotNullViolation,
    sql_errors.NumericValueOutOfRange,
    sql_errors.SyntaxError,
    sql_errors.ProgramLimitExceeded,
    psycopg.DataError,
    psycopg.ProgrammingError,
]


@pytest.mark.parametrize("kind", TRANSIENT)
def test_what_passes_by_itself_is_unavailable(kind: type[psycopg.Error]) -> None:
    assert is_transient(kind("because"))
    with pytest.raises(DatabaseUnavailable, match="database h:1/d is not available: because"), translated("h:1/d"):
        raise kind("because")


@pytest.mark.parametrize("kind", LASTING)
def test_what_does_not_surfaces_as_it_is(kind: type[psycopg.Error]) -> None:
    assert not is_transient(kind("because"))
    with pytest.raises(kind, match=r"^because$"), translated("h:1/d"):
        raise kind("because")


@pytest.mark.parametrize("kind", [sql_errors.UndefinedTable, sql_errors.UndefinedColumn, sql_errors.UndefinedObject])
def test_a_missing_table_says_what_to_run(kind: type[psycopg.Error]) -> None:
    with pytest.raises(DatabaseOutdated, match="because; run `foreshock db upgrade`"), translated("h:1/d"):
        raise kind("because")


def test_an_error_without_words_is_named() -> None:
    with pytest.raises(DatabaseUnavailable, match="OperationalError"), translated("h:1/d"):
        raise psycopg.OperationalError


def test_a_right_that_the_role_lacks_is_told_with_what_to_run() -> None:
    error = sql_errors.InsufficientPrivilege("permission denied for table alerts")
    assert not is_transient(error)
    with (
        pytest.raises(DatabaseForbidden, match=r"h:1/d .*permission denied for table alerts.*`foreshock db roles`"),
        translated("h:1/d"),
    ):
        raise error
