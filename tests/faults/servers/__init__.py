"""Faults of servers, networks, sessions and clocks, by their ids in the catalogue of faults.

A test is named after the fault it makes: ``test_f33_...``. Most are here; those of other folders are named below, and
so is what stands in for a fault that no test of a few seconds can make.

F25, F26  test_restarts              a fast and an immediate restart, one killed backend
F27, F28  worker/test_lost_replies, worker/test_transaction, client/test_unknown_outcome
F29, F30  test_networks              nothing of the worker arrives: both ends notice, no lock is left at the server;
          test_restarts              no transaction is open while a task runs
F31       test_networks              the worker hears nothing, and is heard
F32       test_networks              a line that loses a tenth; test_restarts: connecting once a second
F33, F34  test_failover              a promoted standby; commits that it never got
F35       test_restarts              the wait for a synchronous standby is broken off
F36..F39  test_refusals              disk full, no connection left, cancelled statements, deadlocks
F40       test_refusals              an old snapshot: what is right; how fast is measured by the benchmark
F41       worker/test_transaction    a task that sits in its transaction
F42..F45  test_refusals              locks, invalid indexes, dump and restore, settings and encodings
F46, F47  pgbouncer/test_pgbouncer
F48..F54  test_sessions              notifications lost, half-open and frozen listeners, a full queue, LISTEN refused
F55       test_restarts              an outage, with connections at rest and with none
F61..F63  test_clocks                clocks of workers and of the server, an outage longer than a lease

What a machine lacks (root, iproute2, iptables, libfaketime, PgBouncer) is said where its tests are skipped;
``make faults-servers`` runs all of them and says it at the end.
"""
