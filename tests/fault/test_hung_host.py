"""A host that is stopped, not dead: calls go on elsewhere, and when it wakes up it may not speak for the cube."""

import os
import signal
from collections.abc import Iterator

import pytest
import ray

from memos_ray import MemOS
from memos_ray.ids import new_op_id
from memos_ray.wire import Call, Reply

pytestmark = [pytest.mark.ray, pytest.mark.fault, pytest.mark.timeout(180)]
NAMESPACE = "test-hung"


@pytest.fixture(scope="module")
def memory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MemOS]:
    data = str(tmp_path_factory.mktemp("data"))
    with MemOS(
        data=data, address="local", namespace=NAMESPACE, embedder="hash", call_timeout_s=16.0
    ) as memory:
        yield memory


def test_a_stopped_host_is_replaced_and_refused_when_it_wakes(memory: MemOS):
    cube = memory.cube("hung")
    cube.add("before")
    pid = cube.stats()["pid"]
    (name,) = [h["name"] for h in memory.status()["hosts"] if h["pid"] == pid]
    old = ray.get_actor(name, namespace=NAMESPACE)
    os.kill(pid, signal.SIGSTOP)
    try:
        cube.add("while it hangs")
        assert cube.stats()["pid"] != pid
    finally:
        os.kill(pid, signal.SIGCONT)
    try:
        write = {"messages": "by the old owner", "op_id": new_op_id()}
        reply: Reply = ray.get(old.call.remote(Call("hung", "add_messages", write, "late", 30.0)), timeout=30)
        assert type(reply.error).__name__ == "Moved"
    except ray.exceptions.RayActorError:
        pass  # the directory's order to end reached it first
    assert [item.text for item in cube.get_all()] == ["before", "while it hangs"]


def test_a_repeated_reset_or_import_changes_nothing_more(memory: MemOS):
    cube = memory.cube("twice")
    cube.add("old")
    directory = ray.get_actor("directory", namespace=NAMESPACE)
    table, incarnation = cube.export_table(), new_op_id()
    assert ray.get(directory.reset.remote("twice", incarnation)).error is None
    cube.add("new")
    assert ray.get(directory.reset.remote("twice", incarnation)).error is None
    assert [item.text for item in cube.get_all()] == ["new"]
    for _ in range(2):
        assert ray.get(directory.import_cube.remote("imported", table, incarnation)).error is None
    other = ray.get(directory.import_cube.remote("imported", table, new_op_id()))
    assert type(other.error).__name__ == "Conflict"
    assert [item.text for item in memory.cube("imported").get_all()] == ["old"]
