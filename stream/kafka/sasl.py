"""SASL over a blocking socket to a broker, for the connections that no client library opens.

The mechanisms (PLAIN: RFC 4616, SCRAM: RFC 5802 and 7677, OAUTHBEARER: RFC 7628) are kafka-python's. This module
carries their messages in Kafka's requests SaslHandshake and SaslAuthenticate. Knows no settings.
"""

from __future__ import annotations

import socket
import struct
from typing import Any

from kafka.net.sasl import get_sasl_mechanism

_HANDSHAKE, _HANDSHAKE_VERSION = 17, 1
_AUTHENTICATE, _AUTHENTICATE_VERSION = 36, 0
_METADATA, _METADATA_VERSION = 3, 1
_NO_TOPICS = struct.pack(">i", 0)
_LARGEST_ANSWER = 16 * 1024 * 1024

UNSUPPORTED_MECHANISM, ILLEGAL_STATE, AUTHENTICATION_FAILED = 33, 34, 58


class NotKafka(ConnectionError):
    """What answers does not speak Kafka's protocol, or not without TLS."""


class SaslError(ConnectionError):
    """The broker refuses to authenticate. `code` is Kafka's error code; `message` the broker's own words or ''."""

    def __init__(self, code: int, message: str = "", mechanisms: tuple[str, ...] = ()) -> None:
        super().__init__(message or f"error {code}")
        self.code = code
        self.message = message
        self.mechanisms = mechanisms


def authenticate(opened: socket.socket, client_id: str, options: dict[str, Any]) -> None:
    """Authenticate as `options` say: keyword arguments of kafka-python's clients.

    Raises `SaslError` when refused, `OSError` when the connection fails, what the token provider raises.
    """
    name = options["sasl_mechanism"]
    answer = ask(opened, client_id, _HANDSHAKE, _HANDSHAKE_VERSION, string(name))
    code, offered = _handshake_answer(answer)
    if code:
        raise SaslError(code, mechanisms=offered)
    mechanism = get_sasl_mechanism(name)(**options)
    while not mechanism.is_done():
        message = mechanism.auth_bytes()
        answer = ask(opened, client_id, _AUTHENTICATE, _AUTHENTICATE_VERSION, struct.pack(">i", len(message)) + message)
        code, said, challenge = _authenticate_answer(answer)
        if code:
            raise SaslError(code, said)
        try:
            mechanism.receive(challenge)
        except (KeyError, ValueError) as error:
            # The broker did not prove that it knows the password, or speaks another protocol.
            raise SaslError(AUTHENTICATION_FAILED, f"the broker's answer is not valid ({error})") from None
    if not mechanism.is_authenticated():
        raise SaslError(AUTHENTICATION_FAILED, "the broker's answer is not valid")


def greet(opened: socket.socket, client_id: str) -> None:
    """Ask for the brokers' names, as every client does first; only the fact that an answer comes is used.

    A broker that misses a client certificate says so only now, one that wants SASL closes the connection. Raises
    `OSError`.
    """
    ask(opened, client_id, _METADATA, _METADATA_VERSION, _NO_TOPICS)


def ask(opened: socket.socket, client_id: str, api: int, version: int, body: bytes) -> bytes:
    """Body of the answer to one request. Raises `NotKafka` where the answer is not Kafka's, `OSError` for none."""
    request = struct.pack(">hhi", api, version, 0) + string(client_id) + body
    opened.sendall(struct.pack(">i", len(request)) + request)
    (size,) = struct.unpack(">i", _exactly(opened, 4))
    if not 4 <= size <= _LARGEST_ANSWER:
        raise NotKafka("the answer is not one of a Kafka broker")
    return _exactly(opened, size)[4:]


def _handshake_answer(answer: bytes) -> tuple[int, tuple[str, ...]]:
    code, count = struct.unpack_from(">hi", answer)
    at, names = 6, []
    for _ in range(max(count, 0)):
        (size,) = struct.unpack_from(">h", answer, at)
        names.append(answer[at + 2 : at + 2 + size].decode())
        at += 2 + size
    return code, tuple(names)


def _authenticate_answer(answer: bytes) -> tuple[int, str, bytes]:
    code, size = struct.unpack_from(">hh", answer)
    at = 4 + max(size, 0)
    said = answer[4:at].decode()
    (size,) = struct.unpack_from(">i", answer, at)
    return code, said, answer[at + 4 : at + 4 + max(size, 0)]


def string(text: str) -> bytes:
    """Text as a field of a request."""
    encoded = text.encode()
    return struct.pack(">h", len(encoded)) + encoded


def _exactly(opened: socket.socket, size: int) -> bytes:
    received = bytearray()
    while len(received) < size:
        part = opened.recv(size - len(received))
        if not part:
            raise ConnectionResetError("the broker closed the connection")
        received += part
    return bytes(received)
