"""The order in which a request's credentials are looked at.

Front proxy, client certificate, bearer token, anonymous: the first that names a
user decides. Credentials that were shown and don't hold make the request an
error, unless another one of the same request holds; they never make it anonymous.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from .certificates import common_name, organizations, parse_peer, verify_client
from .identities import ANONYMOUS, AuthenticationError, Identity
from .request_headers import Headers, TrustedProxies, front_proxy_identity
from .tokens import TokenReviews

_BEARER: Final = "bearer "


class Authenticator:
    """Finds the user behind a request. `proxies` gives what is trusted at that moment."""

    def __init__(
        self,
        proxies: Callable[[], TrustedProxies],
        tokens: TokenReviews,
        *,
        anonymous: bool,
        on_front_proxy: Callable[[float], None] = lambda _expires_at_seconds: None,
    ) -> None:
        self._proxies = proxies
        self._tokens = tokens
        self._anonymous = anonymous
        self._on_front_proxy = on_front_proxy

    async def identity(self, peer: bytes | None, headers: Headers, now_seconds: float) -> Identity:
        """The user, in the group of authenticated users where there is one.

        Raises:
            AuthenticationError: the credentials don't hold, or there are none and nobody may be anonymous.
            KubernetesError: a token could not be reviewed.
        """
        proxies = self._proxies()
        failures = []
        try:
            found = front_proxy_identity(proxies, peer, headers, now_seconds, self._on_front_proxy)
            if found is not None:
                return found.authenticated()
        except AuthenticationError as error:
            failures.append(str(error))
        if peer is not None:
            try:
                return _certified(proxies, peer, now_seconds).authenticated()
            except AuthenticationError as error:
                failures.append(str(error))
        token = _bearer_token(headers)
        if token:
            try:
                return (await self._tokens.identity(token)).authenticated()
            except AuthenticationError as error:
                failures.append(str(error))
        if failures or not self._anonymous:
            raise AuthenticationError("; ".join(failures) or "no credentials were shown")
        return ANONYMOUS


def _certified(proxies: TrustedProxies, peer: bytes, now_seconds: float) -> Identity:
    certificate = parse_peer(peer)
    verify_client(certificate, proxies.client_authorities, now_seconds)
    name = common_name(certificate)
    if not name:
        raise AuthenticationError("the client certificate names no user")
    return Identity(name, groups=organizations(certificate))


def _bearer_token(headers: Headers) -> str:
    for value in headers.all("Authorization"):
        if value[: len(_BEARER)].lower() == _BEARER:
            return value[len(_BEARER) :].strip()
    return ""
