"""The ways to distil a reward model, one file each, under one protocol. Methods do not know each other."""

from reward_distiller.errors import ConfigError
from reward_distiller.methods import (
    bce,
    bradley_terry,
    cloud,
    edit_aligned,
    lsam,
    margin_bradley_terry,
    rm_distiller,
    rmboost,
    steerlm,
    synrm,
)
from reward_distiller.methods.protocol import Method

METHODS: dict[str, Method] = {
    module.METHOD.name: module.METHOD
    for module in (
        bradley_terry,
        margin_bradley_terry,
        steerlm,
        lsam,
        synrm,
        cloud,
        rmboost,
        rm_distiller,
        edit_aligned,
        bce,
    )
}


def method_named(name: str) -> Method:
    if name not in METHODS:
        raise ConfigError(f"method: {name!r} is none of {', '.join(METHODS)}")
    return METHODS[name]
