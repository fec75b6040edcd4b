"""A driver script: an agent remembers, its facts change, and it asks about now and about then.

Run it with `.venv/bin/python examples/quickstart.py`.
"""

from memos_ray import MemOS


def main() -> None:
    with MemOS(data="./memos_data/quickstart") as memory:
        cube = memory.cube("user:maya")
        cube.add(
            [
                {"role": "user", "name": "Maya", "content": "I moved to Lisbon last Friday."},
                {"role": "assistant", "content": "How exciting! How is the new flat?"},
                {"role": "user", "name": "Maya", "content": "Small, but the kitchen gets the morning sun."},
            ],
            timestamp="2024-05-06T19:00:00+01:00",
            conversation="chat",
            session="1",
            op_id="quickstart-session-1",  # running this script twice adds nothing twice
        )
        cube.add_triples(
            [("Maya", "lives_in", "Porto", "2021-01-01"), ("Maya", "lives_in", "Lisbon", "2024-05-03")],
            functional=True,
            op_id="quickstart-triples",
        )
        for as_of in ("2022-06-01", "2024-06-01"):
            hit = cube.search("Where does Maya live?", top_k=1, filters={"kind": "triple"}, as_of=as_of)[0]
            print(f"as of {as_of}: {hit.item.text}")
        for hit in cube.search("What is her kitchen like?", top_k=2, explain=True):
            arms = ", ".join(f"{name} #{arm.rank}" for name, arm in hit.explanation.arms.items())
            print(f"{hit.score:.2f}  {hit.item.text}   ({arms})")


if __name__ == "__main__":
    main()
