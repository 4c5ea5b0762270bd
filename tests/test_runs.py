"""Run directories and ledgers: nothing is lost, nothing is mixed."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rationalrewards.runs import Ledger, Run, content_key, write_json
from rationalrewards.types import InputError

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc"), inner, max_size=3),
    max_leaves=6,
)


@given(st.lists(st.tuples(st.text("xyz", min_size=1), values), max_size=8))
def test_a_ledger_gives_back_what_was_appended(rows: list[tuple[str, object]]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "l.jsonl"
        with Ledger(path) as ledger:
            for key, value in rows:
                ledger.append(key, {"value": value})
                assert ledger[key]["value"] == value and ledger.get(key) == ledger[key]
            assert ledger.get("none of them") is None
        with Ledger(path) as again:
            assert {record["key"]: record["value"] for record in again} == dict(rows)
            assert len(again) == len(dict(rows))


@pytest.mark.parametrize("cut", [1, 5, 12])
def test_a_torn_last_line_is_dropped_and_the_rest_kept(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "l.jsonl"
    with Ledger(path) as ledger:
        ledger.append("a", {"n": 1})
        ledger.append("b", {"n": 2})
    path.write_bytes(path.read_bytes()[:-cut])
    with Ledger(path) as ledger:
        assert "a" in ledger and "b" not in ledger
        ledger.append("b", {"n": 3})
    with Ledger(path) as ledger:
        assert [record["n"] for record in ledger] == [1, 3]


def test_a_file_that_is_no_ledger_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "l.jsonl"
    for content in ("hello\n", '{"no": "key"}\n', "[1]\n"):
        path.write_text(content)
        with pytest.raises(InputError, match="not a ledger"):
            Ledger(path)
        assert path.read_text() == content


def test_a_run_continues_with_the_same_configuration_only(tmp_path: Path) -> None:
    Run(tmp_path / "r", "judge", {"seed": 1, "policy": {"margin": 0.1}}, rubric_hash="x")
    Run(tmp_path / "r", "judge", {"seed": 1, "policy": {"margin": 0.1}}, rubric_hash="x")
    for config, about in (
        ({"seed": 2, "policy": {"margin": 0.1}}, "x"),
        ({"seed": 1, "policy": {"margin": 0.1}}, "y"),
    ):
        with pytest.raises(InputError, match="another configuration"):
            Run(tmp_path / "r", "judge", config, rubric_hash=about)
    with pytest.raises(InputError, match=r"policy.margin: 0.1 there, 0.2 now"):
        Run(tmp_path / "r", "judge", {"seed": 1, "policy": {"margin": 0.2}}, rubric_hash="x")


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.doc").write_text("precious")
    with pytest.raises(InputError, match=r"no run.json"):
        Run(tmp_path, "judge", {})
    with pytest.raises(InputError, match="is a file"):
        Run(tmp_path / "thesis.doc", "judge", {})


def test_a_summary_carries_what_made_it(tmp_path: Path) -> None:
    run = Run(tmp_path / "r", "judge", {"seed": 7}, rubric_hash="x")
    run.finish({"items": 3})
    summary = json.loads((tmp_path / "r" / "summary.json").read_text())
    assert summary["items"] == 3 and summary["seed"] == 7 and summary["rubric_hash"] == "x"
    assert summary["config"] == {"seed": 7} and "python" in summary["versions"]
    write_json(tmp_path / "r" / "summary.json", {"items": 4})
    assert not list((tmp_path / "r").glob("*.part"))


def test_content_keys_tell_content_apart() -> None:
    assert content_key("a", b"b") == content_key("a", b"b")
    assert len({content_key("ab"), content_key("a", "b"), content_key(b"ab"), content_key({"a": "b"})}) == 4
