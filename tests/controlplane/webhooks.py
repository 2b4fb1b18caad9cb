"""The validating webhook as the chart sets it up, beside an operator that keeps its certificate.

Operator and webhook are processes of their own with exactly the rights of the chart, and the configuration is the
chart's, but for the port: there is no node here, so that the Service is a name for this machine.
"""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from eventengine_contract.well_known import WEBHOOK_CONFIGURATION, WEBHOOK_SERVICE, WEBHOOK_TLS_SECRET
from eventengine_harness.accesses import KubernetesAccess
from eventengine_harness.control_planes import free_port
from eventengine_harness.waiting import wait_for

from .operators import CHART, OperatorPlane, OperatorProcess, operating
from .spaces import KAFKA, SHARED, Space

TCP = {"name": "direct", "type": "tcp", "tcp": {"insecure": True}}
TWINS = {"sources": [TCP, TCP | {"name": "other"}]}
DENIED = (
    'admission webhook "eventengines.eventengine.dev" denied the request: spec.engine.sources[1].tcp.listen: '
    "port 9400 is taken by spec.engine.sources[0].tcp.listen; choose another"
)
SECONDS = 30.0
TEMPLATES = ("webhook/rbac", "webhook/serviceaccount", "webhook/configuration")


@dataclass(frozen=True)
class Stage:
    """A namespace whose EventEngines the API server asks about, and whom it asks."""

    space: Space
    webhook: OperatorProcess

    def declare(self, name: str = "hunt", *, dry_run: bool = True, **spec: Any) -> tuple[int, str]:
        """Exit code and stderr of `kubectl apply`."""
        document = {
            "apiVersion": "eventengine.dev/v1alpha1",
            "kind": "EventEngine",
            "metadata": {"name": name},
            "spec": {"pod": SHARED, "engine": {"sources": [KAFKA]}} | spec,
        }
        access = self.space.access
        command = [
            *(str(access.kubectl_program), f"--kubeconfig={access.kubeconfig}", "apply", "--filename=-"),
            *([f"--namespace={self.space.namespace}"] + (["--dry-run=server"] if dry_run else [])),
        ]
        done = subprocess.run(
            command, input=yaml.safe_dump(document), capture_output=True, text=True, check=False
        )
        return done.returncode, done.stderr

    def reviews(self) -> float:
        """How many questions were answered."""
        return self.webhook.metric("eventengine_operator_reviews_total")

    def until_asked(self) -> None:
        """The API server takes a new configuration, and a server that is back, up by itself."""
        wait_for(
            lambda: DENIED in self.declare("probe", engine=TWINS)[1],
            "a refusal",
            SECONDS,
            last_seen=self.webhook.log,
        )


@contextmanager
def reviewing(
    plane: OperatorPlane,
    system: str,
    folder: Path,
    *values: str,
    templates: tuple[str, ...] = (),
    **settings: str,
) -> Iterator[Stage]:
    """An installation in the namespace `system` whose webhook is asked about one namespace.

    `values` and further `templates` are the chart's, `settings` the operator's.
    """
    access = plane.access
    with Space(access, None) as space:  # type: ignore[arg-type] - which operator is known below
        values = ("webhook.enabled=true", f"operator.watchNamespaces={{{space.namespace}}}", *values)
        kubeconfig = plane.install_rights(system, *values)
        port = free_port()
        _install(access, system, port, values, (*TEMPLATES, *templates))
        settings = {
            "webhook": "true",
            "watch_namespaces": space.namespace,
            "metrics_resync_seconds": "1",
            **settings,
        }
        with operating(kubeconfig, system, folder, **settings) as space.operator:
            certificates = folder / "tls"
            certificates.mkdir()
            _mount(access, system, certificates)
            webhook = OperatorProcess(
                plane.kubeconfig_of(WEBHOOK_SERVICE, system),
                system,
                folder / "webhook.log",
                command="webhook",
                webhook_port=str(port),
                webhook_certificates=str(certificates),
            )
            with webhook:
                webhook.wait_ready()
                made = Stage(space, webhook)
                made.until_asked()
                yield made
                assert webhook.stop() == 0, webhook.log()
            assert "Traceback" not in webhook.log()
            assert '" cannot ' not in webhook.log(), f"a right is missing in the chart: {webhook.log()}"
    access.delete("validatingwebhookconfiguration", WEBHOOK_CONFIGURATION)


def _install(
    access: KubernetesAccess, system: str, port: int, values: tuple[str, ...], templates: tuple[str, ...]
) -> None:
    rendered = access.helm(
        *("template", "eventengine", CHART, f"--namespace={system}"),
        *(f"--show-only=templates/{name}.yaml" for name in templates),
        *(f"--set={value}" for value in values),
    )
    objects = [item for item in yaml.safe_load_all(rendered) if item]
    for item in objects:
        for webhook in item.get("webhooks", ()):
            webhook["clientConfig"]["service"]["port"] = port
    here = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": WEBHOOK_SERVICE, "namespace": system},
        "spec": {"type": "ExternalName", "externalName": "localhost"},
    }
    access.apply(here, objects)


def _mount(access: KubernetesAccess, system: str, folder: Path) -> None:
    """What the kubelet does with the Secret, once it exists."""
    secret = access.wait_until(
        "secret", WEBHOOK_TLS_SECRET, lambda _: True, "exists", namespace=system, deadline_seconds=SECONDS
    )
    for name in ("tls.crt", "tls.key"):
        (folder / name).write_bytes(base64.b64decode(secret["data"][name]))
