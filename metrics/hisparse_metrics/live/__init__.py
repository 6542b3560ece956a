"""The live page: a bounded history of every rank in memory, and the page that draws it in a browser.

Readings of all ranks become rows of columns (``rows``), rows become a history of fixed size (``history``), a thread
keeps it up to date (``sampler``), and ``api`` and ``pages`` answer requests about it. What the page says and looks like
is in ``vocabulary.json``, which the dashboards generate.
"""
