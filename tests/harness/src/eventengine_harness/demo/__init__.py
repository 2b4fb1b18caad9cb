"""The main job, shown: `python -m eventengine_harness.demo`, which `make demo` runs.

Owns the story and its pictures in text. `timelines` and `reporting` are pure; `observing` reads
the metrics APIs and the engines' samples; `stages` provide a cluster; `story` runs the phases.
"""
