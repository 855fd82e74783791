"""Targets of what is read of output topics, where others may have written."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from typing import Any

import msgspec

from bench.fuzzing.mutation import JSON_VALUES, Grammar
from bench.fuzzing.target import NOW_MS, Check, Target, require
from stream.comparison.alerts import Opening, paired
from stream.comparison.outcomes import Outcomes
from stream.comparison.pairing import LIVE, OTHER, Pairing, PublishedScore, Side
from stream.kafka.record import RawRecord
from stream.outputs import (
    OUTPUT_TYPES,
    SENT_BACK_HEADER,
    DeadLetter,
    ForeignRecord,
    OutputDecoder,
    encode_output,
)
from stream.published_outputs import PublishedAlert
from stream.scoring.dead_letters import HEADER_BYTES, DeadLetters
from stream.topics import DEAD_LETTER_MAX_BYTES

_OUTPUTS = {
    "scores": b'{"score_id":"repayments:0:1","event_id":"e","user_id":"u","occurred_at":"2025-05-01T00:00:00Z",'
    b'"sequence":1,"score":0.1,"horizons":{"30":0.05,"90":0.1},"level":"LOW","baseline":0.1,"delta":0.0,"days_past_due":null,'
    b'"source_topic":"repayments","source_partition":0,"source_offset":1,"model":"0123456789abcdef","status":"past_due",'
    b'"contracts":2,"exposure":900.5,"amount_overdue":120.5,"expected_loss":40.5}',
    "alerts": b'{"transition_id":"t","alert_id":"a","user_id":"u","kind":"opened","occurred_at":"2025-05-01T00:00:00Z",'
    b'"opened_at":"2025-05-01T00:00:00Z","level_from":"LOW","level_to":"HIGH","score":0.6,"baseline":0.1,"delta":0.5,'
    b'"reference_pd":0.02,"days_past_due":12.0,"triggers":["level"],"reasons":[{"code":"overdue","text":"12 days",'
    b'"contribution":0.8}],"weighed_most":[{"topic":"repayments","partition":0,"offset":1,"occurred_at":'
    b'"2025-05-01T00:00:00Z","weight":0.4}],"sequence":9,"source_topic":"repayments","source_partition":0,'
    b'"source_offset":1,"policy":"0123456789ab","model":"0123456789abcdef"}',
    "contracts": b'{"user_id":"u","sequence":9,"occurred_at":"2025-05-01T00:00:00Z","source_partition":0,"contracts":'
    b'[{"contract_id":"loan-2","status":"past_due","days_past_due":12.0,"amount_overdue":120.5,"exposure":900.5,'
    b'"credit_limit":2000.0,"currency":"EUR"}]}',
}


_LETTER_OF_0_1 = (
    b'{"dead_letter_id":"d","reason":"not_json","message":"m","topic":"repayments","partition":0,"offset":1,'
    b'"timestamp_ms":1700000000000,"key_base64":"dTE=","value_base64":"aGVsbG8="}'
)
_BETWEEN, _WITHIN = b"\x1e", b"\x1f"
"""Between key, value and headers of a record of dead letters, and within a header, as these inputs are written."""

_TEXT = Grammar(
    (*JSON_VALUES, _BETWEEN, _WITHIN, b"foreshock.", b"foreshock.version\x1f1\x1e", b"left_out"), b":", b",}]"
)


def _output_seeds() -> list[bytes]:
    refused = RawRecord("repayments", 0, 5, NOW_MS, b"u1", b"hello", (("trace", b"1"), ("none", None)))
    large = RawRecord("repayments", 0, 5, NOW_MS, b"u1", bytes(DEAD_LETTER_MAX_BYTES))
    again = RawRecord("repayments", 0, 6, NOW_MS, b"u1", b"hello", ((SENT_BACK_HEADER, b"2"),))
    letters = [DeadLetters("foreshock").of(record, "not_json", "no JSON") for record in (refused, large, again)]
    plain = [bytes([number]) + _OUTPUTS[name] for number, name in enumerate(OUTPUT_TYPES)]
    dead = bytes([len(OUTPUT_TYPES)])
    return [*plain, dead + _BETWEEN + _LETTER_OF_0_1, *(dead + _written(letter) for letter in letters)]


def _written(letter: DeadLetter) -> bytes:
    headers = [name.encode() + _WITHIN + (content or b"") for name, content in letter.record_headers()]
    return _BETWEEN.join([letter.key or b"", letter.value or b"", *headers])


def _record_of(content: bytes) -> RawRecord:
    key, _, rest = content.partition(_BETWEEN)
    value, *headers = rest.split(_BETWEEN)
    pairs = [header.partition(_WITHIN) for header in headers]
    named = tuple((name.decode("latin-1"), part if mark else None) for name, mark, part in pairs)
    return RawRecord("dead-letters", 0, 1, 0, key or None, value or None, named)


def check_letter(letter: DeadLetter) -> None:
    """See that a dead letter fits into its topic, and is what it was when it is read."""
    headers = letter.record_headers()
    size = len(letter.key or b"") + len(letter.value or b"")
    size += sum(len(name.encode()) + len(content or b"") + HEADER_BYTES for name, content in headers)
    require(size <= DEAD_LETTER_MAX_BYTES, "the dead letter does not fit into its topic")
    read = DeadLetter.from_record(RawRecord("dead-letters", 0, 1, 0, letter.key, letter.value, headers))
    message = letter.message.encode(errors="backslashreplace").decode()
    require(read == msgspec.structs.replace(letter, message=message), "the dead letter is another when it is read")


def _outputs() -> Check:
    decoders = [OutputDecoder(kind) for kind in OUTPUT_TYPES.values()]

    def check(content: bytes) -> str:
        kind = (content[0] if content else 0) % (len(decoders) + 1)
        try:
            if kind == len(decoders):
                found: Any = DeadLetter.from_record(_record_of(content[1:]))
            else:
                found = decoders[kind](content[1:])
        except ForeignRecord as error:
            require(len(str(error)) <= 5_000, "a message of any length")
            return f"foreign: {str(error)[:25]}"
        if isinstance(found, DeadLetter):
            check_letter(found)
        else:
            require(decoders[kind](encode_output(found)) == found, "an output is another when it is written again")
        return type(found).__name__

    return check


# Outputs of two groups of workers, as a shadow or a replay is compared with the live ones

_NEXT = b"\x1e"
"""Between the records of an input. The first byte of each says which side's it is, and what."""

