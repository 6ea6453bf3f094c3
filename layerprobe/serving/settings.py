"""Settings of the server, and the socket that it accepts connections on."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from dataclasses import dataclass

from layerprobe.probe.exceptions import InputError
from layerprobe.probe.training.options import option

LOOPBACK = "127.0.0.1"
TOKEN_VARIABLE = "LAYERPROBE_TOKEN"
SHORTEST_TOKEN = 16  # characters
WAITING_PER_THREAD = 4  # requests that wait for each that is encoded
BACKLOG = 128  # connections that the system holds before they are accepted


@dataclass(frozen=True)
class ServingSettings:
    """Where the server listens and what it accepts."""

    port: int = option(8000, low=0, high=65535, help="Port to listen on; 0 takes a free one.")
    host: str = option(
        LOOPBACK, help="Address to listen on; any other than this machine's own (127.0.0.1) needs --token."
    )
    token: str = option(
        "",
        help="Token that requests to /api/ must bring, those of the page, too (at least 16 characters); better set as "
        f"the variable {TOKEN_VARIABLE}, which other users of the machine do not see.",
    )
    max_mb: float = option(50.0, low=0.001, help="Largest recording that is received, in megabytes.")
    max_seconds: float = option(600.0, low=1.0, help="Longest recording that is rated, in seconds.")
    concurrency: int = option(2, low=1, high=64, help="Recordings encoded at once, each by one thread.")
    timeout: float = option(
        60.0, low=1.0, help="Seconds in which a recording must arrive, and seconds in which it must be rated."
    )

    @property
    def max_bytes(self) -> int:
        """Largest body of a request."""
        return int(self.max_mb * 1e6)

    @property
    def waiting(self) -> int:
        """Requests that may wait while others are encoded."""
        return WAITING_PER_THREAD * self.concurrency

    @property
    def secret(self) -> str:
        """The token of the option, or of the environment; "" for none."""
        return self.token or os.environ.get(TOKEN_VARIABLE, "")


def open_socket(settings: ServingSettings) -> socket.socket:
    """Return a socket that listens at the host and port of the settings.

    Raises:
        InputError: if the host is no address of this machine, or not its own and there is no token, if the token is too
            short, or if the port is in use
    """
    host, token = settings.host, settings.secret
    try:
        family, _, _, _, address = socket.getaddrinfo(host, settings.port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise InputError(
            "LP953", f"{host} is no address of this machine ({_reason(error)}). Leave --host out, or name its address."
        ) from error
    if not ipaddress.ip_address(str(address[0]).split("%")[0]).is_loopback and not token:
        raise InputError(
            "LP950",
            f"{host} can be reached from other machines, and there is no token. Leave --host out, or set the variable "
            f"{TOKEN_VARIABLE} to a token that requests must bring.",
        )
    if token and (len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable() or " " in token):
        raise InputError(
            "LP952",
            f"The token must have at least {SHORTEST_TOKEN} characters, all of them ASCII and none a blank. "
            'python -c "import secrets; print(secrets.token_urlsafe())" prints one.',
        )
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as after a server that just ended
        opened.bind(address)
        opened.listen(BACKLOG)
    except OSError as error:
        opened.close()
        raise _binding_error(settings, error) from error
    return opened


def _binding_error(settings: ServingSettings, error: OSError) -> InputError:
    if error.errno == errno.EADDRNOTAVAIL:
        return InputError(
            "LP953",
            f"{settings.host} is no address of this machine ({_reason(error)}). Leave --host out, or name its address.",
        )
    return InputError(
        "LP951",
        f"Port {settings.port} of {settings.host} can't be used ({_reason(error)}). End what listens there, or choose "
        "another: --port 0 takes a free one.",
    )


def _reason(error: OSError | UnicodeError) -> str:
    return (getattr(error, "strerror", None) or str(error)).lower()


def url_of(opened: socket.socket, host: str) -> str:
    """Return the URL of the page that is served on a socket.

    Args:
        opened: of `open_socket`
        host: as it was named
    """
    name = "127.0.0.1" if host == "0.0.0.0" else "[::1]" if host == "::" else host
    name = f"[{name}]" if ":" in name and not name.startswith("[") else name
    return f"http://{name}:{opened.getsockname()[1]}/"
