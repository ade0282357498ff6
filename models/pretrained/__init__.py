"""Weights of other people's GPT-2 and Llama-family checkpoints, by their public tensor names."""

from lpref.models.pretrained.config import gpt2_config, llama_config
from lpref.models.pretrained.load import FAMILIES, Family, from_folder, weights
from lpref.models.pretrained.reader import read_safetensors
from lpref.models.pretrained.tables import GPT2, LLAMA, Row

__all__ = ["FAMILIES", "Family", "GPT2", "LLAMA", "Row", "from_folder", "gpt2_config", "llama_config", "read_safetensors", "weights"]
