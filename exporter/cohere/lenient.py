"""Fields of the API, read leniently: one that makes no sense is taken for an absent one.

The name of each such field goes to the validation's context, a function. Text is what UTF-8 can carry, cut at
`LABEL_LIMIT`; zero values may be absent, null or spelled out; numbers may come as strings.
"""

import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, TypeVar, cast

from pydantic import (
    AfterValidator,
    BeforeValidator,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

LABEL_LIMIT = 1024

T = TypeVar("T")


def _or_absent(value: object, handler: ValidatorFunctionWrapHandler, info: ValidationInfo) -> object:
    """Take a field that makes no sense for an absent one."""
    if value is None:
        return None
    try:
        return handler(value)
    except ValidationError:
        cast("Callable[[str], None]", info.context)(str(info.field_name))
        return None


def no_boolean(value: object) -> object:
    """Return the value; raise ValueError for a boolean, which pydantic would take for a number."""
    if isinstance(value, bool):
        raise ValueError("a boolean is not a number")  # noqa: TRY004 - pydantic turns a ValueError into its own
    return value


def _no_zero(value: object) -> object:
    """Take the zero of an enumeration, which is protobuf's "unspecified", for an absent one."""
    is_zero = value == "" or (value == 0 and not isinstance(value, bool))
    return None if is_zero else value


def _one_nan(number: float) -> float:
    """Return one NaN for all, which compares equal inside containers: a snapshot may hold it unchanged."""
    return math.nan if math.isnan(number) else number


def clean_text(value: str) -> str:
    """Return as much of a text as is kept."""
    text = value[:LABEL_LIMIT]
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _clean_if_text(value: object) -> object:
    return clean_text(value) if isinstance(value, str) else value


_datetime = TypeAdapter(datetime)


def _read_time(value: object) -> object:
    """Return Unix seconds, None for what Go and protobuf write for "no time": the years 1 and 1970."""
    if value == "":
        return None
    moment = _datetime.validate_python(no_boolean(value))
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    seconds = aware.timestamp()
    return seconds if seconds > 0 else None


Lenient = Annotated[T | None, WrapValidator(_or_absent)]
Text = Lenient[Annotated[str, BeforeValidator(_clean_if_text)]]
Enum = Annotated[Text, BeforeValidator(_no_zero)]
Flag = Lenient[Annotated[bool, BeforeValidator(lambda value: False if value == "" else value)]]
Number = Annotated[float, BeforeValidator(no_boolean), AfterValidator(_one_nan)]
Time = Annotated[float | None, BeforeValidator(_read_time), WrapValidator(_or_absent)]
