"""`minivl chat`: a conversation in the terminal, with pictures, that is streamed, kept and looked into.

    command.py    the loop: a line is a command, a picture or a question
    lines.py      what was typed, pasted or dragged: several lines as one, paths before a question
    talk.py       the conversation: what was said, kept in a file; its last turn as a trace and as a page

Read next: `talk.py`.
"""
