"""The device that networks run on, through Lightning Fabric."""

import logging
from typing import Any

import torch
from lightning_fabric import Fabric


def fastest_precision(device: str) -> str:
    """A Fabric precision for "cpu" or "cuda": bfloat16 where the hardware multiplies it, else float16 or float32."""
    if device == "cuda":
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    if device == "cpu":
        # before torch 2.7 there is no such call; then float32, which every machine has
        capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
        if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"):
            return "bf16-mixed"
    return "32-true"


def chosen_precision(precision: str, device: str) -> str:
    """The Fabric precision that "auto" or a name of one stands for on "cpu" or "cuda"."""
    return fastest_precision(device) if precision == "auto" else precision


def open_device(precision: str = "auto", devices: int = 1) -> Fabric:
    """A Fabric on the best device there is. `precision`: "auto" or one of Fabric's names."""
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # our own lines tell what is used
    accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    chosen: Any = chosen_precision(precision, accelerator)
    fabric = Fabric(accelerator=accelerator, devices=devices, precision=chosen)
    fabric.launch()
    return fabric
