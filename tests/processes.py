"""Several processes of one test, as torchrun starts them, but forked: torch is imported once."""

import os
import signal
import socket
import time
import traceback
import warnings

import torch

PATIENCE = 120
"""Seconds."""

# autograd starts its threads once. Where the first backward pass is a simulated one, it takes this for a machine
# with GPUs, whose threads no fork survives: so a real one comes first.
torch.ones(1, requires_grad=True).sum().backward()


def processes(count, work, folder):
    """What `work()` returns in each of so many processes that torchrun could have started; None of those that died."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = []
    for rank in range(count):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads, of which there are none
            child = os.fork()
        if not child:
            settings = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
            settings |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
            os.environ.update({name: str(value) for name, value in settings.items()})
            status = 1
            try:
                torch.save(work(), folder / f"{rank}.pt")
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        children.append(child)
    begun, waiting = time.monotonic(), set(children)
    while waiting:
        waiting -= {child for child in waiting if os.waitpid(child, os.WNOHANG)[0]}
        if time.monotonic() - begun > PATIENCE:
            for child in waiting:
                os.kill(child, signal.SIGKILL)
        time.sleep(0.02)
    files = [folder / f"{rank}.pt" for rank in range(count)]
    return [torch.load(file, weights_only=False) if file.exists() else None for file in files]
