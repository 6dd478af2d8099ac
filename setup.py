"""settings.ini, which nbdev reads too, describes the package once."""
from configparser import ConfigParser
from pathlib import Path

from setuptools import setup

parser = ConfigParser()
parser.read("settings.ini", encoding="utf-8")
cfg = parser["DEFAULT"]

extras = {key.removesuffix("_requirements"): cfg[key].split() for key in cfg if key.endswith("_requirements")}
tested = ("data", "minari", "cluster", "onnx", "tensorboard")   # by who develops
extras["dev"] += [requirement for name in tested for requirement in extras[name]]

setup(
    name=cfg["lib_name"], version=cfg["version"], description=cfg["description"], keywords=cfg["keywords"].split(),
    author=cfg["author"], author_email=cfg["author_email"], url=cfg["git_url"], license="Apache-2.0",
    project_urls={"Documentation": cfg["doc_host"] + cfg["doc_baseurl"]},
    classifiers=[
        "Development Status :: 3 - Alpha",
        f"Intended Audience :: {cfg['audience']}",
        f"Natural Language :: {cfg['language']}",
        "Topic :: Scientific/Engineering :: Artificial Intelligence", "Typing :: Typed",
        *(f"Programming Language :: Python :: 3.{minor}" for minor in range(10, 14)),
    ],
    long_description=Path("README.md").read_text(encoding="utf-8"), long_description_content_type="text/markdown",
    packages=[cfg["lib_path"]],
    package_data={cfg["lib_path"]: ["py.typed", "results/*", "data/*"]},
    include_package_data=False,
    python_requires=f">={cfg['min_python']}", install_requires=cfg["requirements"].split(),
    extras_require=extras,
    entry_points={"console_scripts": cfg["console_scripts"].split()},
)
