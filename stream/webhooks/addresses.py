"""Where a webhook may point: the rules for an address as it is written, and for the one that its name resolves to.

Whoever may add a webhook must not reach with it what only machines of the lender's network reach. Names are resolved by
`stream.webhooks.sender`, and what is checked here is what it connects to. Does no I/O.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self, TypeAlias
from urllib.parse import urlsplit

IpAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

LONGEST_URL = 2_000

_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")
"""What IANA has set aside in IPv6 for public addresses. Python's own list of what is not public grows with its
releases, and lacks site-local and further translated networks."""

_TRANSLATED = ipaddress.ip_network("64:ff9b::/96")
"""IPv6 addresses that a gateway turns into the IPv4 address in their last 32 bits (RFC 6052)."""


class ForbiddenAddress(ValueError):
    """An address that a webhook may not have; the message says why and repeats neither path nor query, which may hold a
    secret."""


@dataclass(frozen=True)
class Target:
    """An address of a receiver, taken apart."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        """Scheme, host and port: what may be shown and logged."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        default = {"https": 443, "http": 80}[self.scheme]
        return f"{self.scheme}://{host}{'' if self.port == default else f':{self.port}'}"


@dataclass(frozen=True)
class AddressRules:
    """`networks` may be reached although they are not public. With `insecure`, plain HTTP may leave this machine."""

    networks: tuple[Network, ...] = ()
    insecure: bool = False

    @classmethod
    def parse(cls, networks: str | None, *, insecure: bool = False) -> Self:
        """From `10.1.0.0/16,127.0.0.1`. Raises `ValueError` naming the part that is no network."""
        parts = [part.strip() for part in (networks or "").split(",")]
        return cls(tuple(_network(part) for part in parts if part), insecure)

    def target(self, written: str) -> Target:
        """An address as it is written, without a look at what its name resolves to. Raises `ForbiddenAddress`."""
        if len(written) > LONGEST_URL or not written.isascii() or any(ord(each) <= 32 for each in written):
            raise ForbiddenAddress(
                f"is no address: expected https://host/path of at most {LONGEST_URL:,} ASCII characters without blanks"
            )
        try:
            parts = urlsplit(written)
            host, port = parts.hostname, parts.port
        except ValueError:
            host, port, parts = None, None, urlsplit("")
        if parts.scheme not in ("https", "http") or not host:
            raise ForbiddenAddress("is no address: expected https://host/path")
        if parts.username is not None or parts.password is not None:
            raise ForbiddenAddress("holds a user or password; receivers know us by the signature")
        if parts.fragment:
            raise ForbiddenAddress("has a fragment (#…), which no server would see")
        found = Target(parts.scheme, host, port or (443 if parts.scheme == "https" else 80))
        literal = _literal(host)
        if literal is not None:
            self.require(literal, found)
        elif found.scheme == "http" and not self.insecure and host.rstrip(".") != "localhost":
            raise ForbiddenAddress(f"{found} would send borrowers' data without encryption; give an https:// address")
        return found

    def require(self, address: IpAddress, target: Target) -> None:
        """Whether `target` may be reached at `address`. Raises `ForbiddenAddress`."""
        embedded = _embedded(address)
        for each in (address, *embedded):
            allowed = any(each in network for network in self.networks if network.version == each.version)
            if not allowed and not _is_public(each):
                raise ForbiddenAddress(
                    f"{target} is at {each}, which is no public address; add its network to webhook_networks if it may "
                    "be reached"
                )
        innermost = embedded[-1] if embedded else address
        if target.scheme == "http" and not innermost.is_loopback and not self.insecure:
            raise ForbiddenAddress(f"{target} would send borrowers' data without encryption; give an https:// address")

    def admissible(self, addresses: Sequence[str], target: Target) -> list[IpAddress]:
        """What of resolved addresses may be connected to. Raises `ForbiddenAddress` unless it is all of them: a name
        that is public and private at once is an attack, or a mistake."""
        found = [ipaddress.ip_address(each.partition("%")[0]) for each in addresses]
        for address in found:
            self.require(address, target)
        return found


def _is_public(address: IpAddress) -> bool:
    # `is_global` holds for some multicast.
    if not address.is_global or address.is_multicast:
        return False
    return isinstance(address, ipaddress.IPv4Address) or address in _GLOBAL_UNICAST or address in _TRANSLATED


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is no network ({error}); expected e.g. 10.1.0.0/16") from None


def _literal(host: str) -> IpAddress | None:
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None


def _embedded(address: IpAddress) -> list[IpAddress]:
    """The IPv4 addresses that an IPv6 address leads to."""
    if not isinstance(address, ipaddress.IPv6Address):
        return []
    found: list[IpAddress] = [each for each in (address.ipv4_mapped, address.sixtofour) if each is not None]
    if address.teredo is not None:
        found += address.teredo
    if address in _TRANSLATED:
        found.append(ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF))
    return found
