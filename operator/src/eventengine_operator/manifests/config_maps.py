"""The ConfigMap that carries engine.yaml into the pods."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Final

import yaml
from eventengine_contract.well_known import CONFIG_MAP_KEY, config_map_name

from eventengine_operator.resources.engines import Engine
from eventengine_operator.resources.objects import Object

from .metadata import owned_object

TEXTS_KEPT_MAX: Final = 1024


def engine_yaml(engine: Engine) -> str:
    """`spec.engine` verbatim, keys sorted so that equal configurations are equal texts."""
    return _yaml_of(json.dumps(engine.engine_section, sort_keys=True))


@lru_cache(maxsize=TEXTS_KEPT_MAX)
def _yaml_of(section: str) -> str:
    """Rendering costs more than all the rest of a reconcile's thinking, and a configuration seldom changes."""
    return yaml.safe_dump(json.loads(section), sort_keys=True, allow_unicode=True, default_flow_style=False)


def config_map(engine: Engine) -> Object:
    """The ConfigMap `<X>-engine`."""
    return owned_object(
        engine,
        "v1",
        "ConfigMap",
        config_map_name(engine.name),
        {"data": {CONFIG_MAP_KEY: engine_yaml(engine)}},
    )
