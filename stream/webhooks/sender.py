"""Sends one message by HTTP and says what came of it. Knows neither the database nor the topics.

What is connected to is what was checked: a name is resolved once for each connection, all its addresses must pass the
rules, and the socket is made for one of these. Redirects are not followed and no proxy of the environment is used. An
answer's body is read up to a limit, so that the connection can be used again, and thrown away.
"""

from __future__ import annotations

import asyncio
import email.utils
import ipaddress
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from stream.webhooks.addresses import AddressRules, ForbiddenAddress, Target
from stream.webhooks.schedule import Answer

MOST_ANSWER_BYTES = 64 * 1024
KEPT_OPEN_S = 15.0
USER_AGENT = "foreshock-webhooks"

NAMES_AT_ONCE = 32
"""So many names are looked up at a time, of all receivers; each of them once."""

_NUMERIC = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV


class _Refused(OSError):
    """An address that may not be connected to, as an error that aiohttp passes on."""


class _CheckedResolver(AbstractResolver):
    """Resolves names to addresses that the rules admit.

    In threads of its own: a name server that does not answer holds a thread for half a minute, and of those that all
    share there are few, which the database needs. A name that is asked for again meanwhile waits for the same answer.
    """

    def __init__(self, rules: AddressRules, scheme: str) -> None:
        self._rules, self._scheme = rules, scheme
        self._threads = ThreadPoolExecutor(NAMES_AT_ONCE, thread_name_prefix="names")
        self._asked: dict[tuple[str, int, int], asyncio.Future[list[Any]]] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        wanted = (host, port, int(family))
        if (asking := self._asked.get(wanted)) is None:
            look_up = partial(
                socket.getaddrinfo, host, port, family, socket.SOCK_STREAM, flags=getattr(socket, "AI_ADDRCONFIG", 0)
            )
            asking = self._asked[wanted] = asyncio.get_running_loop().run_in_executor(self._threads, look_up)
            asking.add_done_callback(partial(self._answered, wanted))
        found = await asyncio.shield(asking)  # who waits no longer leaves it to the others
        results = [
            ResolveResult(hostname=host, host=_host_of(address), port=port, family=of, proto=protocol, flags=_NUMERIC)
            for of, _, protocol, _, address in found
        ]
        try:
            self._rules.admissible([each["host"] for each in results], Target(self._scheme, host, port))
        except ValueError as error:
            raise _Refused(str(error)) from None
        return results

    def _answered(self, wanted: tuple[str, int, int], asking: asyncio.Future[list[Any]]) -> None:
        self._asked.pop(wanted, None)
        if not asking.cancelled():
            asking.exception()  # who had asked may be gone

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


def _host_of(address: tuple[Any, ...]) -> str:
    """The host of a socket's address; with its zone, which link-local ones have."""
    return f"{address[0]}%{address[3]}" if len(address) == 4 and address[3] else str(address[0])


def _socket_maker(rules: AddressRules, scheme: str) -> Callable[[Any], socket.socket]:
    """Makes the socket for an address that is about to be connected to, whoever resolved it."""

    def make(info: Any) -> socket.socket:
        family, kind, protocol, _, address = info
        host = str(address[0])
        try:
            rules.require(ipaddress.ip_address(host.partition("%")[0]), Target(scheme, host, address[1]))
        except ValueError as error:
            raise _Refused(str(error)) from None
        return socket.socket(family, kind, protocol)

    return make


