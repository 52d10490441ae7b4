"""A campaign of faults: hostile configs and data, damaged runs, kills, full disks. `make test-faults` runs it.

Everything is drawn from one seed, which the end of the output tells; `VGX_FAULT_SEED=7 make test-faults` is
another campaign, or the same one again. Whatever is done to it, vgx says a line or does its work: it never shows a
traceback, and never loses or changes a row without a word.
"""
