"""The models of a stack as their trainers see them, and the steps that they take together."""

import threading
from collections.abc import Callable, Sequence
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Generator, Tensor
from torch.utils._pytree import tree_map

from vaelab import rng
from vaelab.runs.log import tell
from vaelab.training.callbacks import LastCheckpoint, ProgressBar, Throughput
from vaelab.training.callbacks.best import BestCheckpoint
from vaelab.training.lit import LitVAE
from vaelab.training.signals import Signals
from vaelab.training.speed import STEP_HOOKS, is_overridden
from vaelab.training.stacking.batches import BatchOrder
from vaelab.training.stacking.differences import Besides, alike, check_alike
from vaelab.training.stacking.noise import NotStackableError
from vaelab.training.stacking.stack import Trained
from vaelab.training.steps import ShortSteps, parts_that_use_steps

MOST = 100  # steps between two looks at signals and at the time
KNOWN = (LastCheckpoint, ProgressBar, Throughput, BestCheckpoint)  # callbacks that need not be called at each step


class Member(Callback):
    """Has the trainer of a run take its steps together with those of other runs.

    Args:
        name: of the run.
        wait: returns when the others have taken the steps that are due, too.
    """

    _threads = threading.local()

    def __init__(self, name: str, wait: Callable[[], None]) -> None:
        self.name, self.wait = name, wait
        self.steps: StackedSteps | None = None  # while it trains
        self.why_alone: str | None = None
        self.size = 0  # of the largest stack that it was in
        self.signals: Signals | None = None  # once there is a trainer
        self._threads.member = self

    @classmethod
    def of_this_thread(cls) -> list["Member"]:
        """The member that runs in this thread, if any does."""
        return [cls._threads.member] if hasattr(cls._threads, "member") else []

    @property
    def provenance(self) -> dict[str, Any]:
        """The size of its stack, for its results; {} if it was in none."""
        return {"stack": self.size} if self.size else {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, LastCheckpoint):
                self.signals = callback.signals

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, LitVAE)
        try:
            self.steps = StackedSteps(trainer, pl_module, self)
        except NotStackableError as error:
            self.train_alone(str(error))
        else:
            trainer.fit_loop.epoch_loop.advance = self.steps  # type: ignore[method-assign, assignment]

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        for part in ("state_dict", "optimizer_states"):
            if part in checkpoint:
                checkpoint[part] = tree_map(without_others, checkpoint[part])

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.steps = None

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self.steps = None

    def stop(self, signum: int) -> bool:
        """Has its training end after its next steps, as if this process had received a signal; False if it does not train."""
        if self.signals is not None and self.signals.deferred:
            self.signals.received = signum
            return True
        return False

    def train_alone(self, why: str) -> None:
        """Trains as without a stack from here on."""
        self.why_alone = why
        tell(f"note: this run trains by itself and not in a stack: {why}")


def without_others(value: Any) -> Any:
    """A tensor without the weights of other models that lie in the same memory, which a file would hold, too."""
    shared = isinstance(value, Tensor) and value.untyped_storage().nbytes() > value.numel() * value.element_size()
    return value.clone() if shared else value


class Given:
    """A batch in place of those of a loader."""

    def __init__(self, batch: Sequence[Tensor], done: bool) -> None:
        self.batch, self.done = batch, done

    def __next__(self) -> tuple[Sequence[Tensor], int, int]:
        return self.batch, 0, 0


