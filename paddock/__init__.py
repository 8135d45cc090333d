"""Paddock: sandboxes for agents."""
