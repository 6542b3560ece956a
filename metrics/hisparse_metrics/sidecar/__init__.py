"""The sidecar: an engine's log as the catalogue's metrics. Composes sources, the grammar, and the exporter.

``config`` says what to follow; ``state`` what the records mean, per log and rank; ``snapshot`` is what a scrape sees,
``collector`` how; ``run`` is the loop that joins them. ``replay`` and ``report`` read a finished log instead.
"""
