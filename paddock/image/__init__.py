"""What is in a sandbox, said in Python: an immutable recipe that compiles to a Dockerfile.

``Image.debian_slim("3.12").apt_install("git").pip_install("pytest")`` is a value. It
knows nothing of engines and clouds; those that build it read its `steps`, or its
Dockerfile and context.
"""

from paddock.image.recipe import Image
from paddock.image.steps import (
    AddLocalDir,
    AddLocalFile,
    AptInstall,
    Env,
    FromDockerfile,
    FromRegistry,
    PipInstall,
    PipInstallFromPyproject,
    PipInstallFromRequirements,
    RunCommands,
    Step,
    User,
    UvSync,
    Workdir,
)

__all__ = [
    "AddLocalDir",
    "AddLocalFile",
    "AptInstall",
    "Env",
    "FromDockerfile",
    "FromRegistry",
    "Image",
    "PipInstall",
    "PipInstallFromPyproject",
    "PipInstallFromRequirements",
    "RunCommands",
    "Step",
    "User",
    "UvSync",
    "Workdir",
]
