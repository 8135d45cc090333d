"""Fencing a process of this machine in: bubblewrap, seccomp, and a user without rights."""
