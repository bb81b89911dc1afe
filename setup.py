"""Where the packages lie; all else stands in pyproject.toml."""

from setuptools import find_packages, setup

ROOM, TOP_FOLDERS = "medsegdiff_auto", ("plans", "dataset_conversion")

setup(
    packages=find_packages(include=[ROOM, f"{ROOM}.*"])
    + [f"{ROOM}.{package}" for folder in TOP_FOLDERS for package in find_packages(include=[folder, f"{folder}.*"])],
    package_dir={f"{ROOM}.{folder}": folder for folder in TOP_FOLDERS},
    package_data={f"{ROOM}.reporting": ["page_files/*", "page_files/niivue/*"],
                  f"{ROOM}.explanation": ["*.ipynb"], f"{ROOM}.plans": ["*.json"],
                  f"{ROOM}.plans.ready": ["*.json", "*.md"]},
)
