"""The table of what stacks, in docs/clusters.md, names what is tested."""

from forked_scripts import ROOT
from stacks import STACKS


def test_the_table_names_what_is_tested() -> None:
    rows = [f"| `{dial.replace(', ', '`, `')}` | {'; '.join(found)} |" for dial, found in STACKS.items()]
    assert "\n".join(["| dial | what stacks |", "|---|---|", *rows]) in (ROOT / "docs" / "clusters.md").read_text()
