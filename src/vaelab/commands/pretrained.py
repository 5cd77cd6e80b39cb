"""Weights that training starts from: what `pretrained=` does."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from vaelab.build import check_interpolations
from vaelab.data.array_files import package
from vaelab.models import Model
from vaelab.models.autoencoder_kl import load_autoencoder_kl
from vaelab.runs.configs import flatten
from vaelab.runs.files import read_checkpoint, read_json
from vaelab.runs.folder import find_checkpoint
from vaelab.training.checkpoints import model_weights
from vaelab.training.lit import StartsFromData

WEIGHTS = "diffusion_pytorch_model.safetensors"  # in a folder of diffusers, beside config.json
ADVICE = "pip install 'vaelab[export]'"


def start_from(model: Model, config: DictConfig, run: str) -> None:
    """Give a model the weights of a trained one; a prior of another kind stays what it is.

    Args:
        model: that is to be trained.
        config: of it.
        run: a run folder, a checkpoint, or a folder of diffusers with an AutoencoderKL.

    Raises:
        ValueError: if another part is not the same, or its config reads the machine.
    """
    of_diffusers = Path(run).parent if Path(run).name == WEIGHTS else Path(run)
    if (of_diffusers / "config.json").is_file():
        start_from_diffusers(model, of_diffusers)
        return
    if (of_diffusers / "vae" / "config.json").is_file():
        raise ValueError(f"pretrained={run} holds several models: set pretrained={of_diffusers / 'vae'}")
    checkpoint = read_checkpoint(find_checkpoint(run))
    stored, origin = model_weights(checkpoint["state_dict"]), OmegaConf.create(checkpoint["config"])
    check_interpolations(origin)
    theirs, mine = kinds(origin), kinds(config)
    if theirs != mine:  # weights of the same shapes would fit, and mean something else
        raise ValueError(
            f"pretrained={run} is made of {', '.join(theirs - mine)}; this model of {', '.join(mine - theirs)}: choose its dials"
        )
    for name, part in model.named_children():
        own = part.state_dict(prefix=f"{name}.")
        found = {key: value for key, value in stored.items() if key.startswith(f"{name}.")}
        if {key: value.shape for key, value in own.items()} == {key: value.shape for key, value in found.items()}:
            part.load_state_dict({key.removeprefix(f"{name}."): value for key, value in found.items()})
            for started in part.modules():
                if isinstance(started, StartsFromData):
                    started.num_initial = 0  # it has started
        elif name != "prior":
            raise ValueError(f"pretrained={run}: the {name} of that run has other weights than this model's; choose the dials that it had")


def start_from_diffusers(model: Model, folder: Path) -> None:
    """Give a model the weights of an AutoencoderKL of diffusers.

    Raises:
        ValueError: if the folder holds something else, or another architecture.
    """
    described = read_json(folder / "config.json", "save the AutoencoderKL again")
    name = described.get("_class_name")
    if name != "AutoencoderKL":
        what = "what another program wrote" if name is None else f"a {name} of diffusers"
        raise ValueError(f"pretrained={folder} holds {what}: only AutoencoderKL can be read")
    path = folder / WEIGHTS
    if not path.is_file():
        raise ValueError(f"pretrained={folder} has no {WEIGHTS}: save it with save_pretrained(..., safe_serialization=True)")
    files = package("safetensors.torch", path, ADVICE)
    try:
        weights = files.load_file(path)
    except Exception as error:  # safetensors has an exception of its own
        raise ValueError(f"{path} cannot be read ({' '.join(str(error).split())[:100]}): save it again") from error
    try:
        load_autoencoder_kl(model, described, weights)
    except ValueError as error:
        raise ValueError(f"pretrained={folder}: {error}") from error


def kinds(config: DictConfig) -> set[str]:
    """Places in the config of a model and the classes there, without those of its prior."""
    model: dict[str, Any] = OmegaConf.to_container(OmegaConf.create({"model": config.model}, parent=config), resolve=True)  # type: ignore[assignment]
    model["model"].pop("prior", None)
    return {f"{key.removesuffix('._target_')}={value}" for key, value in flatten(model).items() if key.endswith("_target_")}
