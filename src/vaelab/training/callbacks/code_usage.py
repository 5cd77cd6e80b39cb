"""The use of the codes of a quantiser while it is trained."""

from lightning import Callback, LightningModule, Trainer
from torch.utils.hooks import RemovableHandle

from vaelab.metrics.latent.usage import CodeCounts
from vaelab.training.lit import LitVAE


class CodeUsage(Callback):
    """Logs val/code_usage, the share of the codes that is used, and val/code_perplexity, of all validation data together.

    Of two maps of codes, val/code_usage_top, ..., too. They are counted of the draws that validation scores anyway. Nothing is logged of a
    model without codes.
    """

    def __init__(self) -> None:
        self._counts, self._hook = CodeCounts(), list[RemovableHandle]()

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, LitVAE)
        self._counts = CodeCounts()
        self._hook = [pl_module.model.register_forward_hook(self._counts.add)]

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._hook.pop().remove()
        for name, counts in self._counts.counts.items():
            self._counts.counts[name] = trainer.strategy.reduce(counts, reduce_op="sum")
        for name, value in self._counts.report().items():
            pl_module.log(f"val/{name}", value, sync_dist=True, batch_size=1)
