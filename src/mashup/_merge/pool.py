"""Do many independent pieces of work on all cores, each with one thread of torch's."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TypeVar

import torch

T = TypeVar("T")


def run_all(jobs: Iterable[Callable[[], T]]) -> list[T]:
    """Results of ``jobs`` in their order; the first error stops the rest, and is raised.

    Pieces are of the size of a tensor, so one thread a piece wastes less than all threads on
    one piece after the other. The number of torch's threads is put back afterwards.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
    try:
        futures = [pool.submit(job) for job in jobs]
        done, _ = wait(futures, return_when=FIRST_EXCEPTION)
        for future in done:
            future.result()  # raises what went wrong
        return [future.result() for future in futures]
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)