class Sender:
    """An HTTP client for all receivers; to be used as an async context manager."""

    def __init__(
        self,
        rules: AddressRules,
        timeout_s: float,
        cafile: Path | None = None,
        clock_s: Callable[[], float] = time.time,
    ) -> None:
        """`timeout_s` is for all of a try, from the look-up of the name to the end of the answer. `cafile` holds the
        authorities that may sign receivers' certificates; None means the system's. Raises `OSError`, `ssl.SSLError`."""
        self._rules = rules
        self._timeout_s = timeout_s
        self._clock_s = clock_s
        self._tls = ssl.create_default_context(cafile=None if cafile is None else str(cafile))
        self._sessions: dict[str, aiohttp.ClientSession] = {}
        self._resolvers: list[_CheckedResolver] = []

    async def __aenter__(self) -> Self:
        for scheme in ("https", "http"):
            self._resolvers.append(resolver := _CheckedResolver(self._rules, scheme))
            connector = aiohttp.TCPConnector(
                resolver=resolver,
                socket_factory=_socket_maker(self._rules, scheme),
                ssl=self._tls,
                use_dns_cache=False,
                limit=0,
                keepalive_timeout=KEPT_OPEN_S,
            )
            self._sessions[scheme] = aiohttp.ClientSession(
                connector=connector,
                timeout=aiohttp.ClientTimeout(total=self._timeout_s),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                auto_decompress=False,
                headers={"User-Agent": USER_AGENT},
            )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for session in self._sessions.values():
            await session.close()
        for resolver in self._resolvers:
            await resolver.close()

    async def send(self, address: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Try once. Raises nothing that the receiver or the network could cause."""
        try:
            target = self._rules.target(address)
        except ForbiddenAddress as error:
            return Answer(
                None, f"its address {error}" if str(error).startswith(("is ", "holds ", "has ")) else str(error)
            )
        try:
            # aiohttp's own limit does not hold for a name server that is slow to answer.
            async with asyncio.timeout(self._timeout_s):
                return await self._post(target, address, headers, body)
        except TimeoutError:
            return Answer(None, f"{target} has not answered within {self._timeout_s:g} s")
        except aiohttp.ClientError as error:
            return Answer(None, f"{target} {_words(error)}")
        except (OSError, ValueError) as error:
            return Answer(None, f"{target}: {type(error).__name__}")

    async def _post(self, target: Target, address: str, headers: Mapping[str, str], body: bytes) -> Answer:
        async with self._sessions[target.scheme].post(
            URL(address, encoded=True),
            data=body,
            headers={"Content-Type": "application/json", **headers},
            allow_redirects=False,
        ) as response:
            wait_s = _seconds(response.headers.get("Retry-After"), self._clock_s())
            left = MOST_ANSWER_BYTES
            try:
                while left > 0 and (part := await response.content.read(left)):
                    left -= len(part)
            except (aiohttp.ClientError, ValueError):
                pass  # the status has said what there is to say
            if left <= 0:
                response.close()
            return Answer(response.status, wait_s=wait_s)


def _words(error: aiohttp.ClientError) -> str:
    """What went wrong, without words of the receiver and without its path."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        why = error.certificate_error
        return f"has a certificate that does not pass: {getattr(why, 'verify_message', '') or type(why).__name__}"
    if isinstance(error, aiohttp.ClientConnectorError):
        cause = error.os_error
        refused = next((each for each in _causes(cause) if isinstance(each, _Refused)), None)
        if refused is not None:
            return f"may not be reached: {refused}"
        if isinstance(cause, ssl.SSLError):
            return f"has no TLS that we speak: {cause.reason or type(cause).__name__}"
        return f"cannot be reached: {cause.strerror or type(cause).__name__}"
    return f"has broken off: {type(error).__name__}"


def _causes(error: BaseException | None) -> list[BaseException]:
    """An error, what it was made of and what came before it."""
    found: list[BaseException] = []
    waiting = [error]
    while waiting:
        one = waiting.pop()
        if one is None or one in found:
            continue
        found.append(one)
        waiting += [one.__cause__, one.__context__, *(one.exceptions if isinstance(one, BaseExceptionGroup) else ())]
    return found


def _seconds(written: str | None, now_s: float) -> float | None:
    """A `Retry-After`: seconds, or a date. None where it is neither."""
    if written is None:
        return None
    text = written.strip()
    if text.isascii() and text.isdigit() and len(text) < 10:
        return float(text)
    try:
        return max(email.utils.parsedate_to_datetime(text).timestamp() - now_s, 0.0)
    except (ValueError, OverflowError):
        return None
