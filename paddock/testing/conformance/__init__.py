"""The tests of the contract, for a backend of your own; see ``docs/write-a-backend.md``."""

from __future__ import annotations

from paddock.testing.conformance.arguments import ArgumentTests
from paddock.testing.conformance.base import Conformance, needs
from paddock.testing.conformance.cancellation import CancellationTests
from paddock.testing.conformance.commands import ExecTests
from paddock.testing.conformance.copies import CopyTests
from paddock.testing.conformance.file_streams import FileStreamTests
from paddock.testing.conformance.file_users import FileUserTests
from paddock.testing.conformance.file_watching import WatchTests
from paddock.testing.conformance.files import FileTests
from paddock.testing.conformance.joining import JoinTests
from paddock.testing.conformance.lifecycle import LifecycleTests
from paddock.testing.conformance.lifetimes import LifetimeTests
from paddock.testing.conformance.listing import ListingTests
from paddock.testing.conformance.policies import PolicyTests
from paddock.testing.conformance.ports import PortTests
from paddock.testing.conformance.processes import ProcessTests
from paddock.testing.conformance.shells import ShellTests
from paddock.testing.conformance.tcp import TcpTests
from paddock.testing.conformance.terminals import TerminalTests
from paddock.testing.conformance.transfers import TransferTests
from paddock.testing.conformance.trees import TreeTests

__all__ = [
    "ArgumentTests",
    "BackendConformance",
    "CancellationTests",
    "Conformance",
    "CopyTests",
    "ExecTests",
    "FileStreamTests",
    "FileTests",
    "FileUserTests",
    "JoinTests",
    "LifecycleTests",
    "LifetimeTests",
    "ListingTests",
    "PolicyTests",
    "PortTests",
    "ProcessTests",
    "ShellTests",
    "TcpTests",
    "TerminalTests",
    "TransferTests",
    "TreeTests",
    "WatchTests",
    "needs",
]


class BackendConformance(
    LifecycleTests,
    LifetimeTests,
    ListingTests,
    ArgumentTests,
    ExecTests,
    TreeTests,
    ProcessTests,
    JoinTests,
    TerminalTests,
    ShellTests,
    FileTests,
    FileStreamTests,
    FileUserTests,
    WatchTests,
    CopyTests,
    TransferTests,
    CancellationTests,
    PolicyTests,
    PortTests,
    TcpTests,
):
    """All tests of the contract.

    Subclass it in a module that has a fixture `backend`, of scope module or wider, which gives
    your recipe. The tests share one sandbox, except those that end or break theirs. A test that
    needs a capability which the backend does not claim is skipped. A matrix at the end of the
    run shows what each backend passed.
    """
