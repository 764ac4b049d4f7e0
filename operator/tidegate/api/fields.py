"""
The building blocks of the models: decimal strings, names, and rules that hold in both CEL and Python.

A bound is stated once and used twice: in the CRD's schema (checked by the API server) and in the pydantic validator
(checked by `tidegate plan`, the backtest and the tests, where there is no API server).
"""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationInfo,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

# Validation context key: the manifest is used without a cluster, so numbers may replace decimal strings, 2.0 may
# replace 2, and a tier needs neither workload nor targetRef.
OFFLINE = "offline"

DECIMALS = 9
DECIMAL_PATTERN = rf"^(0|[1-9][0-9]{{0,11}})(\.[0-9]{{1,{DECIMALS}}})?$"
DECIMAL_LENGTH = 22
LABEL_PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
SUBDOMAIN_PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """
    A rule across the fields of one object.

    Args:
        cel: The expression for the API server; `self` is the object.
        message: Names the fields and what is allowed.
        holds: The same in Python, given the validated model.
        field: Name of the field that the error refers to (as in YAML); empty: the object itself.
        cluster_only: Does not apply to manifests that are used without a cluster.
    """

    cel: str
    message: str
    holds: Callable[[Any], bool]
    field: str = ""
    cluster_only: bool = False

    def as_schema(self) -> dict[str, object]:
        """One entry of `x-kubernetes-validations`."""
        entry: dict[str, object] = {"rule": self.cel, "message": self.message}
        return entry | ({"fieldPath": f".{self.field}"} if self.field else {})


class ApiModel(BaseModel):
    """Base of every object in a custom resource: camelCase in YAML, unknown fields dropped as the API server does."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True, strict=True)
    rules: ClassVar[tuple[Rule, ...]] = ()

    @model_validator(mode="before")
    @classmethod
    def as_json(cls, value: Any, info: ValidationInfo) -> Any:
        """
        Drop nulls, which the API server treats as absent fields. Without a cluster also read 2.0 as 2, as JSON does.
        """
        there = _without_nulls(value)
        if isinstance(there, dict) and is_offline(info):
            return {key: _whole(item) for key, item in there.items()}
        return there

    @model_validator(mode="after")
    def obey_rules(self, info: ValidationInfo) -> Self:
        """Raise on the first rule that does not hold."""
        for rule in self.rules:
            if not (rule.cluster_only and is_offline(info)) and not rule.holds(self):
                raise allowed_only(rule.message, rule.field)
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """The model's schema, with its rules as CEL."""
        plain: dict[str, Any] = handler.resolve_ref_schema(handler(schema))
        if cls.rules:
            plain["x-kubernetes-validations"] = [rule.as_schema() for rule in cls.rules]
        return plain


def is_offline(info: ValidationInfo) -> bool:
    """Whether the manifest is used without a cluster."""
    return bool((info.context or {}).get(OFFLINE))


@dataclass(frozen=True, slots=True, kw_only=True)
class DecimalString:
    """
    Annotation of a number written as text: no floats in the API, so that every client preserves the value.

    Args:
        what: The field in words for the message, e.g. `attainment`.
        at_least, at_most: Inclusive bounds.
        above, below: Exclusive bounds.
        example: A valid value.
    """

    what: str
    at_least: str | None = None
    above: str | None = None
    at_most: str | None = None
    below: str | None = None
    example: str = "2.5"

    @property
    def message(self) -> str:
        """What is allowed, for people."""
        parts = {"at least": self.at_least, "above": self.above, "at most": self.at_most, "below": self.below}
        bounds = " and ".join(f"{word} {bound}" for word, bound in parts.items() if bound is not None)
        return f'{self.what} must be a decimal string {bounds}, such as "{self.example}"'

    @property
    def cel(self) -> str:
        """
        The bounds for the API server; true if the pattern already rejects the text, so that only one error is shown.
        """
        parts = {">=": self.at_least, ">": self.above, "<=": self.at_most, "<": self.below}
        bounds = " && ".join(f"double(self) {op} {float(bound)}" for op, bound in parts.items() if bound is not None)
        return f"!self.matches('{DECIMAL_PATTERN}') || ({bounds})".replace("\\", "\\\\")

    def holds(self, number: Decimal) -> bool:
        """Whether a number is within the bounds."""
        return (
            (self.at_least is None or number >= Decimal(self.at_least))
            and (self.above is None or number > Decimal(self.above))
            and (self.at_most is None or number <= Decimal(self.at_most))
            and (self.below is None or number < Decimal(self.below))
        )

    def check(self, text: str) -> str:
        """The text itself; an error if it is out of bounds."""
        if not self.holds(Decimal(text)):
            raise allowed_only(self.message)
        return text

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Text with the pattern first, then the bounds."""
        text = core_schema.str_schema(pattern=DECIMAL_PATTERN, max_length=DECIMAL_LENGTH)
        bounded = core_schema.no_info_after_validator_function(self.check, text)
        return core_schema.with_info_before_validator_function(_text_of_number, bounded)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """The same for the API server."""
        return {
            "type": "string",
            "pattern": DECIMAL_PATTERN,
            "maxLength": DECIMAL_LENGTH,
            "x-kubernetes-validations": [{"rule": self.cel, "message": self.message}],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ListMap:
    """Annotation of a list that is a map by one field: server-side apply merges by item, and keys are unique."""

    key: str

    def check(self, items: list[Any]) -> list[Any]:
        """The items themselves; an error if a key appears twice."""
        keys = [getattr(item, self.key) for item in items]
        twice = [key for i, key in enumerate(keys) if key in keys[:i]]
        if twice:
            raise allowed_only(f"each {self.key} must be unique in the list; {twice[0]!r} appears twice")
        return items

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """The list, then its keys."""
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """The same for the API server."""
        plain: dict[str, Any] = dict(handler(schema))
        return plain | {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [to_camel(self.key)]}


def allowed_only(message: str, field: str = "") -> PydanticCustomError:
    """The error of our own rules: what is allowed, and for which field of the object."""
    return PydanticCustomError("rule", "{allowed}", {"allowed": message, "field": field})


def _without_nulls(value: Any) -> Any:
    return {key: item for key, item in value.items() if item is not None} if isinstance(value, dict) else value


# Annotation of a map whose null entries are absent ones, as for the API server.
WITHOUT_NULLS = BeforeValidator(_without_nulls)


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _text_of_number(value: object, info: ValidationInfo) -> object:
    """
    Without a cluster, a number as a decimal string with at most nine decimals; anything else unchanged.

    Scripts compute their numbers: three times 12.34 is 37.019999999999996.
    """
    if is_offline(info) and isinstance(value, int | float) and not isinstance(value, bool):
        return f"{Decimal(repr(round(value, DECIMALS))).normalize():f}"
    return value
