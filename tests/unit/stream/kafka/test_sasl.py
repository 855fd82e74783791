"""SASL over a socket, against the examples of the RFCs."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from kafka.net.sasl.oauth import AbstractTokenProvider

from stream.kafka.sasl import (
    AUTHENTICATION_FAILED,
    UNSUPPORTED_MECHANISM,
    NotKafka,
    SaslError,
    ask,
    authenticate,
    greet,
)

RFC_7677 = [
    (b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
     b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"),
    (b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
     b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="),
]  # fmt: skip
"""What client and server say in the example of RFC 7677 (SCRAM-SHA-256; user `user`, password `pencil`)."""

SCRAM = {"sasl_mechanism": "SCRAM-SHA-256", "sasl_plain_username": "user", "sasl_plain_password": "pencil"}


class Token(AbstractTokenProvider):  # type: ignore[misc]
    def token(self) -> str:
        return "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg"


class Broker:
    """The other end: gives its answers in turn, and keeps what it was asked."""

    def __init__(self, end: socket.socket) -> None:
        self.end = end
        self.asked: list[tuple[int, int, bytes]] = []

    def answer(self, *answers: bytes) -> None:
        for answer in answers:
            (size,) = struct.unpack(">i", self.end.recv(4, socket.MSG_WAITALL))
            request = self.end.recv(size, socket.MSG_WAITALL)
            api, version, correlation, client = struct.unpack_from(">hhih", request)
            self.asked.append((api, version, request[10 + client :]))
            body = struct.pack(">i", correlation) + answer
            self.end.sendall(struct.pack(">i", len(body)) + body)


def handshake(code: int = 0, *mechanisms: str) -> bytes:
    names = b"".join(struct.pack(">h", len(name)) + name.encode() for name in mechanisms)
    return struct.pack(">hi", code, len(mechanisms)) + names


def challenge(data: bytes, code: int = 0, said: str | None = None) -> bytes:
    text = struct.pack(">h", -1) if said is None else struct.pack(">h", len(said)) + said.encode()
    return struct.pack(">h", code) + text + struct.pack(">i", len(data)) + data


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, Broker]]:
    ours, theirs = socket.socketpair()
    ours.settimeout(5)
    theirs.settimeout(5)
    with ours, theirs:
        yield ours, Broker(theirs)


def exchange(ends: tuple[socket.socket, Broker], options: dict[str, Any], *answers: bytes) -> list[bytes]:
    """What the client sends after the handshake, without the length before it."""
    ours, broker = ends
    with ThreadPoolExecutor(1) as pool:
        answering = pool.submit(broker.answer, *answers)
        try:
            authenticate(ours, "me", options)
        finally:
            answering.result()
    return [body[4:] for _, _, body in broker.asked[1:]]


def test_scram_as_in_rfc_7677(ends: tuple[socket.socket, Broker], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kafka.net.sasl.scram.uuid.uuid4", lambda: "rOprNGfwEbeRWgbNEkqO")
    said = exchange(ends, SCRAM, handshake(0, "SCRAM-SHA-256"), *(challenge(answer) for _, answer in RFC_7677))
    assert said == [message for message, _ in RFC_7677]
    assert ends[1].asked[0] == (17, 1, b"\x00\x0dSCRAM-SHA-256")
    assert [asked[:2] for asked in ends[1].asked[1:]] == [(36, 0)] * 2


def test_a_broker_that_does_not_know_the_password_is_refused(
    ends: tuple[socket.socket, Broker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kafka.net.sasl.scram.uuid.uuid4", lambda: "rOprNGfwEbeRWgbNEkqO")
    forged = b"v=" + b"A" * 43 + b"="
    with pytest.raises(SaslError, match="not valid") as caught:
        exchange(ends, SCRAM, handshake(), challenge(RFC_7677[0][1]), challenge(forged))
    assert caught.value.code == AUTHENTICATION_FAILED


def test_a_nonce_that_is_not_ours_is_refused(ends: tuple[socket.socket, Broker]) -> None:
    with pytest.raises(SaslError, match="not valid"):
        exchange(ends, SCRAM, handshake(), challenge(RFC_7677[0][1]))


def test_plain_as_in_rfc_4616(ends: tuple[socket.socket, Broker]) -> None:
    options = {"sasl_mechanism": "PLAIN", "sasl_plain_username": "tim", "sasl_plain_password": "tanstaaftanstaaf"}
    assert exchange(ends, options, handshake(), challenge(b"")) == [b"tim\0tim\0tanstaaftanstaaf"]


def test_oauthbearer_as_in_rfc_7628(ends: tuple[socket.socket, Broker]) -> None:
    """Section 4.3: the server explains its refusal, and the client lets it end the exchange."""
    options = {"sasl_mechanism": "OAUTHBEARER", "sasl_oauth_token_provider": Token()}
    refusal = challenge(b"", AUTHENTICATION_FAILED, '{"status":"invalid_token"}')
    with pytest.raises(SaslError, match="invalid_token"):
        exchange(ends, options, handshake(), challenge(b'{"status":"invalid_token"}'), refusal)
    said = [body[4:] for _, _, body in ends[1].asked[1:]]
    assert said == [b"n,,\x01auth=Bearer vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg\x01\x01", b"\x01"]


def test_a_mechanism_that_is_not_offered(ends: tuple[socket.socket, Broker]) -> None:
    with pytest.raises(SaslError) as caught:
        exchange(ends, SCRAM, handshake(UNSUPPORTED_MECHANISM, "PLAIN", "OAUTHBEARER"))
    assert (caught.value.code, caught.value.mechanisms) == (UNSUPPORTED_MECHANISM, ("PLAIN", "OAUTHBEARER"))


def test_a_refusal_gives_the_brokers_words(ends: tuple[socket.socket, Broker]) -> None:
    with pytest.raises(SaslError, match=r"^no such user$") as caught:
        exchange(ends, SCRAM, handshake(), challenge(b"", AUTHENTICATION_FAILED, "no such user"))
    assert "pencil" not in repr(caught.value)


def test_what_does_not_speak_kafka(ends: tuple[socket.socket, Broker]) -> None:
    ours, broker = ends
    broker.end.sendall(b"HTTP/1.1 400 Bad Request")
    with pytest.raises(NotKafka):
        ask(ours, "me", 3, 1, b"")


def test_a_connection_that_ends(ends: tuple[socket.socket, Broker]) -> None:
    ours, broker = ends
    broker.end.shutdown(socket.SHUT_WR)
    with pytest.raises(ConnectionResetError):
        greet(ours, "me")
