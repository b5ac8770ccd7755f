"""psycopg 3 against a running server: python3 check.py URL"""

import datetime
import decimal
import sys
import uuid

import psycopg
from psycopg import errors
from psycopg.types.json import Json, Jsonb

UTC = datetime.timezone.utc
STARTED = datetime.datetime(2026, 3, 1, 6, 30, 0, 123456, tzinfo=UTC)
TABLE = """
CREATE TABLE flight (
    id bigint PRIMARY KEY, name text, leader boolean, height double precision, cargo bytea,
    price numeric(12,2), started timestamptz, day date, tag uuid, legs int
)"""
ROW = (
    1, "Akka 'of' Kebnekaise ö", True, 8848.25, b"\x00\x01\xff", decimal.Decimal("1234567890.10"),
    STARTED, datetime.date(2026, 3, 1), uuid.UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8"), None,
)
INSERT = "INSERT INTO flight VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"


def values_come_back_as_they_were(conn):
    conn.execute(INSERT, ROW)
    for binary in (False, True):
        for _ in range(7):  # psycopg prepares a statement after five runs
            row = conn.execute("SELECT * FROM flight WHERE id = %s", (1,), binary=binary).fetchone()
            assert row == ROW, (binary, row)


def small_integers_and_nothing_are_parameters(conn):
    for number in (1, 40_000, 3_000_000_000, -1):
        assert conn.execute("SELECT id FROM flight WHERE id = %s", (number,)).fetchall() == ([(1,)] if number == 1 else [])
    assert conn.execute("SELECT %s::text", (None,)).fetchone() == (None,)


def values_of_every_type(conn):
    """What is sent comes back, in both formats, before and after the driver prepares the statement."""
    zone = datetime.timezone(datetime.timedelta(hours=2))
    for kind, value in (
        ("int2", -32768), ("int8", 2**62), ("float4", 0.5), ("numeric", decimal.Decimal("-0.000100")), ("bool", False),
        ("text", ""), ("varchar", "ö'\\"), ("bytea", b""), ("date", datetime.date(1, 1, 1)), ("time", datetime.time(23, 59, 59, 999999)),
        ("timestamp", datetime.datetime(2024, 2, 29, 12, 30, 0, 1)), ("timestamptz", datetime.datetime(2024, 2, 29, 12, tzinfo=zone)),
        ("interval", datetime.timedelta(days=-3, seconds=7, microseconds=5)), ("uuid", uuid.uuid4()),
        ("int[]", [1, None, 3]), ("text[]", ["a b", 'c"d', None, "NULL", ""]), ("numeric[]", [decimal.Decimal("1.50")]), ("bool[]", [True, None]),
        ("jsonb", {"a": [1, True, None, "ö"]}), ("json", [1, {"b": 2.5}]),
    ):
        sent = Jsonb(value) if kind == "jsonb" else Json(value) if kind == "json" else value
        for binary in (False, True):
            for _ in range(7):
                back = conn.execute(f"SELECT %s::{kind}", (sent,), binary=binary).fetchone()[0]
                assert back == value and type(back) is type(value), (kind, binary, back)


def arrays_are_parameters(conn):
    assert conn.execute("SELECT count(*) FROM flight WHERE id = ANY(%s)", ([1, 5, 9],)).fetchone() == (1,)
    assert conn.execute("SELECT count(*) FROM flight WHERE name = ANY(%s)", ([ROW[1], "x"],)).fetchone() == (1,)
    assert conn.execute("SELECT * FROM unnest(%s::int[])", ([3, 4],)).fetchall() == [(3,), (4,)]


def moments_are_in_the_session_zone(conn):
    conn.execute("SET timezone TO 'America/New_York'")
    for binary in (False, True):
        row = conn.execute("SELECT started, started::text, started::date, extract(hour from started) FROM flight WHERE id = 1", binary=binary).fetchone()
        assert row == (STARTED, "2026-03-01 01:30:00.123456-05", datetime.date(2026, 3, 1), decimal.Decimal(1)), row
        assert row[0].utcoffset() == datetime.timedelta(hours=-5)
    conn.execute("RESET timezone")


def many_rows_at_once(conn):
    with conn.cursor() as cursor:
        cursor.executemany("INSERT INTO flight (id, name) VALUES (%s, %s)", [(i, f"goose {i}") for i in range(100, 200)])
    assert conn.execute("SELECT count(*) FROM flight WHERE id >= 100").fetchone() == (100,)


def pipeline(conn):
    with conn.pipeline():
        cursors = [conn.execute("SELECT %s::int + 1", (i,)) for i in range(50)]
    assert [cursor.fetchone()[0] for cursor in cursors] == list(range(1, 51))


