"""What an article about Qwen2.5-VL says, claim by claim, each with a check. Start at `__main__.py`."""
