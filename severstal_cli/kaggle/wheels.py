"""Wheels of the packages that the notebook image lacks, made from the installed packages, without a package index.

The notebook runs the versions that were tried on this machine. A pure-Python wheel is a zip archive of the installed
files, so it can be rebuilt from them. Bundled packages must be pure Python, as the notebook may run another version.
`pip download` is not used: it needs an index, may choose other versions, and cannot package a checkout of this program.

The packages of the image are taken from three public lists, none of which is the image itself:
- Kaggle/docker-python, Dockerfile.tmpl: the image is Google Colab's, with kaggle_requirements.txt on top;
- Kaggle/docker-python, kaggle_requirements.txt: fastai, easyocr, transformers, pytorch-lightning, shap and others;
- googlecolab/backend-info, pip-freeze.gpu.txt of August 2026: every name in `IN_IMAGE`, for Python 3.13 (torch 2.11.0,
  torchvision 0.26.0, numpy 2.1.3, numba 0.61.2, opencv 5.0.0, safetensors 0.8.0, huggingface-hub 1.27.0, ...). Until
  June it was Python 3.12; Kaggle's own image was at 3.13 by October.
It also lists typer, rich and timm. They are bundled nevertheless: they are small, and their versions matter.
"""

import base64
import hashlib
import io
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.markers import UndefinedEnvironmentName
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

import severstal_cli
from severstal_cli.errors import MachineError

OWN = "severstal"

IN_IMAGE = frozenset({
    "fsspec", "huggingface-hub", "matplotlib", "numba", "numpy", "opencv-python", "packaging", "pillow", "psutil",
    "pydantic", "pyyaml", "safetensors", "torch", "torchvision", "tqdm", "typing-extensions",
})  # fmt: skip
"""Packages that prediction or training imports and the image has, by normalised name."""

NOT_NEEDED = frozenset({"jinja2", "kagglehub", "kagglesdk", "pandas", "requests", "urllib3"})
"""Requirements that neither imports in the notebook."""

_NOTEBOOK = {"os_name": "posix", "sys_platform": "linux", "platform_system": "Linux", "extra": ""}
"""The notebook's environment, for the markers of requirements."""

_NOT_BUNDLED = {"RECORD", "WHEEL", "INSTALLER", "REQUESTED", "direct_url.json"}
"""Files of dist-info that are rewritten, or describe this machine (direct_url.json has a local path)."""

_COMPILED = {".so", ".pyd", ".dll", ".dylib"}


@dataclass(frozen=True, kw_only=True)
class Wheel:
    """A wheel in memory. The same installed files give the same bytes."""

    name: str
    """The file name, as `timm-1.0.31-py3-none-any.whl`."""
    content: bytes


def missing_wheels() -> list[Wheel]:
    """Wheels of this program and its requirements that the image lacks, by name.

    Raises MachineError: a requirement is not installed, or is not pure Python.
    """
    return [make_wheel(found) for found in missing_distributions()]


def missing_distributions(root: str = OWN) -> list[Distribution]:
    """`root` and its requirements that the image lacks, by name. Raises MachineError."""
    found: dict[str, Distribution] = {}
    waiting = [(root, "this program")]
    while waiting:
        name, needed_by = waiting.pop()
        name = canonicalize_name(name)
        if name in found or name in IN_IMAGE or name in NOT_NEEDED:
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            raise MachineError(
                f"cannot bundle {name}, which {needed_by} needs",
                "it is not installed",
                "Install severstal with pip, and submit from there",
            ) from None
        waiting += [(requirement, name) for requirement in _requirements(found[name])]
    return [found[name] for name in sorted(found)]


def _requirements(found: Distribution) -> Iterator[str]:
    """The names of its requirements in the notebook, without extras."""
    for line in found.requires or ():
        try:
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate(_NOTEBOOK):
                yield requirement.name
        except (InvalidRequirement, UndefinedEnvironmentName):
            raise MachineError(f"cannot read the requirements of {found.name}", line, "Install it again") from None


