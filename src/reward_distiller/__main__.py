"""`python -m reward_distiller`: the command, as launchers of several processes start it."""

from reward_distiller.cli.entry import entry

entry()
