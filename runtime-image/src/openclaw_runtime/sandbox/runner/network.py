"""How a skill finds the egress proxy: the variables that HTTP clients of all languages look at."""

from openclaw_runtime.sandbox.protocol import CallPayload


def proxy_environment(payload: CallPayload) -> dict[str, str]:
    """Returns the environment variables of a call; none where it has no way out."""
    if not payload.proxy_url:
        return {}
    names = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")
    # Nothing is reached without the proxy. Node's own clients look at the variables only if they are told to.
    return dict.fromkeys(names, payload.proxy_url) | {"NO_PROXY": "", "no_proxy": "", "NODE_USE_ENV_PROXY": "1"}
