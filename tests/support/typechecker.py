"""beartype for the tests, with an int where a float is annotated (PEP 484): `objective.beta=4` is a float to a person."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
