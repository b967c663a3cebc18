"""Reading a checkpoint: files to weights to the model's tree. Start with `read.py` (`load_model`)."""
