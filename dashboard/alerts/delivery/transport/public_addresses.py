"""Restricts webhooks to addresses of the public internet.

`is_global` of the standard library differs between versions and accepts multicast and IPv6 addresses that wrap an inner
IPv4 address, so those ranges are listed here. Names, decimal and octal spellings need no special handling: the check
applies to the resolver's answer, and exactly that address is connected to.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from ipaddress import IPv4Address, ip_address, ip_network
from typing import Any, NamedTuple, TypeAlias

from .deadline import Deadline

# The signature of socket.getaddrinfo; tests pass their own.
Resolver: TypeAlias = Callable[..., list[tuple[Any, ...]]]
# Only this part of IPv6 is allocated to the public; loopback, link-local, unique local, multicast and IPv4-mapped
# addresses, 64:ff9b::/96 and 64:ff9b:1::/48 are all outside it.
_PUBLIC_V6 = ip_network("2000::/3")
_REFUSED_V6 = tuple(
    ip_network(text)
    for text in (
        "2001::/23",  # protocol assignments, including Teredo, which wraps IPv4
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4 wraps IPv4
        "3fff::/20",  # documentation
    )
)
_REFUSED_V4 = tuple(
    ip_network(text)
    for text in (
        "192.0.0.0/24",  # protocol assignments
        "192.88.99.0/24",  # 6to4 relays
        "168.63.129.16/32",  # the Azure platform, reachable only from its machines
    )
)


class Address(NamedTuple):
    """Where to connect: the family, and the address in the form of `socket.connect`."""

    family: int
    sockaddr: tuple[str | int, ...]


class AddressRefusedError(OSError):
    """The name resolves to an address that webhooks must not reach."""


def is_public(text: str) -> bool:
    """Whether this is an address of the public internet; False for an invalid one."""
    try:
        address = ip_address(text)
    except ValueError:
        return False
    if not address.is_global or address.is_multicast or address.is_reserved:
        return False
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _REFUSED_V4)
    return address in _PUBLIC_V6 and not any(address in network for network in _REFUSED_V6)


def resolve_host(
    host: str, port: int, deadline: Deadline, *, allow_private: bool, resolver: Resolver = socket.getaddrinfo
) -> list[Address]:
    """The addresses of `host`, at least one, in the resolver's order. The resolver is called exactly once.

    Raises AddressRefusedError when any of them is not public: a name that resolves to both is not trusted.
    Raises socket.gaierror and TimeoutError.
    """
    found = deadline.run_bounded(lambda: resolver(host, port, type=socket.SOCK_STREAM))
    addresses = [Address(family, sockaddr) for family, _, _, _, sockaddr in found]
    addresses = [address for address in addresses if address.family in (socket.AF_INET, socket.AF_INET6)]
    if not addresses:
        raise socket.gaierror(socket.EAI_NONAME, "no address")
    if not allow_private and not all(is_public(str(address.sockaddr[0])) for address in addresses):
        raise AddressRefusedError
    return addresses


def connect_first(addresses: list[Address], deadline: Deadline) -> socket.socket:
    """A watched connection to the first address that responds. Raises the OSError of the last one."""
    error: OSError = TimeoutError()
    for number, address in enumerate(addresses):
        # Each address gets a share of the time, so that an unresponsive one leaves some for the others.
        share_s = deadline.remaining_s() / (len(addresses) - number)
        try:
            return deadline.connect_socket(address.family, address.sockaddr, within_s=share_s)
        except OSError as exc:
            error = exc
    raise error
