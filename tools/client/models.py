"""`expunge/models.py` from the OpenAPI schema, written so that an older client goes on working with a newer service.

The client repeats none of the service's limits: what is wrong is refused there, by the limits of the day and with its
sentence. Fields that an answer has and this client does not know are ignored; those of a policy are kept, since a policy
is read, changed and put back whole. Words that an enum did not have yet are taken as they are (`expunge/shapes.py`).
"""

from collections.abc import Iterator
from typing import Any

from datamodel_code_generator import InputFileType, PythonVersion, generate
from datamodel_code_generator.enums import DataModelType, DefaultValueType
from datamodel_code_generator.format import Formatter

from app.main import app
from tools.client.formatting import formatted

HEADER = '''"""What the service takes and answers. Written by `make client` from its OpenAPI schema: change that, not this."""
'''
LIMITS = {
    *("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum", "multipleOf"),
    *("minLength", "maxLength", "pattern", "minItems", "maxItems"),
}
LEFT_OUT = {"ProblemDetail"}
"""The shape of refusals: the client's errors read it, leniently."""
KEPT_WHOLE = "PolicyBody"


def source() -> str:
    """The module's text, from the schema of the service in this checkout."""
    described = app.openapi()
    shapes = {
        name: relaxed(each, top=True)
        for name, each in described["components"]["schemas"].items()
        if name not in LEFT_OUT
    }
    for name in reached(shapes, KEPT_WHOLE):
        if shapes[name].get("type") == "object":
            shapes[name]["additionalProperties"] = True
    document = {
        "openapi": described["openapi"],
        "info": described["info"],
        "paths": {},
        "components": {"schemas": shapes},
    }
    made = generate(
        document,
        input_file_type=InputFileType.OpenAPI,
        output_model_type=DataModelType.PydanticV2BaseModel,
        target_python_version=PythonVersion.PY_311,
        base_class="expunge.shapes.Shape",
        formatters=[Formatter.BUILTIN],
        capitalise_enum_members=True,
        use_specialized_enum=True,
        use_union_operator=True,
        use_standard_collections=True,
        use_schema_description=True,
        use_double_quotes=True,
        use_single_line_docstring=True,
        strict_nullable=True,
        deserialize_default_values=[DefaultValueType.Enum],
        use_exact_imports=True,
        collapse_root_models=True,
        disable_future_imports=True,
        disable_timestamp=True,
        custom_file_header=HEADER,
    )
    assert isinstance(made, str)
    made = made.replace("from enum import StrEnum", "from expunge.shapes import Words")
    return formatted(made.replace("(StrEnum)", "(Words)"))


def relaxed(schema: dict[str, Any], *, top: bool = False) -> dict[str, Any]:
    """A schema without limits, titles, closed choices that have no name, and the refusal of unknown fields."""
    kept: dict[str, Any] = {}
    for name, value in schema.items():
        if name in LIMITS or name == "title" or (name in ("enum", "const") and not top):
            continue
        if name == "additionalProperties" and value is False:
            continue
        if name == "properties":  # a field may be called like a keyword
            kept[name] = {field: relaxed(each) for field, each in value.items()}
        elif name in ("default", "enum", "examples", "const"):
            kept[name] = value
        elif isinstance(value, dict):
            kept[name] = relaxed(value)
        elif isinstance(value, list):
            kept[name] = [relaxed(each) if isinstance(each, dict) else each for each in value]
        else:
            kept[name] = value
    return kept


def reached(shapes: dict[str, Any], name: str) -> set[str]:
    """The shape of that name and those that it holds, however deep."""
    found, waiting = set[str](), [name]
    while waiting:
        each = waiting.pop()
        if each not in found:
            found.add(each)
            waiting += references(shapes[each])
    return found


def references(schema: Any) -> Iterator[str]:
    """Names of the shapes that a schema refers to."""
    if isinstance(schema, dict):
        if isinstance(schema.get("$ref"), str):
            yield schema["$ref"].rpartition("/")[2]
        for value in schema.values():
            yield from references(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from references(value)
