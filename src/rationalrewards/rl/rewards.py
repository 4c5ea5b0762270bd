"""Images go to the judges as soon as they are decoded; training waits only when it needs the answers.

Judges live in an event loop of their own, in a thread beside the training. When one of them goes away, what
was asked waits until it is back: a server that restarts costs time, and no sample.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from threading import Thread
from typing import Self

from rationalrewards.critic.backend import UnreachableError
from rationalrewards.rl.sources import Source
from rationalrewards.types import Critique, Failure, InputError, Sample

Outcome = Critique | Failure
Open = Callable[[], AbstractAsyncContextManager[Sequence[Source]]]
"""Opens all judges; raises ``UnreachableError`` while one of them is away."""

_PAUSE = 1.0  # seconds between looks whether a judge is back


class Rewards:
    """``with Rewards(open_sources, patience, at_once) as rewards: rewards.submit(sample).result()``.

    At most ``at_once`` samples are with the judges at a time. ``patience`` is how many seconds a judge may
    stay away, at the start and later, before InputError is raised. Raises, from entering or from ``result``,
    what the judges raise: the user's mistakes.
    """

    def __init__(self, open_sources: Open, patience: float, at_once: int) -> None:
        self._open, self._patience, self._at_once = open_sources, patience, at_once
        self.sources: Sequence[Source] = ()

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="rewards", daemon=True)
        self._thread.start()
        ready: Future[None] = Future()
        self._life = asyncio.run_coroutine_threadsafe(self._live(ready), self._loop)
        self._life.add_done_callback(lambda life: _pass_on(life, ready))
        try:
            ready.result()
        except BaseException:
            self._shut()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        try:
            self._life.result()
        finally:
            self._shut()

    def submit(self, sample: Sample) -> Future[list[Outcome]]:
        """Send one image to all judges; the future holds what each says, in the order of ``sources``."""
        return asyncio.run_coroutine_threadsafe(self._judged(sample), self._loop)

    async def _live(self, ready: Future[None]) -> None:
        """Opens the judges, and closes them in the same task when the end is near."""
        self._stop, self._room = asyncio.Event(), asyncio.Semaphore(self._at_once)
        away = _Away(self._patience, "The training begins")
        while True:
            try:
                async with self._open() as self.sources:
                    self._back = {source.name: asyncio.Lock() for source in self.sources}
                    self._returns = dict.fromkeys(self._back, 0)
                    ready.set_result(None)
                    await self._stop.wait()
                    left = asyncio.all_tasks() - {asyncio.current_task()}
                    for task in left:  # nobody waits for these any more
                        task.cancel()
                    await asyncio.gather(*left, return_exceptions=True)
                return
            except UnreachableError as error:
                if ready.done():
                    raise
                await away.wait(error)

    async def _judged(self, sample: Sample) -> list[Outcome]:
        async with self._room:
            return list(await asyncio.gather(*(self._ask(source, sample) for source in self.sources)))

    async def _ask(self, source: Source, sample: Sample) -> Outcome:
        while True:
            returns = self._returns[source.name]
            outcome = await source.judge(sample)
            if not (isinstance(outcome, Failure) and outcome.kind == "transport"):
                return outcome
            if not await self._was_away(source, returns):
                return outcome  # the judge is there, so it was this sample

    async def _was_away(self, source: Source, returns: int) -> bool:
        """Is the judge away, or was it since it had returned so often? In the end it is there."""
        async with self._back[source.name]:
            away = _Away(self._patience, "The training pauses, and goes on")
            while self._returns[source.name] == returns:
                try:
                    await source.check()
                    if not away.told:
                        return False
                    print(f"{source.name} is back.", file=sys.stderr, flush=True)
                    self._returns[source.name] += 1
                except UnreachableError as error:
                    await away.wait(error)
            return True

    def _shut(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class _Away:
    """A time in which a judge does not answer: told once, borne for so many seconds."""

    def __init__(self, patience: float, what: str) -> None:
        self._patience, self._what, self._since = patience, what, time.monotonic()
        self.told = False

    async def wait(self, why: UnreachableError) -> None:
        """Until it is time to look again. Raises InputError when patience is at an end."""
        left = self._since + self._patience - time.monotonic()
        if left <= 0:
            raise InputError(
                f"{why}; nobody answered for {self._patience:.0f} seconds (--patience). "
                "The same command goes on from the last checkpoint"
            ) from why
        if not self.told:
            print(f"{why}. {self._what} as soon as it answers.", file=sys.stderr, flush=True)
        self.told = True
        await asyncio.sleep(min(_PAUSE, left))


def _pass_on(life: Future[None], ready: Future[None]) -> None:
    error = life.exception()
    if error is not None and not ready.done():
        ready.set_exception(error)