_OTHER_SIDE, _ALERT, _FORGETTING = 1, 2, 4


def _published_seeds() -> list[bytes]:
    score, alert = _OUTPUTS["scores"], _OUTPUTS["alerts"]
    later = score.replace(b'"source_offset":1', b'"source_offset":2').replace(b'"sequence":1', b'"sequence":2')
    sides = [[bytes([side]) + score, bytes([side]) + later] for side in (0, _OTHER_SIDE)]
    alerts = [bytes([side | _ALERT]) + alert for side in (0, _OTHER_SIDE)]
    forgotten = bytes([_FORGETTING]) + b"u"
    return [
        _NEXT.join([*sides[0], *sides[1], *alerts]),
        _NEXT.join([*sides[0], sides[1][1], forgotten]),
        _NEXT.join([sides[0][0], forgotten, *sides[1], alerts[0]]),
        bytes([_ALERT]) + alert,
        bytes([0]) + score,
    ]


def _published() -> Check:
    scores, alerts = OutputDecoder(PublishedScore), OutputDecoder(PublishedAlert)

    def check(content: bytes) -> str:
        pairing, outcomes, pairs, added = Pairing(), Outcomes(60.0), 0, 0
        openings: tuple[list[Opening], list[Opening]] = ([], [])
        for part in content.split(_NEXT):
            head, value = part[0] if part else 0, part[1:]
            side: Side = OTHER if head & _OTHER_SIDE else LIVE
            if head & _FORGETTING:
                pairing.forget(side, value.decode(errors="replace"))
                continue
            try:
                if head & _ALERT:
                    alert = alerts(value)
                    openings[side].append(Opening(_ms(alert.opened_at), alert.level_to))
                    continue
                score = scores(value)
            except ForeignRecord as error:
                require(len(str(error)) <= 5_000, "a message of any length")
                return f"foreign: {str(error)[:25]}"
            outcomes.add(score.user_id, _ms(score.occurred_at), score.days_past_due, score.status)
            pairing.add(side, [score])
            added += 1
            pairs += len(pairing.pairs())
        pairing.end()
        counted = Counter(pairing.counts)
        require(added == 2 * pairs + counted.total(), "a score that is neither paired nor counted, or both")
        require(min(counted.values(), default=0) >= 0, "less than no scores")
        for opened in openings:
            opened.sort()
        shifted = paired(*openings)
        told = [sum(one[side] is not None for one in shifted) for side in (1, 2)]
        require(told == [len(opened) for opened in openings], "an alert that is compared twice or not at all")
        outcomes.confusion({"u": [one.opened_ms for one in openings[0]]}, 90.0, 0, 1 << 62)
        return f"compared: {pairs} pairs, {len(shifted)} alerts"

    return check


def _ms(at: dt.datetime) -> int:
    return round(at.timestamp() * 1000)


_PUBLISHED = Grammar((*JSON_VALUES, _NEXT, b"\x00", b"\x01", b"\x02", b"\x03", b"\x04"), b":", b",}]")

TARGETS = (
    Target("outputs", "records of the output topics, as sink and replay read them", _output_seeds, _outputs, _TEXT),
    Target("published", "outputs of two groups of workers, compared", _published_seeds, _published, _PUBLISHED),
)
