"""Leave for the adapter to read what an engine shows its brokers: those Secrets by name, and no others.

Made only where the operator was told to (`BROKER_CREDENTIALS`), because nobody may
grant what they don't hold: the operator needs `get` on Secrets for it, and reads none.
"""

from __future__ import annotations

from typing import Final

from eventengine_contract.engine_config import EngineConfig
from eventengine_contract.well_known import ADAPTER_SERVICE, broker_credentials_role_name

from eventengine_operator.resources.engines import Engine
from eventengine_operator.resources.objects import Object

from .metadata import owned_object

GROUP: Final = "rbac.authorization.k8s.io"
API_VERSION: Final = f"{GROUP}/v1"
ADAPTER_ACCOUNT: Final = ADAPTER_SERVICE
"""The chart gives the adapter's account the name of its Service."""


def source_credential_names(config: EngineConfig) -> list[str]:
    """Those among them that its sources name: brokers are asked about sources alone."""
    return sorted(
        {source.kafka.credentials for source in config.sources if source.kafka and source.kafka.credentials}
    )


def broker_credentials_access(engine: Engine, config: EngineConfig, adapter_namespace: str) -> list[Object]:
    """The Role and its binding to the adapter; nothing where no source names a Secret."""
    names = source_credential_names(config)
    if not names:
        return []
    name = broker_credentials_role_name(engine.name)
    rule = {"apiGroups": [""], "resources": ["secrets"], "resourceNames": names, "verbs": ["get"]}
    account = {"kind": "ServiceAccount", "name": ADAPTER_ACCOUNT, "namespace": adapter_namespace}
    reference = {"apiGroup": GROUP, "kind": "Role", "name": name}
    return [
        owned_object(engine, API_VERSION, "Role", name, {"rules": [rule]}),
        owned_object(engine, API_VERSION, "RoleBinding", name, {"roleRef": reference, "subjects": [account]}),
    ]
