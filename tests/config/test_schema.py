"""The schema: every key is described, and the JSON Schema says what the loader does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import tomli
from jsonschema import Draft202012Validator

from djsup.config import schema
from djsup.config.schema import Configuration, Table, json_schema, table_at
from djsup.core.model import Limits

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

EXAMPLE = Path(__file__).parents[2] / "config.example.toml"
TABLES = [each for each in vars(schema).values() if isinstance(each, type) and issubclass(each, Table)][1:]
REQUIRED = {
    schema.SiteTable: {"directory": "x"},
    schema.ProgramTable: {"command": "x"},
    schema.TlsTable: {"certificate": "x", "key": "x"},
    schema.CertificateTable: {"certificate": "x", "key": "x"},
}
FIELDS = [
    pytest.param(table, name, field, id=f"{table.__name__}.{name}")
    for table in TABLES
    for name, field in table.model_fields.items()
]


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    Draft202012Validator.check_schema(json_schema())
    return Draft202012Validator(json_schema())


@pytest.mark.parametrize(("table", "name", "field"), FIELDS)
def test_every_key_has_a_description_and_an_example_that_is_valid(
    table: type[Table], name: str, field: FieldInfo
) -> None:
    assert field.description
    assert field.description.endswith(".")
    assert field.examples
    required = REQUIRED.get(table, {})
    definition = {"$defs": json_schema()["$defs"], "$ref": f"#/$defs/{table.__name__}"}
    if table is Configuration:
        definition = json_schema()
    for example in field.examples:
        table.model_validate({**required, name: example})
        Draft202012Validator(definition).validate({**required, name: example})


def test_example_configuration_is_valid(validator: Draft202012Validator) -> None:
    validator.validate(tomli.loads(EXAMPLE.read_text()))


@pytest.mark.parametrize(
    "text",
    [
        "unknown = 1",
        "[sites.blog]",
        '[sites.Blog]\ndirectory = "x"',
        '[sites.blog]\ndirectory = "x"\nworkers = "many"',
        '[sites.blog]\ndirectory = "x"\nworkers = 0',
        '[sites.blog]\ndirectory = "x"\nworkers = { min = 1 }',
        '[sites.blog]\ndirectory = "x"\nlimits.request_timeout = "5 parsecs"',
        '[sites.blog]\ndirectory = "x"\nenv = { A = 1 }',
        '[sites.blog]\ndirectory = "x"\nenv = { "A B" = "1" }',
        '[sites.blog]\ndirectory = "x"\npreload = 1',
        '[sites.blog]\ndirectory = "x"\nstatic = { "static/" = "y" }',
        '[sites.blog]\ndirectory = "x"\nstatic = { "/../" = "y" }',
        '[sites.blog]\ndirectory = "x"\nstatic = { "/s/" = { changes = true } }',
        '[sites.blog]\ndirectory = "x"\nstatic = { "/s/" = { path = "y", change = true } }',
        '[sites.blog]\ndirectory = "x"\ntls = { certificate = "x" }',
        '[sites.blog]\ndirectory = "x"\ntls = { certificate = "x", key = "x", redirect = "http://a" }',
        '[sites.blog]\ndirectory = "x"\ntls = { certificate = "x", key = "x", hsts = "1 year" }',
        "orphan_grace = -1",
        'listen = "127.0.0.1:8000"',
    ],
)
def test_json_schema_refuses_what_the_loader_refuses(validator: Draft202012Validator, text: str) -> None:
    assert not validator.is_valid(tomli.loads(text))
    with pytest.raises(ValueError, match="validation error"):
        Configuration.model_validate(tomli.loads(text))


@pytest.mark.parametrize(
    "text",
    [
        "",
        '[sites.blog]\ndirectory = "${WHERE}"\nwsgi = "${APP}"\nlimits.request_timeout = "${T}"',
        '[sites.blog]\ndirectory = "x"\nstatic = { "/" = "y", "/.well-known/" = { path = "${Z}", changes = true } }',
        '[sites.blog]\ndirectory = "x"\nlimits = { max_body = "1.5 GiB", keepalive = "500ms" }',
    ],
)
def test_json_schema_takes_what_the_loader_takes(validator: Draft202012Validator, text: str) -> None:
    validator.validate(tomli.loads(text))


def test_json_schema_knows_no_null() -> None:
    assert "'null'" not in str(json_schema())
    assert "None" not in str(json_schema())


def test_defaults_are_those_of_the_core() -> None:
    properties = json_schema()["$defs"]["LimitsTable"]["properties"]
    limits = Limits()
    assert properties["request_timeout"]["default"] == limits.request_timeout_s
    assert properties["max_body"]["default"] == limits.max_body_bytes
    assert {name.removesuffix("_s").removesuffix("_bytes") for name in Limits.__slots__} == set(properties)


def test_tables_are_found_by_their_path() -> None:
    assert table_at(()) is Configuration
    assert table_at(("sites", "x", "programs", "y")) is schema.ProgramTable
    assert table_at(("sites", "x", "reload", "canary")) is schema.CanaryTable
    assert table_at(("sites", "x", "tls", "certificates", 0)) is schema.CertificateTable
    assert table_at(("sites", "x", "tls", "certificates")) is None
    assert table_at(("sites",)) is None
    assert table_at(("sites", "x", "env")) is None
    assert table_at(("nope", "x")) is None
