"""What pydantic refuses, in words: its own messages repeat the value, which may be a secret."""

from pydantic_core import ErrorDetails

_ALLOWED = {
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "dict_type": "must be a mapping",
    "finite_number": "must be a number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "is too large",
    "int_type": "must be a whole number",
    "less_than_equal": "is too large",
    "model_type": "must be a mapping",
    "string_type": "must be text",
    "tuple_type": "must be a list",
}


def refusal(error: ErrorDetails) -> str:
    """Return what is allowed in the place of a value."""
    match error["type"]:
        case "value_error":
            return str(error["ctx"]["error"])
        case "literal_error":
            return f"must be {error['ctx']['expected']}"
        case other:
            return _ALLOWED.get(other, "is not valid")
