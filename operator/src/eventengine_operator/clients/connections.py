"""The way to the API server: the pod's service account, or the kubeconfig that KUBECONFIG names."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import kopf
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config import load_incluster_config, load_kube_config

NO_LIMIT = 0
"""Of connections: calls are bounded by `KubernetesApi`, and each watch holds one of its own."""


async def open_api_client() -> ApiClient:
    """A client whose credentials renew themselves.

    Raises:
        kubernetes.aio.config.ConfigException: there is neither a service account nor a usable kubeconfig.
    """
    configuration = Configuration()
    if _kubeconfig():
        await load_kube_config(config_file=_kubeconfig(), client_configuration=configuration)  # type: ignore[no-untyped-call]
    else:
        load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    configuration.connection_pool_maxsize = NO_LIMIT
    configuration.retries = None  # the queue repeats, with a backoff for each key
    # Left to itself the client looks into the environment and ~/.netrc for each call, in a thread each time.
    configuration.proxy = configuration.proxy or proxy_for(str(configuration.host))
    configuration.client_session_kwargs = {"trust_env": False}
    return ApiClient(configuration=configuration)


def proxy_for(server: str) -> str | None:
    """The proxy that the environment names for the API server, if any (HTTPS_PROXY, NO_PROXY)."""
    parts = urlsplit(server)
    proxy = getproxies().get(parts.scheme)
    return None if proxy is None or proxy_bypass(parts.netloc) else proxy


def log_in_to_watch(settings: kopf.OperatorSettings, **_: object) -> kopf.ConnectionInfo | None:
    """The same credentials for the watches, which kopf runs over connections of its own."""
    if _kubeconfig():
        return kopf.login_with_kubeconfig(settings=settings)
    found = kopf.login_with_service_account(settings=settings)
    # kopf asks for a name, which needs the cluster's DNS; the pod is told the address, and all else here uses it.
    return None if found is None else dataclasses.replace(found, server=_address_in_pod(os.environ))


def _address_in_pod(environment: Mapping[str, str]) -> str:
    host = environment.get("KUBERNETES_SERVICE_HOST", "kubernetes.default.svc")
    port = environment.get("KUBERNETES_SERVICE_PORT_HTTPS", "443")
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"


def _kubeconfig() -> str:
    return os.environ.get("KUBECONFIG", "")
