"""A program has its own settings of torch again once a training is over."""

from __future__ import annotations

import pytest
import torch

from mien.training import processor


@pytest.mark.parametrize("fails", [False, True])
def test_a_training_leaves_torch_as_it_was(fails: bool) -> None:
    threads, tiny = torch.get_num_threads(), torch.tensor([1e-40])
    try:
        with processor.settings(threads + 1):
            assert torch.get_num_threads() == threads + 1
            assert float(tiny * 1.0) == 0
            if fails:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert torch.get_num_threads() == threads
    assert float(tiny * 1.0) > 0  # denormal numbers are numbers again
