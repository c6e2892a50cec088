"""The same work in PyTorch with HF PEFT: a LoRA training step on both towers of transformers' CLIPModel.

usage: python lora.py --model DIR [--mode bf16-stored] [--rank 8] [--targets q_proj,v_proj] [--dora] [--attention sdpa]
                      [--work train|frozen|mix] [--adapters 8] [--threads 2] [--serve]

DIR as make_clip.py writes it. The protocol of --serve is that of step.py.

Modes (what is stored for the base, and how it is computed):
  f32          eager
  bf16         eager, autocast to bf16, base stored f32
  bf16-stored  eager, autocast to bf16, base stored bf16, adapters f32 (PEFT's default for a bf16 base)
  bf16-pure    eager, everything bf16, adapters too: no autocast
  compile      bf16-stored under torch.compile (towers and loss as one graph each); compile time is in the ready line
A step is forward, CLIP's loss, backward, AdamW (lr 2e-4, no decay, fused) on the adapters. mix: PEFT's way of a batch that
mixes adapters (adapter_names of each sample), forward and backward.
"""
import argparse
import contextlib
import os
import sys
import time
import warnings

import torch
from peft import LoraConfig, get_peft_model
from torch.nn.functional import cross_entropy, normalize
from transformers import CLIPModel

from step import load_inputs
from worker import rss_peak_mb, time_or_serve

warnings.filterwarnings("ignore")


def read_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--mode", choices=["f32", "bf16", "bf16-stored", "bf16-pure", "compile"], default="bf16-stored")
    parser.add_argument("--work", choices=["train", "mix"], default="train")
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--targets", default="q_proj,v_proj")
    parser.add_argument("--dora", action="store_true")
    parser.add_argument("--adapters", type=int, default=8)
    parser.add_argument("--attention", default="sdpa")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--serve", action="store_true")
    return parser.parse_args()


class Training:
    def __init__(self, args):
        stored = torch.float32 if args.mode in ("f32", "bf16") else torch.bfloat16
        base = CLIPModel.from_pretrained(args.model, attn_implementation=args.attention, dtype=stored).eval()
        config = LoraConfig(r=args.rank, lora_alpha=2 * args.rank, target_modules=args.targets.split(","), use_dora=args.dora)
        self.model = get_peft_model(base, config, autocast_adapter_dtype=args.mode != "bf16-pure")
        self.names = None
        if args.work == "mix":
            for i in range(1, args.adapters):
                self.model.add_adapter(f"adapter{i}", config)
            for name, p in self.model.named_parameters():
                p.requires_grad_("lora_" in name)
            self.model.eval()  # PEFT mixes adapters outside training alone; there is no dropout to lose
            self.names = ["default"] + [f"adapter{i}" for i in range(1, args.adapters)]
        self.inputs = load_inputs(args.model, torch.bfloat16 if args.mode == "bf16-pure" else torch.float32)
        self.trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.trained, lr=2e-4, weight_decay=0.0, fused=True)
        self.autocast = args.mode in ("bf16", "bf16-stored", "compile")
        self.features = torch.compile(self.both_towers) if args.mode == "compile" else self.both_towers
        self.steps = 0

    def both_towers(self, pixels, ids):
        extra = {} if self.names is None else {"adapter_names": [self.names[i % len(self.names)] for i in range(len(ids))]}
        output = self.model(pixel_values=pixels, input_ids=ids, **extra)
        return output.image_embeds, output.text_embeds

    def step(self):
        pixels, ids, _ = self.inputs[self.steps % len(self.inputs)]
        with torch.autocast("cpu", torch.bfloat16) if self.autocast else contextlib.nullcontext():
            image, text = self.features(pixels, ids)
        logits = normalize(image.float()) @ normalize(text.float()).T * 100
        target = torch.arange(len(logits))
        loss = (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.steps += 1
        return loss.item()


def main():
    args = read_arguments()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    worker = Training(args)
    about = {"name": f"PEFT {args.mode} {args.work}, {args.attention}", "versions": {"torch": torch.__version__}, "threads": args.threads,
             "parameters": sum(p.numel() for p in worker.trained), "rss_loaded_mb": rss_peak_mb()}
    if args.mode == "compile":
        start = time.perf_counter()
        worker.step()
        about["compile_seconds"] = time.perf_counter() - start
    time_or_serve(worker, about, args.serve)


if __name__ == "__main__":
    main()
