"""The catalogue of reason codes: why a score may be high, in words that a collector can say aloud. Pure data.

`stream.alerts.reasons` decides which codes apply to an alert, `events.counterfactuals` computes a history without the
cause of a code, and `docs/alerts.md` lists the catalogue. It stands in `events` because both `stream` and `model` read
it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from events.types import Kind, Transaction

NEAR_LIMIT_FROM, NEAR_LIMIT_UNTIL = 0.9, 0.8
"""Share of the credit limit from which a balance counts as close to it, and below which it no longer does. There are
two bars because a balance moves with every purchase: with one, the time spent near the limit would start anew each day.
"""


@dataclass(frozen=True)
class Catalogued:
    """One reason code. `kind` is the branch whose contribution it shares, None for a code that belongs to no branch.

    `text` is the sentence of the reason, with its numbers in braces. `when`, `strength` and `counterfactual` describe
    for the documentation what `stream.alerts.reasons` and `events.counterfactuals` compute. Codes with the same `cause`
    describe the same events; an alert names only the first of them in the catalogue. `cause` is None where no other
    code shares it.
    """

    code: str
    kind: Kind | None
    text: str
    when: str
    strength: str = "-"
    counterfactual: str = "-"
    cause: str | None = None


def _catalogue(*entries: Catalogued) -> dict[str, Catalogued]:
    return {entry.code: entry for entry in entries}


CATALOGUE: dict[str, Catalogued] = _catalogue(
    Catalogued(
        "overdue",
        "repayments",
        "a payment is {days} past due",
        "at least 1 day past due, by what was last reported and the days since, and not paid in full since",
        "days / 30",
        counterfactual="bills report nothing past due; missed payments, and partial ones past due, "
        "were made in full as usual",
        cause="arrears",
    ),
    Catalogued(
        "late_payment",
        "repayments",
        "the last payment came {days} late",
        "the latest payment was 15 days late or more, and nothing is known to be overdue",
        "days / 60",
        counterfactual="payments, also missed ones, no later than usual",
        cause="lateness",
    ),
    Catalogued(
        "paying_later",
        "repayments",
        "payments are getting later: {last} late now, {usual} on average",
        "the latest payment was later than the one before and 2 days later than the average",
        "days above the average / 10",
        counterfactual="as `late_payment`",
        cause="lateness",
    ),
    Catalogued(
        "missed_payments",
        "repayments",
        "{what} missed recently",
        "decayed count of missed payments of 0.5 or more",
        "count / 2",
        counterfactual="missed payments were made in full as usual",
        cause="arrears",
    ),
    Catalogued(
        "part_payments",
        "repayments",
        "only part of what is due is being paid, about {percent} %",
        "recent payments cover less than 90 % of the amount due",
        "share not covered",
        counterfactual="what was paid in part was paid in full",
    ),
    Catalogued(
        "reversed_payment",
        "repayments",
        "a payment was reversed recently",
        "decayed count of reversed payments of 0.5 or more",
        "count",
        counterfactual="without the reversals",
    ),
    Catalogued(
        "no_payment",
        "repayments",
        "no payment has come in for {days}",
        "45 days since the latest payment",
        "days over 30 / 60",
        counterfactual="payments like the last one every 30 days since, in the place of missed ones",
        cause="arrears",
    ),
    Catalogued(
        "repayment_pattern",
        "repayments",
        "the repayment history as a whole points to trouble",
        "the branch contributes more than the facts above that apply explain",
        counterfactual="without any repayment event, ever",
    ),
    Catalogued(
        "near_limit",
        "transactions",
        "the balance has been close to the credit limit for {time}",
        f"balance at {NEAR_LIMIT_FROM * 100:.0f} % of the credit limit or more, "
        f"and since then not below {NEAR_LIMIT_UNTIL * 100:.0f} %",
        "0.5, rising to 1 over 4 weeks",
        counterfactual="balances at the usual share of the limit",
    ),
    Catalogued(
        "cash_out",
        "transactions",
        "cash withdrawals are {times} times their usual level",
        "cash at 1.5 times its usual level and a tenth of all spending",
        "(times - 1) / 2",
        counterfactual="without the movements of cash",
    ),
    Catalogued(
        "income_down",
        "transactions",
        "money coming in has fallen to about {percent} % of its usual level",
        "money in at 60 % of its usual level or less",
        "share lost",
        counterfactual="with the incomes of the 90 days before in the place of the recent ones",
    ),
    Catalogued(
        "spending_up",
        "transactions",
        "spending is {times} times its usual level",
        "money out at 1.5 times its usual level",
        "(times - 1) / 2",
        counterfactual="amounts out scaled to the usual sum a day",
    ),
    Catalogued(
        "spending_down",
        "transactions",
        "spending has fallen to about {percent} % of its usual level",
        "money out at 40 % of its usual level or less",
        "share lost / 2",
        counterfactual="with the spending of the 90 days before in the place of the recent one",
    ),
    Catalogued(
        "spending_pattern",
        "transactions",
        "account movements as a whole point to trouble",
        "the branch contributes more than the facts above that apply explain",
        counterfactual="without any transaction, ever",
    ),
    Catalogued(
        "credit_inquiries",
        "activity",
        "the borrower asked for credit several times recently",
        "decayed count of credit inquiries of 1.5 or more",
        "count / 4",
        counterfactual="without the inquiries",
    ),
    Catalogued(
        "device_change",
        "activity",
        "the app was used from a new device recently",
        "decayed count of device changes of 0.5 or more",
        "count",
        counterfactual="without the device changes",
    ),
    Catalogued(
        "sessions_up",
        "activity",
        "the app is opened {times} times as often as usual",
        "sessions at twice their usual level",
        "(times - 1) / 2",
        counterfactual="with evenly as many fewer sessions as makes their usual number a day",
    ),
    Catalogued(
        "sessions_down",
        "activity",
        "the app is opened much less than usual",
        "sessions at 40 % of their usual level or less",
        "share lost / 2",
        counterfactual="with the sessions of the 90 days before in the place of the recent ones",
    ),
    Catalogued(
        "activity_pattern",
        "activity",
        "inquiries and use of the app as a whole point to trouble",
        "the branch contributes more than the facts above that apply explain",
        counterfactual="without any activity event, ever",
    ),
    Catalogued(
        "profile_risk",
        "profiles",
        "what is known from the application points to a higher risk",
        "the branch contributes",
        counterfactual="without any profile, ever",
    ),
    Catalogued(
        "combination",
        None,
        "several small signs add up",
        "no branch contributes enough on its own and no payment is or was late; its contribution is 0",
    ),
)
"""Every reason code. The order breaks ties of equal contributions. `docs/alerts.md` lists it."""


def cause_of(code: str) -> str:
    """The cause of a code: the one that it shares with other codes, or the code itself."""
    return CATALOGUE[code].cause or code


def is_cash(event: Transaction) -> bool:
    """Whether money left as cash: any label of the movement has the word "cash" or "atm" in it."""
    return event.amount < 0 and speaks_of_cash(event.category, event.channel, event.counterparty_type)


@lru_cache(maxsize=4096)
def speaks_of_cash(*labels: str | None) -> bool:
    """Whether any label contains the word "cash" or "atm", in any case and between any separators."""
    for label in labels:
        words = "".join(c if c.isalnum() else " " for c in (label or "").casefold()).split()
        if "cash" in words or "atm" in words:
            return True
    return False
