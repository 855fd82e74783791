"""The embedded stack: Apache Kafka and PostgreSQL on loopback, for machines that have only Python.

`stack` starts and stops both; `kafka` and `postgres` know one server each. For trying, developing and testing: one
node, no authentication, nothing here is meant to carry a lender's production.
"""
