"""`minivl chat`: lines of a script go in, answers come out, and the turns are those that `vlm.chat`
would have.
"""

import base64
import json
import os
import select
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import minivl
from minivl.cli import words as cli
from minivl.cli.chat.lines import messages, paths_first
from minivl.cli.chat.talk import Conversation, Way
from minivl.show.samples import load_samples
from minivl.truth.trace.format import Trace

PICTURE = str(load_samples()[0].paths[0])
FILM = next(one for one in load_samples() if one.fps is not None)


@pytest.fixture(scope="module")
def vlm():
    return minivl.load()


def user(*items):
    return {"role": "user", "content": [{"type": "image", "image": one} if isinstance(one, Path) else
                                        {"type": "text", "text": one} for one in items]}


def assistant(text):
    return {"role": "assistant", "content": text}


def chat(*lines, words=(), code=0):
    """(stdout, stderr) of a script."""
    result = CliRunner().invoke(cli.app, ["chat", "--temperature", "0", *words],
                                input="".join(f"{x}\n" for x in lines))
    assert result.exit_code == code, (result.exit_code, result.stdout, result.stderr)
    assert "Traceback" not in result.stderr
    return result.stdout, result.stderr


# ---- lines
# -------------------------------------------------------------------------------------------------

def read(*lines):
    left = list(lines)

    def next_line():
        if not left:
            raise EOFError
        return left.pop(0)
    return list(messages(next_line))


def test_several_lines_are_one_message():
    assert read("a", "", "  b  ") == ["a", "b"]
    assert read("a\\", "b\\", "c", "d") == ["a\nb\nc", "d"]
    assert read('"""', "a", "", "  b", '"""', "c") == ["a\n\n  b", "c"]
    assert read("a\\") == ["a"] and read('"""', "a") == ["a"] and read('"""', '"""') == []


def test_paths_before_a_question_are_pictures(tmp_path):
    odd = tmp_path / "it's a [red] é.png"
    odd.write_bytes(Path(PICTURE).read_bytes())
    (tmp_path / "notes.txt").write_text("x")
    escaped = str(odd).replace(" ", "\\ ").replace("'", "\\'")
    assert paths_first(f"{escaped} what's this?") == ([str(odd)], "what's this?")
    assert paths_first(f'"{odd}" {PICTURE}') == ([str(odd), PICTURE], "")
    assert paths_first(odd.as_uri() + "  is it?") == ([odd.as_uri()], "is it?")
    data = "data:image/png;base64,AAAA"
    assert paths_first(f"{data} is it?") == ([data], "is it?")
    for line in ("what is a.png?", f"{tmp_path}/notes.txt says?", f"{tmp_path} has?", "it's", "'open",
                 "a\0b",
                 "x" * 9000, f"what is {PICTURE}"):
        assert paths_first(line) == ([], line)


# ---- turns
# -------------------------------------------------------------------------------------------------

def test_a_script_is_answered_turn_by_turn(vlm):
    first = vlm.chat([user(Path(PICTURE), "Describe the image.")], temperature=0)
    before = [user(Path(PICTURE), "Describe the image."), assistant(first)]
    second = vlm.chat([*before, user("What colour is it?")], temperature=0)
    third = vlm.chat([user("How many?")], temperature=0)
    out, err = chat(f"/picture {PICTURE}", "Describe the image.", "What colour is it?", "/reset",
                    "How many?")
    assert out == f"{first}\n{second}\n{third}\n" and "203 x 150" in err
    assert chat("Describe the image.", words=[PICTURE])[0] == f"{first}\n"
    assert chat(f"{PICTURE} Describe the image.")[0] == f"{first}\n"


def test_rows_of_earlier_turns_are_reused_and_change_nothing(vlm):
    talk = Conversation(vlm, Way(24, 0))
    talk.show(PICTURE)
    said = ["".join(talk.ask(question)) for question in ("Describe the image.", "What colour is it?",
                                                         "How many?")]
    assert talk.known.reused > len(vlm.prepare(talk.messages[:1]).input_ids)
    for n, answer in enumerate(said):
        assert vlm.chat(talk.messages[:2 * n + 1], 24, temperature=0) == answer


