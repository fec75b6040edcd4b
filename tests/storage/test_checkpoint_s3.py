"""Checkpoints on an object store: a cube is passivated there and activated from them, whatever became of them."""

import numpy as np
import pytest
from s3_server import Proxy

from memos_ray.config import Settings
from memos_ray.cube import checkpointing, upkeep
from memos_ray.cube.checkpoint import Opened
from memos_ray.cube.checkpoint_file import CheckpointFolder, Damaged
from memos_ray.cube.paths import checkpoints_path
from memos_ray.cube.registry import Registry
from memos_ray.errors import Unavailable
from memos_ray.storage.files import Files
from memos_ray.testing.local import LocalCubes

QUERIES = ("jar of lemons number 7", "Who likes tea?", "她什么时候搬到了上海？")


@pytest.fixture(autouse=True)
def _eager(monkeypatch):
    """Checkpoints of the smallest cubes, and as soon as anything is new."""
    for module in (checkpointing, upkeep):
        monkeypatch.setattr(module, "_LACKING", 0.0)
    monkeypatch.setattr(checkpointing, "_LEAST", 1)


@pytest.fixture
def proxy(s3_server, s3_root, monkeypatch):
    started = Proxy(s3_server.endpoint)
    monkeypatch.setenv("AWS_ENDPOINT_URL", started.endpoint)
    yield started
    started.stop()


@pytest.fixture
def used(monkeypatch):
    """The checkpoints that something is made of."""
    found = []
    real = Opened.restored

    def restored(self, make, *parts):
        value = real(self, make, *parts)
        if value is not None:
            found.append(self._name.rpartition("/")[2].partition("-")[0])
        return value

    monkeypatch.setattr(Opened, "restored", restored)
    return found


async def fill(root):
    async with LocalCubes(root, settings=Settings()) as cubes:
        cube = await cubes.cube("user:Maya")  # a name that is encoded in keys
        await cube.add(
            [f"Jar {i} of lemons is Ben's." for i in range(20)] + ["Maya likes tea.", "我搬到了上海。"]
        )
        await cube.search("tea")
        return await answers(cube)


async def answers(cube):
    found = [await cube.search(query, top_k=10) for query in QUERIES]
    return [[(hit.item.id, hit.score) for hit in hits] for hits in found]


async def again(root):
    """What a process that starts now answers. It passivates the cube in the end."""
    async with LocalCubes(root, settings=Settings()) as cubes:
        return await answers(await cubes.cube("user:Maya"))


def checkpoints(root):
    return Files(checkpoints_path(root, "user:Maya", Registry(root).lookup("user:Maya").incarnation))


async def test_a_cube_comes_back_from_its_checkpoints(s3_root, used):
    before = await fill(s3_root)
    names = sorted(file.name.partition("-")[0] for file in checkpoints(s3_root).list())
    assert names == ["index.arrow", "vectors"]
    assert await again(s3_root) == before
    assert set(used) == {"index", "vectors"}


@pytest.mark.parametrize("damage", ["cut", "zeroed"])
async def test_damaged_ones_count_as_none_and_are_replaced(s3_root, used, damage):
    before = await fill(s3_root)
    files = checkpoints(s3_root)
    damaged = {}
    for file in list(files.list()):
        data = files.read_bytes(file.name)
        middle = len(data) // 2
        damaged[file.name] = {
            "cut": data[:-1000],
            "zeroed": data[:middle] + bytes(4096) + data[middle + 4096 :],
        }[damage]
        files.write_bytes(file.name, damaged[file.name])
    assert await again(s3_root) == before
    assert all(files.read_bytes(name) != data for name, data in damaged.items())
    used.clear()
    assert await again(s3_root) == before
    assert set(used) == {"index", "vectors"}


async def test_one_that_cannot_be_written_fails_nothing(s3_root, proxy, caplog):
    before = await fill(s3_root)
    files = checkpoints(s3_root)
    old = {file.name: files.read_bytes(file.name) for file in files.list()}
    proxy.before = lambda method, path: 403 if method == "PUT" and "/checkpoints/" in path else None
    async with LocalCubes(s3_root, settings=Settings()) as cubes:
        cube = await cubes.cube("user:Maya")
        added = (await cube.add("Something new about figs.")).ids
        await cube.search("tea")
    assert "no checkpoint of user:Maya" in caplog.text
    assert {file.name: files.read_bytes(file.name) for file in files.list()} == old
    async with LocalCubes(s3_root, settings=Settings()) as cubes:
        cube = await cubes.cube("user:Maya")
        assert (await cube.search("Something new about figs.", top_k=1))[0].item.id == added[0]
        assert [ids for ids, _ in (await answers(cube))[0]] == [ids for ids, _ in before[0]]


def test_an_upload_that_was_not_completed_is_no_checkpoint(s3_root, proxy):
    folder = CheckpointFolder(f"{s3_root}/checkpoints")
    large = {"p": {"numbers": np.arange(3_000_000)}}  # goes in three parts
    proxy.before = lambda method, path: 403 if method == "POST" and "uploadId" in path else None
    with pytest.raises(Unavailable):
        folder.write("x", {"n": 1}, large)
    assert folder.open("x") is None
    proxy.before = lambda method, path: None
    assert folder.write("x", {"n": 2}, large) == folder._files.size("x.arrow")
    proxy.before = lambda method, path: 403 if "partNumber=2" in path else None
    with pytest.raises(Unavailable):
        folder.write("x", {"n": 3}, large)
    proxy.counts.clear()
    found = folder.open("x")
    assert found.about == {"n": 2}
    assert found.part("p")["numbers"].tolist()[:3] == [0, 1, 2]
    with pytest.raises(Damaged):
        found.part("q")
    assert proxy.counts["GET"] == 1  # parts of the upload that was given up may still be on their way
    folder.remove("x")
    folder.remove("x")
    assert folder.open("x") is None


def test_storage_that_is_out_of_reach_is_no_damage(s3_root, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(Unavailable):
        CheckpointFolder(s3_root).open("x")


async def test_an_owner_that_was_taken_over_writes_none(s3_root):
    async with LocalCubes(s3_root) as first, LocalCubes(s3_root) as second:
        await (await first.cube("user:Maya")).add([f"Jar {i}." for i in range(5)])
        await second.active("user:Maya")
        await first.close()
        assert list(checkpoints(s3_root).list()) == []
