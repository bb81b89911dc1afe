"""The device of these tests, and networks on it."""

import sys
import warnings
from pathlib import Path

import pytest
import torch
from fake_cuda import FakeCuda

sys.path.insert(0, str(Path(__file__).parents[1] / "networks"))
CUDA = torch.device("cuda")


@pytest.fixture
def gpu(monkeypatch):
    """The recorder, active for the test."""
    monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: None)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Accessing the data pointer of FakeTensor")
        with FakeCuda() as recorder:
            yield recorder
