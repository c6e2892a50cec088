"""Loads adapters that Cambium wrote in peft and compares features; writes adapters with peft for the way back.

usage: python peft_interop.py --model DIR --adapters DIR [--write DIR]        (DIR as bench/peft-interop.mjs --out left it)

Columns: error of Cambium's f32 features against peft's model in float64, ‖Δ‖/‖reference‖, image and text together; how far
the adapter moves the features; keys that peft missed or did not expect.
"""
import argparse
import os
import warnings

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import CLIPModel, CLIPTextModel, CLIPVisionModel

parser = argparse.ArgumentParser()
parser.add_argument("--model", required=True)
parser.add_argument("--adapters", required=True)
parser.add_argument("--write")
args = parser.parse_args()


def pooled(output):
    return output.pooler_output if hasattr(output, "pooler_output") else output


def features(model, case):
    with torch.no_grad():
        return pooled(model.get_image_features(pixel_values=case["pixels"].double())), pooled(model.get_text_features(input_ids=case["ids"]))


def tower_features(name, folder, case):
    """An adapter of one tower on that tower's own class; the projection is CLIPModel's."""
    whole = CLIPModel.from_pretrained(args.model).double()
    is_text = name.startswith("text")
    tower = (CLIPTextModel if is_text else CLIPVisionModel).from_pretrained(args.model)
    model = PeftModel.from_pretrained(tower, folder).double().eval()
    with torch.no_grad():
        if is_text:
            return None, whole.text_projection(model(input_ids=case["ids"]).pooler_output)
        return whole.visual_projection(model(pixel_values=case["pixels"].double()).pooler_output), None


def distance(pairs):
    pairs = [(a, b) for a, b in pairs if a is not None and b is not None]
    return float((sum(((a.double() - b.double()) ** 2).sum() for a, b in pairs) / sum((b.double() ** 2).sum() for _, b in pairs)).sqrt())


def check(name):
    folder = os.path.join(args.adapters, name)
    case = load_file(os.path.join(folder, "features.safetensors"))
    base = features(CLIPModel.from_pretrained(args.model).double().eval(), case)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if name.endswith("hf5"):
            theirs = tower_features(name, folder, case)
        else:
            theirs = features(PeftModel.from_pretrained(CLIPModel.from_pretrained(args.model), folder).double().eval(), case)
    keys = [str(w.message) for w in caught if "missing" in str(w.message) or "unexpected" in str(w.message)]
    ours = (case["image"], case["text"])
    print(f"| {name} | {distance(list(zip(ours, theirs))):.1e} | {distance(list(zip(theirs, base))):.2f} | {len(keys)} |")


WRITTEN = {
    "lora": dict(r=4, lora_alpha=6, target_modules=["q_proj", "v_proj", "fc1"]),
    "all-linear": dict(r=4, target_modules="all-linear"),
    "rslora-lora-bias": dict(r=4, target_modules=["out_proj", "fc2"], use_rslora=True, lora_bias=True),
    "bias-all": dict(r=4, target_modules=["q_proj"], bias="all"),
    "dora-everywhere": dict(r=4, target_modules=["q_proj", "fc1", "visual_projection", "patch_embedding", "token_embedding"], use_dora=True),
    "patterns": dict(r=4, target_modules=r".*layers\.(0|2)\..*(q_proj|fc\d)", rank_pattern={"fc1": 2}, alpha_pattern={"text_model.*": 3}),
    "modules-to-save": dict(r=4, target_modules=["q_proj"], modules_to_save=["visual_projection"]),
}


def write(name, config):
    case = load_file(os.path.join(args.adapters, "lora", "features.safetensors"))
    torch.manual_seed(3)
    model = get_peft_model(CLIPModel.from_pretrained(args.model), LoraConfig(init_lora_weights=False, **config)).eval()
    with torch.no_grad():
        for key, p in model.named_parameters():
            if p.requires_grad:
                p.add_(0.05 * p.std(unbiased=False) * torch.randn(p.shape))
    folder = os.path.join(args.write, name)
    model.save_pretrained(folder)
    image, text = features(model.double(), case)
    save_file({"image": image.float().contiguous(), "text": text.float().contiguous()}, os.path.join(folder, "peft-features.safetensors"))


if __name__ == "__main__":
    print("| adapter | error | moved | keys missed or unexpected |\n|---|---|---|---|")
    for each in sorted(os.listdir(args.adapters)):
        check(each)
    if args.write:
        for each, settings in WRITTEN.items():
            write(each, settings)
