"""Programs of ours as code of this interpreter, for processes that this interpreter runs.

Starting a guest from its source takes longer than starting Python. So each module is compiled
once, by the import system and its cache beside the module's file, which is as trusted as the
file; a process reads all of them from a descriptor, and from no directory. Containers, whose
Python may be another one, get the source, too (see `bundle`).
"""

from __future__ import annotations

import fcntl
import functools
import marshal
import os
import sys
import tempfile
from dataclasses import dataclass
from importlib.machinery import ExtensionFileLoader, SourceFileLoader
from importlib.util import find_spec
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING

from paddock.backends.guest import inside

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = [
    "LOADER",
    "Modules",
    "Program",
    "guest",
    "guest_codes",
    "guest_files",
    "module_name",
    "packed",
]

Modules = dict[str, tuple[bool, bytes]]
"""Whether it is a package, and its code, by name."""

BOOT = """\
import gc, marshal, posix
gc.disable()
text = b""
while len(text) < {size}:
    piece = posix.pread({fd}, {size}, len(text))
    if not piece:
        raise EOFError("its program cannot be read")
    text += piece
posix.close({fd})
loader, FIRST, MODULES, EXTENSIONS = marshal.loads(text)
exec(loader)
from {main} import main
gc.freeze()
gc.enable()
main()
"""
LOADER = """\
import sys
from _frozen_importlib_external import ExtensionFileLoader


class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name in MODULES:
            return type(sys.__spec__)(name, Finder, is_package=MODULES[name][0])
        if name in EXTENSIONS:
            file = EXTENSIONS[name]
            return type(sys.__spec__)(name, ExtensionFileLoader(name, file), origin=file)
        return None

    @staticmethod
    def create_module(spec):
        return None

    @staticmethod
    def exec_module(module):
        name = module.__name__
        code = MODULES[name][1]
        code = marshal.loads(code) if type(code) is bytes else compile(code, f"<{name}>", "exec")
        exec(code, module.__dict__)


sys.meta_path.insert(0, Finder)
"""
SMALL_OS = """
import posix

os = sys.modules["os"] = type(sys)("os")
import posixpath
from _frozen_importlib import _find_spec


def complete(name):
    if "__getattr__" not in vars(os):
        raise AttributeError("module 'os' has no attribute " + repr(name))
    del os.__getattr__
    os.__spec__ = _find_spec("os", None)
    os.__spec__.loader.exec_module(os)
    return getattr(os, name)


os.__getattr__ = complete
vars(os).update({name: value for name, value in vars(posix).items() if name[:2] != "__"})
os.path = sys.modules["os.path"] = posixpath
os.devnull, os.defpath = posixpath.devnull, posixpath.defpath
"""
MAKE_FIRST = """
for name, is_package, code in FIRST:  # by hand: the import system takes longer than the code
    module = sys.modules[name] = type(sys)(name)
    above, _, last = name.rpartition(".")
    module.__package__ = name if is_package else above
    if is_package:
        module.__path__ = []
    if above:
        setattr(sys.modules[above], last, module)
    exec(code, module.__dict__)
"""
FIRST = (
    *("__future__", "struct", "inside", "inside.light", "inside.wire", "inside.files"),
    *("inside.pipes", "inside.poller", "inside.outbox", "inside.streams", "inside.shield"),
    *("inside.forks", "inside.programs", "inside.trees", "inside.supervisor"),
    *("inside.commands", "inside.table", "inside.hosts", "inside.spills", "inside.supervisors"),
    *("inside.machine", "inside.loop"),
)
"""The guest's modules that every guest imports, each after what it imports itself."""
STANDARD = (
    *("__future__", "struct", "_ctypes", "_heapq", "_json", "_operator", "_socket", "_struct"),
    *("errno", "resource", "select"),
)
"""Modules of the standard library that every guest imports: a process is told where they are, as
looking for them in the directories takes longer than loading them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """Modules, of which `main` has the function `main` that is run."""

    main: str
    modules: tuple[str, ...]
    text: bytes

    def descriptor(self) -> int:
        """A new descriptor to read the modules from, for one process to inherit."""
        return os.dup(_file_of(self.text))

    def command(self, fd: int, *arguments: str) -> list[str]:
        """The command line of a process that has inherited `fd`."""
        boot = BOOT.format(fd=fd, size=len(self.text), main=self.main)
        python = os.path.realpath(sys.executable)
        return [python, "-I", "-S", "-B", "-X", "utf8", "-c", boot, *arguments]


def packed(main: str, files: Mapping[str, Path], first: Iterable[str] = ()) -> Program:
    """The program of these modules, given by name and file; `first` are made before `main`."""
    codes = {name: _code(name, path) for name, path in files.items()}
    extensions = {}
    for name in STANDARD:
        spec = find_spec(name)
        if spec is not None and isinstance(spec.loader, SourceFileLoader) and spec.origin:
            codes[name] = _code(name, Path(spec.origin))
        elif spec is not None and isinstance(spec.loader, ExtensionFileLoader):
            extensions[name] = spec.loader.path
    loader = compile(LOADER + (SMALL_OS + MAKE_FIRST if first else ""), "<loader>", "exec")
    made = [(name, *codes.pop(name)) for name in first]
    text = marshal.dumps(
        (
            loader,
            [(name, is_package, marshal.loads(code)) for name, is_package, code in made],
            codes,
            extensions,
        )
    )
    return Program(main=main, modules=tuple(files), text=text)


def _code(name: str, path: Path) -> tuple[bool, bytes]:
    """Whether it is a package, and its code, which does not tell where its file is."""
    code = SourceFileLoader(name, str(path)).get_code(name)
    assert code is not None, "a file has code"
    return path.stem == "__init__", marshal.dumps(_renamed(code, f"<{name}>"))


def _renamed(code: CodeType, filename: str) -> CodeType:
    constants = tuple(
        _renamed(each, filename) if isinstance(each, CodeType) else each for each in code.co_consts
    )
    return code.replace(co_filename=filename, co_consts=constants)


@functools.cache
def _file_of(text: bytes) -> int:
    """A descriptor of a file without a name. Processes share it: none of them can change it."""
    if not hasattr(os, "memfd_create"):  # not Linux
        with tempfile.TemporaryFile() as file:
            file.write(text)
            file.flush()
            return os.dup(file.fileno())
    fd = os.memfd_create("program", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(fd, text)
    seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


@functools.cache
def guest() -> Program:
    """The guest."""
    return packed("inside.loop", guest_files(), FIRST)


@functools.cache
def guest_codes() -> Modules:
    """The guest's modules."""
    return {name: _code(name, path) for name, path in guest_files().items()}


def guest_files() -> dict[str, Path]:
    """The files of the guest's modules, by their names there."""
    folder = Path(inside.__file__).parent
    return {module_name(path, above=folder.parent): path for path in sorted(folder.glob("*.py"))}


def module_name(path: Path, *, above: Path) -> str:
    """The name of the module in `path` for a process with the directory `above` on its path."""
    return ".".join(path.relative_to(above).with_suffix("").parts).removesuffix(".__init__")
