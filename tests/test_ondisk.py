"""A dictionary on disk is a dictionary: same answers, same order, and a memory that does not grow."""

import gc
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rationalrewards.ondisk import OnDisk

keys = st.text(max_size=4) | st.sampled_from(["", "a", "a\x00b", "\ud83d", "é", "0", "None"])


@given(st.lists(st.tuples(st.sampled_from(["set", "add"]), keys, st.integers(-(2**63), 2**63 - 1))))
def test_it_answers_as_a_dictionary_does(steps: list[tuple[str, str, int]]) -> None:
    found: OnDisk[int] = OnDisk()
    wanted: dict[str, int] = {}
    for how, key, value in steps:
        assert (key in found) == (key in wanted)
        if how == "set":
            found[key] = wanted[key] = value
        else:
            assert found.add(key, value) == (key not in wanted)
            wanted.setdefault(key, value)
        assert found[key] == found.get(key) == wanted[key]
    assert list(found.items()) == list(wanted.items())
    assert list(found) == list(wanted) and list(found.values()) == list(wanted.values())
    assert len(found) == len(wanted)


def test_what_is_not_there_is_a_key_error() -> None:
    empty: OnDisk[str] = OnDisk()
    assert empty.get("a") is None and "a" not in empty and list(empty.items()) == []
    with pytest.raises(KeyError):
        empty["a"]
    empty["a"] = ""
    assert "a" in empty and empty["a"] == ""  # an empty value is a value


def test_it_can_grow_while_it_is_read() -> None:
    numbers: OnDisk[int] = OnDisk()
    for n in range(2500):
        numbers[str(n)] = n
    seen = []
    for n in numbers.values():
        seen.append(n)
        numbers[str(n + 10_000)] = n
        numbers[str(n)] = -1
    assert seen[:1000] == list(range(1000)) and len(seen) == 2500 and len(numbers) == 5000


def test_the_values_outlive_the_name_and_nothing_outlives_them() -> None:
    held: OnDisk[int] = OnDisk()
    held["a"] = 1
    base = held._base
    values = held.values()
    del held
    assert list(values) == [1]
    del values
    gc.collect()
    with pytest.raises(Exception, match="closed"):
        base.execute("SELECT 1")


GROW = """
from pathlib import Path
from rationalrewards.ondisk import OnDisk
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
def fill(numbers, start, end):
    for n in range(start, end):
        numbers[f"{n:032d}"] = n
numbers = OnDisk()
fill(numbers, 0, 40_000)
early = resident()
fill(numbers, 40_000, 200_000)
print((resident() - early) / 160_000)
"""


def test_memory_does_not_grow_with_the_entries() -> None:
    """Fewer than 5 bytes for each further entry, where a dict of such keys and numbers takes some 200."""
    grown = subprocess.run([sys.executable, "-c", GROW], stdout=subprocess.PIPE, text=True, check=True).stdout
    assert float(grown) < 5