def test_a_system_prompt_comes_once_and_first(vlm):
    talk = Conversation(vlm, Way(4, 0), "Be brief.")
    "".join(talk.ask("How many?")), "".join(talk.ask("And now?"))
    assert [one["role"] for one in talk.messages] == ["system", "user", "assistant", "user", "assistant"]
    talk.reset()
    "".join(talk.ask("How many?"))
    assert [one["role"] for one in talk.messages] == ["system", "user", "assistant"]


def test_a_video_is_shown(vlm, tmp_path):
    av = pytest.importorskip("av", reason="the package av is not installed")
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mpeg4", rate=2)
        stream.width = stream.height = 56
        for n in range(6):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((56, 56, 3), 40 * n, np.uint8))))
        out.mux(stream.encode())
    out, err = chat(f"{path} What happens?")
    assert "6 frames" in err
    film = [{"type": "video", "video": str(path)}, {"type": "text", "text": "What happens?"}]
    assert out == vlm.chat([{"role": "user", "content": film}], temperature=0) + "\n"


def test_what_is_refused_ends_nothing(vlm, tmp_path):
    (tmp_path / "bad.png").write_text("not a picture")
    out, err = chat("/nothing", "/picture", "/picture none.png", "/trace a.safetensors", "/save",
                    "/save a.txt",
                    f"/load {tmp_path}/none.json", f"{tmp_path}/bad.png is it?",
                    f"/explore {tmp_path}/a.html",
                    "How many?", code=2)
    assert out == vlm.chat([user("How many?")], temperature=0) + "\n"
    for said in ("no command /nothing", "/picture needs", "none.png", "no turn", "/save needs", ".json",
                 "not a picture"):
        assert said in err, said
    assert err.count("minivl: ") == 9
    assert "/explore" in chat("/help")[1] and chat("/quit", "How many?")[0] == ""


def test_a_picture_that_is_not_there_is_named_before_the_words_are_sent(vlm):
    for line, name in (("gone.png How many?", "gone.png"), ("'my clip.mp4' How many?", "my clip.mp4")):
        out, err = chat(line)
        assert out == vlm.chat([user(line)], temperature=0) + "\n" and f"there is no file {name}" in err
    for line in ("How many in a.png?", f"{PICTURE} How many?"):
        assert "there is no file" not in chat(line)[1]


def test_ctrl_c_stops_the_answer_alone(vlm, monkeypatch):
    whole = vlm.chat([user(Path(PICTURE), "Describe the image.")], temperature=0)
    tokens, calls = minivl.VLM.tokens, []

    def stopped(self, *args, **options):
        calls.append(args[0])
        for n, token in enumerate(tokens(self, *args, **options)):
            if n == 3 and len(calls) == 1:
                raise KeyboardInterrupt
            yield token
    monkeypatch.setattr(minivl.VLM, "tokens", stopped)
    out, err = chat(f"{PICTURE} Describe the image.", "What colour is it?")
    first, second, end = out.split("\n")
    assert first and whole.startswith(first) and first != whole
    assert second and end == "" and "stopped" in err
    monkeypatch.undo()
    turn = [user(Path(PICTURE), "Describe the image."), assistant(first), user("What colour is it?")]
    assert second == vlm.chat(turn, temperature=0)
    assert np.array_equal(calls[1].input_ids, vlm.prepare(turn).input_ids)


@pytest.mark.skipif(sys.platform == "win32", reason="a terminal of another system")
def test_in_a_terminal_ctrl_c_ends_no_program_and_ctrl_d_does():
    import pty
    child, terminal = pty.fork()
    if not child:
        signal.signal(signal.SIGINT, signal.default_int_handler)       # a shell may have had it ignored
        os.execv(sys.executable, [sys.executable, "-m", "minivl.cli", "chat", "--temperature", "0"])
    said = b""

    def until(words, typed=b""):
        """Wait for words, typing again each second: a key that comes while the line is set up is
        lost."""
        nonlocal said
        end = time.monotonic() + 120
        while words not in said:
            assert time.monotonic() < end, said
            if select.select([terminal], [], [], 1)[0]:
                said += os.read(terminal, 4096)
            elif typed:
                os.write(terminal, typed)
        said = said.partition(words)[2]
    until(b"Ctrl-D ends"), until(b"> ")
    os.write(terminal, b"half a line\x03")
    until(b"/quit", b"\x03"), until(b"> ")
    os.write(terminal, f"{PICTURE} Describe the image.\n".encode())
    until(b"A pink cross."), until(b"> ")
    os.write(terminal, b"\x04")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    os.close(terminal)


