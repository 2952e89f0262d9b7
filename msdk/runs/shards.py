"""Checkpoints in shards: each process writes its rows, and one checkpoint of them appears when all have.

A part of such a checkpoint, `model` for example, is a folder with one safetensors file of each process, in the format
that torch.distributed.checkpoint has for safetensors (`HuggingFaceStorageReader` reads it): the header says at which
row each tensor begins. Its own format has a pickle, which nobody should read from others. They are written here, so
that the checkpoint as a whole is there or not, and read here (`msdk.denoiser.weights`), so that nothing is missing.
"""

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from safetensors import SafetensorError
from torch import Tensor

from msdk.denoiser.weights import OFFSETS, SHARDS, read_weights
from msdk.recipe.keeping import Kept
from msdk.runs.checkpoint import ALWAYS, OPTIONAL, Checkpoint, keep_newest, write_state
from msdk.runs.files import not_written, remove_whole, save_tensors, sweep, sync, temporary_of, written_whole
from msdk.runs.folder import latest
from msdk.runs.writer import one_writer

if TYPE_CHECKING:
    from msdk.distributed import Group

MARK = "shards"
"""Ends the temporary name of a checkpoint, which all processes must know."""


def save_shards(run: Path, checkpoint: Checkpoint, keep: Kept, group: "Group") -> None:
    """Writes `checkpoints/ITERATION`, by all processes together, then removes all but those to keep.

    Args:
        run: The run folder, which the first process holds (`one_writer`).
        checkpoint: Its tensors are cut into rows (DTensors), or the same in all processes.
        keep: Which checkpoints.
        group: Of the processes.

    Raises:
        RunError: It cannot be written.
    """
    path = run / "checkpoints" / f"{checkpoint.iteration:08d}"
    temporary, rank = temporary_of(path, MARK), group.rank
    name = f"shard-{rank.index + 1:05d}-of-{rank.count:05d}.safetensors"
    with contextlib.ExitStack() as opened:

        def begin() -> None:
            if rank.first:
                try:
                    path.parent.mkdir(exist_ok=True)
                    sweep(path)
                    opened.enter_context(written_whole(path, MARK)).mkdir()
                except OSError as error:
                    raise not_written(path, error) from error

        def write() -> None:
            try:
                for part in (*ALWAYS, *OPTIONAL):
                    tensors: Mapping[str, Tensor] = getattr(checkpoint, part)
                    if tensors or part in ALWAYS:
                        (temporary / part).mkdir(parents=True, exist_ok=True)
                        _save(tensors, temporary / part / name, first=rank.first)
                        sync(temporary / part / name)
                if rank.first:
                    write_state(checkpoint, temporary)
            except (OSError, SafetensorError) as error:
                raise not_written(path, error) from error

        def end() -> None:
            opened.close()
            if rank.first:
                keep_newest(run, keep)

        for part in (begin, write, end):
            group.agreed(part)


def _save(tensors: Mapping[str, Tensor], path: Path, *, first: bool) -> None:
    own: dict[str, Tensor] = {}
    offsets: dict[str, Any] = {}
    for name, tensor in tensors.items():
        cut = hasattr(tensor, "to_local")
        rows: Tensor = cast("Any", tensor).to_local() if cut else tensor
        if first or (cut and len(rows)):  # what is not cut is the same in all
            own[name] = rows
            offsets[name] = {OFFSETS: [first_row(tensor) if cut else 0, *([0] * (rows.ndim - 1))][: rows.ndim]}
    save_tensors(own, path, {SHARDS: json.dumps(offsets), "DCP_VERSION": "1.0", "format": "pt"})


def first_row(tensor: Tensor) -> int:
    """Where this process's rows of a tensor begin that FSDP2 has cut: each has as many, the last ones fewer."""
    import torch.distributed as dist

    each = -(-tensor.shape[0] // dist.get_world_size())
    # The mesh is of all processes. It may be an equal one of before, as torch remembers them, so it is not asked.
    return min(dist.get_rank() * each, tensor.shape[0])


def gather(run: Path, checkpoint: Path | None = None) -> list[str]:
    """Puts the usual files of weights in the place of a checkpoint's shards.

    A process that is killed meanwhile leaves each part as it was or as it will be; the same command goes on.

    Args:
        run: The run folder.
        checkpoint: The newest one when not given.

    Returns:
        The files that were made; none where there were no shards.

    Raises:
        RunError: There is no checkpoint, or shards are damaged or missing; or another process writes the run.
    """
    made: list[str] = []
    with one_writer(run):
        path = latest(run) if checkpoint is None else checkpoint
        for part in (*ALWAYS, *OPTIONAL):
            folder, file = path / part, path / f"{part}.safetensors"
            sweep(folder)
            if not folder.is_dir():
                continue
            if not file.is_file():  # one that is there was made by a process that was killed before it was done
                tensors = read_weights(folder)
                with written_whole(file) as temporary:
                    save_tensors(tensors, temporary)
                made.append(file.name)
            remove_whole(folder)
    return made
