"""Who the cluster lets through: the ConfigMap `extension-apiserver-authentication`.

Owns its reading. It names the authority of the front proxy and the headers that
the proxy puts the user in, and the authority of users' client certificates.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote

from cryptography import x509

from .certificates import common_name, parse_authorities, parse_peer, verify_client
from .identities import AuthenticationError, Identity

_log = logging.getLogger(__name__)

NAMESPACE: Final = "kube-system"
CONFIG_MAP: Final = "extension-apiserver-authentication"


@dataclass(frozen=True)
class TrustedProxies:
    """What the ConfigMap says. Without an authority nothing of it is trusted."""

    client_authorities: tuple[x509.Certificate, ...] = ()
    proxy_authorities: tuple[x509.Certificate, ...] = ()
    authorities_pem: str = ""
    allowed_names: frozenset[str] = frozenset()
    """Common names that a front proxy may have; empty for any."""
    username_headers: tuple[str, ...] = ()
    uid_headers: tuple[str, ...] = ()
    group_headers: tuple[str, ...] = ()
    extra_prefixes: tuple[str, ...] = ()


def trusted_proxies(config_map: Mapping[str, Any]) -> TrustedProxies | None:
    """What a ConfigMap object says; None, with a word in the log, if it can't be read.

    An unreadable ConfigMap changes nothing: what was trusted before stays, rather
    than the adapter refusing everybody because of one bad edit.
    """
    data = config_map.get("data") or {}
    try:
        client_pem = str(data.get("client-ca-file") or "")
        proxy_pem = str(data.get("requestheader-client-ca-file") or "")
        return TrustedProxies(
            client_authorities=parse_authorities(client_pem),
            proxy_authorities=parse_authorities(proxy_pem),
            authorities_pem="\n".join(pem.strip() for pem in (client_pem, proxy_pem) if pem.strip()),
            allowed_names=frozenset(_list(data, "requestheader-allowed-names")),
            username_headers=_list(data, "requestheader-username-headers"),
            uid_headers=_list(data, "requestheader-uid-headers"),
            group_headers=_list(data, "requestheader-group-headers"),
            extra_prefixes=_list(data, "requestheader-extra-headers-prefix"),
        )
    except ValueError as error:
        _log.error("the ConfigMap %s/%s can't be read and is ignored: %s", NAMESPACE, CONFIG_MAP, error)
        return None


def _list(data: Mapping[str, Any], key: str) -> tuple[str, ...]:
    text = data.get(key)
    if not text:
        return ()
    values = json.loads(text)
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ValueError(f"{key} is no list of texts")
    return tuple(values)


class Headers:
    """Read access to the headers of a request: names without regard to case, all values of each."""

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        self._pairs = [(name.lower(), value) for name, value in pairs]

    def all(self, name: str) -> tuple[str, ...]:
        """Every value of the header, in order."""
        wanted = name.lower()
        return tuple(value for header, value in self._pairs if header == wanted)

    def starting_with(self, prefix: str) -> dict[str, tuple[str, ...]]:
        """The values of all headers that start with `prefix`, by what follows it."""
        wanted = prefix.lower()
        found: dict[str, tuple[str, ...]] = {}
        for header, value in self._pairs:
            if header.startswith(wanted) and len(header) > len(wanted):
                key = header[len(wanted) :]
                found[key] = (*found.get(key, ()), value)
        return found


def front_proxy_identity(
    proxies: TrustedProxies,
    peer: bytes | None,
    headers: Headers,
    now_seconds: float,
    on_front_proxy: Callable[[float], None] = lambda _expires_at_seconds: None,
) -> Identity | None:
    """The user that a front proxy vouches for; None where no front proxy speaks or it names nobody.

    A front proxy that is believed is told to `on_front_proxy`, by when its certificate ends.

    Raises:
        AuthenticationError: a certificate was shown, and it is not that of a front proxy.
    """
    if peer is None or not proxies.proxy_authorities:
        return None
    if not any(value for name in proxies.username_headers for value in headers.all(name)):
        return None
    certificate = parse_peer(peer)
    verify_client(certificate, proxies.proxy_authorities, now_seconds)
    if proxies.allowed_names and common_name(certificate) not in proxies.allowed_names:
        raise AuthenticationError("the client certificate has a name that no front proxy may have")
    on_front_proxy(certificate.not_valid_after_utc.timestamp())
    username = _first(headers, proxies.username_headers)
    if not username:
        return None
    extra: dict[str, tuple[str, ...]] = {}
    for prefix in proxies.extra_prefixes:
        for key, values in headers.starting_with(prefix).items():
            name = unquote(key).lower()
            extra[name] = (*extra.get(name, ()), *values)
    return Identity(
        username=username,
        uid=_first(headers, proxies.uid_headers),
        groups=tuple(group for name in proxies.group_headers for group in headers.all(name) if group),
        extra=extra,
    )


def _first(headers: Headers, names: tuple[str, ...]) -> str:
    for name in names:
        for value in headers.all(name):
            if value:
                return value
    return ""
