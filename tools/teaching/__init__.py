"""What stands behind docs/teaching: computed answers of the keys, and the syllabi made from the lessons.

    python -m tools.teaching            writes the syllabi with the lessons' own minutes
    python -m tools.teaching slides     writes slides for every lesson into build/slides
    python -m tools.teaching --key      prints every value of the answer keys as the package computes it

An answer key writes each number and shape that can be computed in **bold**; a test demands that it is what stands here.
So a key cannot be wrong by a slip of its author, nor become wrong when the package changes.

Read next: `key.py` (what a computed answer is), `questions.py` and `exams.py` (the answers), `syllabus.py`.
"""

# Pages of docs/teaching that students do not get: the keys, the exams, and what is said about each hour. The students'
# site and its search leave them out; the teachers' site has them. Every other page of docs/teaching is for both.
FOR_TEACHERS = (
    "concept-answers.md",
    "exam-6-weeks.md",
    "exam-6-weeks-answers.md",
    "exam-12-weeks.md",
    "exam-12-weeks-answers.md",
    "instructor-notes.md",
)
