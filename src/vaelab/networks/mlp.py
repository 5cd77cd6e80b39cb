"""A multilayer perceptron between any two shapes."""

from collections.abc import Callable, Sequence
from math import prod

from jaxtyping import Float
from torch import Tensor, nn

from vaelab.checks import check_widths
from vaelab.networks.gated import dense, gate
from vaelab.networks.initial import keep_signal
from vaelab.networks.inputs import input_layer, width_after


class MLP(nn.Module):
    """Linear and activation for each hidden width, then linear: (B, *in_shape) -> (B, *out_shape).

    Works as an encoder and as a decoder. All layers but the last start with the weights of He et al. (2015), see `vaelab.networks.initial`.

    Args:
        gated: whether a hidden layer is h(x) sigmoid(g(x)), see `vaelab.networks.gated`, in place of activation(h(x)).
        initial: what fills the weights of all layers in place, as `torch.nn.init.xavier_uniform_` does; biases are 0 then. None: as above.
        input: "log1p" or "standardize", which change what the first layer sees, or "none"; or the kinds of the columns of a table. See
            `vaelab.networks.inputs`.

    Raises:
        ValueError: if the input is unknown, a width is below 1, gated layers have an activation, or initial is no function.
    """

    flattens = True  # it does not know of space

    def __init__(
        self,
        in_shape: Sequence[int],
        out_shape: Sequence[int],
        hidden: Sequence[int] = (512,),
        activation: Callable[[], nn.Module] = nn.ReLU,
        input: str | Sequence = "none",
        gated: bool = False,
        initial: Callable[[Tensor], object] | None = None,
    ) -> None:
        super().__init__()
        check_widths(hidden=hidden)
        act, parts = gate(gated, activation)
        if initial is not None and not callable(initial):
            raise ValueError(
                f"initial={initial} must be a function that fills weights: {{_target_: torch.nn.init.xavier_uniform_, _partial_: true}}"
            )
        self.input = input_layer(input, in_shape)
        widths = [width_after(self.input, in_shape), *hidden]
        last = nn.Unflatten(1, tuple(out_shape))
        self.layers = nn.Sequential(nn.Flatten(), *dense(widths, act, parts), nn.Linear(widths[-1], prod(out_shape)), last)
        # h ~ N(0, 1) beside the gate has E[(h sigmoid(g))^2] = E[sigmoid(g)^2], which is that of an activation sigmoid
        keep_signal(self.layers, nn.Sigmoid if gated else activation, but_last=True)
        if initial is not None:
            for layer in self.layers:
                if isinstance(layer, nn.Linear):
                    initial(layer.weight)
                    nn.init.zeros_(layer.bias)

    def forward(self, x: Float[Tensor, "b ..."]) -> Float[Tensor, "b ..."]:
        return self.layers(self.input(x))
