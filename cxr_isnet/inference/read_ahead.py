"""Items of a data set in batches, read ahead of the network by processes of which any may crash; files, by threads."""

from __future__ import annotations

import pickle
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from queue import Empty, Full, Queue
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch.utils.data import Dataset

from cxr_isnet.errors import InputError

if TYPE_CHECKING:
    from cxr_isnet.intake import ProcessPool, TaskFailure

ReadItem = tuple[dict[Any, Any], str]
"""An item, and the reason why it could not be read, "" where it could."""

Read = TypeVar("Read")
BATCHES_AHEAD = 2
_POLL_S = 0.2


def read_batches(dataset: Dataset[Any], batch_size: int, workers: int) -> Iterator[list[ReadItem]]:
    """The items of a data set in order. One that cannot be read, or ends the process that reads it, stops no other.

    Args:
        dataset: The items.
        batch_size: Items of a batch; the last may have fewer.
        workers: Reading processes; 0 reads in this one, which no crash of a decoder spares.
    """
    count = len(dataset)  # type: ignore[arg-type] # every data set here has a length
    if workers == 0:
        for start in range(0, count, batch_size):
            yield [_read(dataset, place) for place in range(start, min(start + batch_size, count))]
        return
    from cxr_isnet.intake import ProcessPool

    with ProcessPool(partial(sent, dataset), workers) as pool:
        ahead: Queue[tuple[int, bytes | TaskFailure]] = Queue(BATCHES_AHEAD * batch_size + workers)
        stop = threading.Event()
        thread = threading.Thread(target=_fill, args=(pool, count, ahead, stop), daemon=True)
        thread.start()
        try:
            yield from _in_order(ahead, thread, count, batch_size)
        finally:
            stop.set()
            thread.join()


def in_batches(
    read: Callable[[Any], Read], paths: Sequence[Any], batch_size: int, workers: int
) -> Iterator[list[Read]]:
    """Files in order, in batches, read by threads ahead of what is done with them. The first error ends it.

    Args:
        read: Reads a file.
        paths: The files.
        batch_size: Files of a batch; the last may have fewer.
        workers: Reading threads; 0 reads when a batch is asked for.
    """
    starts = range(0, len(paths), batch_size)
    if workers == 0:
        for start in starts:
            yield [read(path) for path in paths[start : start + batch_size]]
        return
    pool, waiting = ThreadPoolExecutor(workers), deque[list[Future[Read]]]()
    try:
        for start in starts:
            waiting.append([pool.submit(read, path) for path in paths[start : start + batch_size]])
            if len(waiting) > BATCHES_AHEAD:
                yield [future.result() for future in waiting.popleft()]
        while waiting:
            yield [future.result() for future in waiting.popleft()]
    finally:
        pool.shutdown(cancel_futures=True)


def received(result: bytes | TaskFailure) -> ReadItem:
    """The item that a reading process sent, or why there is none."""
    from cxr_isnet.intake import TaskFailure

    if isinstance(result, TaskFailure):
        return {}, f"cannot be read: {result.detail}"
    item: ReadItem = pickle.loads(result)  # nosec B301 # of our own process
    return item


def sent(dataset: Dataset[Any], place: int) -> bytes:
    """An item as a reading process sends it: as bytes, since a shared tensor would die with the process."""
    torch.set_num_threads(1)  # a forked process must not use the threads of its parent
    return pickle.dumps(_read(dataset, place))


def _in_order(
    ahead: Queue[tuple[int, bytes | TaskFailure]], thread: threading.Thread, count: int, batch_size: int
) -> Iterator[list[ReadItem]]:
    early: dict[int, ReadItem] = {}
    for start in range(0, count, batch_size):
        places = range(start, min(start + batch_size, count))
        while not all(place in early for place in places):
            try:
                place, result = ahead.get(timeout=_POLL_S)
            except Empty:
                if not thread.is_alive() and ahead.empty():
                    raise RuntimeError("the thread that reads ahead has ended: its error is above") from None
                continue
            early[place] = received(result)
        yield [early.pop(place) for place in places]


def _fill(
    pool: ProcessPool[int, bytes], count: int, ahead: Queue[tuple[int, bytes | TaskFailure]], stop: threading.Event
) -> None:
    for result in pool.results(range(count)):
        while not stop.is_set():
            with suppress(Full):
                ahead.put(result, timeout=_POLL_S)
                break
        if stop.is_set():
            return


def _read(dataset: Dataset[Any], place: int) -> ReadItem:
    try:
        return dataset[place], ""
    except InputError as error:
        return {}, str(error)
