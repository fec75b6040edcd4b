"""What a data root may be, and what Lance and obstore are told of it."""

from pathlib import Path

import pytest

from memos_ray.config import Settings
from memos_ray.cube.durable import local_path
from memos_ray.errors import Invalid
from memos_ray.memos import make_settings
from memos_ray.storage.options import client_settings, storage_options
from memos_ray.storage.roots import parse_root


@pytest.mark.parametrize(
    ("data", "uri", "bucket", "prefix"),
    [
        ("s3://bucket", "s3://bucket", "bucket", ""),
        ("s3://bucket/", "s3://bucket", "bucket", ""),
        (" s3://my.bucket-1/a/b_c=1// ", "s3://my.bucket-1/a/b_c=1", "my.bucket-1", "a/b_c=1"),
        ("gs://bucket/x", "gs://bucket/x", "bucket", "x"),
        ("az://container/x", "az://container/x", "container", "x"),
    ],
)
def test_object_stores(data, uri, bucket, prefix):
    root = parse_root(data)
    assert (root.uri, root.bucket, root.prefix, root.is_folder) == (uri, bucket, prefix, False)
    assert Settings(data=data).data == uri
    assert local_path(root.uri) is None  # nothing there is ever fsynced


def test_folders():
    assert parse_root("/srv/memory/").uri == "/srv/memory"
    assert parse_root("file:///srv/memory").uri == "/srv/memory"
    assert parse_root("here").uri == str(Path("here").resolve())
    assert parse_root("C:odd name").is_folder
    assert parse_root("/srv/a b").is_folder


@pytest.mark.parametrize(
    "data",
    [
        "",
        "  ",
        "s3:bucket/x",
        "s3:/bucket/x",
        "s3://",
        "s3:///x",
        "s3://UPPER/x",
        "s3://ab",
        "s3://bucket/a//b",
        "s3://bucket/../x",
        "s3://bucket/a b",
        "s3://bucket/x?versionId=1",
        "s3a://bucket/x",
        "http://host/x",
        "memory://x",
        "file://host/x",
    ],
)
def test_what_is_no_root_is_refused(data):
    with pytest.raises(Invalid) as caught:
        parse_root(data)
    assert caught.value.argument == "data"
    assert "a folder, or s3://bucket/prefix" in caught.value.message
    with pytest.raises(Invalid, match="data"):
        make_settings(None, {"data": data})


def test_a_secret_in_a_root_is_not_repeated():
    with pytest.raises(Invalid) as caught:
        parse_root("s3://KEY:hush@bucket/x")
    assert "hush" not in caught.value.message


def test_a_folder_has_no_options():
    assert storage_options("/srv/memory") is None


def test_options_are_from_the_environment_and_hold_no_secret(tmp_path):
    env = {
        "AWS_ACCESS_KEY_ID": "id",
        "AWS_SECRET_ACCESS_KEY": "hush",
        "AWS_ENDPOINT_URL": "http://localhost:9000/",
        "AWS_ALLOW_HTTP": "TRUE",
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
    }
    options = storage_options("s3://bucket/x", env)
    assert options["aws_endpoint"] == "http://localhost:9000"
    assert options["allow_http"] == "true"
    assert options["aws_region"] == "us-east-1"
    assert "hush" not in str(options)
    more = {**env, "AWS_ENDPOINT_URL_S3": "https://s3.example", "AWS_DEFAULT_REGION": "eu-west-1"}
    options = storage_options("s3://bucket/x", more)
    assert (options["aws_endpoint"], options["aws_region"]) == ("https://s3.example", "eu-west-1")
    assert "allow_http" not in options


@pytest.mark.parametrize(
    ("env", "argument"),
    [
        ({}, "AWS_REGION"),
        ({"AWS_ENDPOINT_URL": "localhost:9000"}, "AWS_ENDPOINT_URL"),
        ({"AWS_ENDPOINT_URL": "http://localhost:9000"}, "AWS_ALLOW_HTTP"),
    ],
)
def test_an_environment_that_cannot_work_is_named(env, argument, tmp_path):
    none = {"AWS_CONFIG_FILE": str(tmp_path / "none"), "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none")}
    with pytest.raises(Invalid) as caught:
        storage_options("s3://bucket/x", {**none, **env})
    assert caught.value.argument == argument


def test_profiles(tmp_path):
    config, credentials = tmp_path / "config", tmp_path / "credentials"
    config.write_text(
        "[profile work]\nregion = eu-north-1\n[profile sso]\nregion = eu-west-3\nsso_session = x\n"
    )
    credentials.write_text(
        "[default]\naws_access_key_id = d\naws_secret_access_key = ds\n"
        "[work]\naws_access_key_id = w\naws_secret_access_key = ws\naws_session_token = wt\n"
    )
    files = {"AWS_CONFIG_FILE": str(config), "AWS_SHARED_CREDENTIALS_FILE": str(credentials)}
    root = parse_root("s3://bucket/x")
    found = client_settings(root, {**files, "AWS_PROFILE": "work"})["config"]
    assert found == {
        "region": "eu-north-1",
        "access_key_id": "w",
        "secret_access_key": "ws",
        "session_token": "wt",
    }
    assert client_settings(root, {**files, "AWS_REGION": "r"})["config"]["access_key_id"] == "d"
    given = {**files, "AWS_REGION": "r", "AWS_ACCESS_KEY_ID": "env", "AWS_SECRET_ACCESS_KEY": "s"}
    assert client_settings(root, given)["config"] == {"region": "r"}  # obstore reads those by itself
    with pytest.raises(Invalid, match="export-credentials"):
        client_settings(root, {**files, "AWS_PROFILE": "sso"})
    assert storage_options("s3://bucket/x", {**files, "AWS_PROFILE": "sso"})["aws_region"] == "eu-west-3"
    config.write_text("[[[\nx")
    with pytest.raises(Invalid, match="cannot be read"):
        storage_options("s3://bucket/x", files)