def make_wheel(found: Distribution) -> Wheel:
    """A wheel of an installed distribution: tag py3-none-any, RECORD with SHA-256 (PEP 427).

    Raises MachineError: it is not pure Python, its files are not listed or missing, or it is a checkout of another
    program.
    """
    name = canonicalize_name(found.name).replace("-", "_")
    version = found.version.replace("-", "_")
    info = f"{name}-{version}.dist-info"
    members = dict(_members(found, info))
    compiled = sorted(path for path in members if Path(path).suffix in _COMPILED)
    if compiled or _is_for_a_platform(found):
        reason = f"not pure Python, it contains {compiled[0]}" if compiled else "it is built for one platform"
        raise MachineError(
            f"cannot bundle {found.name}", reason, "The notebook image would need it: see IN_IMAGE in kaggle/wheels.py"
        )
    generator = f"severstal {severstal_cli.__version__}"
    members[f"{info}/WHEEL"] = (
        f"Wheel-Version: 1.0\nGenerator: {generator}\nRoot-Is-Purelib: true\nTag: py3-none-any\n".encode()
    )
    members[f"{info}/RECORD"] = _record(members, f"{info}/RECORD")
    return Wheel(name=f"{name}-{version}-py3-none-any.whl", content=_archive(members, last=info))


def _members(found: Distribution, info: str) -> Iterator[tuple[str, bytes]]:
    """(path in the wheel, content) of its files, with the metadata in the folder `info`."""
    own = canonicalize_name(found.name) == OWN
    remedy = "Install it again with pip"
    if found.files is None:
        raise MachineError(f"cannot bundle {found.name}", "the list of its files is missing", remedy)
    if not own and '"editable": true' in (found.read_text("direct_url.json") or ""):
        raise MachineError(f"cannot bundle {found.name}", "it is installed from a checkout", "Install it as a package")
    for file in found.files:
        path = file.as_posix()
        in_info = file.parts[0].endswith(".dist-info")
        if in_info:
            if path.partition("/")[2] in _NOT_BUNDLED:
                continue
            path = f"{info}/{path.partition('/')[2]}"
        # a file outside is the script of a command, which pip creates from entry_points.txt
        elif own or ".." in file.parts or file.suffix in (".pyc", ".pth") or Path(path).is_absolute():
            continue
        try:
            yield path, Path(str(file.locate())).read_bytes()
        except OSError as error:
            raise MachineError(f"cannot bundle {found.name}", f"{path}: {error.strerror}", remedy) from None
    if own:  # the imported files: an editable install lists a reference only
        yield from _own_members()


def _own_members() -> Iterator[tuple[str, bytes]]:
    package = Path(severstal_cli.__file__).parent
    for path in sorted(package.rglob("*")):
        inside = path.relative_to(package)
        if path.is_file() and "__pycache__" not in inside.parts and not path.name.startswith("."):
            yield f"{package.name}/{inside.as_posix()}", path.read_bytes()


def _is_for_a_platform(found: Distribution) -> bool:
    tags = re.findall(r"^Tag: *(\S+)", found.read_text("WHEEL") or "", re.MULTILINE)
    return bool(tags) and not any("py3" in tag and tag.endswith("-none-any") for tag in tags)


def _record(members: dict[str, bytes], own_path: str) -> bytes:
    """Path, hash and size of each member; for RECORD itself the path only. Paths with commas are quoted."""

    def quoted(path: str) -> str:
        return '"' + path.replace('"', '""') + '"' if set(path) & set(',"') else path

    lines = []
    for path in sorted(members):
        digest = base64.urlsafe_b64encode(hashlib.sha256(members[path]).digest()).rstrip(b"=").decode()
        lines.append(f"{quoted(path)},sha256={digest},{len(members[path])}\n")
    return ("".join(lines) + f"{own_path},,\n").encode()


def _archive(members: dict[str, bytes], *, last: str) -> bytes:
    """A zip archive without local dates and permissions, with the folder `last` at its end."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(members, key=lambda path: (path.startswith(f"{last}/"), path)):
            member = zipfile.ZipInfo(path, date_time=(1980, 1, 1, 0, 0, 0))
            member.create_system, member.external_attr = 3, 0o100644 << 16  # as on Unix, on every system
            archive.writestr(member, members[path], zipfile.ZIP_DEFLATED)
    return content.getvalue()
