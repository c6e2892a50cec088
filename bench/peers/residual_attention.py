"""The peer of bench/residual-attention.mjs: scaled_dot_product_attention, a second one over the slots, and the sum.

usage: python residual_attention.py [--shape vision|text] [--dtype bf16|f32] [--branch separate|none] [--slots 8]
                                    [--work forward|step] [--batch 16] [--threads 1] [--repeat 8] [--serve]
"""
import argparse

import torch
from torch.nn.functional import scaled_dot_product_attention as attention

from worker import rss_peak_mb, time_or_serve

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--shape", choices=["vision", "text"], default="vision")
parser.add_argument("--dtype", choices=["bf16", "f32"], default="bf16")
parser.add_argument("--branch", choices=["separate", "none"], default="separate")
parser.add_argument("--slots", type=int, default=8)
parser.add_argument("--work", choices=["forward", "step"], default="step")
parser.add_argument("--batch", type=int, default=16)
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--repeat", type=int, default=8)
parser.add_argument("--serve", action="store_true")
args = parser.parse_args()
torch.set_num_threads(args.threads)
tokens, heads = (197, 12) if args.shape == "vision" else (77, 8)
dtype = torch.bfloat16 if args.dtype == "bf16" else torch.float32
d, trains = heads * 64, args.work == "step"


def split(x):
    return x.unflatten(-1, (heads, 64)).transpose(1, 2)


class Work:
    def __init__(self):
        torch.manual_seed(0)
        self.qkv = torch.randn(args.batch, tokens, 3 * d).to(dtype).requires_grad_(trains)
        self.keys, self.values = (torch.randn(1, args.slots, d).requires_grad_(trains) for _ in range(2))
        self.seed = torch.randn(args.batch, tokens, d).to(dtype)

    def once(self):
        q, k, v = (split(x) for x in self.qkv.chunk(3, -1))
        y = attention(q, k, v, is_causal=args.shape == "text")
        if args.branch != "none":
            keys, values = (split(x.to(dtype).expand(args.batch, -1, -1)) for x in (self.keys, self.values))
            y = y + attention(q, keys, values)
        y = y.transpose(1, 2).flatten(2)
        if trains:
            y.backward(self.seed)
            for t in (self.qkv, self.keys, self.values):
                t.grad = None

    def step(self):
        with torch.set_grad_enabled(trains):
            for _ in range(args.repeat):
                self.once()
        return 0.0


worker = Work()
about = {"name": f"PyTorch {args.shape} {args.dtype} {args.branch} {args.work}", "versions": {"torch": torch.__version__}, "threads": args.threads,
         "rss_loaded_mb": rss_peak_mb()}
time_or_serve(worker, about, args.serve)
