"""The same work in PyTorch: an R-Adapter training step on both towers of a CLIP, or inference on a merged one.

usage: python step.py [--model DIR] [--mode bf16-stored] [--work train|infer] [--tower image|text|both] [--batch B]
                      [--threads 2] [--serve]

Without --model a random ViT-B/16 CLIP is written to a temporary folder first. Without --serve it warms up, runs five
steps and prints them. With --serve it prints a line {"ready": true, ...} and then, for every line `step N` on stdin,
does N steps and prints one JSON line {"seconds": [...], "cpu_seconds": [...], "loss": ..., "rss_peak_mb": ...}; end of input ends it.

Modes (what is stored for the frozen matrices, and how they are computed):
  f64, f32      eager in that type
  bf16          eager, autocast to bf16, frozen matrices stored f32
  bf16-stored   eager, autocast to bf16, frozen matrices stored bf16 (no cast in a step)
  compile       bf16-stored under torch.compile; compile time is in the ready line, not in a step
  compile-f32   f32 under torch.compile
Inference encodes one tower (--tower) or one after the other, under Inductor's freezing and max_autotune when compiled; its
number is the mean square of the features.
A training step is forward, MPM-NCE (tau .01, margin .05, epsilon .02), backward, AdamW (lr 5e-4, no decay, fused), and
EMA of the adapters (momentum .999); adapters start at zero, no dropping. Input sets take turns.
"""
import argparse
import contextlib
import os
import subprocess
import sys
import tempfile

# Compiled in this process: Inductor's pool of compiling processes sometimes never answered where kernels were held to AVX2.
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")

import torch
from safetensors.torch import load_file, save_file

from clip_model import Clip, mpm_nce
from worker import rss_peak_mb, run, time_or_serve

STORED = {"f64": torch.float64, "f32": torch.float32, "bf16": torch.float32, "bf16-stored": torch.bfloat16, "compile": torch.bfloat16,
          "compile-f32": torch.float32}
AUTOCAST = ("bf16", "bf16-stored", "compile")


def read_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="CLIPModel folder with bench-inputs.safetensors, as make_clip.py writes it")
    parser.add_argument("--mode", choices=list(STORED), default="bf16-stored")
    parser.add_argument("--work", choices=["train", "infer"], default="train")
    parser.add_argument("--tower", choices=["image", "text", "both"], default="image", help="of inference")
    parser.add_argument("--batch", type=int, help="so many of each input set (default: all)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--attention", choices=["sdpa", "matmul"], default="sdpa")
    parser.add_argument("--foreach", action="store_true", help="AdamW(foreach=True) instead of fused")
    parser.add_argument("--dump", help="write loss, features and adapter gradients of the first step to this file, and end")
    parser.add_argument("--serve", action="store_true")
    return parser.parse_args()


def load_inputs(folder, dtype, batch=None):
    """Input sets (pixels [B, 3, S, S], ids [B, N], labels [B]), the first `batch` of each."""
    tensors = load_file(os.path.join(folder, "bench-inputs.safetensors"))
    count = sum(k.startswith("pixels.") for k in tensors)
    return [(tensors[f"pixels.{i}"][:batch].to(dtype), tensors[f"ids.{i}"][:batch], tensors[f"labels.{i}"][:batch]) for i in range(count)]


class Training:
    def __init__(self, args):
        self.clip = Clip(args.model, STORED[args.mode], attention=args.attention)
        self.inputs = load_inputs(args.model, self.clip.full, args.batch)
        self.adapters = self.clip.adapters()
        self.average = [w.detach().clone() for w in self.adapters.values()]
        kind = {"foreach": True} if args.foreach else {"fused": True}
        self.optimizer = torch.optim.AdamW(self.adapters.values(), lr=5e-4, weight_decay=0.0, **kind)
        self.autocast = args.mode in AUTOCAST
        self.features = torch.compile(self.both_towers) if args.mode.startswith("compile") else self.both_towers
        self.steps = 0

    def both_towers(self, pixels, ids):
        return self.clip.encode_image(pixels), self.clip.encode_text(ids)

    def gradients(self):
        """Forward and backward on the next input set; returns the loss and the features."""
        pixels, ids, labels = self.inputs[self.steps % len(self.inputs)]
        with torch.autocast("cpu", torch.bfloat16) if self.autocast else contextlib.nullcontext():
            image, text = self.features(pixels, ids)
        loss = mpm_nce(image.to(self.clip.full), text.to(self.clip.full), labels)
        loss.backward()
        return loss.detach(), image.detach(), text.detach()

    def step(self):
        loss, _, _ = self.gradients()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        torch._foreach_lerp_(self.average, [w.detach() for w in self.adapters.values()], 1 - 0.999)
        self.steps += 1
        return loss.item()

    def dump(self, file):
        loss, image, text = self.gradients()
        out = {f"gradient.{k}": w.grad for k, w in self.adapters.items()}
        out.update(loss=loss, image_features=image.to(self.clip.full), text_features=text.to(self.clip.full))
        save_file({k: v.contiguous().cpu() for k, v in out.items()}, file)


class Inference:
    """Towers of a merged model: no adapters, no gradients."""

    def __init__(self, args):
        towers = {"image": ["vision"], "text": ["text"], "both": ["vision", "text"]}[args.tower]
        self.clip = Clip(args.model, STORED[args.mode], trainable=False, towers=towers, attention=args.attention)
        self.inputs = load_inputs(args.model, self.clip.full, args.batch)
        self.autocast = args.mode in AUTOCAST
        encoders = {"vision": (self.clip.encode_image, 0), "text": (self.clip.encode_text, 1)}
        self.encoders = [encoders[tower] for tower in towers]
        if args.mode.startswith("compile"):
            import torch._inductor.config as inductor
            inductor.freezing = inductor.max_autotune = True
            self.encoders = [(torch.compile(encode), which) for encode, which in self.encoders]
        self.steps = 0

    def step(self):
        inputs = self.inputs[self.steps % len(self.inputs)]
        self.steps += 1
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16) if self.autocast else contextlib.nullcontext():
            features = [encode(inputs[which]) for encode, which in self.encoders]
        return sum(f.float().square().mean().item() for f in features)


def main():
    args = read_arguments()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    with contextlib.ExitStack() as stack:
        if args.model is None:
            args.model = stack.enter_context(tempfile.TemporaryDirectory())
            maker = os.path.join(os.path.dirname(os.path.abspath(__file__)), "make_clip.py")
            subprocess.run([sys.executable, maker, args.model], check=True, stdout=sys.stderr)
        worker = (Training if args.work == "train" else Inference)(args)
        if args.dump:
            return worker.dump(args.dump)
        work = args.work if args.work == "train" else f"infer, {args.tower}"
        about = {"name": f"PyTorch {args.mode} {work}, {args.attention}", "batch": args.batch or len(worker.inputs[0][0]),
                 "versions": {"torch": torch.__version__}, "threads": args.threads, "rss_loaded_mb": rss_peak_mb()}
        if args.mode.startswith("compile"):
            about["compile_seconds"] = run(worker, 1)["seconds"][0]
        time_or_serve(worker, about, args.serve)


if __name__ == "__main__":
    main()
