"""The whole command, killed at random moments and given again: in a process of its own, since its jobs are forked and
torch forks no process that has computed a gradient.
"""

import subprocess
import sys
from pathlib import Path


def test_the_command_killed_at_random_moments_ends_with_the_files_of_an_undisturbed_one():
    file = Path(__file__).with_name("killed_command.py")
    run = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(file)],
                         capture_output=True, text=True, cwd=file.parents[2])
    assert run.returncode == 0, run.stdout + run.stderr
