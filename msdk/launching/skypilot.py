"""SkyPilot: a task that `sky jobs launch` keeps alive on machines that may be taken away."""

import shlex
from typing import Any

from msdk import __version__
from msdk.errors import MsdkError
from msdk.launching.job import Job, plain
from msdk.launching.yamltext import yaml

SETUP = f"pip install msdk-diffusion=={__version__}"
"""The same version of msdk on all machines, which a run asks for."""


def task(
    job: Job,
    *,
    folder: str = "/runs",
    bucket: str | None = None,
    volume: str | None = None,
    image: str | None = None,
    setup: str = SETUP,
    spot: bool = False,
) -> str:
    """The YAML of a SkyPilot task, for `sky jobs launch`.

    The folder that one launches from is its `workdir`; what is to be kept is in a bucket or a volume. A machine that is
    taken away makes SkyPilot start the task anew elsewhere, where the same command goes on; so does a task that fails,
    a few times (`job_recovery`). The trials of a study are a job each, which the variable TRIAL tells apart, and `end`
    is what comes after them.

    Source: https://docs.skypilot.co/en/latest/reference/yaml-spec.html (fields),
    https://docs.skypilot.co/en/latest/running-jobs/distributed-jobs.html (SKYPILOT_NODE_RANK and the like, torchrun),
    https://docs.skypilot.co/en/latest/examples/managed-jobs.html (recovery, buckets and volumes for checkpoints).

    Args:
        job: What is started; `gpu` as `sky show-gpus` calls it.
        folder: Where the bucket or the volume is on the machines.
        bucket: A bucket's name, or the address of one that exists, such as s3://name.
        volume: The name of a volume of SkyPilot.
        image: A container image, or none.
        setup: Lines of shell that make a machine ready.
        spot: Whether machines may be those that can be taken away, which cost less.

    Raises:
        MsdkError: GPUs without their name; or not one of bucket and volume.
    """
    if job.gpus and job.gpu is None:
        raise MsdkError("SkyPilot looks for machines by the name of their GPU: add --gpu, for example --gpu H100")
    if (bucket is None) == (volume is None):
        raise MsdkError(
            "the machines of SkyPilot keep nothing: say where the run folder is, by --bucket NAME (or s3://NAME, "
            "gs://NAME) or --volume NAME, one of the two"
        )
    resources: dict[str, Any] = {}
    if job.gpus:
        resources["accelerators"] = f"{job.gpu}:{job.gpus}"
    if job.cpus:
        resources["cpus"] = f"{job.cpus}+"
    if job.memory:
        resources["memory"] = f"{job.memory}+"
    if image:
        resources["image_id"] = f"docker:{plain('--image', image)}"
    if spot:
        resources["use_spot"] = True
    resources["job_recovery"] = {"max_restarts_on_errors": job.restarts}
    data: dict[str, Any] = {"name": job.name, "num_nodes": job.nodes, "resources": resources, "workdir": "."}
    if volume:
        data["volumes"] = {folder: plain("--volume", volume)}
    if bucket:
        kept = {"source" if "://" in bucket else "name": plain("--bucket", bucket)}
        data["file_mounts"] = {folder: {**kept, "mode": "MOUNT_CACHED"}}
    if job.tasks is not None:
        if bucket and not job.tasks.numbered:
            raise MsdkError(
                "jobs that share the trials of a search take them by locks, which buckets have not: name a --volume, "
                "or let random or grid choose"
            )
        if job.at_once is not None:
            raise MsdkError("--at-once: SkyPilot itself says how many jobs run at the same time, so leave it out")
        data["envs"] = {"TRIAL": "0", "MSDK_CACHE": f"{folder}/.cache"}
    data["setup"] = f"{setup.strip()}\n"
    last = "" if job.tasks is None else LAST.format(words=shlex.join(job.tasks.last))
    data["run"] = last + RUN.format(processes=job.processes, restarts=job.in_place, words=job.command("TRIAL"))
    return f"# {job.size}; written by `msdk launch skypilot`. Start it by: sky jobs launch FILE\n{yaml(data)}"


LAST = """if [ "$TRIAL" = end ]; then
    exec msdk {words}
fi
"""

RUN = """head=$(echo "$SKYPILOT_NODE_IPS" | head -n 1)
exec torchrun --nnodes="$SKYPILOT_NUM_NODES" --nproc-per-node={processes} --max-restarts={restarts} \\
    --node-rank="$SKYPILOT_NODE_RANK" --master-addr="$head" --master-port=29500 \\
    -m msdk {words}
"""
