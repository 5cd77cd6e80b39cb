"""Trained models in formats that other programs open: what `vaelab export` does."""

from pathlib import Path

from omegaconf import DictConfig

from vaelab.checks import check_choice, check_flag
from vaelab.commands.common import check_counts, check_given, chosen_device, chosen_folder, chosen_run, prepare_process, shorter
from vaelab.commands.errors import report_errors
from vaelab.commands.export.diffusers import write_diffusers
from vaelab.commands.export.onnx import write_onnx
from vaelab.commands.export.safetensors import write_safetensors
from vaelab.runs.log import tell

FORMATS = {"safetensors": write_safetensors, "onnx": write_onnx, "diffusers": write_diffusers}


@report_errors
def export(config: DictConfig) -> None:
    """Write the model of a run in another format, and check what was written.

    Raises:
        ValueError: if the run cannot be opened, the format cannot hold its model, the output is the folder of a run, or a package is not
            installed.
    """
    prepare_process()
    check_given(config)
    check_choice(FORMATS, format=config.format)
    check_counts(config, num=0)
    check_flag(per_channel=config.per_channel)
    target = Path(config.output)
    is_file = config.format == "safetensors"
    if is_file != (target.suffix == ".safetensors"):
        raise ValueError(f"output={target} of format={config.format} must be a {'file that ends in .safetensors' if is_file else 'folder'}")
    if not is_file:
        chosen_folder(config.output, target)  # a config.json in the folder of a run would make it one of diffusers for pretrained=
    run = chosen_run(config)
    run.model.to(chosen_device(config))
    for path, about in FORMATS[config.format](run, target, config).items():
        tell(f"{shorter(path)}   {about}")
