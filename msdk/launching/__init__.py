"""Files by which a scheduler starts an msdk command on several machines: it only needs to speak torchrun.

Nothing here knows a scheduler's program or library: each module writes the text that one of them reads.
"""

from msdk.launching.job import VERBS as VERBS
from msdk.launching.job import Job as Job
from msdk.launching.job import Tasks as Tasks
from msdk.launching.job import job_name as job_name
from msdk.launching.kubernetes import indexed_job as indexed_job
from msdk.launching.kubernetes import train_job as train_job
from msdk.launching.skypilot import task as task
from msdk.launching.slurm import batch_file as batch_file
