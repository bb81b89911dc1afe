"""A function run by two processes of one group on the CPU."""

from collections.abc import Callable
from pathlib import Path
from time import monotonic

import torch
import torch.distributed as dist

PATIENCE_S = 600


def by_two_processes(function: Callable, folder: Path, *arguments) -> list:
    """What ``function(rank, *arguments)`` returns in each of two processes, which meet in a file of an empty folder.

    Processes that wait for each other are killed after a while.
    """
    folder.mkdir(exist_ok=True)
    context = torch.multiprocessing.spawn(_run, (function, folder, arguments), 2, join=False)
    end = monotonic() + PATIENCE_S
    try:
        while not context.join(max(0.0, end - monotonic())):
            assert monotonic() < end, "the processes did not end"
    finally:
        for process in context.processes:
            process.kill()
    return [torch.load(folder / f"{rank}.pth") for rank in range(2)]


def _run(rank: int, function: Callable, folder: Path, arguments: tuple) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/group", rank=rank, world_size=2)
    torch.save(function(rank, *arguments), folder / f"{rank}.pth")
    dist.destroy_process_group()
