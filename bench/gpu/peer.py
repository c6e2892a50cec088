"""bench/peers/step.py on a GPU: the same program with every tensor and every autocast there.

usage: as step.py; PEER_COMPILE=reduce-overhead|max-autotune chooses the mode of torch.compile.
"""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "peers"))

import torch  # noqa: E402

import clip_model  # noqa: E402
import step  # noqa: E402
import worker as peer_worker  # noqa: E402

DEVICE = os.environ.get("PEER_DEVICE", "cuda")
torch.set_default_device(DEVICE)
torch.backends.cuda.matmul.allow_tf32 = False


def on_device(read):
    return lambda *args: {name: tensor.to(DEVICE) for name, tensor in read(*args).items()}


clip_model.read_tensors = on_device(clip_model.read_tensors)
step.load_file = on_device(step.load_file)
autocast, compiled = torch.autocast, torch.compile
torch.autocast = lambda _, dtype: autocast(DEVICE, dtype)
torch.compile = lambda f: compiled(f, mode=os.environ.get("PEER_COMPILE", "default"))

plain_run = step.run


def run(worker, count):
    """With the device's peak, as ours says it."""
    report = plain_run(worker, count)
    if DEVICE == "cuda":
        report["device_peak_mb"] = torch.cuda.max_memory_allocated() / 2**20
    return report


step.run = peer_worker.run = run
step.main()
