"""What is launched: an msdk command, and the machines it takes."""

import re
import shlex

import attrs

from msdk.errors import MsdkError, printable

VERBS = {"cluster": (), "run": ("--resume",), "sample": (), "study": (), "train": ("--resume",)}
"""Commands that share their work over processes -> the words that let one that was stopped go on when it is started
again; sampling and studies do so by themselves, and clustering begins anew. Without a checkpoint --resume begins."""

PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.,:/@+%=-]*")
"""Values that stand in lines of schedulers, which have rules of quoting of their own: such a value needs none."""


def plain(option: str, value: str) -> str:
    """The value of an option, which no scheduler can take for more than a value.

    Raises:
        MsdkError: It has other characters.
    """
    if not PLAIN.fullmatch(value):
        raise MsdkError(f"{option} {value!r}: write letters, digits and _ . , : / @ + % = -, a letter or digit first")
    return value


def job_name(text: str) -> str:
    """A name that every scheduler takes: lower-case letters, digits and dashes, a letter first, at most 40 of them."""
    return f"msdk-{re.sub('[^a-z0-9]+', '-', text.lower())}"[:40].strip("-")


@attrs.frozen(kw_only=True)
class Tasks:
    """Jobs that are alike but for a number from 0, and one that comes after all of them: a study.

    Attributes:
        count: How many.
        numbered: Whether the command is told the number, as `--trial`; otherwise all share what there is to do.
        last: The command that comes after them, on one process without a GPU.
    """

    count: int
    numbered: bool
    last: tuple[str, ...]


@attrs.frozen(kw_only=True)
class Job:
    """An msdk command on machines that are alike.

    Attributes:
        words: The command, after `msdk`.
        name: See `job_name`.
        nodes: Machines.
        gpus: GPUs of each machine; 0 trains on CPUs.
        processes: Processes on each machine: one for each GPU.
        gpu: Which GPU, as the scheduler calls it; any when not given.
        cpus: CPU cores of each machine.
        memory: Of each machine, in GB.
        restarts: How often all processes are started anew after one of them has died.
        tasks: Where it is many jobs, each on so many machines.
        at_once: How many of them run at the same time; as many as there is room for when not given.

    Raises:
        MsdkError: A number is too small, or a word is not printable.
    """

    words: tuple[str, ...]
    name: str
    nodes: int = 1
    gpus: int = 1
    processes: int = attrs.field(default=attrs.Factory(lambda self: max(self.gpus, 1), takes_self=True))
    gpu: str | None = None
    cpus: int | None = None
    memory: int | None = None
    restarts: int = 3
    tasks: Tasks | None = None
    at_once: int | None = None

    def __attrs_post_init__(self) -> None:
        bounds = {"nodes": 1, "gpus": 0, "processes": 1, "cpus": 1, "memory": 1, "restarts": 0, "at_once": 1}
        for option, least in bounds.items():
            value = getattr(self, option)
            if value is not None and value < least:
                raise MsdkError(f"--{option.replace('_', '-')} {value}: at least {least}")
        if self.gpus and self.processes > self.gpus:
            raise MsdkError(
                f"--processes {self.processes}: each process has a GPU of its own, and a machine has {self.gpus}"
            )
        if self.at_once is not None and self.tasks is None:
            raise MsdkError("--at-once is of the trials of a study: this is one job")
        if self.gpu is not None:
            plain("--gpu", self.gpu)
        for word in self.words:
            if printable(word) != word:
                raise MsdkError(f"'{printable(word)}' has characters that cannot be printed: rename it")

    @property
    def world(self) -> int:
        """Processes in all."""
        return self.nodes * self.processes

    @property
    def in_place(self) -> int:
        """How often torchrun starts the processes anew; on several machines the scheduler does.

        The agents of several machines count restarts for themselves, and the count is in the names by which processes
        find each other (`/worker/attempt_N` in torch/distributed/rendezvous.py), so that they get out of step.
        """
        return self.restarts if self.nodes == 1 else 0

    @property
    def size(self) -> str:
        """How much it takes, in words."""
        cores = f"{self.gpus} GPU" + ("s" if self.gpus > 1 else "") if self.gpus else "CPUs"
        plural = "es" if self.world > 1 else ""
        own = f"{self.nodes} x {cores}, {self.world} process{plural}"
        return own if self.tasks is None else f"{self.tasks.count} jobs of {own}"

    def command(self, number: str) -> str:
        """The command for a shell.

        Args:
            number: The shell's variable that has the number of the task.
        """
        own = shlex.join(self.words)
        return f'{own} --trial "${number}"' if self.tasks is not None and self.tasks.numbered else own
