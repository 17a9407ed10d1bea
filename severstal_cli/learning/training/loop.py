"""The state of a training, and one epoch; `stages/training.py` runs the epochs."""

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional

from severstal_cli.config import TrainConfig
from severstal_cli.errors import SeverstalError
from severstal_cli.learning import precision
from severstal_cli.learning.device import gather, half_type, in_float32, keep_freed_memory
from severstal_cli.learning.networks import registry
from severstal_cli.learning.networks.registry import STRIDE
from severstal_cli.learning.runs.model_card import ModelCard
from severstal_cli.learning.training import augmentation, depthwise, losses, schedule
from severstal_cli.learning.training.batches import TrainingSet
from severstal_cli.learning.training.finite_checks import Losses
from severstal_cli.learning.training.prefetch import Fed, on_device
from severstal_cli.progress import Bar, Progress

SYNCHRONISED_BELOW = 16
"""Batch norm is synchronised over the devices below this batch size: statistics of few images are too noisy."""


@dataclass(kw_only=True)
class State:
    """The changing state of a training."""

    network: nn.Module
    ema: nn.Module
    """The network with EMA weights and averaged running statistics; validation and prediction use it."""
    optimizer: torch.optim.Optimizer
    best: list[dict[str, Any]] = field(default_factory=list)
    """The best epochs for checkpoint averaging, best first: `{"dice", "epoch", "weights"}` with EMA weights."""
    kept: dict[str, Tensor] = field(default_factory=dict)
    """The weights of the run, those that its card describes; empty before any are kept, and in other workers."""
    steps: int = 0
    elapsed_s: float = 0.0
    """Training time over all sessions."""
    machine: str = ""
    """The machine that `agreement` was measured on, by `precision.machine`."""
    agreement: precision.Agreement = field(default_factory=dict)
    """The batch sizes for which half precision agrees with float32 in training; the others use float32."""
    validation_verdicts: precision.Agreement = field(default_factory=dict)
    """The same for validation with the EMA weights."""

    def __post_init__(self) -> None:
        # collected once: walking through both networks takes longer than a step of a small network on a GPU
        averaged, current = self.ema.state_dict(), self.network.state_dict()
        named = [(name, current[name]) for name, _ in precision.running_statistics(self.ema)]
        self.statistics = [name for name, _ in named], [value for _, value in named]
        """Names and tensors of the network's running means and variances."""
        floats = [name for name, value in averaged.items() if value.is_floating_point()]
        counters = [name for name in averaged if name not in floats]  # num_batches_tracked of batch norms
        self._floats, self._counters = (
            ([averaged[name] for name in names], [current[name] for name in names]) for names in (floats, counters)
        )

    @torch.no_grad()
    def update_ema(self, highest_decay: float) -> None:
        """Update the EMA weights, with a lower decay in the first steps so that they forget the initial weights."""
        decay = min(highest_decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(*self._floats, 1 - decay)
        if self._counters[0]:
            torch._foreach_copy_(*self._counters)

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values only."""
        return {
            "network": self.network.state_dict(),
            "average": self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "best": self.best,
            "kept": self.kept,
            "steps": self.steps,
            "elapsed_s": self.elapsed_s,
            "machine": self.machine,
            "verdicts": [[*size, agrees] for size, agrees in self.agreement.items()],
            "validation_verdicts": [[*size, agrees] for size, agrees in self.validation_verdicts.items()],
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Load the result of `state_dict`."""
        self.network.load_state_dict(saved["network"])
        self.ema.load_state_dict(saved["average"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.best, self.kept = saved.get("best", []), saved.get("kept", {})
        self.steps, self.elapsed_s = saved["steps"], saved["elapsed_s"]
        if saved.get("machine", "") == self.machine:  # a resumed training computes in the same precision
            for agreement, name in ((self.agreement, "verdicts"), (self.validation_verdicts, "validation_verdicts")):
                agreement.update({(n, height, width): agrees for n, height, width, agrees in saved.get(name, ())})


def start(network: nn.Module, config: TrainConfig, fabric: Fabric, at_once: int = 1) -> State:
    """The state before the first step, with `network` on the device. `at_once`: the batch size."""
    # torch synchronises batch norm on GPUs only. On CPUs each worker normalises by its own batch, and all take the
    # running statistics of rank 0 before each step and after the epoch (see `train_epoch`)
    if fabric.world_size > 1 and fabric.device.type == "cuda" and at_once < SYNCHRONISED_BELOW:
        network = synchronised(network)
    if fabric.device.type == "cpu":
        keep_freed_memory()
    network = network.to(fabric.device).to(memory_format=torch.channels_last)
    if fabric.world_size > 1:
        _freeze_unused(network, fabric)
    depthwise.train_in_float32(network)
    optimizer = optimizer_of(network, config)
    average = copy.deepcopy(network).requires_grad_(False).eval()
    network, optimizer = fabric.setup(network, optimizer)
    return State(network=network, ema=average, optimizer=optimizer, machine=precision.machine(fabric))


def check_precision(
    state: State, data: TrainingSet, config: TrainConfig, card: ModelCard, fabric: Fabric, progress: Progress
) -> None:
    """Check half precision for each batch size of the training that `state.agreement` lacks.

    Uses `state.ema`, which has the same weights before the first step.
    """
    if half_type(fabric) is None:
        return
    batches = (_changed(fed, card)[0] for fed in on_device(data.trials(), fabric.device))
    precision.check_training(state.ema, batches, fabric, state.agreement, "training", progress)
    precision.share_agreement(state.agreement, fabric)


def check_smallest_batch(network: nn.Module, data: TrainingSet, config: TrainConfig) -> None:
    """Check that the network trains on the smallest batch of `data`. Raises as `registry.try_out` does."""
    images, height, width = data.smallest_batch
    registry.try_out(network, config.arch, config.encoder, (1, height, width), images=images, learns=True)


def synchronised(network: nn.Module) -> nn.Module:
    """The network with synchronised batch norms."""
    import timm.layers

    # torch's own conversion would drop the activations inside timm's batch norms
    return timm.layers.convert_sync_batchnorm(network)  # type: ignore


def optimizer_of(network: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """AdamW for a network on its device, without weight decay on biases and norms."""
    decayed = [weight for weight in network.parameters() if weight.ndim > 1]
    others = [weight for weight in network.parameters() if weight.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)


def _freeze_unused(network: nn.Module, fabric: Fabric) -> None:
    """Freeze weights without effect on the output, as in EfficientNet: DDP would wait for their gradients for ever."""
    logits = network.eval()(torch.zeros(1, 1, 2 * STRIDE, 2 * STRIDE, device=fabric.device))
    sum(each.sum() for each in logits if each is not None).backward()
    for weight in network.parameters():
        weight.requires_grad_(weight.grad is not None)
        weight.grad = None
    network.train()


@dataclass(frozen=True, kw_only=True)
class EpochResult:
    """Result of one epoch. `ended`: the time limit cut it short."""

    loss: float
    images: int
    seconds: float
    ended: bool


def train_epoch(
    state: State,
    data: TrainingSet,
    epoch: int,
    config: TrainConfig,
    card: ModelCard,
    fabric: Fabric,
    share_done: Callable[[int], float],
    bar: Bar,
) -> EpochResult:
    """One pass over the training images. `share_done(steps)`: share of the whole training after `steps` of this pass.

    Afterwards all devices have the same EMA weights, and the loss over all devices.

    Raises SeverstalError: loss, running statistics or weights are not finite. Nothing of such an epoch is saved.
    """
    state.network.train()
    began, count, steps = time.monotonic(), Losses(epoch, state.statistics), 0
    step_share = 1 / (len(data) * config.epochs)
    state.optimizer.zero_grad(set_to_none=True)
    begins_step = True
    for number, fed in enumerate(on_device(data.batches(epoch, share_done(0)), fabric.device)):
        if begins_step:
            share = share_done(steps)
            if share >= 1:
                break
            rate = schedule.rate_of_step(config, share, step_share=step_share, is_first=state.steps == 0)
            for group in state.optimizer.param_groups:
                group["lr"] = rate
        # dropout uses the global generator: seed it by position, so that resuming needs no saved state
        position = number * fabric.world_size + fabric.global_rank
        torch.manual_seed(hash((config.seed, epoch, position)) & 0x7FFF_FFFF)
        batch, (pixels, masks) = fed[0], _changed(fed, card)
        exact = not state.agreement.get((pixels.shape[0], pixels.shape[2], pixels.shape[3]), True)
        with fabric.no_backward_sync(state.network, enabled=not batch.ends_step):  # type: ignore[arg-type]
            with in_float32(fabric, exact):
                logits = state.network(pixels)
            loss = losses.total_loss(logits.masks, logits.classes, masks, config, share)
            count.add(batch, loss.detach())
            fabric.backward(loss * batch.loss_weight)
        begins_step = batch.ends_step
        if not batch.ends_step:
            continue
        state.optimizer.step()
        state.optimizer.zero_grad(set_to_none=True)
        state.steps, steps = state.steps + 1, steps + 1
        state.update_ema(config.average_decay)
        rate = count.images * fabric.world_size / max(time.monotonic() - began, 1e-9)
        loss_note = f"loss {count.total / count.images:.4f}, {rate:.1f} images/s" if count.images else "first step"
        bar.advance(note=f"epoch {epoch + 1}, {loss_note}")
    count.settle()
    total, images = count.total, count.images
    if fabric.world_size > 1:
        for statistic in state.ema.buffers():  # the weights are equal already, as all devices share gradients
            torch.distributed.broadcast(statistic, 0)
        total, images = (sum(values) for values in zip(*gather((total, images), fabric), strict=True))
    if not all(torch.isfinite(value).all() for value in state.ema.state_dict().values()):
        raise SeverstalError(
            f"the weights are not finite at the end of epoch {epoch + 1}",
            remedy="Lower the learning rate; the last whole epoch is kept",
        )
    return EpochResult(
        loss=total / max(images, 1),
        images=images,
        seconds=max(time.monotonic() - began, 1e-9),
        ended=images < data.epoch_images,
    )


def _changed(fed: Fed, card: ModelCard) -> tuple[Tensor, Tensor]:
    """Augmented, normalised pixels `(N, 1, h, w)` and ground-truth masks `(N, C, h, w)` of a batch on its device."""
    batch, pixels, masks = fed
    pixels = pixels.float() / 255
    if batch.halved:
        pixels, masks = functional.avg_pool2d(pixels, 2), (functional.avg_pool2d(masks.float(), 2) >= 0.5).byte()
    pixels = augmentation.apply(pixels, batch.changes)
    return ((pixels - card.mean) / card.std).contiguous(memory_format=torch.channels_last), masks
