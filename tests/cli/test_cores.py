"""Threads of a computation: OMP_NUM_THREADS where it says something, never more than the cores that are granted."""

import pytest

from medsegdiff_auto import cores
from medsegdiff_auto.cli.command import run


@pytest.mark.parametrize("wanted, found", [("1", 1), ("3", 3), ("64", 4), ("", 4), ("0", 4), ("2,1", 4)])
def test_threads(monkeypatch, wanted, found):
    monkeypatch.setattr(cores, "num_cores", lambda: 4)
    monkeypatch.setenv("OMP_NUM_THREADS", wanted)
    assert cores.num_threads() == found


@pytest.mark.parametrize("variable, value", [("nnUNet_def_n_proc", "0"), ("nnUNet_def_n_proc", "-1"),
                                             ("nnUNet_def_n_proc", "all"), ("nnUNet_n_proc_DA", "-1"),
                                             ("nnUNet_n_proc_DA", "1.5"), ("nnUNet_n_proc_DA", "")])
def test_a_number_of_processes_that_nnunet_cannot_start_ends_a_command_with_its_name(monkeypatch, capsys, variable,
                                                                                     value):
    monkeypatch.setenv(variable, value)
    assert run(lambda: 0) == 2
    message = capsys.readouterr().err
    assert f"{variable}={value}" in message and len(message.splitlines()) == 4


@pytest.mark.parametrize("variable, value", [("nnUNet_n_proc_DA", "0"), ("nnUNet_n_proc_DA", "12"),
                                             ("nnUNet_def_n_proc", "1"), ("nnUNet_def_n_proc", " 8 ")])
def test_a_number_of_processes_that_nnunet_can_start_is_accepted(monkeypatch, variable, value):
    monkeypatch.setenv(variable, value)
    assert run(lambda: 0) == 0


def test_threads_of_all_cores(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert cores.num_threads() == cores.num_cores()
