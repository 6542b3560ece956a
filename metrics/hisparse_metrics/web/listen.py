"""Where to listen: addresses as a person writes them, and sockets that systemd hands over."""

from __future__ import annotations

import errno
import os
import re
import socket
from collections.abc import MutableMapping

from hisparse_metrics.web.errors import ExporterError

_MAX_PORT = 65535
_BACKLOG = 512
_LISTEN = re.compile(r"(\[(?P<ipv6>[^\[\]]+)\]|(?P<host>[^:\[\]]*)):(?P<port>[0-9]{1,5})", re.ASCII)
_FIRST_SYSTEMD_FD = 3
_ANYWHERE = ("", "0.0.0.0", "::")  # noqa: S104 - to name it, not to bind


def parse_listen(text: str) -> tuple[str, int]:
    """Split ``HOST:PORT``, ``[IPV6]:PORT`` or ``:PORT`` (every interface).

    Raises :class:`ExporterError` when it is none of them.
    """
    found = _LISTEN.fullmatch(text)
    if found is None or int(found["port"]) > _MAX_PORT:
        raise ExporterError(f"cannot listen on {text!r}: expected HOST:PORT with a port of 0 to {_MAX_PORT}")
    return found["ipv6"] or found["host"] or "", int(found["port"])


def open_listener(host: str, port: int) -> socket.socket:
    """Bind and listen; :class:`ExporterError` when the address cannot be had. Looks up no name of this machine."""
    try:
        family, address = _resolve(host, port)
        return socket.create_server(address, family=family, backlog=_BACKLOG)
    except (OSError, UnicodeError) as error:
        raise ExporterError(_explain(host, port, error)) from error


def systemd_listeners(environ: MutableMapping[str, str] = os.environ) -> list[socket.socket]:
    """Take over the sockets of systemd's socket activation; :class:`ExporterError` when there are none for us.

    The variables are removed, so that no child process believes that they are for it.
    """
    pid, count = environ.pop("LISTEN_PID", ""), environ.pop("LISTEN_FDS", "")
    environ.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not count.isdigit() or count == "0":
        raise ExporterError(
            "cannot listen: systemd passed no sockets to this process; "
            "start it from a .socket unit, or leave out --web.systemd-socket"
        )
    return [_adopt(_FIRST_SYSTEMD_FD + index) for index in range(int(count))]


def url_of(listener: socket.socket, host: str | None, *, tls: bool) -> str:
    """Return where a client on this machine finds ``listener``; ``host`` as it was asked for, where it was."""
    name = listener.getsockname()
    if listener.family == socket.AF_UNIX:
        return f"unix:{name}"
    asked = name[0] if host is None else host
    shown = "localhost" if asked in _ANYWHERE else asked
    return f"{'https' if tls else 'http'}://{_address(shown, name[1])}"


def _adopt(fd: int) -> socket.socket:
    os.set_inheritable(fd, False)
    return socket.socket(fileno=fd)


def _resolve(host: str, port: int) -> tuple[socket.AddressFamily, tuple[str, int]]:
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, _, _, _, address = found[0]
    return family, (str(address[0]), int(address[1]))


def _explain(host: str, port: int, error: Exception) -> str:
    reason = "the port is in use" if getattr(error, "errno", 0) == errno.EADDRINUSE else str(error)
    remedy = "stop the program that has it, or choose another address with --listen HOST:PORT"
    return f"cannot listen on {_address(host or '*', port)}: {reason}; {remedy} (port 0 takes any free one)"


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
