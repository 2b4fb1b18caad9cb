"""Metadata that every object of an EventEngine carries: labels, owner, and the hash of what was meant.

The hash, an annotation, is taken over the whole manifest. It tells a reconcile that a
field was dropped from the manifest, which comparing the remaining fields can't.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Final

from eventengine_contract.well_known import (
    ANNOTATION_SPEC_HASH,
    API_GROUP,
    API_VERSION,
    KIND,
    engine_labels,
)

from eventengine_operator.resources.engines import Engine
from eventengine_operator.resources.objects import Object

ENGINE_API_VERSION: Final = f"{API_GROUP}/{API_VERSION}"
HASH_CHARACTERS: Final = 32


def content_hash(content: Any) -> str:
    """A short, stable hash of plain data or text."""
    text = content if isinstance(content, str) else json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:HASH_CHARACTERS]


def owned_object(
    engine: Engine,
    api_version: str,
    kind: str,
    name: str,
    body: Object,
    annotations: dict[str, str] | None = None,
) -> Object:
    """An object that belongs to `engine` and goes when it goes."""
    manifest: Object = {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": engine.namespace,
            "labels": engine_labels(engine.name),
            "annotations": dict(annotations or {}),
            "ownerReferences": [
                {
                    "apiVersion": ENGINE_API_VERSION,
                    "kind": KIND,
                    "name": engine.name,
                    "uid": engine.uid,
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
        **body,
    }
    manifest["metadata"]["annotations"][ANNOTATION_SPEC_HASH] = content_hash(manifest)
    return manifest
