"""A DIKI training step in PyTorch as it is published: frozen image encoder beside the prompted one, two attentions a block.

usage: python diki.py --model DIR [--mode bf16-stored] [--classes 10] [--batch B] [--depth 8] [--length 8] [--attention sdpa]
                      [--frozen yes|no] [--text full|prompts] [--threads 2] [--dump FILE] [--serve]

DIR as make_clip.py writes it; the protocol of --serve and the modes are those of step.py. A step: image features of the
frozen encoder (no gradient; the query of the task's Gaussian), image features of the prompted encoder, features of all class
texts (77 tokens each) by the prompted text encoder, cross-entropy of exp(s) cos over the classes, backward into K_r and V_r
[l, D] of the first `depth` blocks of both towers, SGD without momentum. The residual branch is a second
attention of the same queries over l keys and values, without a mask, added before the output projection. --frozen no
leaves the second encoder out: the true task is known in training. Banks and class texts are those of bench/continual-step.mjs, so that
losses and gradients (--dump: those of the first step) can be compared.
"""
import argparse
import contextlib
import copy

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from clip_model import Clip, Tower
from step import STORED, load_inputs
from worker import rss_peak_mb, run, time_or_serve

PROMPT_TOKENS = 11


def read_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--mode", choices=[mode for mode in STORED if mode != "compile-f32"], default="bf16-stored")
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--depth", type=int, default=8)
    parser.add_argument("--length", type=int, default=8)
    parser.add_argument("--lr", type=float, default=5.0)
    parser.add_argument("--attention", choices=["sdpa", "matmul"], default="sdpa")
    parser.add_argument("--frozen", choices=["yes", "no"], default="yes")
    parser.add_argument("--text", choices=["full", "prompts"], default="prompts")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dump")
    parser.add_argument("--serve", action="store_true")
    return parser.parse_args()


def bank(tower, layer, length, width, dtype):
    """Keys in (-1, 1) and small values by a formula that both sides of the benchmark use."""
    i = torch.arange(length * width, dtype=torch.float64).view(length, width)
    site = layer + (100 if tower == "text" else 0)
    make = lambda x: x.to(dtype).requires_grad_()
    return make(torch.sin(0.37 * i + site)), make(0.02 * torch.cos(0.73 * i + site))


class ResidualTower(Tower):
    """The blocks of a tower; `banks[i]` = (K_r, V_r) of block i."""

    banks = ()

    def __call__(self, x):
        batch, tokens, width = x.shape
        heads, head = self.heads, width // self.heads
        x = x.reshape(-1, width)
        for i, (qkv_weight, qkv_bias, linear, norm) in enumerate(self.blocks):
            y = F.layer_norm(x, (width,), *norm["layer_norm1"], self.eps)
            q, k, v = F.linear(y, qkv_weight, qkv_bias).view(batch, tokens, 3, heads, head).permute(2, 0, 3, 1, 4)
            z = self.attention(q, k, v, self.causal)
            if i < len(self.banks):
                split = lambda e: e.to(q.dtype).view(-1, heads, head).transpose(0, 1).expand(batch, heads, -1, head)
                z = z + self.attention(q, split(self.banks[i][0]), split(self.banks[i][1]), False)
            x = x + F.linear(z.transpose(1, 2).reshape(-1, width), *linear["self_attn.out_proj"])
            y = F.layer_norm(x, (width,), *norm["layer_norm2"], self.eps)
            x = x + F.linear(self.act(F.linear(y, *linear["mlp.fc1"])), *linear["mlp.fc2"])
        return x.view(batch, tokens, width)


def as_prompts(ids):
    """As short as class prompts are, padded to the context."""
    out = torch.zeros_like(ids)
    out[:, : PROMPT_TOKENS - 1], out[:, PROMPT_TOKENS - 1] = ids[:, : PROMPT_TOKENS - 1], ids[:, -1]
    return out


class Training:
    def __init__(self, args):
        self.clip = clip = Clip(args.model, STORED[args.mode], trainable=False, attention=args.attention)
        full, self.lr, self.frozen = clip.full, args.lr, args.frozen == "yes"
        self.banks = {}
        for name, tower in clip.towers.items():
            tower.__class__ = ResidualTower
            width = clip.config[f"{name}_config"]["hidden_size"]
            tower.banks = [bank(name, i, args.length, width, full) for i in range(min(args.depth, len(tower.blocks)))]
            for i, (keys, values) in enumerate(tower.banks):
                self.banks.update({f"{name}.{i}.keys": keys, f"{name}.{i}.values": values})
        self.inputs = [(pixels[: args.batch], labels[: args.batch] % args.classes) for pixels, _, labels in load_inputs(args.model, full)]
        texts = torch.cat([ids for _, ids, _ in load_inputs(args.model, full)])[: args.classes]
        self.ids = texts if args.text == "full" else as_prompts(texts)
        self.scale = torch.tensor(100.0, dtype=full)
        self.optimizer = torch.optim.SGD(self.banks.values(), lr=args.lr)
        self.autocast = "bf16" in args.mode or args.mode == "compile"
        compiled = args.mode == "compile"
        self.features = torch.compile(self.both_towers) if compiled else self.both_towers
        frozen = copy.copy(clip)
        frozen.towers = {"vision": copy.copy(clip.towers["vision"])}
        frozen.towers["vision"].banks = ()
        self.query = torch.compile(frozen.encode_image) if compiled else frozen.encode_image
        self.steps = 0

    def both_towers(self, pixels, ids):
        return self.clip.encode_image(pixels), self.clip.encode_text(ids)

    def gradients(self):
        pixels, labels = self.inputs[self.steps % len(self.inputs)]
        with torch.autocast("cpu", torch.bfloat16) if self.autocast else contextlib.nullcontext():
            if self.frozen:
                with torch.no_grad():
                    F.normalize(self.query(pixels).float(), dim=-1)
            image, text = self.features(pixels, self.ids)
        image, text = image.to(self.clip.full), text.to(self.clip.full)
        loss = F.cross_entropy(self.scale * F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).T, labels)
        loss.backward()
        return loss.detach(), image.detach(), text.detach()

    def step(self):
        loss, _, _ = self.gradients()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.steps += 1
        return loss.item()

    def dump(self, file):
        loss, image, text = self.gradients()
        out = {f"gradient.{k}": w.grad for k, w in self.banks.items()}
        out.update(loss=loss, image_features=image, text_features=text)
        save_file({k: v.contiguous() for k, v in out.items()}, file)


def main():
    args = read_arguments()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    worker = Training(args)
    if args.dump:
        return worker.dump(args.dump)
    about = {"name": f"PyTorch {args.mode} DIKI, {args.attention}, frozen {args.frozen}", "versions": {"torch": torch.__version__},
             "threads": args.threads, "parameters": sum(p.numel() for p in worker.banks.values()), "rss_loaded_mb": rss_peak_mb()}
    if args.mode == "compile":
        about["compile_seconds"] = run(worker, 1)["seconds"][0]
    time_or_serve(worker, about, args.serve)


if __name__ == "__main__":
    main()
