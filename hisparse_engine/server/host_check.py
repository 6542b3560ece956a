"""Who may ask a server that needs no key and listens on loopback: programs of this machine, not web pages.

A page that a browser of this machine shows can give its own name this machine's address (DNS rebinding) and then ask
as its own server. Its requests still carry its name.
"""

from __future__ import annotations

import ipaddress
from http import HTTPStatus

from starlette.types import ASGIApp, Receive, Scope, Send

from hisparse_engine.server.errors import ApiError
from hisparse_engine.server.failures import respond_with


def is_loopback(host: str) -> bool:
    """Tell whether a name or an address, as a ``Host`` header or a socket has it, means this machine."""
    name = host[1:].partition("]")[0] if host.startswith("[") else host.rpartition(":")[0] or host
    name = host if host.count(":") > 1 and not host.startswith("[") else name
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        lowered = name.rstrip(".").lower()
        return lowered == "localhost" or lowered.endswith(".localhost")


class HostCheck:
    """ASGI middleware: answers only requests that were sent to this machine by a name of its own."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 403."""
        hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        if len(hosts) == 1 and is_loopback(hosts[0]):
            await self._app(scope, receive, send)
        else:
            await respond_with(_foreign(", ".join(hosts)), scope, receive, send)


def _foreign(host: str) -> ApiError:
    return ApiError(
        HTTPStatus.FORBIDDEN,
        f"Host: {host[:100]!r} is no name of the loopback interface, and this server listens there without a key; ask "
        "for localhost, or start it with --api-key-file to let it be known by other names",
        code="foreign_host",
    )
