"""The same merge in PEFT: load in the file's type, merge_and_unload, save in shards of the same size, sync each file.

    python merge.py MODEL ADAPTER OUT
"""
import os
import sys

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

model, adapter, out = sys.argv[1:]
torch.set_num_threads(int(os.environ.get("THREADS", os.cpu_count())))
base = AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16, low_cpu_mem_usage=True)
merged = PeftModel.from_pretrained(base, adapter).merge_and_unload()
merged.save_pretrained(out, max_shard_size="1GB")
for name in os.listdir(out):
    with open(os.path.join(out, name), "rb+") as file:
        os.fsync(file.fileno())
