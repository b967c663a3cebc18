"""The course for those who give it: lessons out of the wheel, and grading of what comes back.

    lessons.py       the lessons as they travel in the wheel, and `minivl course copy`
    assignments.py   which functions are asked for, in which notebook, for how many points
    notebook.py      a submission as code, whatever an editor has made of its file
    refusal.py       what a graded solution must not do, read off its syntax
    child.py, confine.py    the process that runs a submission, and its limits
    process.py       that process seen from outside
    grade.py         a submission to marks, a folder of submissions to rows
    report.py        tables and feedback

The answer key is out of reach by construction: the child process has the student's code and drawn
inputs, and gives arrays back; what is right is computed in the grading process, after the child has
ended. Read next: `grade.py`.
"""
