"""The notebook reaches the user, and what the user changed in it stays."""

import pytest

from medsegdiff_auto.cli import learn
from medsegdiff_auto.cli.learn import FILES, NOTEBOOK, main


def test_the_notebook_and_its_source_are_written_to_the_folder(tmp_path, capsys):
    assert main(["-o", str(tmp_path / "a" / "b")]) == 0
    for file in FILES:
        assert (tmp_path / "a" / "b" / file.name).read_bytes() == file.read_bytes()
    assert str(tmp_path / "a" / "b" / NOTEBOOK.name) in capsys.readouterr().out


def test_what_is_there_is_replaced_only_with_overwrite(tmp_path, capsys):
    mine = tmp_path / NOTEBOOK.name
    mine.write_text("mine")
    assert main(["-o", str(tmp_path)]) == 2 and mine.read_text() == "mine"
    assert len(capsys.readouterr().err.splitlines()) == 4
    assert main(["-o", str(tmp_path), "--overwrite"]) == 0 and mine.read_bytes() == NOTEBOOK.read_bytes()


@pytest.fixture
def jupyter(tmp_path, monkeypatch):
    """A Jupyter that notes what it is asked to open and returns 7, in a folder that is the current one."""
    package = tmp_path / "packages" / "jupyterlab"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text("import sys; open('opened', 'w').write(sys.argv[1]); sys.exit(7)")
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.syspath_prepend(package.parent)
    monkeypatch.setenv("PYTHONPATH", str(package.parent))
    return work


def test_jupyter_opens_a_copy_in_the_current_folder_and_its_exit_code_is_ours(jupyter):
    assert main([]) == 7
    assert (jupyter / "opened").read_text() == NOTEBOOK.name
    assert (jupyter / NOTEBOOK.name).read_bytes() == NOTEBOOK.read_bytes()


def test_a_notebook_that_was_worked_on_is_opened_as_it_is(jupyter):
    (jupyter / NOTEBOOK.name).write_text("mine")
    assert main([]) == 7 and (jupyter / NOTEBOOK.name).read_text() == "mine"


def test_without_jupyter_the_error_says_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(learn.importlib.util, "find_spec", lambda name: None)
    assert main([]) == 2 and not list(tmp_path.iterdir())
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4 and "pip install jupyterlab" in lines[3]
