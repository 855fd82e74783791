"""Names and currencies of contracts as numbers."""

from __future__ import annotations

from events.contracts import contract_id_of, currency_code, currency_of, id_words


def test_names_and_currencies_survive_the_arrays() -> None:
    names = [None, "a", "loan-2", "x" * 40]
    assert [contract_id_of(words) for words in id_words(names)] == names
    assert [currency_of(currency_code(name)) for name in (None, "EUR", "XXX")] == [None, "EUR", "XXX"]
