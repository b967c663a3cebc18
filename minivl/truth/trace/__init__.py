"""Traces: what every stage of a run gave, in a file.

    format.py            the file: stages, arrays, coordinates
    record.py            a run as such a file               conversation.py      its messages
    oracle.py            transformers, listened to          names.py             modules and their stages
    recorder.py          to be carried to a device          torch_recorder.py    for any module tree
    llama_recorder.py    for llama.cpp

Read next: `format.py`; docs/reference/trace-format.md; the room `compare`, which lays two runs side by
side.
"""
