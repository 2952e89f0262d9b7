"""Kubernetes: a TrainJob of Kubeflow Trainer, or a study as a Job of many pods; Kueue may queue both."""

from collections.abc import Sequence
from typing import Any

from msdk.errors import MsdkError
from msdk.launching.job import Job, plain
from msdk.launching.yamltext import yaml


def train_job(
    job: Job,
    *,
    queue: str | None = None,
    image: str | None = None,
    folder: str = "/runs",
    claim: str | None = None,
    runtime: str = "torch-distributed",
    namespace: str | None = None,
    grace: int = 120,
) -> str:
    """The YAML of a TrainJob, for `kubectl apply -f`.

    The runtime tells torchrun by variables (PET_NNODES, ...) how many processes there are and where they meet. A pod
    that fails or is moved is started again by Kubernetes, and the same command goes on.

    Source: https://www.kubeflow.org/docs/components/trainer (trainer.kubeflow.org/v1alpha1 as of Trainer 2.3, whose
    `runtimePatches` took the place of `podTemplateOverrides` in 2.2), with its types in
    https://github.com/kubeflow/trainer/blob/master/pkg/apis/trainer/v1alpha1/trainjob_types.go; the label of the queue:
    https://kueue.sigs.k8s.io/docs/tasks/run/trainjobs.

    Args:
        job: What is started; `gpu` is the label nvidia.com/gpu.product of the machines, where it is given.
        queue: The local queue of Kueue.
        image: The container image, with msdk and the recipe; the runtime's when not given.
        folder: Where the claim is mounted.
        claim: A PersistentVolumeClaim for the run folder, which all pods can mount at once.
        runtime: The ClusterTrainingRuntime.
        namespace: Of the TrainJob.
        grace: Seconds that a pod has to save in when it is to end.
    """
    metadata = _metadata(job.name, namespace, queue)
    trainer: dict[str, Any] = {"numNodes": job.nodes, "numProcPerNode": job.processes}
    if image:
        trainer["image"] = plain("--image", image)
    trainer["command"] = ["torchrun", f"--max-restarts={job.in_place}", "-m", "msdk", *_literal(job.words)]
    trainer["env"] = [{"name": "PET_SHUTDOWN_TIMEOUT", "value": str(grace - 30)}]  # torchrun's time for its processes
    if resources := _resources(job):
        trainer["resourcesPerNode"] = resources
    pod: dict[str, Any] = {"terminationGracePeriodSeconds": grace}
    if job.gpu:
        pod["nodeSelector"] = {"nvidia.com/gpu.product": job.gpu}
    if claim:
        pod["volumes"] = [_volume(claim)]
        pod["containers"] = [{"name": "node", "volumeMounts": [{"name": "runs", "mountPath": folder}]}]
    replicated = [{"name": "node", "template": {"spec": {"template": {"spec": pod}}}}]
    patch = {
        "manager": "msdk.launch/user",
        "trainingRuntimeSpec": {"template": {"spec": {"replicatedJobs": replicated}}},
    }
    data = {
        "apiVersion": "trainer.kubeflow.org/v1alpha1",
        "kind": "TrainJob",
        "metadata": metadata,
        "spec": {"runtimeRef": {"name": plain("--runtime", runtime)}, "trainer": trainer, "runtimePatches": [patch]},
    }
    return f"# {job.size}; written by `msdk launch kubernetes`. Start it by: kubectl apply -f FILE\n{yaml(data)}"


