"""Pictures as files, and files of pictures in TensorBoard."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image
from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard import SummaryWriter


def rendered(figure: Figure) -> Image.Image:
    """A chart of matplotlib as a picture."""
    buffer = BytesIO()
    figure.savefig(buffer, dpi=150)
    return Image.open(buffer).convert("RGB")


def save(picture: Image.Image | Sequence[Image.Image], path: Path) -> None:
    """Writes a picture, or the frames of an animation as a GIF, and makes the folder for it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(picture, Image.Image):
        picture.save(path)
    else:
        save_animation(picture, path)


def save_animation(frames: Sequence[Image.Image], path: Path, milliseconds: int = 80) -> None:
    """Writes a GIF that goes on for ever.

    A GIF has 256 colours. Grey levels are all kept; other frames share the colours that suit all of them best, so that nothing flickers.
    """
    if frames[0].mode != "L":
        strip = Image.new("RGB", (frames[0].width, frames[0].height * len(frames)))
        for i, frame in enumerate(frames):
            strip.paste(frame, (0, i * frame.height))
        colours = strip.quantize(256)
        frames = [frame.quantize(palette=colours, dither=Image.Dither.NONE) for frame in frames]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=milliseconds, loop=0)


def show_in_tensorboard(paths: Mapping[str, Path], folder: Path | None, step: int = 0) -> None:
    """Shows files as images of TensorBoard, as they are: its page plays animations.

    Args:
        paths: of the files, by the names of the images.
        folder: of a run's TensorBoard; None: nothing is shown.
        step: of the images.
    """
    if folder is None:
        return
    with SummaryWriter(str(folder)) as writer:
        for name, path in paths.items():
            with Image.open(path) as picture:
                image = Summary.Image(height=picture.height, width=picture.width, colorspace=3, encoded_image_string=path.read_bytes())
            writer.file_writer.add_summary(Summary(value=[Summary.Value(tag=name, image=image)]), step)
