"""psycopg 3 with several hosts: python3 hosts.py LEADER FOLLOWER, both as host:port"""

import sys

import psycopg

WANTED = {
    "any": {True, False}, "read-write": {False}, "primary": {False},
    "read-only": {True}, "standby": {True}, "prefer-standby": {True},
}


def connect(nodes, attributes, **more):
    hosts, ports = zip(*(node.rsplit(":", 1) for node in nodes))
    return psycopg.connect(
        host=",".join(hosts), port=",".join(ports), user="skein", dbname="skein", target_session_attrs=attributes, autocommit=True, **more,
    )


def main(leader, follower):
    for attributes, recovering in WANTED.items():
        for nodes in ((leader, follower), (follower, leader)):
            with connect(nodes, attributes) as conn:
                assert conn.execute("SELECT pg_is_in_recovery()").fetchone()[0] in recovering, (attributes, nodes)
    print("  ok the node that was asked for")

    with connect([follower], "any") as conn:
        conn.execute("DROP TABLE IF EXISTS mail")
        conn.execute("CREATE TABLE mail (n int)")
    for n in range(1, 11):
        with connect([follower], "any") as conn:
            conn.execute("INSERT INTO mail VALUES (%s)", (n,))
            position = conn.pgconn.parameter_status(b"skein.last_commit").decode()
            assert position == conn.execute("SHOW skein.last_commit").fetchone()[0], position
        with connect([leader], "any", options=f"-c skein.wait_for={position}") as conn:
            assert conn.execute("SELECT count(*) FROM mail").fetchone() == (n,)
        with connect([follower], "any", options=f"-c skein.wait_for={position}") as conn:
            assert conn.execute("SELECT count(*) FROM mail").fetchone() == (n,)
    print("  ok positions from one connection to the next")


main(*sys.argv[1:])