def indexed_job(
    job: Job,
    *,
    queue: str | None = None,
    image: str | None = None,
    folder: str = "/runs",
    claim: str | None = None,
    namespace: str | None = None,
    grace: int = 120,
) -> str:
    """The YAML of the trials of a study as a Job of Kubernetes itself, and of a suspended one that comes after them.

    Each index is a pod with all processes of a trial. One that fails is started again `restarts` times and does not
    stop the others; one that is moved counts for nothing.

    Source: https://kubernetes.io/docs/concepts/workloads/controllers/job (completionMode Indexed, JOB_COMPLETION_INDEX,
    backoffLimitPerIndex of Kubernetes 1.29 or later, podFailurePolicy, suspend);
    https://kueue.sigs.k8s.io/docs/tasks/run/jobs.

    Args:
        job: What is started, on one machine each.
        queue: The local queue of Kueue.
        image: The container image, with msdk, the study and its recipes.
        folder: Where the claim is mounted.
        claim: A PersistentVolumeClaim for the study, which all pods can mount at once.
        namespace: Of the jobs.
        grace: Seconds that a pod has to save in when it is to end.

    Raises:
        MsdkError: An image or a claim is missing, or a trial is to have several machines.
    """
    tasks = job.tasks
    assert tasks is not None
    if job.nodes > 1:
        raise MsdkError("the pods of a study have a trial each: leave --nodes out, or launch trials one by one")
    if not (image and claim):
        raise MsdkError("the trials of a study share a folder: say where it is by --claim, and what runs by --image")
    number = ["--trial", "$(JOB_COMPLETION_INDEX)"] if tasks.numbered else []
    start = ["torchrun", "--standalone", f"--nproc-per-node={job.processes}", f"--max-restarts={job.in_place}"]
    shown: dict[str, Any] = {
        "image": plain("--image", image),
        "env": [
            {"name": "PET_SHUTDOWN_TIMEOUT", "value": str(grace - 30)},
            {"name": "MSDK_CACHE", "value": f"{folder}/.cache"},
        ],
        "volumeMounts": [{"name": "runs", "mountPath": folder}],
    }
    own = {"name": "node", **shown, "command": [*start, "-m", "msdk", *_literal(job.words), *number]}
    if resources := _resources(job):
        own["resources"] = resources
    pod: dict[str, Any] = {"restartPolicy": "Never", "volumes": [_volume(claim)]}
    placed = {"nodeSelector": {"nvidia.com/gpu.product": job.gpu}} if job.gpu else {}
    trials = {
        "completionMode": "Indexed",
        "completions": tasks.count,
        "parallelism": min(job.at_once or tasks.count, tasks.count),
        "backoffLimitPerIndex": job.restarts,
        "podFailurePolicy": {"rules": [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}]},
        "template": {"spec": {**pod, **placed, "terminationGracePeriodSeconds": grace, "containers": [own]}},
    }
    last = {"name": "node", **shown, "command": ["msdk", *_literal(tasks.last)]}
    after = {"suspend": True, "template": {"spec": {**pod, "containers": [last]}}}
    parts = [
        {"apiVersion": "batch/v1", "kind": "Job", "metadata": _metadata(job.name, namespace, queue), "spec": trials},
        {"apiVersion": "batch/v1", "kind": "Job", "metadata": _metadata(f"{job.name}-end", namespace), "spec": after},
    ]
    text = "---\n".join(map(yaml, parts))
    return f"# {job.size}; written by `msdk launch kubernetes`. Start it by: kubectl apply -f FILE\n{text}"


def _metadata(name: str, namespace: str | None, queue: str | None = None) -> dict[str, Any]:
    found: dict[str, Any] = {"name": name}
    if namespace:
        found["namespace"] = plain("--namespace", namespace)
    if queue:
        found["labels"] = {"kueue.x-k8s.io/queue-name": plain("--queue", queue)}
    return found


def _literal(words: Sequence[str]) -> list[str]:
    """Words of a command: Kubernetes replaces $(NAME) in it, and takes $$ for a dollar."""
    return [word.replace("$(", "$$(") for word in words]


def _resources(job: Job) -> dict[str, Any]:
    """What a pod asks for; nothing where nothing was said."""
    requests: dict[str, Any] = {}
    if job.cpus:
        requests["cpu"] = job.cpus
    if job.memory:
        requests["memory"] = f"{job.memory}Gi"
    devices = {"nvidia.com/gpu": job.gpus} if job.gpus else {}
    if not (requests or devices):
        return {}
    return {"requests": {**requests, **devices}, **({"limits": devices} if devices else {})}


def _volume(claim: str) -> dict[str, Any]:
    return {"name": "runs", "persistentVolumeClaim": {"claimName": plain("--claim", claim)}}
