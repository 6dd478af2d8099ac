"""What d3rlpy's DiscreteCQL says of a fixed batch and fixed weights: `python benchmarks/cql_peer.py`.

It runs where d3rlpy is installed, and needs nothing of this package; tests/test_baselines.py holds what it printed.
"""
import json

import numpy as np

SHAPES = [(16, 3), (16,), (4, 16), (4,)]


def fixed() -> dict:
    "Weights of a network, of its target, and 60 transitions with four actions"
    rng = np.random.default_rng(11)
    return {
        "weights": [rng.normal(size=shape).astype(np.float32) for shape in SHAPES],
        "target": [rng.normal(size=shape).astype(np.float32) for shape in SHAPES],
        "obs": rng.normal(size=(60, 3)).astype(np.float32),
        "next_obs": rng.normal(size=(60, 3)).astype(np.float32),
        "action": rng.integers(0, 4, 60),
        "reward": rng.normal(size=60).astype(np.float32),
        "terminated": (rng.random(60) < 0.2).astype(np.float32),
    }


def main() -> None:
    import d3rlpy
    import torch
    from d3rlpy.torch_utility import TorchMiniBatch

    given = fixed()
    column = {name: torch.from_numpy(given[name])[:, None].float() for name in ("action", "reward", "terminated")}
    encoder = d3rlpy.models.VectorEncoderFactory([16])
    cql = d3rlpy.algos.DiscreteCQLConfig(alpha=0.7, gamma=0.99, encoder_factory=encoder).create(device="cpu:0")
    cql.create_impl((3,), 4)
    modules = cql.impl._modules
    for net, values in ((modules.q_funcs, given["weights"]), (modules.targ_q_funcs, given["target"])):
        with torch.no_grad():
            for weight, value in zip(net.parameters(), values, strict=True):
                weight.copy_(torch.from_numpy(value))
    batch = TorchMiniBatch(
        observations=torch.from_numpy(given["obs"]), next_observations=torch.from_numpy(given["next_obs"]),
        actions=column["action"], next_actions=column["action"], rewards=column["reward"],
        returns_to_go=column["reward"], terminals=column["terminated"], intervals=torch.ones(60, 1), device="cpu:0")
    with torch.no_grad():
        said = cql.impl.compute_loss(batch, cql.impl.compute_target(batch))
    print(json.dumps({"d3rlpy": d3rlpy.__version__, "loss": said.loss.item(), "td": said.td_loss.item(),
                      "gap": said.conservative_loss.item()}))


if __name__ == "__main__":
    main()
