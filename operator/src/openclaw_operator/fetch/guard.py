"""Which hosts and addresses may be fetched from.

Whoever may write a Skill makes the operator send requests, from a place where more is in reach than from his own: so
only public addresses are connected to, unless the platform engineer names a host. Names are checked after they are
resolved, and what was checked is what is connected to: a name that changes its address meanwhile gains nothing.
"""

from __future__ import annotations

import fnmatch
import ipaddress
import socket
from collections.abc import Iterable
from dataclasses import dataclass

from aiohttp.abc import AbstractResolver, ResolveResult

from openclaw_operator.errors import FetchError

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
# Well-known prefix of NAT64 (RFC 6052): the last 32 bits are an IPv4 address.
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
# Instance metadata of clouds that is not on a link-local address.
_METADATA = frozenset(ipaddress.ip_address(text) for text in ("fd00:ec2::254", "100.100.100.200", "168.63.129.16"))


@dataclass(frozen=True)
class Guard:
    """`hosts`: the only ones allowed, all when empty. `private_hosts`: those that may have private addresses.

    Entries are names or addresses, or *.example.com for everything below a domain.
    """

    hosts: tuple[str, ...] = ()
    private_hosts: tuple[str, ...] = ()

    def check_host(self, host: str) -> None:
        """Raise FetchError for a host that is not allowed, or an address that is none of a public host."""
        if self.hosts and not (_matches(host, self.hosts) or _matches(host, self.private_hosts)):
            raise FetchError(
                "SourceRefused",
                f"host {host!r} is not among those the operator may fetch from: ask for it in the chart value "
                "sources.allowedHosts",
            )
        try:
            address = ipaddress.ip_address(host.strip("[]"))
        except ValueError:
            return
        self.check_address(host, address)

    def check_address(self, host: str, address: _Address) -> None:
        """Raise FetchError for an address that a host must not have."""
        real = _unwrapped(address)
        never = real.is_link_local or real.is_multicast or real.is_unspecified or real in _METADATA
        if never or not (real.is_global or self._private_allowed(host, real)):
            raise FetchError(
                "SourceRefused",
                f"host {host!r} has the address {address}, which is not public: where it is meant to be fetched from, "
                "ask for the host in the chart value sources.privateHosts",
            )

    def _private_allowed(self, host: str, address: _Address) -> bool:
        """A pattern covers names that others may add: none of them reaches the operator's own pod."""
        if address.is_loopback:
            return host.strip("[]").lower() in {entry.lower() for entry in self.private_hosts}
        return _matches(host, self.private_hosts)


def _matches(host: str, patterns: Iterable[str]) -> bool:
    name = host.strip("[]").rstrip(".").lower()
    return any(fnmatch.fnmatchcase(name, pattern.lower()) for pattern in patterns)


def _unwrapped(address: _Address) -> _Address:
    """The IPv4 address inside an IPv6 one: https://www.rfc-editor.org/rfc/rfc4291#section-2.5.5.2."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return address.ipv4_mapped
        if address.sixtofour:
            return address.sixtofour
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


class GuardedResolver(AbstractResolver):
    """Resolves names as `inner` does, and lets through only what the guard allows. Proxies are the operator's own."""

    def __init__(self, guard: Guard, inner: AbstractResolver, proxies: frozenset[str]) -> None:
        self._guard = guard
        self._inner = inner
        self._proxies = proxies

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Raise FetchError when any address of the host is not allowed."""
        found = await self._inner.resolve(host, port, family)
        if host not in self._proxies:
            for each in found:
                self._guard.check_address(host, ipaddress.ip_address(each["host"].partition("%")[0]))
        return found

    async def close(self) -> None:
        """Release what the inner resolver holds."""
        await self._inner.close()
