"""Jobs as batch files of SLURM: an array of each kind, and what waits for it by ``--dependency=afterok``.

A batch file passes SIGTERM on, which SLURM sends 300 s before the limit and before another job takes the place, and
asks for another start where the job paused. SLURM is the scheduler; nothing of ours stays behind to watch.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from medsegdiff_auto.crossval.jobs import Job
from medsegdiff_auto.crossval.queue import SUBMITTED_FILE, ask, submitted
from medsegdiff_auto.crossval.request import Request
from medsegdiff_auto.crossval.states import jobs_folder
from medsegdiff_auto.errors import UserError
from medsegdiff_auto.paths import FOLDER_CONTENTS
from medsegdiff_auto.training.termination import EXIT_CODE
from medsegdiff_auto.writing import write_json, write_text

SECONDS_TO_LEAVE = 300
PASSED_ON = (*FOLDER_CONTENTS, "PYTHONPATH")
TEMPLATE = """#!/bin/bash
# {title}
# Written by medsegdiff_crossval, which has submitted it: sbatch {submission} {file}
#SBATCH --job-name={name}
#SBATCH --array={array}
#SBATCH --signal=B:TERM@{leave}
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output={folder}/slurm_{group}_%a.log
{options}
{exports}
python={python}

run() {{  # a job, whose log and end are kept under its name; SIGTERM is passed on to it
  name=$1; shift
  asked= child=
  trap 'asked=yes; [ -z "$child" ] || kill -TERM $child' TERM
  "$python" -m medsegdiff_auto.cli "$@" >>{folder}/"$name".log 2>&1 &
  child=$!
  [ -z "$asked" ] || kill -TERM $child
  wait $child; code=$?
  while kill -0 $child 2>/dev/null; do wait $child; code=$?; done
  printf '{{"exit_code": %d, "seconds": %d, "memory_gb": null}}\\n' $code $SECONDS >{folder}/"$name".json
}}

case $SLURM_ARRAY_TASK_ID in
{cases}
esac
if [ $code = {paused} ]; then scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID"; fi
exit $code
"""


def slurm_folder(request: Request) -> Path:
    """Batch files, and the numbers of what was submitted."""
    return request.comparison / "slurm"


def groups_of(jobs: Mapping[str, Job], names: list[str]) -> dict[str, list[Job]]:
    """The named jobs by the batch file that they share; those that need one of their own group get a file of their own
    behind it.
    """
    groups: dict[str, list[Job]] = {}
    place: dict[str, str] = {}
    for name in names:
        group = jobs[name].group
        while any(place.get(need) == group for need in jobs[name].needs):
            group += "_then"
        groups.setdefault(group, []).append(jobs[name])
        place[name] = group
    return groups


def batch_file(request: Request, group: str, jobs: list[Job], options: str, dependency: str = "") -> str:
    """The text of a batch file.

    Args:
        options: of sbatch, as they are typed.
        dependency: with which it is submitted.
    """
    lines = [f"{number}) run {job.file_name} {shlex.join(job.command)};;" for number, job in enumerate(jobs)]
    exports = [f"export {name}={shlex.quote(os.environ[name])}" for name in PASSED_ON if os.environ.get(name)]
    folder = jobs_folder(request)
    return TEMPLATE.format(
        title=f"{request.dataset}: {', '.join(job.name for job in jobs)}", submission=dependency, name=_name(
            request, group), file=slurm_folder(request) / f"{group}.sbatch", array=f"0-{len(jobs) - 1}",
        leave=SECONDS_TO_LEAVE, folder=shlex.quote(str(folder)), group=group,
        options="".join(f"#SBATCH {option}\n" for option in _options(options)), exports="\n".join(exports),
        python=shlex.quote(sys.executable), cases="\n".join(lines), paused=EXIT_CODE)


def submit(request: Request, jobs: Mapping[str, Job], options: str) -> dict[str, str]:
    """Writes and submits the batch files of all jobs that are not done and not in the queue; their numbers by name.

    Raises:
        UserError: there is no SLURM here, or it refuses a batch file.
    """
    if shutil.which("sbatch") is None:
        raise UserError("SLURM is not on this machine.", found="no command sbatch",
                        expected="a login node of a cluster",
                        fix="give the command there, or leave out --slurm to run the jobs here")
    file = slurm_folder(request) / SUBMITTED_FILE
    numbers = submitted(file)
    there = {name: number for name, number in numbers.items() if not ask(numbers)[name].has_failed}
    open_jobs = [name for name, job in jobs.items() if not job.is_done() and name not in there]
    jobs_folder(request).mkdir(parents=True, exist_ok=True)
    for group, of_group in groups_of(jobs, open_jobs).items():
        needed = sorted({there[need] for job in of_group for need in job.needs if need in there})
        flags = [f"--dependency=afterok:{':'.join(needed)}", "--kill-on-invalid-dep=yes"] if needed else []
        batch = slurm_folder(request) / f"{group}.sbatch"
        write_text(batch_file(request, group, of_group, options, " ".join(flags)), batch)
        for job in of_group:  # an end of then says nothing of the start that is to come
            (jobs_folder(request) / f"{job.file_name}.json").unlink(missing_ok=True)
        array = _sbatch(["--parsable", *flags, str(batch)])
        there |= {job.name: f"{array}_{number}" for number, job in enumerate(of_group)}
        write_json(there, file)
    return {name: there[name] for name in open_jobs}


def _sbatch(words: list[str]) -> str:
    done = subprocess.run(["sbatch", *words], capture_output=True, text=True)
    if done.returncode:
        raise UserError("SLURM does not take a batch file.", found=done.stderr.strip().splitlines()[-1:][0]
                        if done.stderr.strip() else f"exit code {done.returncode}", expected="a job number",
                        fix=f"see {words[-1]}; correct --slurm")
    return done.stdout.strip().split(";")[0]


def _options(text: str) -> list[str]:
    """The options one by one: what begins with a dash, with the word behind it where that belongs to it."""
    found: list[str] = []
    for word in shlex.split(text):
        if word.startswith("-") or not found:
            found.append(word)
        else:
            found[-1] += f" {shlex.quote(word)}"
    return found


def _name(request: Request, group: str) -> str:
    return f"crossval_{request.dataset[7:10]}_{group}"
