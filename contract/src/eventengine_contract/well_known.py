"""Names that more than one part must spell alike: API group, labels, ports, environment.

Owns no behaviour. A name written here is written nowhere else.
"""

from __future__ import annotations

from typing import Final

API_GROUP: Final = "eventengine.dev"
API_VERSION: Final = "v1alpha1"
KIND: Final = "EventEngine"
PLURAL: Final = "eventengines"
SHORT_NAME: Final = "ee"

LABEL_CANARY: Final = "eventengine.dev/canary"
LABEL_ENGINE: Final = "eventengine.dev/engine"
LABEL_COMPONENT: Final = "app.kubernetes.io/component"
LABEL_INSTANCE: Final = "app.kubernetes.io/instance"
LABEL_MANAGED_BY: Final = "app.kubernetes.io/managed-by"
LABEL_NAME: Final = "app.kubernetes.io/name"
MANAGED_BY: Final = "eventengine-operator"
PART_NAME: Final = "eventengine"
COMPONENT_ENGINE: Final = "engine"
COMPONENT_HEADROOM: Final = "headroom"
LABEL_HEADROOM: Final = "eventengine.dev/headroom-of"
HEADROOM_PRIORITY_CLASS: Final = "eventengine-headroom"
"""Made by the chart."""

ANNOTATION_CANARY_BEAT: Final = "eventengine.dev/canary-beat"
ANNOTATION_CONFIG_HASH: Final = "eventengine.dev/config-hash"
ANNOTATION_SECRETS_HASH: Final = "eventengine.dev/secrets-hash"
ANNOTATION_SPEC_HASH: Final = "eventengine.dev/spec-hash"
ANNOTATION_LOG_EMPTY: Final = "eventengine.dev/log-empty"
ANNOTATION_PAUSED: Final = "eventengine.dev/paused"
ANNOTATION_PAUSED_SCALE_IN: Final = "eventengine.dev/paused-scale-in"
ANNOTATION_PAUSED_SCALE_OUT: Final = "eventengine.dev/paused-scale-out"

SYSTEM_NAMESPACE: Final = "eventengine-system"
ADAPTER_SERVICE: Final = "eventengine-adapter"
ADAPTER_TLS_SECRET: Final = "eventengine-adapter-tls"  # noqa: S105 - an object's name
ADAPTER_CA_SECRET: Final = "eventengine-adapter-ca"  # noqa: S105 - an object's name
WEBHOOK_SERVICE: Final = "eventengine-webhook"
WEBHOOK_TLS_SECRET: Final = "eventengine-webhook-tls"  # noqa: S105 - an object's name
WEBHOOK_CA_SECRET: Final = "eventengine-webhook-ca"  # noqa: S105 - an object's name
WEBHOOK_CONFIGURATION: Final = "eventengine"
WEBHOOK: Final = f"{PLURAL}.{API_GROUP}"
OPERATOR_LEASE: Final = "eventengine-operator"
CANARY: Final = "eventengine-canary"

PORT_TCP_INGEST: Final = 9400
PORT_QUIC_INGEST: Final = 9443
PORT_HTTP_INGEST: Final = 9480
PORT_TELEMETRY: Final = 9464
PORT_TELEMETRY_NAME: Final = "telemetry"
PORT_ADAPTER: Final = 6443
PORT_KEDA_SCALER: Final = 9095
PORT_OPERATOR: Final = 8080
PORT_WEBHOOK: Final = 8443

ENV_ENGINE: Final = "EVENTENGINE_ENGINE"
ENV_NAMESPACE: Final = "EVENTENGINE_NAMESPACE"
ENV_POD: Final = "EVENTENGINE_POD"
ENV_CPU_LIMIT_MILLICORES: Final = "EVENTENGINE_CPU_LIMIT_MILLICORES"
ENV_MEMORY_LIMIT_BYTES: Final = "EVENTENGINE_MEMORY_LIMIT_BYTES"
ENV_PINNING: Final = "EVENTENGINE_PINNING"
ENV_CREDENTIALS_FOLDER: Final = "EVENTENGINE_CREDENTIALS_FOLDER"

ENGINE_CONFIG_PATH: Final = "/etc/eventengine/engine.yaml"
CONFIG_MAP_KEY: Final = "engine.yaml"
CREDENTIALS_FOLDER: Final = "/etc/eventengine/credentials"


def engine_labels(engine: str) -> dict[str, str]:
    """Labels of everything that is made for the EventEngine called `engine`."""
    return {
        LABEL_NAME: PART_NAME,
        LABEL_INSTANCE: engine,
        LABEL_COMPONENT: COMPONENT_ENGINE,
        LABEL_MANAGED_BY: MANAGED_BY,
        LABEL_ENGINE: engine,
    }


def pod_selector(engine: str) -> dict[str, str]:
    """Immutable labels that select the pods of `engine` and no others in their namespace."""
    return {LABEL_COMPONENT: COMPONENT_ENGINE, LABEL_ENGINE: engine}


def broker_credentials_role_name(engine: str) -> str:
    """Name of the Role, and of its binding, by which the adapter reads what `engine` shows its brokers."""
    return f"{engine}-broker-credentials"


def config_map_name(engine: str) -> str:
    """Name of the ConfigMap that carries the engine.yaml of `engine`."""
    return f"{engine}-engine"
