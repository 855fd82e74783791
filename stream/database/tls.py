"""Finds out why a server's certificate was refused: libpq says only that it was. Sends nothing but what begins TLS."""

from __future__ import annotations

import os
import socket
import ssl
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_SSL_REQUEST = struct.pack(">ii", 8, 80_877_103)
_NOT_YET_VALID, _EXPIRED = 9, 10


def refused_certificate(given: Mapping[str, Any], timeout_s: float = 5.0) -> str | None:
    """`what; what to do` where the certificate of the first host of these libpq parameters does not pass; None where it
    does, or nobody answers. The host name is not looked at: of that libpq tells itself."""
    hosts = str(given.get("hostaddr") or given.get("host") or "localhost").split(",")
    ports = str(given.get("port") or 5432).split(",")
    try:
        context = _context(str(given.get("sslrootcert") or os.environ.get("PGSSLROOTCERT") or ""))
        with socket.create_connection((hosts[0], int(ports[0])), timeout=timeout_s) as opened:
            opened.sendall(_SSL_REQUEST)
            if opened.recv(1) != b"S":
                return None
            with context.wrap_socket(opened, server_hostname=hosts[0]):
                return None
    except ssl.SSLCertVerificationError as error:
        return _described(error)
    except (OSError, ValueError):
        return None


def _context(authorities: str) -> ssl.SSLContext:
    """As libpq has it: `system`, a file, or the file in the user's folder."""
    if authorities == "system":
        context = ssl.create_default_context()
    else:
        context = ssl.create_default_context(cafile=authorities or Path.home() / ".postgresql" / "root.crt")
    context.check_hostname = False
    return context


def _described(error: ssl.SSLCertVerificationError) -> str:
    if error.verify_code == _EXPIRED:
        return "the server's certificate has expired; it has to be renewed"
    if error.verify_code == _NOT_YET_VALID:
        return "the server's certificate is not valid yet; check the clocks of both machines"
    return (
        f"the server's certificate comes from an authority that is not trusted ({error.verify_message}); set "
        "sslrootcert in database_url to the PEM file of the authority that signed it"
    )
