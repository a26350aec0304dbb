"""Where data lives: one SQLite file per provider and table.

Every access to these files inside this process goes through one copy of SQLite, the one inside the ADBC
driver, zvt's SQLAlchemy sessions included (``dbapi``). Two copies in one process do not see each other's
locks, because POSIX locks belong to the process, and would corrupt the file
(https://www.sqlite.org/howtocorrupt.html, section 2.2.1). Other processes may use any SQLite.
"""
