from pathlib import Path

import pytest

from memos_ray.config import Settings
from memos_ray.errors import Invalid
from memos_ray.memos import make_settings

DOCS = Path(__file__).parents[2] / "docs" / "settings.md"


def test_every_setting_is_documented_with_its_default():
    text = DOCS.read_text()
    for name, field in Settings.model_fields.items():
        value = field.get_default(call_default_factory=True)
        default = "none" if value is None else value
        assert f"| `{name}` | `MEMOS_RAY_{name.upper()}` | `{default}` | {field.description} |" in text


def test_environment_and_code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("MEMOS_RAY_DATA", str(tmp_path / "env"))
    assert make_settings(None, {}).data == str(tmp_path / "env")
    assert make_settings(None, {"data": str(tmp_path / "code")}).data == str(tmp_path / "code")
    assert make_settings(Settings(data="s3://bucket/x"), {}).data == "s3://bucket/x"


def test_a_local_root_is_absolute():
    assert Path(make_settings(None, {"data": "here"}).data).is_absolute()


def test_unknown_and_bad_settings_are_refused():
    with pytest.raises(Invalid, match="colour"):
        make_settings(None, {"colour": "blue"})
    with pytest.raises(Invalid, match="durability"):
        make_settings(None, {"durability": "eternal"})
