"""The egress proxy of a namespace: Squid carries the connections, the code in here decides on each of them.

See docs/egress.md. `grant` is what a gateway signs for a call, `policy` decides (pure), `squid` writes Squid's
configuration, `journal` keeps, logs and counts the decisions, `service` joins them, `ask` is the gateway's side.
"""
