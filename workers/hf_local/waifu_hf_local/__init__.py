"""The provider `hf_local`: models of the Hugging Face hub on this machine."""

from waifu_hf_local.provider import Provider

__all__ = ["Provider"]
