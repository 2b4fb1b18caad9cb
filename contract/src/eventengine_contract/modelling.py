"""The common manners of every configuration model.

Owns: both spellings of a key (camelCase and snake_case) are accepted, but not
both at once; an unknown key is refused; models are frozen once read.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic.alias_generators import to_camel
from pydantic.config import JsonDict


class Model(BaseModel):
    """Base of all configuration models; see the module's docstring."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
        extra="forbid",
        frozen=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _refuse_two_spellings(cls, data: Any) -> Any:
        if isinstance(data, dict):
            for name, field in cls.model_fields.items():
                alias = field.alias or name
                if alias != name and alias in data and name in data:
                    raise ValueError(f"`{alias}` and `{name}` are one key in two spellings; keep one")
        return data


def validation(rule: str, message: str, field_path: str | None = None) -> JsonDict:
    """One CEL rule of a CRD schema (`x-kubernetes-validations`)."""
    result: JsonDict = {"rule": rule, "message": message}
    if field_path:
        result["fieldPath"] = field_path
    return result
