"""How a client and a system come together, as far as it needs no running Ray."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster import local_head
from cluster.address import cluster_address
from cluster.launch import joined_settings, up
from memos_ray.config import Settings
from memos_ray.errors import Invalid, Unavailable


@pytest.fixture
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary folder in which no head is known to run. Returns where the head's state would be."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for name in ("RAY_ADDRESS", "MEMOS_RAY_ADDRESS", "MEMOS_RAY_GROUP_ROWS"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / f"memos_ray_{local_head.os.getuid()}"


def test_what_a_client_leaves_unset_is_as_the_system_has_it(clean: Path):
    running = Settings(data="/srv/theirs", embedder="hash", group_rows=7, call_timeout_s=1)
    joined = joined_settings(Settings(call_timeout_s=9, embedder="hash", namespace="n"), running)
    assert joined == running.model_copy(update={"call_timeout_s": 9.0})
    assert joined_settings(Settings(), running).call_timeout_s == 60.0


def test_another_value_than_the_system_has_is_refused(clean: Path, monkeypatch: pytest.MonkeyPatch):
    running = Settings(group_rows=7)
    with pytest.raises(Invalid, match=r"7 and 8.*another namespace") as caught:
        joined_settings(Settings(group_rows=8), running)
    assert caught.value.argument == "group_rows"
    with pytest.raises(Invalid, match="1000"):  # the default, but asked for
        joined_settings(Settings(group_rows=1000), running)
    monkeypatch.setenv("MEMOS_RAY_GROUP_ROWS", "9")
    with pytest.raises(Invalid, match="MEMOS_RAY_GROUP_ROWS"):
        joined_settings(Settings(), running)


def test_keys_are_compared_but_not_shown(clean: Path):
    with pytest.raises(Invalid, match="llm_api_key") as caught:
        joined_settings(Settings(llm_api_key="mine-1"), Settings(llm_api_key="theirs-2"))
    assert "mine-1" not in str(caught.value)
    assert "theirs-2" not in str(caught.value)


def test_the_address_is_decided_in_one_order(clean: Path, monkeypatch: pytest.MonkeyPatch):
    assert cluster_address(Settings()) is None
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert cluster_address(Settings()) == "10.0.0.1:6379"
    assert cluster_address(Settings(address="10.0.0.2:6379")) == "10.0.0.2:6379"
    monkeypatch.setenv("RAY_ADDRESS", "local")
    with pytest.raises(Invalid, match="ends with this process"):
        up(Settings())


def test_a_state_folder_that_others_can_write_is_refused(clean: Path):
    assert local_head.address() is None
    clean.mkdir(mode=0o700)
    assert local_head.stop() is False
    clean.chmod(0o770)
    for call in (local_head.address, local_head.start, local_head.stop):
        with pytest.raises(Invalid, match="TMPDIR"):
            call()


def test_a_state_folder_that_is_a_link_is_refused(clean: Path, tmp_path: Path):
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    clean.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Invalid, match="TMPDIR"):
        local_head.address()


def test_a_head_that_does_not_come_up_is_ended(clean: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "bin").mkdir()
    fake = tmp_path / "bin" / "ray"
    fake.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec sleep 60 # --head --block\n")
    fake.chmod(0o700)
    monkeypatch.setattr("sys.executable", str(tmp_path / "bin" / "python"))
    monkeypatch.setattr(local_head, "_START_TIMEOUT_S", 0.3)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with pytest.raises(Unavailable, match="did not start"):
        local_head.start()
    pid = (tmp_path / "pid").read_text().strip()
    assert not Path(f"/proc/{pid}").exists()
    assert local_head.address() is None
