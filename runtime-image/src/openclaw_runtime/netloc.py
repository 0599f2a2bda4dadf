"""Hosts as they stand in a URL."""


def in_url(host: str) -> str:
    """Returns a host name or an address; an IPv6 address in brackets, as RFC 3986 has it."""
    return f"[{host}]" if ":" in host else host
