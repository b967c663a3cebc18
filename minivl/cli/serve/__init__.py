"""`minivl serve`: the model behind the protocol of OpenAI's chat completions, for programs on this
machine.

    limits.py       how much of everything one request may have
    refused.py      how a request is refused
    fields.py       the body of a request, checked field by field
    places.py       URLs and files, where they are allowed
    pictures.py     what is in it to look at, sized from its header
    writing.py      an answer, token by token, through the door
    worker.py       the one thread that writes
    replies.py      documents of the protocol
    app.py          from a request to a reply
    listening.py    sockets, slow clients, Ctrl-C

A request is refused as early as it can be: by its headers before its body is read, by the size in a
picture's header before a pixel is decoded, by its tokens before the model runs. Read next: `app.py`;
SECURITY.md, which says who can reach what.
"""
