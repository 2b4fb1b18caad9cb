"""Reading `engine.yaml`: text in, EngineConfig or one readable error out.

Owns the translation of YAML and validation errors into sentences that name
path, fault, and the nearest known key. Opens no file: callers pass the text.
"""

from __future__ import annotations

import difflib
from typing import Any, Final, get_args

import yaml
from pydantic import BaseModel, ValidationError

from .engine_config import EngineConfig

TEXT_BYTES_MAX: Final = 1_048_576
FAULTS_SHOWN_MAX: Final = 8


class ConfigurationError(ValueError):
    """A configuration that can't be used. `faults` are (path, sentence) pairs, in document order."""

    def __init__(self, origin: str, faults: list[tuple[str, str]]) -> None:
        self.origin = origin
        self.faults = faults
        shown = [f"{path}: {sentence}" if path else sentence for path, sentence in faults[:FAULTS_SHOWN_MAX]]
        if len(faults) > FAULTS_SHOWN_MAX:
            shown.append(f"and {len(faults) - FAULTS_SHOWN_MAX} more")
        super().__init__(f"{origin}: " + "; ".join(shown))


class _UniqueKeyLoader(yaml.SafeLoader):
    """A safe loader that refuses a key given twice, where plain YAML keeps the last one silently."""


def _construct_mapping(loader: _UniqueKeyLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    mapping: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str):
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {key!r} is not a text", key_node.start_mark
            )
        if key in mapping:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {key!r} is given twice", key_node.start_mark
            )
        mapping[key] = loader.construct_object(value_node, deep=True)
    return mapping


_UniqueKeyLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _construct_mapping)


def load_engine_config(text: str, origin: str = "engine.yaml") -> EngineConfig:
    """Read a configuration.

    Raises:
        ConfigurationError: with path, fault and remedy of everything that is wrong.
    """
    if len(text.encode()) > TEXT_BYTES_MAX:
        raise ConfigurationError(origin, [("", f"longer than {TEXT_BYTES_MAX} bytes")])
    try:
        data = yaml.load(text, Loader=_UniqueKeyLoader)  # noqa: S506 - a subclass of SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ConfigurationError(origin, [(place, error.problem or "not valid YAML")]) from None
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigurationError(origin, [("", f"not valid YAML: {error}")]) from None
    if isinstance(data, dict):
        data = _restore_lost_indentation(data)
    return parse_engine_config(data if data is not None else {}, origin)


def _restore_lost_indentation(data: dict[str, Any]) -> dict[str, Any]:
    """Put flattened keys back under the empty section that they follow.

    The article's arena-runtime-config.yaml circulates as a page copy in which every line starts in the
    first column. A key is moved only where no doubt is left: the section above it is empty, the key is
    one of that section's, and no top-level key is called so.
    """
    restored: dict[str, Any] = {}
    section: str | None = None
    for key, value in data.items():
        model = (
            _model_in(EngineConfig.model_fields[key].annotation) if key in EngineConfig.model_fields else None
        )
        if model is not None and value is None:
            section = key
            restored[key] = {}
        elif (
            section is not None
            and not _keys_match(EngineConfig, key)
            and _keys_match(_section_model(section), key)
        ):
            restored[section][key] = value
        else:
            section = None
            restored[key] = value
    return restored


def _section_model(section: str) -> type[BaseModel]:
    model = _model_in(EngineConfig.model_fields[section].annotation)
    if model is None:
        raise LookupError(section)
    return model


def _keys_match(model: type[BaseModel], key: str) -> bool:
    return any(key in (name, field.alias) for name, field in model.model_fields.items())


def parse_engine_config(data: Any, origin: str = "engine.yaml") -> EngineConfig:
    """Validate plain data, such as the `spec.engine` of an EventEngine.

    Raises:
        ConfigurationError: as `load_engine_config` does.
    """
    try:
        return EngineConfig.model_validate(data)
    except ValidationError as error:
        raise ConfigurationError(origin, faults_of(error, EngineConfig)) from None


def faults_of(error: ValidationError, model: type[BaseModel]) -> list[tuple[str, str]]:
    """Each validation error as (path, sentence), unknown keys with the nearest known one."""
    return [(_path(item["loc"]), _sentence(item, model)) for item in error.errors(include_url=False)]


def _path(location: tuple[int | str, ...]) -> str:
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else (f".{part}" if path else part)
    return path


def _sentence(item: Any, model: type[BaseModel]) -> str:
    if item["type"] == "extra_forbidden":
        known = _keys_at(model, item["loc"][:-1])
        nearest = difflib.get_close_matches(str(item["loc"][-1]), known, n=1, cutoff=0.5)
        hint = f"did you mean `{nearest[0]}`?" if nearest else f"known keys: {', '.join(sorted(known))}"
        return f"unknown key; {hint}"
    message = str(item["msg"]).removeprefix("Value error, ")
    if item["type"] == "missing":
        return "this key is required"
    given = item.get("input")
    if isinstance(given, str | int | float | bool) and repr(given) not in message:
        return f"{message[0].lower()}{message[1:]}, not {given!r}"
    return message[0].lower() + message[1:]


def _keys_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Keys, camelCase, of the model that `location` leads to."""
    current: type[BaseModel] | None = model
    for part in location:
        if isinstance(part, int) or current is None:
            continue
        field = next(
            (field for name, field in current.model_fields.items() if part in (name, field.alias)),
            None,
        )
        current = _model_in(field.annotation) if field else None
    return [field.alias or name for name, field in current.model_fields.items()] if current else []


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in get_args(annotation):
        if (found := _model_in(argument)) is not None:
            return found
    return None
