"""What a look at the database found, and for how long it has not answered."""

from __future__ import annotations

from stream.database.connection import DatabaseConnection
from stream.database.errors import DatabaseUnavailable
from stream.database.probe import DatabaseProbe


class Database:
    """Says what a test sets; `now_s` is the clock."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.answer: str | Exception | None = "r2"
        self.probe = DatabaseProbe(
            DatabaseConnection("postgresql://nobody@127.0.0.1:1/nothing"),
            every_s=10.0,
            current=self.current,
            head=lambda: "r2",
            monotonic=lambda: self.now_s,
        )

    def current(self, _: DatabaseConnection) -> str | None:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def look(self, answer: str | Exception | None, after_s: float = 10.0) -> tuple[str | None, float, bool]:
        self.now_s += after_s
        self.answer = answer
        self.probe.look()
        return self.probe.problem, self.probe.unreachable_s, self.probe.is_current


def test_before_the_first_look_nothing_is_known() -> None:
    assert Database().probe.problem == "the database was not asked yet"


def test_one_that_answers_with_the_right_revision_is_there() -> None:
    assert Database().look("r2") == (None, 0.0, True)


def test_one_of_another_revision_is_there_and_of_no_use() -> None:
    database = Database()
    problem, unreachable_s, is_current = database.look("r1")
    assert (unreachable_s, is_current) == (0.0, False)
    assert problem == "the database is at revision r1, this release needs r2: run `foreshock db upgrade`"
    assert "was never upgraded" in (database.look(None)[0] or "")


def test_the_time_without_an_answer_grows_until_there_is_one() -> None:
    database = Database()
    database.look("r2")
    assert database.look(DatabaseUnavailable("refused")) == ("refused", 10.0, True)
    assert database.look(DatabaseUnavailable("refused"), 25.0)[1] == 35.0
    assert database.look("r2") == (None, 0.0, True)


def test_an_error_of_another_kind_shows_nothing_of_it() -> None:
    problem, unreachable_s, _ = Database().look(RuntimeError("password=secret"))
    assert problem == "RuntimeError while its revision was asked for"
    assert unreachable_s == 10.0


def test_a_look_that_does_not_come_back_is_no_answer() -> None:
    database = Database()
    database.look("r2")
    database.now_s += 29.0
    assert database.probe.problem is None
    database.now_s += 1.0
    assert database.probe.problem == "the database has not answered for 30 s"
