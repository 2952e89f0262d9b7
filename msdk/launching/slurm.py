"""Slurm: a batch file that saves before its time is up, and is queued again until the command is done."""

import shlex

from msdk.launching.job import Job, Tasks, plain

CPUS = 4
"""Cores of each process where nobody says how many. Slurm gives a task one otherwise."""


def batch_file(
    job: Job,
    *,
    time: str | None = None,
    partition: str | None = None,
    account: str | None = None,
    setup: str = "",
    grace: int = 120,
) -> str:
    """A file for `sbatch`.

    Slurm warns the batch shell `grace` seconds before the time limit, as `--signal=B:USR1@grace` asks; the shell passes
    the warning on to `srun`, which passes it on to its tasks (USR1 as it is; TERM would reach them as KILL); torchrun
    passes it on to its processes, which save and end; `scontrol requeue` puts the job back into the queue, where the
    same command goes on. A machine that fails, and a job of more right, make Slurm queue the job again by itself, since
    it has `--requeue`. The trials of a study are an array of jobs (--array), after which one more comes (--dependency).

    Source: the manual pages sbatch(1) (--signal, --requeue, --open-mode), srun(1) (--ignore-signals tells which signals
    are forwarded) and scontrol(1), https://slurm.schedmd.com; torchrun's --signals-to-handle and --shutdown-timeout,
    https://docs.pytorch.org/docs/stable/elastic/run.html, here by their variables, which older versions pass over.

    Args:
        job: What is started.
        time: The time limit, as Slurm writes it: 24:00:00 or 2-00:00:00; the partition's when not given.
        partition: Of the cluster.
        account: Who pays.
        setup: Lines of shell that come first, such as `source .venv/bin/activate`.
        grace: Seconds between the warning and the end.
    """
    devices = f"{job.gpu}:{job.gpus}" if job.gpu else str(job.gpus)
    cpus = job.cpus or CPUS * job.processes
    tasks = job.tasks
    options = {
        "job-name": job.name,
        "array": tasks and f"0-{tasks.count - 1}" + (f"%{job.at_once}" if job.at_once else ""),
        "nodes": job.nodes,
        "ntasks-per-node": 1,
        "gpus-per-node": devices if job.gpus else None,
        "cpus-per-task": cpus,
        "mem": f"{job.memory}G" if job.memory else None,
        "time": time and plain("--time", time),
        "partition": partition and plain("--partition", partition),
        "account": account and plain("--account", account),
        "signal": f"B:USR1@{grace}",
        "open-mode": "append",  # the second time must not wipe out what the first one said
    }
    lines = [f"#SBATCH --{key}={value}" for key, value in options.items() if value is not None]
    return FILE.format(
        size=job.size,
        options="\n".join([*lines, "#SBATCH --requeue"]),
        setup=f"\n{setup.strip()}\n" if setup.strip() else "",
        saving=grace - 30,
        waiting=grace - 15,
        cpus=cpus,
        nodes=job.nodes,
        processes=job.processes,
        restarts=job.in_place,
        after="" if tasks is None else _after(job.name, tasks, time, partition, account, setup),
        ending="" if job.nodes == 1 else AGAIN.format(restarts=job.restarts),
        words=job.command("SLURM_ARRAY_TASK_ID"),
    )


def _after(name: str, tasks: Tasks, time: str | None, partition: str | None, account: str | None, setup: str) -> str:
    """What puts a job into the queue that begins when all tasks have ended, however they did."""
    options = {"job-name": f"{name}-end", "time": time, "partition": partition, "account": account}
    return AFTER.format(
        options=" ".join(f"--{key}={value}" for key, value in options.items() if value is not None),
        cpus=CPUS,
        setup=f"{setup.strip()}\n" if setup.strip() else "",
        words=shlex.join(tasks.last),
    )


FILE = """#!/bin/bash
# {size}; written by `msdk launch slurm`.
{options}
{setup}
# torchrun passes the warning on to its processes, and leaves them time to save.
export PET_SIGNALS_TO_HANDLE=SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1
export PET_SHUTDOWN_TIMEOUT={saving}
{after}
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
port=$((20000 + SLURM_JOB_ID % 20000))

# The time is nearly up: what was trained is saved, and the job is queued again to go on with it.
step=
warned() {{
    [ -n "$step" ] && kill -USR1 "$step"
    for ((second = 0; second < {waiting}; second++)); do
        kill -0 "$step" 2>/dev/null || break
        sleep 1
    done
    if ! kill -0 "$step" 2>/dev/null && wait "$step"; then
        exit 0  # it was done by then
    fi
    scontrol requeue "$SLURM_JOB_ID"
    exit
}}
trap warned USR1

# torchrun itself is not to end by the signal where its version does not know the variables above.
srun --kill-on-bad-exit=1 --ntasks-per-node=1 --cpus-per-task={cpus} bash -c 'trap "" USR1; exec "$@"' - \\
    torchrun --nnodes={nodes} --nproc-per-node={processes} --max-restarts={restarts} \\
    --rdzv-backend=c10d --rdzv-endpoint="$head:$port" --rdzv-id="$SLURM_JOB_ID" \\
    -m msdk {words} &
step=$!
wait "$step"
{ending}"""

AFTER = """
# The first task that starts queues what comes after all of them: once, and not where some are queued again by hand.
if [ "$SLURM_ARRAY_TASK_ID" = 0 ] && [ "${{SLURM_RESTART_COUNT:-0}}" = 0 ]; then
    sbatch --dependency=afterany:"$SLURM_ARRAY_JOB_ID" {options} --ntasks=1 --cpus-per-task={cpus} <<'MSDK_END'
#!/bin/bash
{setup}exec msdk {words}
MSDK_END
fi
"""

AGAIN = """code=$?

# A process has died: all of them are started again.
if [ "$code" != 0 ] && [ "${{SLURM_RESTART_COUNT:-0}}" -lt {restarts} ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
"""
