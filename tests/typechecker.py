"""beartype for the tests, with an int where a float is annotated (PEP 484): `objective.beta=4` is a float to a person."""

import warnings

from beartype import BeartypeConf, beartype
from beartype.roar import BeartypeDecorHintPep585DeprecationWarning

warnings.filterwarnings("ignore", category=BeartypeDecorHintPep585DeprecationWarning)  # of a hint inside omegaconf

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
