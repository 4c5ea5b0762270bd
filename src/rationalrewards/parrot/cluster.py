"""The same phases on many processes and nodes, by Ray Data.

One task on the driver's node reads the preferences. Workers anywhere ask the teachers, and ask one actor on
the driver's node for every line that is known and to write down every new one. So the run directory is the
driver's alone, a line is there as soon as its phase is done, and a run that was killed goes on with either
engine. What comes back to the driver, in the order of the preferences, is a key for each pair.
"""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from rationalrewards.ondisk import OnDisk
from rationalrewards.parrot.phases import Done, LedgerLines, LeftOut, Phases, Plan
from rationalrewards.parrot.pipeline import Intake, Worked, sift
from rationalrewards.parrot.teacher import Teachers
from rationalrewards.rows import Skipped
from rationalrewards.rubric import Rubric
from rationalrewards.runs import Run
from rationalrewards.types import InputError, Usage

if TYPE_CHECKING:
    from rationalrewards.preferences.base import Preference

_PAIRS = 4  # in one task of a worker: enough that Ray's own work does not count, few enough to end together


def run_on_ray(
    items: Callable[[], Iterable[Preference | Skipped]],
    teachers: Callable[[], Teachers],
    rubric: Rubric,
    plan: Plan,
    run: Run,
    *,
    workers: int,
    total: int | None = None,
) -> Worked:
    """``pipeline.run_pairs`` with ``workers`` processes: the same lines, and so the same tables.

    Uses the cluster that this process is connected to, else the one that RAY_ADDRESS names, else starts one
    on this machine. ``items`` is called on this machine, ``teachers`` in every worker; both must be picklable
    and give the same each time; each worker asks as many questions at a time as its teachers allow. Raises
    InputError without the ``ray`` package, and as ``run_pairs`` does.
    """
    LedgerLines(run.path).close()  # a ledger that is none is told here, and not by an actor that died of it
    intake, cost = Intake(), Usage()
    keys: OnDisk[str] = OnDisk()
    with _cluster() as ray, tqdm(total=total, desc="parrot", unit="pair", disable=None) as bar:
        here = {"ray.io/node-id": ray.get_runtime_context().get_node_id()}
        book = ray.remote(LedgerLines).options(num_cpus=0, label_selector=here).remote(run.path)
        asked = teachers()
        source = ray.data.range(1)
        source.context.target_max_block_size = 1  # each table that is read is a task of its own for a worker
        source.context.execution_options.preserve_order = True
        source.context.enable_progress_bars = False
        results = source.map_batches(
            _read, fn_args=(items,), batch_format="pyarrow", num_cpus=0, label_selector=here
        ).map_batches(
            _Worker,
            fn_constructor_args=(teachers, rubric, plan, book),
            batch_format="pyarrow",
            num_cpus=0.01,  # workers mostly wait; with 0, as reading, Ray would put both into one process
            compute=ray.data.ActorPoolStrategy(
                size=workers,
                max_concurrent_calls_per_actor=max(1, 2 * asked.concurrency * len(asked.replicas) // _PAIRS),
                enable_true_multi_threading=True,
            ),
        )
        for place, done in enumerate(_results(results)):
            if isinstance(done, LeftOut):
                intake.leave_out(place, done)
                continue
            keys[str(place)] = done.key
            cost += done.usage
            bar.update()
        ray.get(book.close.remote())
    return Worked(keys.values(), intake, cost)


@contextmanager
def _cluster() -> Iterator[Any]:
    """Ray, connected to a cluster. Raises InputError when it is not installed or the cluster is not there."""
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise InputError("--engine ray needs the ray package: pip install 'rationalrewards[ray]'") from error
    if ray.is_initialized():
        yield ray
        return
    if (
        "RAY_ADDRESS" not in os.environ
    ):  # a cluster of our own: nobody else can reach it, nobody reads its log
        os.environ |= {"RAY_AUTH_MODE": "disabled", "RAY_BACKEND_LOG_LEVEL": "fatal"}
    try:
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.WARNING)
    except ConnectionError as error:
        raise InputError(
            f"there is no Ray cluster at {os.environ.get('RAY_ADDRESS')!r} ({error}); "
            "start it, or unset RAY_ADDRESS to use this machine alone"
        ) from error
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        yield ray
    finally:
        ray.shutdown()


def _read(_: Any, items: Callable[[], Iterable[Preference | Skipped]]) -> Iterator[Any]:
    """The reading task: a few pairs at a time, as one value of a table."""
    sifted = sift(items())
    while pairs := list(islice(sifted, _PAIRS)):
        yield _packed([pairs])


def _results(tables: Any) -> Iterator[Done | LeftOut]:
    for table in tables.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        for value in _unpacked(table):
            if isinstance(value, InputError):
                raise value
            yield from value


def _packed(values: Iterable[Any]) -> Any:
    import pyarrow as pa

    return pa.table({"value": [pickle.dumps(value) for value in values]})


def _unpacked(table: Any) -> Iterator[Any]:
    return map(pickle.loads, table["value"].to_pylist())


class _FarLines:
    """The lines that an actor keeps."""

    def __init__(self, book: Any) -> None:
        self._book = book

    async def find(self, phase: str, key: str) -> dict[str, Any] | None:
        found: dict[str, Any] | None = await self._book.find.remote(phase, key)
        return found

    async def add(self, phase: str, key: str, record: Mapping[str, Any]) -> None:
        await self._book.add.remote(phase, key, record)


class _Worker:
    """One process of the pool. Its threads only wait: all pairs are worked on in one event loop."""

    def __init__(self, teachers: Callable[[], Teachers], rubric: Rubric, plan: Plan, book: Any) -> None:
        self._phases = Phases(teachers(), rubric, plan, _FarLines(book))
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self._opening: asyncio.Task[Teachers] | None = None

    def __call__(self, table: Any) -> Any:
        return _packed(
            asyncio.run_coroutine_threadsafe(self._work(pairs), self._loop).result()
            for pairs in _unpacked(table)
        )

    async def _work(self, pairs: list[Preference | LeftOut]) -> list[Done | LeftOut] | InputError:
        try:
            if self._opening is None:
                self._opening = asyncio.ensure_future(self._phases.teachers.__aenter__())
            await self._opening
            return list(await asyncio.gather(*map(self._one, pairs)))
        except InputError as error:  # as a value, because Ray would wrap it
            return error

    async def _one(self, pair: Preference | LeftOut) -> Done | LeftOut:
        return pair if isinstance(pair, LeftOut) else await self._phases.work(pair)
