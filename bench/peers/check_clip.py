"""Loads a folder in transformers as a plain CLIPModel and prints its features, to compare with another program's.

usage: python check_clip.py DIR INPUTS.safetensors [--out FEATURES.safetensors] [--against FEATURES.safetensors]

INPUTS: `pixels` [B, 3, S, S] and, if wanted, `ids` [N, T] (or pixels.0, ids.0 as make_clip.py writes them).
Prints one JSON line: file type of the weights, norms and first values of the features; with --against the relative
error ‖Δ‖/‖reference‖ of `image_features` and `text_features` there, this program being the reference. Computes in f32.
"""
import argparse
import json
import os

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import CLIPModel

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("dir")
parser.add_argument("inputs")
parser.add_argument("--out")
parser.add_argument("--against")
args = parser.parse_args()

model, loading = CLIPModel.from_pretrained(args.dir, dtype=torch.float32, output_loading_info=True)
model.eval()
inputs = load_file(args.inputs)
features = {}
with torch.no_grad():
    for name, key, encode in (("image_features", "pixels", lambda x: model.visual_projection(model.vision_model(x).pooler_output)),
                              ("text_features", "ids", lambda x: model.text_projection(model.text_model(x).pooler_output))):
        tensor = inputs.get(key, inputs.get(f"{key}.0"))
        if tensor is not None:
            features[name] = encode(tensor).contiguous()

types = set()
for file in sorted(f for f in os.listdir(args.dir) if f.startswith("model") and f.endswith(".safetensors")):
    with safe_open(os.path.join(args.dir, file), "pt") as f:
        types.update(f.get_slice(k).get_dtype() for k in f.keys())
report = {"types": sorted(types), "loading": {k: sorted(map(str, v)) for k, v in loading.items() if v}}
for name, value in features.items():
    report[name] = {"shape": list(value.shape), "norm": value.norm().item(), "first": value.flatten()[:4].tolist()}
if args.against:
    theirs = load_file(args.against)
    for name in features.keys() & theirs.keys():
        report[name]["relative_error"] = ((theirs[name].float() - features[name]).norm() / features[name].norm()).item()
if args.out:
    save_file(features, args.out)
print(json.dumps(report))
