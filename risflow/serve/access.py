"""Who may use the page of `risflow serve`: its names, its own pages, and one who knows its login.

The check of the host keeps pages of other sites from reaching the server through a name of theirs
that they point to it (DNS rebinding); the check of the origin keeps them from posting to it.
"""

import base64
import binascii
import hashlib
import ipaddress
import os
import re
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import Scope

from stages.runtime.errors import InputError

LOGIN = "RISFLOW_LOGIN"  # the variable of the environment
_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+))(?::\d{1,5})?", re.IGNORECASE)


@dataclass(frozen=True)
class Access:
    """What a request must have."""

    hosts: frozenset[str] = frozenset()  # names beside those of the loopback, in lower case
    login: str | None = None  # name:password

    def require(self, scope: Scope) -> None:
        """Raises HTTPException for a request that has another host, origin or login."""
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        host = hosts[0].lower() if len(hosts) == 1 else ""
        if not self._has_host(host, scope):
            raise HTTPException(403, "host: not a name of this server; see --allow-host")
        own = (f"http://{host}", f"https://{host}")
        if any(origin.lower() not in own for origin in headers.getlist("origin")):
            raise HTTPException(403, "origin: a page of another site; open this server's own page")
        if self.login is not None and not _is_login(headers.get("authorization", ""), self.login):
            challenge = {"WWW-Authenticate": 'Basic realm="risflow", charset="UTF-8"'}
            raise HTTPException(401, "a name and a password are needed", challenge)

    def _has_host(self, host: str, scope: Scope) -> bool:
        match = _HOST.fullmatch(host)
        if match is None:
            return False
        name = match[1] or match[2]
        if name == "localhost" or name in self.hosts:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        reached = (scope.get("server") or [None])[0]  # the address that the connection came to
        return address.is_loopback or name == reached


def _is_login(authorization: str, login: str) -> bool:
    """Whether the header holds the login; takes equally long wherever they differ."""
    scheme, _, encoded = authorization.partition(" ")
    try:
        given = base64.b64decode(encoded.strip(), validate=True)
    except (binascii.Error, ValueError):
        return False
    digests = hashlib.sha256(given).digest(), hashlib.sha256(login.encode()).digest()
    return secrets.compare_digest(*digests) and scheme.lower() == "basic"


def read_login(file: Path | None) -> str | None:
    """The login from a file of one line, else from the environment, else None.

    It is no option of its own: everyone on the machine sees the options of a process. Raises
    InputError for a file that others can read, and for a login that is not name:password.
    """
    if file is None:
        login, place = os.environ.get(LOGIN), LOGIN
    else:
        if file.is_dir():
            raise InputError(f"{file}: a folder; needed a file of one line, name:password")
        if stat.S_IMODE(file.stat().st_mode) & 0o077:
            raise InputError(f"{file}: others can read it; chmod 600 {file}")
        try:
            login, place = file.read_text(encoding="utf-8-sig").removesuffix("\n"), str(file)
        except UnicodeDecodeError:
            raise InputError(f"{file}: not UTF-8; needed one line, name:password") from None
    if login is None:
        return None
    name, _, password = login.partition(":")
    if not name or not password or "\n" in login:
        raise InputError(f"{place}: not a login; needed one line, name:password")
    return login
