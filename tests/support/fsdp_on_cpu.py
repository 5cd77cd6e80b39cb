"""Lightning's strategy fsdp, on processes of the CPU.

torch shares out weights there if the device is named, which Lightning does by the number of a GPU; and when it writes a checkpoint,
Lightning asks torch to move each tensor to the CPU, which copies it from a GPU alone
(https://github.com/Lightning-AI/pytorch-lightning/issues/21804).
"""

from contextlib import AbstractContextManager

import torch
from lightning.pytorch.strategies import FSDPStrategy, fsdp
from torch import nn
from torch.distributed.fsdp import FullOptimStateDictConfig, FullStateDictConfig, FullyShardedDataParallel, StateDictType


def where_it_is(module: nn.Module, world_size: int, rank0_only: bool = True) -> AbstractContextManager:
    configs = [kind(offload_to_cpu=False, rank0_only=rank0_only) for kind in (FullStateDictConfig, FullOptimStateDictConfig)]
    return FullyShardedDataParallel.state_dict_type(module, StateDictType.FULL_STATE_DICT, *configs)


fsdp._get_full_state_dict_context = where_it_is


class OnCPU(FSDPStrategy):
    def _setup_model(self, model: nn.Module) -> nn.Module:
        options = {"sharding_strategy": self.sharding_strategy, "mixed_precision": self.mixed_precision_config, **self.kwargs}
        return super()._setup_model(FullyShardedDataParallel(model, device_id=torch.device("cpu"), **options))
