"""Kubernetes: a TrainJob of Kubeflow Trainer, which Kueue may queue."""

from typing import Any

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
    metadata: dict[str, Any] = {"name": job.name}
    if namespace:
        metadata["namespace"] = plain("--namespace", namespace)
    if queue:
        metadata["labels"] = {"kueue.x-k8s.io/queue-name": plain("--queue", queue)}
    trainer: dict[str, Any] = {"numNodes": job.nodes, "numProcPerNode": job.processes}
    if image:
        trainer["image"] = plain("--image", image)
    # Kubernetes replaces $(NAME) in a command, and takes $$ for a dollar.
    words = [word.replace("$(", "$$(") for word in job.words]
    trainer["command"] = ["torchrun", f"--max-restarts={job.in_place}", "-m", "msdk", *words]
    trainer["env"] = [{"name": "PET_SHUTDOWN_TIMEOUT", "value": str(grace - 30)}]  # torchrun's time for its processes
    requests: dict[str, Any] = {}
    if job.cpus:
        requests["cpu"] = job.cpus
    if job.memory:
        requests["memory"] = f"{job.memory}Gi"
    devices = {"nvidia.com/gpu": job.gpus} if job.gpus else {}
    if requests or devices:
        trainer["resourcesPerNode"] = {"requests": {**requests, **devices}, **({"limits": devices} if devices else {})}
    pod: dict[str, Any] = {"terminationGracePeriodSeconds": grace}
    if job.gpu:
        pod["nodeSelector"] = {"nvidia.com/gpu.product": job.gpu}
    if claim:
        pod["volumes"] = [{"name": "runs", "persistentVolumeClaim": {"claimName": plain("--claim", claim)}}]
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
