"""The whole life of cubes on an object store, without Ray: what is written there, found there, and nowhere else."""

import asyncio
import os

import pytest

from memos_ray.clock import SystemClock
from memos_ray.config import Settings
from memos_ray.cube.opening import fence_off, write_incarnation
from memos_ray.cube.portable import read_memcube, write_memcube
from memos_ray.cube.registry import Registry
from memos_ray.errors import Moved, Unavailable
from memos_ray.ids import new_op_id
from memos_ray.storage.files import Files
from memos_ray.testing.local import LocalCubes


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working directory of its own: whatever is written beside the root shows."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("durability", ["process", "power"])
async def test_a_cubes_life(s3_root, here, tmp_path, monkeypatch, durability):
    if durability == "power":
        monkeypatch.setattr(os, "fsync", None)  # a put is durable when it returns: nothing is ever fsynced
    settings = Settings(durability=durability, compact_every=8)
    async with LocalCubes(s3_root, settings=settings) as cubes:
        cube = await cubes.cube("user:maya")
        ids = (await cube.add("Maya keeps bees in Lisbon.")).ids
        await asyncio.gather(*(cube.add(f"Jar {i} holds lemons.") for i in range(20)))
        for i in range(10):
            await cube.add(f"Box {i} holds figs.")
        await cube.snapshot("before")
        await cube.update(ids[0], text="Maya keeps goats in Lisbon.")
        hits = await cube.search("Which animals does Maya keep?", top_k=1)
        assert hits[0].item.text == "Maya keeps goats in Lisbon."
    async with LocalCubes(s3_root, settings=settings) as cubes:
        cube = await cubes.cube("user:maya")
        assert (await cube.get(ids[0])).text == "Maya keeps goats in Lisbon."
        await cube.restore_snapshot("before")
        assert len(await cube.get_all(limit=100)) == 31
        hits = await cube.search("Which animals does Maya keep?", top_k=1)
        assert hits[0].item.text == "Maya keeps bees in Lisbon."
        table = await cube.export_table()
    write_memcube(tmp_path / "maya.memcube", "user:maya", table)
    _, table = read_memcube(tmp_path / "maya.memcube")
    incarnation = new_op_id()
    write_incarnation(cubes.settings, "user:copy", incarnation, table)
    registry = Registry(s3_root)
    registry.create_if_absent("user:copy", incarnation=incarnation, embedder="hash")
    async with LocalCubes(s3_root, settings=settings) as cubes:
        copy = await cubes.cube("user:copy")
        assert (await copy.get(ids[0])).text == "Maya keeps bees in Lisbon."
    assert [record.cube_id for record in registry.index().page()] == ["user:copy", "user:maya"]
    assert list(here.iterdir()) == []
    kinds = {file.name.partition("/")[0] for file in Files(s3_root).list()}
    assert kinds == {"cubes", "registry"}


async def test_an_owner_that_was_fenced_off_says_so(s3_root):
    async with LocalCubes(s3_root) as cubes:
        cube = await cubes.active("c", create=True)
        incarnation = Registry(s3_root).lookup("c").incarnation
        await fence_off(cubes.settings, "c", incarnation, clock=SystemClock())
        with pytest.raises(Moved):
            await cube.journal_confirm() if hasattr(cube, "journal_confirm") else await cube._journal.confirm(
                latest=True
            )


def test_a_store_that_went_away_is_unavailable(s3_root, monkeypatch):
    Registry(s3_root).create_if_absent("c", incarnation=new_op_id(), embedder="hash")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(Unavailable, match="error sending request"):
        Registry(s3_root).lookup("c")


def test_a_bucket_that_is_not_there_is_unavailable_not_damage(s3_root):
    with pytest.raises(Unavailable, match="NoSuchBucket"):
        Registry("s3://nowhere-at-all/x").lookup("c")
