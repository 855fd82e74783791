from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.webhooks.addresses import AddressRules, ForbiddenAddress, Target

STRICT = AddressRules()
LOOPBACK = AddressRules.parse("127.0.0.0/8, ::1")
HOOK = Target("https", "hook.example.com", 443)

NOT_PUBLIC = (
    "127.0.0.1", "127.8.9.1", "0.0.0.0", "10.0.0.1", "172.16.3.4", "192.168.1.1", "169.254.169.254", "100.64.0.1",
    "192.0.2.1", "198.18.0.1", "224.0.0.1", "239.1.2.3", "240.0.0.1", "255.255.255.255", "::1", "::", "fe80::1",
    "fc00::1", "fd00:ec2::254", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a00:1",
    "2002:7f00:1::", "2002:a9fe:a9fe::1", "2001:0:0:0:0:0:80ff:fffe", "2001:db8::1",
    "fec0::1", "64:ff9b:1::a00:1", "::7f00:1", "::a00:1", "5f00::1", "4000::1", "::ffff:0:7f00:1",
)  # fmt: skip


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_what_is_not_public_is_not_reached(address: str) -> None:
    with pytest.raises(ForbiddenAddress, match="no public address"):
        STRICT.require(ipaddress.ip_address(address), HOOK)
    literal = f"[{address}]" if ":" in address else address
    with pytest.raises(ForbiddenAddress, match="no public address"):
        STRICT.target(f"https://{literal}/hook")


@given(st.ip_addresses())
def test_only_global_addresses_or_those_of_the_setting_pass(address: ipaddress.IPv4Address) -> None:
    try:
        STRICT.require(address, HOOK)
    except ForbiddenAddress:
        AddressRules.parse("0.0.0.0/0,::/0").require(address, HOOK)
    else:
        assert address.is_global
        assert not address.is_multicast


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1::1", "64:ff9b::5db8:d822"])
def test_what_is_public_is_reached(address: str) -> None:
    STRICT.require(ipaddress.ip_address(address), HOOK)


def test_the_setting_allows_its_networks_and_no_others() -> None:
    for host in ("127.0.0.1", "[::1]"):
        LOOPBACK.target(f"https://{host}:8443/")
    with pytest.raises(ForbiddenAddress):
        LOOPBACK.target("https://10.0.0.1/")
    with pytest.raises(ForbiddenAddress):
        AddressRules.parse("10.1.0.0/16").target("https://10.2.0.1/")


def test_a_name_that_is_public_and_private_at_once_is_refused() -> None:
    with pytest.raises(ForbiddenAddress, match=r"10\.0\.0\.1"):
        STRICT.admissible(["93.184.216.34", "10.0.0.1"], HOOK)
    assert [str(each) for each in STRICT.admissible(["93.184.216.34"], HOOK)] == ["93.184.216.34"]


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("", "is no address"),
        ("hook.example.com", "is no address"),
        ("ftp://hook.example.com/", "is no address"),
        ("file:///etc/passwd", "is no address"),
        ("https:///path", "is no address"),
        ("https://hook.example.com:99999/", "is no address"),
        ("https://hook.example.com/a b", "is no address"),
        ("https://hook.example.com/\r\nHost: x", "is no address"),
        ("https://h" + "o" * 3000, "is no address"),
        ("https://exämple.com/", "is no address"),
        ("https://user:password@hook.example.com/", "user or password"),
        ("https://hook.example.com/#part", "fragment"),
        ("http://hook.example.com/?token=abc", "without encryption"),
        ("http://93.184.216.34/", "without encryption"),
    ],
)
def test_what_is_no_address_for_borrowers_data_is_refused(written: str, why: str) -> None:
    with pytest.raises(ForbiddenAddress, match=why) as caught:
        STRICT.target(written)
    assert "abc" not in str(caught.value)
    assert "password@" not in str(caught.value)


def test_plain_http_stays_on_this_machine_unless_told_otherwise() -> None:
    LOOPBACK.target("http://127.0.0.1:8000/")
    LOOPBACK.target("http://localhost:8000/")  # what it resolves to is looked at when it is connected to
    plain = Target("http", "localhost", 80)
    LOOPBACK.require(ipaddress.ip_address("127.0.0.1"), plain)
    with pytest.raises(ForbiddenAddress, match="without encryption"):
        AddressRules.parse("10.0.0.0/8").require(ipaddress.ip_address("10.0.0.1"), plain)
    AddressRules.parse("10.0.0.0/8", insecure=True).require(ipaddress.ip_address("10.0.0.1"), plain)


def test_an_address_is_shown_without_its_path() -> None:
    assert str(STRICT.target("https://hook.example.com/hooks/secret?token=abc")) == "https://hook.example.com"
    assert str(STRICT.target("https://hook.example.com:8443/x")) == "https://hook.example.com:8443"
