"""The process that trains on a CPU."""

import platform
import subprocess
import sys

import pytest


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="`mallopt` is glibc's")
def test_a_freed_tensor_leaves_its_pages_to_the_next() -> None:
    """A tensor of 64 MiB has 16,384 pages of 4 KiB; without huge pages each would be faulted in again."""
    code = """
import resource, torch
from severstal_cli.learning.device import keep_freed_memory
keep_freed_memory()
faults = []
for _ in range(20):  # small blocks in between may keep the first ones apart
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(2**24)
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(min(faults))
"""
    words = [sys.executable, "-W", "ignore", "-c", code]
    assert int(subprocess.run(words, check=True, capture_output=True, text=True).stdout) < 1000
