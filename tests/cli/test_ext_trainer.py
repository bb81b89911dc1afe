"""nnU-Net's own look-up finds our trainer through the shim folder."""

import subprocess
import sys

from medsegdiff_auto.cli.info import EXT_TRAINER_DIR

PROGRAM = f"""
import os, pickle
os.environ["nnUNet_extTrainer"] = {str(EXT_TRAINER_DIR)!r}
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name as find
first, second = find("nnUNetTrainerMedSegDiff"), find("nnUNetTrainerMedSegDiff")
from medsegdiff_auto.training.trainer import nnUNetTrainerMedSegDiff as ours
print("identical:", first is second is ours, pickle.loads(pickle.dumps(first)) is ours)
"""


def test_each_look_up_of_nnunet_gives_the_installed_class_which_can_be_pickled():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1:] == ["identical: True True"], done.stderr
