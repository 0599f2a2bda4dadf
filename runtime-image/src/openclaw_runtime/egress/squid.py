"""Squid's configuration: a forward proxy that asks us about each request and splices TLS without opening it. Pure.

https://www.squid-cache.org/Doc/config/ and https://wiki.squid-cache.org/Features/SslPeekAndSplice
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

DECISION_HEADER: Final = "X-OpenClaw-Decision"
REQUEST_FIELDS: Final = ("phase", "client", "source_port", "method", "host", "port", "decision", "sni", "authorization")
"""What Squid says of a request to the decider, in this order and URL-escaped; `-` is nothing.

The source port is there so that no two requests are the same question.
"""
_REQUEST_FORMAT: Final = f"%>a %>p %>rm %>rd %>rP %>h{{{DECISION_HEADER}}} %ssl::>sni %>ha{{Proxy-Authorization}}"
LOG_FIELDS: Final = ("client", "decision", "status", "received", "sent", "duration_ms", "method")
_LOG_FORMAT: Final = "%>a %note{decision} %>Hs %<st %>st %tr %rm"

MAX_CONNECTIONS: Final = 64
"""Of one client at a time. A file descriptor is for all of them, and a tunnel takes four."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the files of one Squid are, all in a folder of its own, and what it listens on."""

    folder: Path
    host: str
    port: int
    inner_port: int
    trial_port: int
    log_port: int
    relay: Sequence[str]

    @property
    def certificate(self) -> Path:
        """A certificate nobody is ever shown: Squid wants one before it looks at TLS at all."""
        return self.folder / "unused.pem"

    @property
    def decide_socket(self) -> Path:
        """Where the service answers questions about requests."""
        return self.folder / "decide.sock"

    @property
    def rewrite_socket(self) -> Path:
        """Where the service says which address is dialled."""
        return self.folder / "rewrite.sock"

    @property
    def accept(self) -> Path:
        """The program that takes any password: the token in it is judged together with the request."""
        return self.folder / "accept"

    @property
    def configuration(self) -> Path:
        """squid.conf."""
        return self.folder / "squid.conf"


ACCEPT: Final = "while read -r _; do echo OK; done\n"


def configuration(layout: Layout) -> str:
    """Returns squid.conf.

    Squid is two proxies in a row. The first decides on the request, and a no is an answer of HTTP that every client
    understands. It passes CONNECT on to the second, which looks at the TLS name; there a no ends the connection, and
    if that one decided on the request, too, Squid would first say yes, to tell the reason inside of TLS. The first one
    takes the second for dead until it was tried; the third port is for that, and leads nowhere.
    """
    relay = " ".join(layout.relay)
    return f"""\
http_port {layout.host}:{layout.port} name=outer
http_port 127.0.0.1:{layout.inner_port} name=inner ssl-bump tls-cert={layout.certificate} generate-host-certificates=off
http_port 127.0.0.1:{layout.trial_port} name=trial
visible_hostname egress-proxy
httpd_suppress_version_string on
via off
forwarded_for delete
pid_filename none
coredump_dir none
cache_log stdio:/dev/stderr
cache_store_log none
netdb_filename none
cache deny all
cache_mem 0 MB
memory_pools off
digest_generation off
pinger_enable off
icp_port 0
htcp_port 0
snmp_port 0
max_filedescriptors 4096
shutdown_lifetime 2 seconds
request_header_max_size 24 KB
half_closed_clients off
client_lifetime 65 minutes
request_start_timeout 10 seconds
connect_timeout 10 seconds
forward_timeout 20 seconds
dns_defnames off
hosts_file none

# The token travels as the password, so that programs send it as they always do. It is judged with the request.
auth_param basic program /bin/sh {layout.accept}
auth_param basic children 2 startup=1 idle=1
auth_param basic realm OpenClaw egress
auth_param basic credentialsttl 1 minute
authenticate_ttl 1 minute
authenticate_cache_garbage_interval 1 minute

external_acl_type decide ttl=0 negative_ttl=0 cache=0 children-max=1 children-startup=1 concurrency=2000 \
queue-size=4000 %DATA {_REQUEST_FORMAT} {relay} {layout.decide_socket}
acl request_allowed external decide request
acl sni_allowed external decide sni
acl authenticated proxy_auth REQUIRED
acl inner myportname inner
acl trial myportname trial
acl ours myportname inner trial
acl connect method CONNECT
acl http proto HTTP
acl crowd maxconn {MAX_CONNECTIONS}
acl hello at_step SslBump1
acl named at_step SslBump2

http_access allow ours connect
http_access deny ours
# Before anything that takes time: one pod shall not use up what all need.
http_access deny crowd
http_access deny !authenticated
http_access deny !connect !http
http_access allow request_allowed
http_access deny all

# The address that was judged is the address that is dialled: names are resolved here once, not again by Squid.
url_rewrite_program {relay} {layout.rewrite_socket}
url_rewrite_children 1 startup=1 idle=1 concurrency=2000 queue-size=4000
url_rewrite_extras "%note{{decision}}"
url_rewrite_host_header off
url_rewrite_bypass off
url_rewrite_access deny ours
acl pinned note pinned yes
adapted_http_access allow ours
adapted_http_access allow pinned
adapted_http_access deny all

cache_peer 127.0.0.1 parent {layout.inner_port} 0 no-query no-digest no-netdb-exchange name=second
always_direct allow inner
always_direct allow !connect
never_direct allow all
request_header_access {DECISION_HEADER} deny all
request_header_add {DECISION_HEADER} "%note{{decision}}" connect !ours

# TLS is looked at as far as the name it asks for, and passed on as it is.
ssl_bump peek hello
ssl_bump splice named sni_allowed
ssl_bump terminate all

request_header_access Proxy-Authorization deny all
request_header_access X-Forwarded-For deny all
logformat decisions {_LOG_FORMAT}
access_log tcp://127.0.0.1:{layout.log_port} logformat=decisions !ours
logfile_rotate 0
"""
