"""Classes and functions that run code, and that no file of weights needs.

Nothing that a file names is ever called or imported here, so this list protects nobody from our reader. It serves the
user: a file that asks for one of these was made to do harm to those who open it in the usual way.
"""

from __future__ import annotations


class RunsCode(Exception):  # noqa: N818 - it is a finding, not an error of ours
    """A pickle asks for something that runs code."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Modules that run programs or code, reach files, the network or the interpreter, or call what they are given.
_MODULES = _words(
    """
    os posix nt sys subprocess _posixsubprocess commands popen2 shutil pty platform signal ctypes _ctypes cffi winreg
    _winapi msvcrt socket _socket socketserver ssl asyncio urllib urllib2 http httplib ftplib smtplib xmlrpc requests
    aiohttp webbrowser antigravity runpy importlib imp pkgutil zipimport site code codeop builtins
    _frozen_importlib _frozen_importlib_external inspect types gc marshal pickle _pickle cPickle pickletools dill
    cloudpickle joblib shelve copyreg operator _operator functools timeit profile cProfile pdb bdb trace
    doctest unittest threading _thread thread multiprocessing concurrent tempfile io _io codecs _codecs linecache
    fileinput compileall py_compile pydoc atexit pip setuptools distutils ensurepip venv idlelib lib2to3 tkinter
    sqlite3 numexpr IPython
    """
)

# Single functions, classes and modules of packages that are harmless otherwise.
_NAMES = _words(
    """
    torch.load torch.hub torch.jit torch.ops torch.classes torch.compile torch.package torch.serialization torch.fx
    torch._dynamo torch._inductor torch.storage._load_from_bytes torch.multiprocessing torch.utils.cpp_extension
    torch.utils.model_zoo torch.utils.collect_env torch.testing torch.from_file torch._utils._import_dotted_name
    numpy.load numpy.loads numpy.f2py numpy.testing numpy.distutils numpy.lib numpy.ctypeslib numpy.fromfile
    numpy.memmap numpy.savetxt numpy.loadtxt numpy.genfromtxt logging.config
    """
)

# In those modules: classes that hold data.
_HARMLESS = _words(
    """
    builtins.slice builtins.range builtins.type builtins.Exception types.SimpleNamespace
    functools.partial
    """
)


def runs_code(module: str, name: str) -> bool:
    """Say whether something of this name runs code when it is called."""
    whole = f"{module}.{name}"
    if whole in _HARMLESS:
        return False
    if module.split(".")[0] in _MODULES:
        return True
    if "." in name and any(part in _MODULES for part in name.split(".")):  # a way round: torch.serialization, os.system
        return True
    parts = whole.split(".")
    return any(".".join(parts[:length]) in _NAMES for length in range(1, len(parts) + 1))
