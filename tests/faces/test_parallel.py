"""A pipeline and an editor go to other processes: pickled, copied, forked, spawned, by multiprocessing and joblib.

Each case is a process of its own with a time limit: what goes wrong here hangs.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

LIMIT = 120
"""Seconds for each case, which takes two on an idle machine."""

SCRIPT = """
import copy, multiprocessing, os, pickle, sys, warnings
from pathlib import Path
import mien

def read(pipeline, path):
    return [face.reading for face in pipeline(path).faces]

def edited(editor, path):
    return editor(path, "happiness", 0.8).image.tobytes()

def main(way, folder):
    # Six faces, so that the threads of a team have something to do, and a picture to edit.
    group, portrait = os.path.join(folder, "group_1.jpg"), os.path.join(folder, "portrait_neutral.jpg")
    pipeline = mien.load(threads=2)
    editor = mien.Editor.load(pipeline)
    expected = read(pipeline, group), edited(editor, portrait)  # the threads of everything are there by now
    if way == "copy":
        again = copy.deepcopy((pipeline, editor)), pickle.loads(pickle.dumps((pipeline, editor)))
        answers = [(read(p, group), edited(e, portrait)) for p, e in again]
        assert len(pickle.dumps(pipeline)) < 20_000
    elif way == "joblib":
        from joblib import Parallel, delayed
        read_, edited_ = Parallel(n_jobs=2)([delayed(read)(pipeline, group), delayed(edited)(editor, portrait)])
        answers = [(read_, edited_)]
    else:
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads, which is what is tried
        with multiprocessing.get_context(way).Pool(1) as pool:
            answers = [(pool.apply(read, (pipeline, group)), pool.apply(edited, (editor, portrait)))]
        if way == "fork":  # inherited, not sent
            pipe, end = multiprocessing.Pipe()
            if (child := os.fork()) == 0:
                end.send((read(pipeline, group), edited(editor, portrait)))
                os._exit(0)
            answers.append(pipe.recv())
            os.waitpid(child, 0)
    assert all(answer == expected for answer in answers)

if __name__ == "__main__":
    main(*sys.argv[1:])
"""


@pytest.mark.parametrize("threads", ["", "2"])
@pytest.mark.parametrize("way", ["copy", "spawn", "fork", "joblib"])
def test_another_process_reads_and_edits_alike(
    way: str, threads: str, examples: Path, tmp_path: Path
) -> None:
    if way == "fork" and not hasattr(os, "fork"):
        pytest.skip("this system does not fork")
    if way == "joblib":
        pytest.importorskip("joblib")
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, str(script), way, str(examples)],
        env={**os.environ, "OMP_NUM_THREADS": threads},
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert done.returncode == 0, done.stderr


HELD = """
import multiprocessing, signal
from mien.faces.parallel import interrupts_held

def blocked(pipe):
    pipe.send(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()))

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    pipe, end = context.Pipe()
    for number in range(2):
        with interrupts_held():
            process = context.Process(target=blocked, args=(end,))
            process.start()
            assert signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()), "here, after the start"
        assert pipe.recv(), f"in process {number}"
        process.join()
        assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
"""


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="POSIX")
def test_processes_started_while_interrupts_are_held_never_see_one(tmp_path: Path) -> None:
    # The first one too, with which multiprocessing starts its resource tracker.
    script = tmp_path / "script.py"
    script.write_text(HELD)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 0, done.stderr
