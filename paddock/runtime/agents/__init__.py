"""Agents: how they are described, and what they are made of."""