class StackedSteps(ShortSteps):
    """Takes the place of `advance` of Lightning's loop: asks for the steps up to the next one that something depends on.

    Between such steps only counters change. The last one goes through what surrounds a step without a stack, with loss and gradient known.

    Raises:
        NotStackableError: if something that surrounds each step may depend on it.
    """

    def __init__(self, trainer: Trainer, module: LitVAE, member: Member) -> None:
        super().__init__(trainer, module)
        self.member = member
        check_watchers(trainer, module)
        self.order, self.epoch = BatchOrder(trainer), -1
        self.generator = Generator(module.device)  # while the stack takes steps
        self.terms: dict[str, float] = {}  # of the last step
        self.taken, self.is_lost = 0, False
        self.trained = Trained(module.model, module.objective)
        self.last = [callback for callback in trainer.callbacks if isinstance(callback, LastCheckpoint)]  # type: ignore[attr-defined]
        self.rates = [callback for callback in trainer.callbacks if isinstance(callback, Throughput)]  # type: ignore[attr-defined]
        if any(config.frequency != 1 for config in trainer.lr_scheduler_configs):
            raise NotStackableError("its scheduler does not step each time")
        self.besides = Besides(self.trained)
        self.left = list[Any]()  # what it was besides its weights after the last step; empty before the first

    def __call__(self, fetcher: Any) -> None:
        loop, restarting = self.loop, self.loop.restarting
        loop._restarting = False
        if restarting and loop._should_check_val_fx(fetcher):  # as Lightning begins such a step
            if loop.val_loop.restarted_mid_evaluation:
                return
            if loop.restarted_on_last:
                loop._skip_next_val = True
                return
            loop.val_loop.increment_progress_to_evaluation_end()
        loop.val_loop.restarting = False
        if self.epoch != self.trainer.current_epoch:
            self.order.begin_epoch(self.place)
            self.epoch = self.trainer.current_epoch
        if self.member.why_alone is None:
            self.advance_together()
        if self.member.why_alone is not None:
            super().__call__(Given(self.order.split[self.next_batch()], self.is_last))

    @property
    def place(self) -> int:
        """The number of batches of the epoch that are counted."""
        return self.loop.batch_progress.current.ready

    @property
    def is_last(self) -> bool:
        """True if the next batch is the last one of its epoch."""
        return self.place + 1 >= self.trainer.num_training_batches

    @property
    def next_step(self) -> int:
        """The step that comes, after those that are counted and those just taken."""
        return self.module.global_step + self.taken

    def next_batch(self) -> Tensor:
        """The indices of the batch of the step that comes."""
        return self.order.batch(self.place + self.taken)

    def difference(self, other: "StackedSteps") -> str | None:
        """Reason why two models cannot be in one stack; None if they can."""
        mine, theirs = self.trainer, other.trainer
        for name in ("gradient_clip_val", "gradient_clip_algorithm"):
            if getattr(mine, name) != getattr(theirs, name):
                return f"trainer.{name} differs"
        if type(mine.optimizers[0]) is not type(theirs.optimizers[0]):
            return "their optimizers differ"
        try:
            check_alike(self.trained, other.trained)
        except NotStackableError as error:
            return str(error)
        return None

    def due(self) -> int:
        """The number of steps up to the next one that something depends on, this one included."""
        trainer, step = self.trainer, self.module.global_step
        ends = [MOST, int(trainer.num_training_batches) - self.place]
        every = [trainer.log_every_n_steps, *(callback.every_n_steps or 0 for callback in self.last)]  # type: ignore[attr-defined]
        ends += [number - step % number for number in every if number]
        ends += [number - step for number in (trainer.max_steps, trainer.min_steps or 0) if number > step]
        if isinstance(trainer.val_check_batch, int) and trainer.val_check_batch:
            done = self.place if trainer.check_val_every_n_epoch is not None else self.loop.batch_progress.total.ready
            ends.append(trainer.val_check_batch - done % trainer.val_check_batch)
        return max(1, min(ends))

    def advance_together(self) -> None:
        """Trains on the next batches, together with the other members.

        Raises:
            ValueError: if the loss of this model is not a finite number.
        """
        if self.trainer.accumulate_grad_batches != 1:
            self.member.train_alone("trainer.accumulate_grad_batches is not 1")
            return
        if self.left and not alike(self.left, self.besides.now(), {}):
            self.member.train_alone("something changes its model between steps")
            return
        batch = (self.next_batch(), self.next_batch())  # whose number alone is looked at
        for hook in self.starts:
            hook(batch, self.loop.batch_idx + 1)
        self.generator.set_state(rng.of_device(self.module.device))
        self.member.wait()
        if self.member.why_alone is not None:
            self.member.train_alone(self.member.why_alone)
            return
        self.left = self.besides.now()
        rng.restore_device(self.generator.get_state(), self.module.device)
        self.count(self.taken - 1)
        self.taken = 0
        if self.is_lost:
            raise ValueError(self.module._not_finite(self.terms))
        logging = self.module.logs_next_step() or self.connector.should_update_logs
        metrics = {"train/lr": self.trainer.optimizers[0].param_groups[0]["lr"]}
        metrics |= {f"train/{name}": value for name, value in self.terms.items()}
        self.end_step((self.next_batch(), self.next_batch()))
        if logging:
            self.connector._callback_metrics.update({name: torch.tensor(value) for name, value in metrics.items()})
            self.connector.log_metrics(metrics)

    def end_step(self, batch: Sequence[Tensor]) -> None:
        """Counts a step, changes the learning rate and calls the hooks that follow it."""
        loop, index, is_last = self.loop, self.loop.batch_idx + 1, self.is_last
        self.count_up(1)
        loop.batch_progress.is_last_batch = is_last
        loop.update_lr_schedulers("step", update_plateau_schedulers=False)
        if loop._num_ready_batches_reached():
            loop.update_lr_schedulers("epoch", update_plateau_schedulers=False)
        for hook in self.ends:
            hook({"loss": torch.tensor(self.terms["loss"])}, batch, index)

    def count(self, num: int) -> None:
        """Counts steps after which nothing was due."""
        if num > 0:
            for callback in self.rates:
                callback.images += sum(len(self.order.batch(self.place + i)) for i in range(num))
            self.count_up(num)
            self.loop._batches_that_stepped += num
            self.connector._first_loop_iter = False

    def count_up(self, num: int) -> None:
        """Counts steps as Lightning does."""
        counters = self.loop.automatic_optimization.optim_progress.optimizer
        for progress in (self.loop.batch_progress, counters.step, counters.zero_grad):
            for each in (progress.current, progress.total):
                for name in vars(each):
                    setattr(each, name, getattr(each, name) + num)

    def between_steps(self) -> None:
        """Changes the learning rate after a step that is not the last of those due."""
        if any(config.interval == "step" for config in self.trainer.lr_scheduler_configs):
            self.loop.update_lr_schedulers("step", update_plateau_schedulers=False)


def check_watchers(trainer: Trainer, module: LitVAE) -> None:
    """Raise if something may depend on each step by itself.

    Raises:
        NotStackableError: if it may, with what it is.
    """
    if module.device.type not in ("cpu", "cuda"):
        raise NotStackableError(f"it is on {module.device}")
    if type(module) is not LitVAE:
        raise NotStackableError(f"{type(module).__name__} may train in another way")
    parts = parts_that_use_steps(trainer)
    watching = [callback for callback in trainer.callbacks if any(is_overridden(callback, Callback, hook) for hook in STEP_HOOKS)]  # type: ignore[attr-defined]
    others = [type(callback).__name__ for callback in watching if type(callback) not in KNOWN]
    if parts or others:
        raise NotStackableError(f"{parts or ' and '.join(others)} may use each step")
    if trainer.accumulate_grad_batches != 1:
        raise NotStackableError("trainer.accumulate_grad_batches is not 1")
    if trainer.num_training_batches == float("inf"):
        raise NotStackableError("its data have no end")
