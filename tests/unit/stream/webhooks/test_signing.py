from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.webhooks.signing import (
    NotSigned,
    SecretError,
    require_signed,
    secret_from,
    signature,
    signed_headers,
    written_secret,
)

SECRETS = st.binary(min_size=24, max_size=64)
IDS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=40)


def test_a_signature_is_that_of_the_conventions() -> None:
    """Secret, message and signature are those that the conventions' own libraries are tested with."""
    secret = secret_from("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    assert secret == base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    made = signature(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@given(SECRETS, SECRETS, IDS, st.integers(1, 2**40), st.binary(max_size=200))
def test_either_secret_of_a_rotation_opens_what_both_have_signed(
    new: bytes, former: bytes, message_id: str, timestamp_s: int, body: bytes
) -> None:
    headers = signed_headers([new, former], message_id, timestamp_s, body)
    for secret in (new, former):
        assert require_signed(secret, headers, body, timestamp_s) == message_id


@given(SECRETS, IDS, st.integers(1, 2**40), st.binary(max_size=200), st.data())
def test_what_was_changed_does_not_pass(
    secret: bytes, message_id: str, timestamp_s: int, body: bytes, data: st.DataObject
) -> None:
    headers = signed_headers([secret], message_id, timestamp_s, body)
    what = data.draw(st.sampled_from(["secret", "id", "timestamp", "body"]))
    other = secret[:-1] + bytes([secret[-1] ^ 1]) if what == "secret" else secret
    if what == "id":
        headers["webhook-id"] += "x"
    elif what == "timestamp":
        headers["webhook-timestamp"] = str(timestamp_s + 1)
    with pytest.raises(NotSigned, match="no signature"):
        require_signed(other, headers, body + b"x" if what == "body" else body, timestamp_s)


@pytest.mark.parametrize(
    ("headers", "why"),
    [
        ({"webhook-id": ""}, "no header webhook-id"),
        ({"webhook-signature": ""}, "no header webhook-signature"),
        ({"webhook-timestamp": "soon"}, "no number"),
        ({"webhook-timestamp": "9" * 40}, "no number"),
        ({"webhook-timestamp": "699"}, "more than 300 s"),
        ({"webhook-timestamp": "1301"}, "more than 300 s"),
        ({"webhook-signature": "v1,é v2,xx"}, "no signature"),
    ],
)
def test_what_is_no_message_of_ours_is_told_apart(headers: dict[str, str], why: str) -> None:
    secret = b"s" * 32
    with pytest.raises(NotSigned, match=why):
        require_signed(secret, signed_headers([secret], "m", 1000, b"{}") | headers, b"{}", 1000)


@given(SECRETS)
def test_a_secret_is_read_as_it_was_written(secret: bytes) -> None:
    assert secret_from(written_secret(secret)) == secret


@pytest.mark.parametrize("text", ["", "whsec_", "whsec_c2hvcnQ=", "whsec_!!", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "é"])
def test_what_is_no_secret_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(SecretError) as caught:
        secret_from(text)
    assert not text or text == "whsec_" or text not in str(caught.value)