def cursors_of_the_server(conn):
    with conn.transaction(), conn.cursor(name="flock") as cursor:
        cursor.execute("SELECT id FROM flight WHERE id >= %s ORDER BY id", (100,))
        assert cursor.fetchmany(3) == [(100,), (101,), (102,)]
        assert len(cursor.fetchall()) == 97
    with conn.cursor(name="flock", withhold=True) as cursor:
        cursor.execute("SELECT id FROM flight WHERE id >= %s ORDER BY id", (100,))
        conn.execute("UPDATE flight SET name = 'moved' WHERE id = 101")
        assert sum(1 for _ in cursor) == 100
    with conn.transaction(), conn.cursor(name="flock", scrollable=True) as cursor:
        cursor.execute("SELECT id FROM flight WHERE id >= 100 ORDER BY id")
        cursor.scroll(50, mode="absolute")
        assert cursor.fetchone() == (150,)
        cursor.scroll(-2)
        assert cursor.fetchone() == (149,)


def copy_in_and_out(conn):
    with conn.cursor() as cursor:
        with cursor.copy("COPY flight (id, name, legs) FROM STDIN") as copy:
            for i in range(1000, 1100):
                copy.write_row((i, "tab\tand\\backslash", None))
        with cursor.copy("COPY (SELECT id, name FROM flight WHERE id >= 1000 ORDER BY id) TO STDOUT") as copy:
            copy.set_types(["int8", "text"])
            rows = list(copy.rows())
    assert rows == [(i, "tab\tand\\backslash") for i in range(1000, 1100)], rows[:2]
    with conn.cursor() as cursor:
        with cursor.copy("COPY flight (id, height) FROM STDIN (FORMAT BINARY)") as copy:
            copy.set_types(["int8", "float8"])
            copy.write_row((2000, 1.5))
    assert conn.execute("SELECT height FROM flight WHERE id = 2000").fetchone() == (1.5,)


def transactions_and_savepoints(conn):
    try:
        with conn.transaction():
            conn.execute("INSERT INTO flight (id) VALUES (3000)")
            try:
                with conn.transaction():
                    conn.execute("INSERT INTO flight (id) VALUES (3000)")
            except errors.UniqueViolation as e:
                assert e.diag.constraint_name == "flight_pkey", e.diag.constraint_name
            conn.execute("INSERT INTO flight (id) VALUES (3001)")
            raise psycopg.Rollback
    except psycopg.Rollback:
        pass
    assert conn.execute("SELECT count(*) FROM flight WHERE id >= 3000").fetchone() == (0,)


def server_side_cursor(conn):
    with conn.transaction(), conn.cursor(name="walk") as cursor:
        cursor.itersize = 30
        cursor.execute("SELECT id FROM flight WHERE id >= 1000 AND id < 1100 ORDER BY id")
        assert [row[0] for row in cursor] == list(range(1000, 1100))


def rows_one_by_one(conn):
    with conn.cursor() as cursor:
        seen = sum(1 for _ in cursor.stream("SELECT id FROM flight WHERE id >= %s", (100,)))
    assert seen == 201, seen


def errors_have_their_class(conn):
    for sql, kind in (
        ("SELEC", errors.SyntaxError), ("SELECT * FROM swan", errors.UndefinedTable),
        ("SELECT beak FROM flight", errors.UndefinedColumn), ("INSERT INTO flight (name) VALUES ('x')", errors.NotNullViolation),
        ("SELECT nosuch(1)", errors.UndefinedFunction), ("INSERT INTO flight (id) VALUES (1)", errors.UniqueViolation),
        ("SELECT 1 / (id - id) FROM flight", errors.DivisionByZero), ("SELECT 'x'::int", errors.InvalidTextRepresentation),
        ("INSERT INTO flight (id, legs) VALUES (9, 3000000000)", errors.NumericValueOutOfRange),
        ("SELECT '2024-02-30'::date", errors.DatetimeFieldOverflow), ("CREATE TABLE flight (a int)", errors.DuplicateTable),
    ):
        try:
            conn.execute(sql)
            raise AssertionError(f"{sql} went through")
        except kind:
            pass


def main(url):
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("DROP TABLE IF EXISTS flight")
        conn.execute(TABLE)
        for check in (
            values_come_back_as_they_were, values_of_every_type, arrays_are_parameters, moments_are_in_the_session_zone, small_integers_and_nothing_are_parameters, many_rows_at_once, pipeline, cursors_of_the_server,
            copy_in_and_out, transactions_and_savepoints, server_side_cursor, rows_one_by_one, errors_have_their_class,
        ):
            check(conn)
            print("  ok", check.__name__.replace("_", " "))


main(sys.argv[1])
