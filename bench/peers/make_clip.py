"""Writes a random CLIP in Hugging Face form: config.json, model.safetensors (f32), and inputs for the step benchmark.

usage: python make_clip.py DIR [--seed 0] [--batch 8] [--arch b32|b16|l14] [--small]

DIR/bench-inputs.safetensors holds three input sets: pixels.I [B, 3, S, S], ids.I [B, 77] (end-of-text last, so that no
truncation can save work), labels.I [B]. Weights are scaled as trained ones are, not as at initialisation: features then
differ from image to image. --small: two narrow layers, to try the programs quickly.
"""
import argparse
import os

import torch
from safetensors.torch import save_file
from transformers import CLIPConfig, CLIPModel

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("out")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--batch", type=int, default=8)
parser.add_argument("--arch", choices=["b32", "b16", "l14"], default="b16")
parser.add_argument("--small", action="store_true")
args = parser.parse_args()

TEXT = dict(hidden_size=512, intermediate_size=2048, num_hidden_layers=12, num_attention_heads=8, vocab_size=49408,
            bos_token_id=49406, eos_token_id=49407, pad_token_id=0, projection_dim=512, hidden_act="quick_gelu")
VISION = dict(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, image_size=224,
              patch_size=16, projection_dim=512, hidden_act="quick_gelu")
if args.arch == "b32":
    VISION.update(patch_size=32)
if args.arch == "l14":
    TEXT.update(hidden_size=768, intermediate_size=3072, num_attention_heads=12, projection_dim=768)
    VISION.update(hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16, patch_size=14, projection_dim=768)
if args.small:
    TEXT.update(hidden_size=128, intermediate_size=512, num_hidden_layers=2, num_attention_heads=2)
    VISION.update(hidden_size=192, intermediate_size=768, num_hidden_layers=2, num_attention_heads=3, image_size=64)

config = CLIPConfig(text_config=TEXT, vision_config=VISION, projection_dim=TEXT["projection_dim"])
torch.manual_seed(args.seed)
model = CLIPModel(config).eval()
with torch.no_grad():
    for name, p in model.named_parameters():
        if name == "logit_scale":
            p.fill_(100.0).log_()
        elif "norm" in name and name.endswith("weight"):
            p.copy_(1 + 0.1 * torch.randn_like(p))
        elif p.ndim >= 2 and "embeddings" not in name:
            p.copy_(torch.randn_like(p) * p.shape[1] ** -0.5)
        else:
            p.copy_(0.05 * torch.randn_like(p))
model.save_pretrained(args.out)

size, length, vocab = VISION["image_size"], 77, TEXT["vocab_size"]
inputs = {}
for i in range(3):
    ids = torch.randint(1, vocab - 2, (args.batch, length))
    ids[:, 0], ids[:, -1] = vocab - 2, vocab - 1
    inputs.update({f"pixels.{i}": torch.randn(args.batch, 3, size, size), f"ids.{i}": ids,
                   f"labels.{i}": torch.randint(0, args.batch, (args.batch,))})
save_file(inputs, os.path.join(args.out, "bench-inputs.safetensors"))
print(f"{args.out}: {sum(p.numel() for p in model.parameters())} parameters, 3 input sets of {args.batch}")
