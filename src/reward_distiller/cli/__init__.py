"""The command line: reads configs and files, hands the testbed in where a config names it, holds no logic."""
