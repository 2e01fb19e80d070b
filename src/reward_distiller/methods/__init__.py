"""The ways to distil a reward model, one file each, under one protocol. Methods do not know each other."""

from reward_distiller.errors import ConfigError
from reward_distiller.methods import bradley_terry, rm_distiller
from reward_distiller.methods.protocol import Method

METHODS: dict[str, Method] = {m.name: m for m in (bradley_terry.METHOD, rm_distiller.METHOD)}


def method_named(name: str) -> Method:
    if name not in METHODS:
        raise ConfigError(f"method: {name!r} is none of {', '.join(METHODS)}")
    return METHODS[name]
