"""Recorded rows as files for other programs, and files as recorded rows.

``exporting.export`` and ``importing.import_files`` do it; ``hive`` and ``freqtrade`` know what the files are
called, ``writing`` and ``reading`` their formats. Rows pass in batches, however long a series is.
"""
