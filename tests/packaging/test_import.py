import subprocess
import sys


def _run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout


def test_import_is_light():
    heavy = _run(
        "import sys, memos_ray\n"
        "print([m for m in ('ray', 'torch', 'lance', 'pyarrow', 'numpy', 'pydantic', 'networkx') if m in sys.modules])"
    )
    assert heavy.strip() == "[]"


def test_public_names_are_all_there():
    import memos_ray

    assert sorted(memos_ray.__all__) == dir(memos_ray)
    for name in memos_ray.__all__:
        assert getattr(memos_ray, name) is not None


def test_what_a_cube_imports_never_reaches_torch():
    heavy = _run(
        "import sys, memos_ray.cube.opening\n"
        "print([m for m in ('torch', 'transformers', 'sentence_transformers', 'ray') if m in sys.modules])"
    )
    assert heavy.strip() == "[]"
