"""docs/observability.md has the table of metrics as it is in the code."""

from pathlib import Path

from memos_ray.telemetry import METRICS

DOCS = Path(__file__).parents[2] / "docs" / "observability.md"


def table() -> str:
    rows = ["| metric | kind | unit | tags | tags are | what it says |", "|---|---|---|---|---|---|"]
    rows += [
        f"| `{m.exported}` | {m.kind} | {m.unit} | {', '.join(f'`{tag}`' for tag in m.tags)} | {m.values} | {m.help} |"
        for m in METRICS.values()
    ]
    return "\n".join(rows)


def test_the_documented_metrics_are_those_that_there_are():
    assert table() in DOCS.read_text(), f"the table should be:\n{table()}"
