"""Hints for options that are written as in other programs: `arch=unet` for `--arch unet`."""

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from severstal_cli.errors import UsageError
from severstal_cli.learning.networks import names


def check(command: Any, arguments: Sequence[str]) -> None:
    """Raises UsageError for an argument KEY=VALUE whose key is an option of the command, or nearly so.

    A value of an option, an existing path, and what follows `--` are no such arguments.
    """
    options = {
        name.lstrip("-"): option
        for option in command.params
        for name in (*option.opts, *option.secondary_opts)
        if name.startswith("--")
    }
    before = ""
    for argument in arguments:
        if argument == "--":
            return
        option = options.get(before.removeprefix("--")) if before.startswith("--") else None
        is_value = option is not None and not getattr(option, "is_flag", False)
        before = "" if is_value else argument
        match = re.fullmatch(r"([A-Za-z][\w-]*)=(.*)", argument, re.DOTALL)
        if is_value or not match or Path(argument).exists():
            continue
        meant = _meant(match[1].replace("_", "-"), match[2], options)
        if meant:
            raise UsageError("options are written with two dashes", argument, f"Give {meant}")


def _meant(key: str, value: str, options: dict[str, Any]) -> str:
    """The option as this program writes it; empty if none is near."""
    if key not in options:
        near = difflib.get_close_matches(key, options, n=1)
        if "arch" in options and value in names.networks():  # model=unet
            near = ["arch"]
        if not near:
            return ""
        key = near[0]
    if not getattr(options[key], "is_flag", False):
        return f"--{key} {value}" if value else f"--{key} and its value"
    return f"--{key}" if value.lower() not in ("false", "0", "no", "") else f"no --{key}"
