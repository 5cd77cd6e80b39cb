"""What torch.distributions lacks."""

from vaelab.distributions.ops import log_mean_exp, rsample_and_log_prob

__all__ = ["log_mean_exp", "rsample_and_log_prob"]