# ---- the last turn, and files
# ------------------------------------------------------------------------------

def test_the_last_turn_becomes_a_trace_and_a_page(vlm, tmp_path):
    trace, page = tmp_path / "turn.safetensors", tmp_path / "turn.html"
    out, _ = chat("How many?", f"{PICTURE} Describe the image.", f"/trace {trace}", f"/explore {page}")
    first, answer, _ = out.split("\n")
    with Trace(trace) as found:
        ids = found.arrays("prompt.expand")[0]
    turns = [user("How many?"), assistant(first), user(Path(PICTURE), "Describe the image."),
             assistant(answer)]
    assert np.array_equal(ids, vlm.prepare(turns).input_ids)
    assert answer.split()[-1] in page.read_text(encoding="utf-8")


def test_a_page_of_drawn_tokens_has_the_tokens_that_were_drawn(vlm, tmp_path, monkeypatch):
    from minivl.show import explorer
    runs = []
    monkeypatch.setattr(explorer, "save", lambda path, run: runs.append(run))
    for seed in range(20):                                # until one draws what is not the likeliest
        talk = Conversation(vlm, Way(10, 1.5, seed=seed))
        talk.show(PICTURE)
        for question in ("Describe the image.", "Describe it otherwise.", "Again."):
            "".join(talk.ask(question))
            assert talk.explore(tmp_path / "a.html") is None and runs[-1].written == talk.written
        if talk.messages[3]["content"] != vlm.chat(talk.messages[:3], 10, temperature=0) and len(talk.written) > 1:
            break
    else:
        pytest.fail("twenty seeds drew the likeliest answer")
    talk.written[1] += 1
    assert talk.explore(tmp_path / "a.html") == 1


def test_a_saved_conversation_goes_on_as_if_nothing_had_been(vlm, tmp_path):
    kept = tmp_path / "talk.json"
    whole, _ = chat(f"{PICTURE} Describe the image.", "What colour is it?")
    chat(f"{PICTURE} Describe the image.", f"/save {kept}")
    assert chat(f"/load {kept}", "What colour is it?")[0] == whole.split("\n")[1] + "\n"
    item = json.loads(kept.read_text())["messages"][0]["content"][0]["image"]
    assert base64.b64decode(item.partition(",")[2]) == Path(PICTURE).read_bytes()


@pytest.mark.parametrize("text", [
    "", "[]", "{}", '{"messages": []}', '{"messages": [{"role": "user", "content": "a"}], "more": 1}',
    '{"messages": [{"role": "user", "content": [{"type": "image", "image": "/etc/passwd"}]}]}',
    '{"messages": [{"role": "user", "content": [{"type": "image", "image": '
    '"data:image/png;base64,AAAA"}]}]}'])
def test_a_file_that_save_did_not_write_is_refused(vlm, tmp_path, text):
    (tmp_path / "talk.json").write_text(text)
    talk = Conversation(vlm, Way(4, 0))
    "".join(talk.ask("How many?"))
    before = list(talk.messages)
    with pytest.raises(minivl.Error):
        talk.load(tmp_path / "talk.json")
    assert talk.messages == before


def test_a_picture_of_the_clipboard_is_shown(vlm, monkeypatch):
    from PIL import Image, ImageGrab
    first = vlm.chat([user(Path(PICTURE), "Describe the image.")], temperature=0)
    for found in (Image.open(PICTURE), [PICTURE]):
        monkeypatch.setattr(ImageGrab, "grabclipboard", lambda found=found: found)
        assert chat("/paste", "Describe the image.")[0] == f"{first}\n"
    monkeypatch.setattr(ImageGrab, "grabclipboard", lambda: None)
    assert "no picture" in chat("/paste", code=2)[1]

    def lacking():
        raise NotImplementedError("wl-paste or xclip is required")
    monkeypatch.setattr(ImageGrab, "grabclipboard", lacking)
    assert "xclip" in chat("/paste", code=2)[1]
