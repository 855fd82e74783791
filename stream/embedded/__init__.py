"""The embedded stack: Apache Kafka and PostgreSQL on loopback, for machines that have only Python.

`stack` starts and stops both; `kafka` and `postgres` know one server each. For trials, development and tests only: one
node, whose broker has no authentication; PostgreSQL wants a password. Needs the extra `embedded`.
"""
