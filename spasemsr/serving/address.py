"""Where the page is to be reached: asked before a model is loaded for it, no torch import."""

import errno
import socket

from spasemsr.errors import UserError


def require_free(host: str, port: int) -> None:
    """Raise UserError where the page could not be served: a host that is not this machine's, a port that is taken."""
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as trial:
            # as the server does: a page that was just closed is no hurdle
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(place)
    except (OSError, UnicodeError) as error:
        of_port = getattr(error, "errno", None) in (errno.EADDRINUSE, errno.EACCES)
        raise UserError(
            f"The page cannot be served on {host}:{port}: {getattr(error, 'strerror', None) or error}.",
            "Take another --port; 0 takes a free one."
            if of_port
            else "Take --host 127.0.0.1 for this machine alone, or 0.0.0.0 for everybody.",
        ) from None
