"""KEDA's sources without what the tests never ask of it, so that it builds in minutes.

Seventy triggers bring the SDKs of every cloud: 3,700 packages. Left out are all
triggers but `TRIGGERS`, secrets that lie outside of the cluster (AWS, Azure,
Google, HashiCorp Vault), events to Azure Event Grid, and KEDA's own tests. The
reconciling of ScaledObjects, the loop that scales to zero and back, the client of external scalers, the
certificates, TriggerAuthentications with ConfigMaps and Secrets, and the
metrics API server are KEDA's, file by file.

Sources are copied from the module cache, never changed there. What takes the
place of a file that is left out lies in tests/cluster/builds/keda/_stand_ins,
at the same path.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Final

from eventengine_harness.exceptions import HarnessError

TRIGGERS: Final = frozenset({"cpu", "external", "external-push", "memory"})

_PARTS: Final = ("apis", "cmd", "controllers", "pkg", "version")
_BUILDER: Final = Path("pkg/scaling/scalers_builder.go")
_SCALERS: Final = Path("pkg/scalers")
_KEPT_SCALERS: Final = frozenset({"cpu_memory_scaler.go", "external_scaler.go"})
_LEFT_OUT: Final = (
    "pkg/scalers/azure/*.go",
    "pkg/scaling/resolver/aws_secretmanager_handler.go",
    "pkg/scaling/resolver/azure_keyvault_handler.go",
    "pkg/scaling/resolver/gcp_secretmanager_handler.go",
    "pkg/scaling/resolver/hashicorpvault_handler.go",
    "pkg/eventemitter/azure_event_grid_topic_handler.go",
)
_CASE: Final = re.compile(r'\tcase "([a-z0-9-]+)":\n(?:\t\t[^\n]*\n)+')
"""One trigger of the switch that makes scalers."""


def copy_trimmed(module: Path, stand_ins: Path, destination: Path) -> None:
    """Write the sources that are built to `destination`, a Go module of the same name.

    Raises:
        HarnessError: KEDA's sources don't look as they did; what is left out has to be decided anew.
    """
    destination.mkdir()
    shutil.copyfile(module / "go.mod", destination / "go.mod")
    for part in _PARTS:
        for source in (module / part).rglob("*.go"):
            if not source.name.endswith("_test.go"):
                _copy(source, destination / source.relative_to(module))
    scalers = [
        path for path in (destination / _SCALERS).glob("*_scaler.go") if path.name not in _KEPT_SCALERS
    ]
    for path in [*scalers, *(path for pattern in _LEFT_OUT for path in destination.glob(pattern))]:
        path.unlink()
    for source in stand_ins.rglob("*.go"):
        _copy(source, destination / source.relative_to(stand_ins))
    builder = destination / _BUILDER
    builder.write_text(without_other_triggers(builder.read_text()))


def without_other_triggers(source: str) -> str:
    """The file that makes scalers, with the cases of its switch that `TRIGGERS` names.

    Raises:
        HarnessError: one of them isn't there.
    """
    missing = TRIGGERS - set(_CASE.findall(source))
    if missing:
        raise HarnessError(f"KEDA makes no scaler for {', '.join(sorted(missing))} where it used to")
    return _CASE.sub(lambda found: found[0] if found[1] in TRIGGERS else "", source)


def _copy(source: Path, destination: Path) -> None:
    """Copy the text alone: the module cache is read-only, and its copy must not be."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, destination)
