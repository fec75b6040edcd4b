"""Logical shards: stable, uniform, and whole shards to a registry table."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from memos_ray.placement.shards import SHARDS, SHARDS_PER_TABLE, TABLES, shard_of, table_of

IDS = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=200)


def test_the_shard_of_an_id_is_the_same_in_every_release():
    # SHA-256 of "user:maya" begins with ee63, of "用户" with 0d0e (sha256sum)
    assert {i: shard_of(i) for i in ("user:maya", "用户")} == {"user:maya": 0xEE63 >> 6, "用户": 0x0D0E >> 6}


@given(IDS)
def test_a_table_has_whole_shards(cube_id):
    assert 0 <= shard_of(cube_id) < SHARDS
    assert table_of(cube_id) == shard_of(cube_id) // SHARDS_PER_TABLE < TABLES


def test_ids_spread_evenly():
    n = 100_000
    found = Counter(shard_of(f"user:{i}") for i in range(n))
    expected = n / SHARDS
    chi_square = sum((found[s] - expected) ** 2 / expected for s in range(SHARDS))
    assert chi_square < 1168  # 99.9 % of uniform draws with 1023 degrees of freedom are below
