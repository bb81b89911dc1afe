"""Without -device the GPU computes where there is one, else the CPU, which is said."""

import pytest
import torch

from medsegdiff_auto.cli.model_flags import add_device_flag
from medsegdiff_auto.cli.command import CommandParser
from medsegdiff_auto.training.run import require_device

SAID = "There is no CUDA device: the CPU computes."


@pytest.mark.parametrize("has_cuda, device, messages", [(True, "cuda", []), (False, "cpu", [SAID])])
def test_the_default_is_cuda_where_there_is_one_else_the_cpu_with_a_line(has_cuda, device, messages, monkeypatch,
                                                                         caplog):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_cuda)
    parser = CommandParser(prog="medsegdiff_test")
    add_device_flag(parser)
    with caplog.at_level("INFO", "medsegdiff_auto"):
        assert require_device(parser.parse_args([]).device) == torch.device(device)
    assert caplog.messages == messages


def test_a_device_that_is_named_is_taken_without_a_word(caplog):
    with caplog.at_level("INFO", "medsegdiff_auto"):
        assert require_device("cpu") == torch.device("cpu")
    assert caplog.messages == []
