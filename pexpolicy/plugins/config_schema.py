"""The JSON Schema of the configuration file, with the settings of the installed plugins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pexpolicy.config.plugin_settings import PluginSettings
from pexpolicy.config.settings import Document
from pexpolicy.plugins.discovery import PluginSource

DRAFT = "https://json-schema.org/draft/2020-12/schema"
Schema = dict[str, Any]


def config_schema(available: Mapping[str, PluginSource]) -> Schema:
    """Return the schema of ``config.toml``; a plugin without one has any settings."""
    schema = Document.model_json_schema()
    definitions: Schema = schema["$defs"]
    tables: Schema = {}
    for name, source in sorted(available.items()):
        settings = _settings_schema(source, definitions)
        table = definitions["PluginTable"]
        properties = table["properties"] | {"settings": settings}
        tables[name] = table | {"properties": properties, "description": f"The plugin {source}."}
    schema["properties"]["plugins"] |= {"properties": tables}
    return {"$schema": DRAFT, **schema, "title": "config.toml of pexpolicy"}


def _settings_schema(source: PluginSource, definitions: Schema) -> Schema:
    """Return the schema of a plugin's settings, and add the models in it to ``definitions``."""
    try:
        model = getattr(source.load(), "Settings", PluginSettings)
        prefix = f"{source.name}."
        template = f"#/$defs/{prefix}{{model}}"
        schema: Schema = model.model_json_schema(ref_template=template)
    except (Exception, SystemExit):  # noqa: BLE001 - a package raises what it likes; check reports it
        return {"type": "object"}
    inner = schema.pop("$defs", {})
    definitions.update({f"{prefix}{key}": value for key, value in inner.items()})
    return schema
