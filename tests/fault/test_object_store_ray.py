"""A system on an object store through real Ray: a host that is killed, and a store that is refused at the start."""

import asyncio
import os
import signal

import pytest
import ray
from s3_server import BUCKET, Proxy
from typer.testing import CliRunner

from cluster.cli.app import app
from memos_ray import AsyncMemOS, Invalid, MemOS
from memos_ray.storage.files import Files

pytestmark = [pytest.mark.ray, pytest.mark.fault, pytest.mark.timeout(300)]


def test_a_killed_host_and_a_refused_store(s3_server, s3_root, monkeypatch):
    async def kill(namespace: str) -> None:
        cube = await AsyncMemOS(namespace=namespace).cube("user:maya")
        pid = (await cube.stats())["pid"]
        os.kill(pid, signal.SIGKILL)
        hits = await cube.search("Where does Maya live?", top_k=1)
        assert [hit.item.text for hit in hits] == ["Maya lives in Lisbon."]
        assert (await cube.stats())["pid"] != pid

    with MemOS(data=s3_root, address="local", namespace="s3", embedder="hash") as memory:
        memory.add("Maya lives in Lisbon.", user_id="maya")
        asyncio.run(kill("s3"))
        memory.add("Maya keeps bees.", user_id="maya")
        assert len(memory.get_all(user_id="maya")["results"]) == 2

        looked = CliRunner().invoke(app, ["doctor", "--data", s3_root])
        assert "honours conditional puts" in looked.output
        assert looked.exit_code == 0

        ignores = Proxy(s3_server.endpoint, strip="If-None-Match")
        try:
            monkeypatch.setenv("AWS_ENDPOINT_URL", ignores.endpoint)
            with pytest.raises(Invalid, match="If-None-Match") as caught:
                MemOS(data=f"s3://{BUCKET}/refused", namespace="refused", embedder="hash")
            looked = CliRunner().invoke(app, ["doctor", "--data", f"s3://{BUCKET}/refused"])
        finally:
            ignores.stop()
        assert caught.value.argument == "data"
        assert "If-None-Match" in looked.output
        assert looked.exit_code != 0
        assert not [e for e in ray.util.list_named_actors(all_namespaces=True) if e["namespace"] == "refused"]
        monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.endpoint)
        assert list(Files(f"s3://{BUCKET}/refused").list()) == []
