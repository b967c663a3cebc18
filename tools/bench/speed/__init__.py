"""Speed at the width of a 3B model: minivl, transformers, llama.cpp and OpenVINO on one checkpoint, in turns.

    python -m tools.bench.speed --quick              # tiny sizes: whether everything runs
    python -m tools.bench.speed --keep -o build      # the real sizes: result, table and picture

`workload.py`: what is measured; `sides.py`: who runs it; `worker.py`: one side in a process of its own;
`__main__.py`: the turns; `report.py`: figures, table, picture. Read next: tools/bench/README.md.
"""
