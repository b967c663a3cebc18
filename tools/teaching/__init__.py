"""What stands behind docs/teaching: computed answers of the keys, and the syllabi made from the lessons.

    python -m tools.teaching            writes the syllabi with the lessons' own minutes
    python -m tools.teaching --key      prints every value of the answer keys as the package computes it

An answer key writes each number and shape that can be computed in **bold**; a test demands that it is what stands here.
So a key cannot be wrong by a slip of its author, nor become wrong when the package changes.

Read next: `key.py` (what a computed answer is), `questions.py` and `exams.py` (the answers), `syllabus.py`.
"""
