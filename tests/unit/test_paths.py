"""Cube ids as folder names: reversible, distinct where case does not count, and never leaving the root."""

from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memos_ray.cube.paths import (
    decode_id,
    encode_id,
    incarnation_folder,
    journal_path,
    vectors_path,
)
from memos_ray.errors import Invalid

INCARNATION = "0198a000-0000-7000-8000-000000000000"
IDS = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=200)


@given(IDS)
def test_every_id_comes_back(cube_id):
    assert decode_id(encode_id(cube_id)) == cube_id


@given(IDS)
def test_names_are_plain_and_short(cube_id):
    for name in encode_id(cube_id).split("/"):
        assert 0 < len(name) <= 201
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-_=")


@given(IDS, IDS)
def test_different_ids_stay_apart_where_case_does_not_count(one, other):
    if one != other:
        assert encode_id(one).casefold() != encode_id(other).casefold()


@pytest.mark.parametrize(
    "cube_id", ["../x", "..", ".", "a/../../b", "/etc/passwd", "c:\\x", "~", "a/b", "用户", "İ"]
)
def test_path_like_ids_stay_under_the_root(cube_id):
    path = PurePosixPath(journal_path("/data", cube_id, INCARNATION))
    assert ".." not in path.parts
    assert path.parts[:3] == ("/", "data", "cubes")
    assert len(path.parts) == 7


def test_ids_that_differ_in_case_have_different_folders():
    assert len({encode_id(x).lower() for x in ("User", "user", "USER", "uSer")}) == 4


def test_a_readable_id_stays_readable():
    assert encode_id("user:alice_1-x") == "user=3aalice_1-x"


def test_long_ids_are_split_and_never_meet_a_shorter_ones_incarnations():
    short, long = "a" * 200, "a" * 200 + INCARNATION
    assert encode_id(long) == "a" * 200 + "=/" + INCARNATION
    assert encode_id(short) == "a" * 200
    assert decode_id(encode_id("界" * 200)) == "界" * 200


@pytest.mark.parametrize("name", ["A", "a.b", "=zz", "=4", "=61", "a=", "", "=ff", "a/b"])
def test_what_no_id_encodes_to_is_refused(name):
    with pytest.raises(Invalid, match="not the folder name"):
        decode_id(name)


def test_uri_roots():
    journal = journal_path("s3://bucket/memory/", "x", INCARNATION)
    assert journal == f"s3://bucket/memory/cubes/2d/x/{INCARNATION}/memories.lance"
    vectors = vectors_path("s3://bucket/memory", "x", INCARNATION, "minilm-1")
    assert vectors == f"s3://bucket/memory/cubes/2d/x/{INCARNATION}/vectors/minilm-1.lance"


@pytest.mark.parametrize("incarnation", ["", "..", "../../../../x", "0198A000-0000-7000-8000-000000000000"])
def test_an_incarnation_is_a_uuid(incarnation):
    with pytest.raises(Invalid, match="UUID"):
        incarnation_folder("/data", "x", incarnation)


def test_an_empty_id_is_refused():
    with pytest.raises(Invalid, match="empty"):
        encode_id("")
