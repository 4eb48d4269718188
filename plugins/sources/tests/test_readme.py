"""The README explains every key of every driver."""

from importlib.metadata import entry_points

from pexpolicy_sources import DataSourceSettings
from tests.support import doc_pages, paths


def test_every_key_is_explained_with_its_default() -> None:
    page = paths.ROOT / "plugins" / "sources" / "README.md"
    rows = {row[0]: row[2] for row in doc_pages.rows(page) if len(row) == 4}
    drivers = [
        entry.load()
        for entry in entry_points(group="pexpolicy.sources")
        if entry.module.startswith("pexpolicy_sources.")
    ]
    names = {"FileSource", "HttpSource", "LdapSource", "SqlSource"}
    assert {driver.__name__ for driver in drivers} == names
    fields = dict(DataSourceSettings.model_fields)
    for driver in drivers:
        fields |= driver.Settings.model_fields
    assert rows.keys() == fields.keys()
    for name, field in fields.items():
        if isinstance(field.default, bool | int | float):
            assert rows[name] == str(field.default).lower(), name
