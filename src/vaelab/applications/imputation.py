"""Missing values of test data, filled in and held against what they are."""

from typing import Any

import torch

from vaelab.applications.importance_resampling import importance_resampling
from vaelab.evidence import decodings_at_once
from vaelab.metrics.data import Data
from vaelab.models import Model


@torch.no_grad()
def imputation(model: Model, data: Data, num_samples: int = 1000) -> dict[str, Any]:
    """Errors of what is filled in where a transform, such as `vaelab.data.Missing`, has hidden values of test data.

    - imputation_rmse: of E[x_m | x_o], by importance sampling (Mattei & Frellsen, 2019), over all hidden values of all examples;
    - imputation_rmse_of_mean: of the mean of what was observed of each value of x;
    - hidden_share: of all values.

    Args:
        model: of data with missing values.
        data: whose test data are filled in.
        num_samples: of z for each example.

    Raises:
        ValueError: if nothing was hidden, or as `importance_resampling`.
    """
    data.setup("test")
    split, device = data.splits["test"], model.device
    whole, errors, truths, seen = split.untransformed(), list[torch.Tensor](), list[torch.Tensor](), list[torch.Tensor]()
    at_once = max(1, decodings_at_once(split.scaled(torch.arange(1), device)[0]) // num_samples)
    for batch in torch.arange(len(split)).split(at_once):
        (x, y), (truth, _) = split.scaled(batch, device), whole.scaled(batch, device)
        found = importance_resampling(model, x, ~x.isnan(), y, num_completions=1, num_samples=num_samples)
        errors.append((found.mean - truth).cpu())
        truths.append(truth.cpu())
        seen.append(x.cpu())
    x, truth = torch.cat(seen), torch.cat(truths)
    hidden = x.isnan() & ~truth.isnan()
    if not bool(hidden.any()):
        raise ValueError("no value of the test data was hidden: set +data.transform._target_=vaelab.data.Missing and data.static_seed=0")
    of_mean = x.nanmean(0).nan_to_num(0.0) - truth
    return {
        "imputation_rmse": torch.cat(errors)[hidden].square().mean().sqrt().item(),
        "imputation_rmse_of_mean": of_mean[hidden].square().mean().sqrt().item(),
        "hidden_share": hidden.double().mean().item(),
    }
