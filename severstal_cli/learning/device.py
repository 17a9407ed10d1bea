"""The device that networks run on, through Lightning Fabric."""

import ctypes
import json
import logging
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.precision.amp import MixedPrecision

from severstal_cli.errors import MachineError
from severstal_cli.learning import distributed, launching


def fastest_precision(device: str) -> str:
    """The Fabric precision for "cpu" or "cuda": bfloat16 if the hardware multiplies it, else float16 or float32."""
    if device == "cuda":
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    if device == "cpu":
        capabilities = torch.cpu.get_capabilities()
        if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"):
            return "bf16-mixed"
    return "32-true"


def multiplies_int8() -> bool:
    """Whether this CPU adds products of int8 without overflow.

    Without VNNI or AMX, an x86 processor adds pairs of them in 16 bits, which saturate: the numbers become wrong.
    """
    capabilities = torch.cpu.get_capabilities()
    able = [capabilities.get(name) for name in ("avx512_vnni", "avx_vnni", "avx_vnni_int8", "amx_int8")]
    return any(able) or False not in able  # other processors have none of these names


def chosen_precision(precision: str, device: str) -> str:
    """`precision`, with "auto" resolved for "cpu" or "cuda"."""
    return fastest_precision(device) if precision == "auto" else precision


def open_device(precision: str = "auto") -> Fabric:
    """A Fabric on the best available device; a worker joins the others.

    `precision`: "auto" or one of Fabric's names. Raises MachineError: there are more workers than GPUs.
    """
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # our own progress lines name device and precision
    accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    chosen: Any = chosen_precision(precision, accelerator)
    if chosen == "16-mixed" and accelerator == "cpu":
        chosen = "bf16-mixed"  # autocast on a CPU has no float16
    world, local = (
        int(os.environ[name]) if distributed.is_worker() else 1 for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE")
    )
    strategy = "auto"
    if world > 1:
        launching.check_gpus(local)
        if world % local:
            raise MachineError(
                "the machines have different numbers of workers",
                f"{world} in all, {local} on this machine",
                "Give each the same --nproc-per-node",
            )
        if accelerator == "cpu" and "OMP_NUM_THREADS" not in os.environ:  # the workers share its cores
            torch.set_num_threads(max(1, (os.cpu_count() or 1) // local))
        strategy = "ddp"
    mode: dict[str, Any] = {"precision": chosen}
    if chosen.endswith("-mixed"):
        mode = {"plugins": Mixed(chosen, accelerator)}
    fabric = Fabric(accelerator=accelerator, strategy=strategy, devices=local, num_nodes=world // local, **mode)
    fabric.launch()
    return fabric


M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Parameters of glibc's `mallopt`, by malloc.h."""


def keep_freed_memory() -> None:
    """Keep the memory that tensors free in this process, where glibc manages it.

    By default glibc returns large blocks to the system, so each step of a training on a CPU faults their pages in again
    (bench/training_speed.py counts them).
    """
    if platform.system() == "Linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, -1)


class Mixed(MixedPrecision):
    """Fabric's mixed precision, which `in_float32` can switch off."""

    is_off = False

    def forward_context(self) -> Any:
        return torch.autocast(self.device, enabled=False) if self.is_off else super().forward_context()

    def convert_input(self, data: Any) -> Any:
        return data if self.is_off else super().convert_input(data)


@contextmanager
def in_float32(fabric: Fabric, wanted: bool = True) -> Iterator[None]:
    """Switch off the mixed precision of `fabric`, if `wanted`."""
    mixed = fabric.strategy.precision
    if not wanted or not isinstance(mixed, Mixed):
        yield
        return
    mixed.is_off = True
    try:
        yield
    finally:
        mixed.is_off = False


def half_type(fabric: Fabric) -> torch.dtype | None:
    """The dtype that autocast multiplies in; None for float32."""
    with fabric.autocast():
        kind = fabric.device.type
        return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None


def gather(value: Any, fabric: Fabric) -> list[Any]:
    """The `value` of each device, in order of rank; any JSON value.

    `torch.distributed.all_gather_object` would unpickle bytes from a socket.
    """
    if fabric.world_size == 1:
        return [value]
    own = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8).to(fabric.device)
    sizes = [torch.zeros(1, dtype=torch.int64, device=fabric.device) for _ in range(fabric.world_size)]
    torch.distributed.all_gather(sizes, torch.tensor([len(own)], device=fabric.device))
    longest = int(max(sizes))
    texts = [torch.zeros(longest, dtype=torch.uint8, device=fabric.device) for _ in sizes]
    torch.distributed.all_gather(texts, torch.nn.functional.pad(own, (0, longest - len(own))))
    return [json.loads(bytes(text[: int(size)].tolist())) for text, size in zip(texts, sizes, strict=True)]
