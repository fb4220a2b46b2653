"""The five rules that trainers/__init__.py states, held against every file of that folder."""

from __future__ import annotations

import ast
import inspect

import pytest
from conftest import REPOSITORY

from nnunet_volf import discovery

FOLDER = REPOSITORY / "trainers"
TRAINERS = discovery.trainer_names(FOLDER)


def test_the_init_file_is_a_docstring() -> None:
    module = ast.parse((FOLDER / "__init__.py").read_text())
    assert ast.get_docstring(module)
    assert len(module.body) == 1


def test_the_folder_of_trainers_holds_nothing_but_python_files() -> None:
    others = [item.name for item in FOLDER.iterdir() if item.suffix != ".py" and item.name != "__pycache__"]
    assert others == []


@pytest.mark.parametrize("name", TRAINERS)
def test_a_trainer_file_holds_one_class_of_its_name_and_nothing_else(name: str) -> None:
    module = ast.parse((FOLDER / f"{name}.py").read_text())
    assert ast.get_docstring(module)
    classes = [node.name for node in module.body if isinstance(node, ast.ClassDef)]
    others = [node for node in module.body[1:] if not isinstance(node, ast.ClassDef | ast.Import | ast.ImportFrom)]
    assert classes == [name]
    assert [ast.unparse(node) for node in others] == []


@pytest.mark.parametrize("name", TRAINERS)
def test_a_trainer_file_imports_absolutely_and_no_other_trainer_of_ours(name: str) -> None:
    module = ast.parse((FOLDER / f"{name}.py").read_text())
    imports = [node for node in ast.walk(module) if isinstance(node, ast.ImportFrom)]
    assert [node.module for node in imports if node.level > 0] == []
    modules = [node.module or "" for node in imports]
    modules += [alias.name for node in ast.walk(module) if isinstance(node, ast.Import) for alias in node.names]
    assert [module for module in modules if module.startswith(("nnunet_volf.trainers", *TRAINERS))] == []


@pytest.mark.parametrize("name", TRAINERS)
def test_a_trainer_adds_no_parameter_that_nnunet_does_not_know(name: str) -> None:
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    module = ast.parse((FOLDER / f"{name}.py").read_text())
    known = list(inspect.signature(nnUNetTrainer.__init__).parameters)
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef) and node.name == "__init__":
            arguments = node.args
            assert [argument.arg for argument in arguments.args] == known
            assert arguments.vararg is arguments.kwarg is None
            assert arguments.kwonlyargs == arguments.posonlyargs == []
