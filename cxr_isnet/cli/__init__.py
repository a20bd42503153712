"""Command line."""

from cxr_isnet.cli.command_table import COMMANDS, Command, Group
from cxr_isnet.cli.entry_point import BAD_INPUT, DIVERGED, main

__all__ = ["BAD_INPUT", "COMMANDS", "DIVERGED", "Command", "Group", "main"]
