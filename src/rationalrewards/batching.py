"""Many requests at a time, one worker thread: who waits together is served together.

A model in process wants large batches and one caller; whoever uses it has many requests in flight, each of
them waiting for its own image or reply. In between stands a queue and a single thread. There is no timer:
while the thread is busy, requests gather, and what has gathered becomes the next batch.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

Q = TypeVar("Q")
A = TypeVar("A")


class Batcher(Generic[Q, A]):
    """``generate`` turns up to ``batch_size`` requests into one answer or exception each, in their order.

    It only ever runs in the one thread, called ``name``; what it raises is raised for the whole batch.
    ``can_share(one, other)`` says whether two requests may be in the same batch, and is asked of the
    longest-waiting request and each other one.
    """

    def __init__(
        self,
        generate: Callable[[Sequence[Q]], list[A | Exception]],
        can_share: Callable[[Q, Q], bool],
        batch_size: int,
        name: str,
    ) -> None:
        self._generate, self._can_share, self._batch_size = generate, can_share, batch_size
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._lock = threading.Lock()
        self._waiting: list[tuple[Q, Future[A]]] = []

    async def __call__(self, request: Q) -> A:
        """The answer to ``request``. A caller that is cancelled while it waits is left out of the batch."""
        answer: Future[A] = Future()
        with self._lock:
            self._waiting.append((request, answer))
        try:
            await asyncio.sleep(0)  # one turn of the loop: whoever arrives together can share a batch
            self._thread.submit(self._serve_next)
            return await asyncio.wrap_future(answer)
        finally:
            answer.cancel()  # of no effect on an answer that is there

    async def aclose(self) -> None:
        """Finish what was asked and end the thread."""
        await asyncio.to_thread(self._thread.shutdown)

    def _serve_next(self) -> None:
        """In the thread, once per request; so it may find that an earlier turn has served its request."""
        batch = self._next_batch()
        if not batch:
            return
        try:
            outcomes = self._generate([request for request, _ in batch])
        except Exception as error:
            outcomes = [error] * len(batch)
        for (_, answer), outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, Exception):
                answer.set_exception(outcome)
            else:
                answer.set_result(outcome)

    def _next_batch(self) -> list[tuple[Q, Future[A]]]:
        batch: list[tuple[Q, Future[A]]] = []
        rest: list[tuple[Q, Future[A]]] = []
        with self._lock:
            for request, answer in self._waiting:
                if not answer.cancelled():
                    joins = not batch or (
                        len(batch) < self._batch_size and self._can_share(request, batch[0][0])
                    )
                    (batch if joins else rest).append((request, answer))
            self._waiting = rest
        return [(request, answer) for request, answer in batch if answer.set_running_or_notify_cancel()]
