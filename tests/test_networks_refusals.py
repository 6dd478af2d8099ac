"""What `bcq_nb.networks` refuses, and what the error says. The notebook shows one of these; here are the others."""
import numpy as np
import pytest
from gymnasium.spaces import Box

from bcq_nb.networks import BCQNetwork, Encoder, QNetwork

vector = Box(-np.inf, np.inf, (4,), np.float32)


@pytest.mark.parametrize("space", [
    Box(0, 255, (84, 84), np.uint8),        # no stack
    Box(0, 255, (4, 35, 84), np.uint8),     # nothing would be left after the convolutions
    Box(0, 255, (4, 84, 35), np.uint8),
    Box(0, 1, (), np.float32),
    Box(0, 1, (0,), np.float32),
])
def test_observations(space):
    for make in (Encoder, lambda space: QNetwork(space, 2), lambda space: BCQNetwork(space, 2)):
        with pytest.raises(ValueError, match="vectors .* stacked frames .* from 36×36"):
            make(space)


@pytest.mark.parametrize("n_actions", [0, -1, 1.5, True, None])
@pytest.mark.parametrize("kind", [QNetwork, BCQNetwork])
def test_number_of_actions(kind, n_actions):
    with pytest.raises(ValueError, match="n_actions is .* integer from 1"):
        kind(vector, n_actions)
