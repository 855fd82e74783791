"""The records of the topic `contracts`: from users' rows to JSON. Pure; sends nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stream.outputs import BorrowerContracts, encode_output, moment_of
from stream.portfolio import PortfolioRules
from stream.scoring.borrowers import contracts_at
from stream.state.row import Rows


def contract_records(
    partition: int, keys: Sequence[bytes], rows: Rows, rules: PortfolioRules, *, told: bool
) -> list[tuple[bytes, bytes]]:
    """Keys and JSON values (`BorrowerContracts`) of those users of a partition who have contracts; `rows` `[n]` are
    theirs.

    `told`: events have told of their contracts. Those of others have only grown older, which says something new of
    contracts that are past due, and the users without any such contract are left out.
    """
    latest_ms = rows["alert"]["watermark_ms"]
    today = rules.calendar.days_of(latest_ms)
    named = rows["standing"]["status"] >= 0
    if not told:
        named &= today > rows["standing"]["since_day"]
    row = np.flatnonzero(named)
    if not row.size:
        return []
    return [
        (
            keys[number],
            encode_output(
                BorrowerContracts(
                    user_id=keys[number].decode(),
                    sequence=sequence,
                    occurred_at=moment_of(occurred_ms),
                    source_partition=partition,
                    contracts=contracts,
                )
            ),
        )
        for number, sequence, occurred_ms, contracts in zip(
            row.tolist(),
            rows["sequence"][row].tolist(),
            latest_ms[row].tolist(),
            contracts_at(rows, row, today[row], rules),
            strict=True,
        )
    ]
