"""In the source, files are read by what cannot run them, and only there."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
PICKLES, TENSORS, ARRAYS = "nnunet/plain_pickle.py", "training/checkpoints.py", "files/arrays.py"
NEVER = {"eval", "exec", "compile", "__import__", "pickle.load", "pickle.loads", "joblib.load", "os.system", "os.popen",
         "yaml.load", "torch.jit.load", "torch.hub.load", "np.fromregex", "shelve.open", "marshal.load",
         "marshal.loads", "runpy.run_path", "shutil.unpack_archive", "torch.package.PackageImporter"}
ONLY_IN = {"pickle.Unpickler": PICKLES, "torch.load": TENSORS, "np.load": ARRAYS}


def calls(source: str):
    """Dotted name, keyword arguments and line of every call, and of every class that is inherited."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords}, node.lineno
        elif isinstance(node, ast.ClassDef):
            yield from ((ast.unparse(base), {}, node.lineno) for base in node.bases)


def faults(source: str, file: str) -> list[str]:
    found = []
    for name, keywords, line in calls(source):
        if name in NEVER or (name in ONLY_IN and file != ONLY_IN[name]) or keywords.get("shell") == "True" or (
                name == "np.load" and keywords.get("allow_pickle") != "False") or (
                name == "torch.load" and keywords.get("weights_only") != "True") or name.endswith(".extractall"):
            found.append(f"{file}:{line}: {name}")
    return found


def test_no_module_reads_a_file_in_a_way_that_could_run_it():
    folders = {ROOT / "medsegdiff_auto": "", ROOT / "dataset_conversion": "dataset_conversion/"}
    found = [fault for folder, prefix in folders.items() for file in folder.rglob("*.py")
             for fault in faults(file.read_text(encoding="utf-8"), prefix + file.relative_to(folder).as_posix())]
    assert found == []


def test_tables_are_written_by_the_one_writer_that_defuses_formulas():
    for file in (ROOT / "medsegdiff_auto").rglob("*.py"):
        names = {name for name, _, _ in calls(file.read_text(encoding="utf-8"))}
        assert file.name == "writing.py" or not [name for name in names if name.endswith((".to_csv", "csv.writer",
                                                                                          "csv.DictWriter"))], file


def test_a_fault_is_found():
    for line in ("np.load(a)", "np.load(a, allow_pickle=True)", "torch.load(a)", "pickle.loads(a)", "eval(a)",
                 "subprocess.run(a, shell=True)", "zipped.extractall(a)", "class A(pickle.Unpickler): pass"):
        assert faults(line, "files/arrays.py" if "np" in line else "other.py"), line
    assert not faults("np.load(a, allow_pickle=False)", ARRAYS) and not faults("model.eval()", "a.py")
