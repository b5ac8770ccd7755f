import java.io.StringReader;
import java.io.StringWriter;
import java.math.BigDecimal;
import java.sql.*;
import java.time.OffsetDateTime;
import java.util.ArrayList;
import java.util.List;
import org.postgresql.PGConnection;

/** pgJDBC against a running server: java -cp postgresql.jar Check.java jdbc:postgresql://host:port/db?user=… */
public class Check {
  interface Step {
    void run(Connection c) throws Exception;
  }

  static final OffsetDateTime STARTED = OffsetDateTime.parse("2026-03-01T06:30:00.123456Z");

  public static void main(String[] args) throws Exception {
    try (Connection c = DriverManager.getConnection(args[0])) {
      try (Statement s = c.createStatement()) {
        s.execute("DROP TABLE IF EXISTS flight");
        s.execute(
            "CREATE TABLE flight (id bigserial PRIMARY KEY, name text, leader boolean, height double precision,"
                + " cargo bytea, price numeric(12,2), started timestamptz, legs int)");
      }
      step(c, "values come back as they were", Check::values);
      step(c, "values of every type", Check::types);
      step(c, "generated keys", Check::generatedKeys);
      step(c, "batches", Check::batches);
      step(c, "rows in portions", Check::fetchSize);
      step(c, "transactions and savepoints", Check::transactions);
      step(c, "errors carry their state", Check::errors);
      step(c, "copy in and out", Check::copy);
      step(c, "a read-only transaction refuses writes", Check::readOnly);
      step(c, "isValid", conn -> expect(conn.isValid(5), true));
      step(c, "metadata", Check::metadata);
      step(c, "a query that takes too long is cancelled", Check::timeout);
    }
  }

  static void step(Connection c, String name, Step step) throws Exception {
    step.run(c);
    System.out.println("  ok " + name);
  }

  static void values(Connection c) throws Exception {
    String insert = "INSERT INTO flight (id, name, leader, height, cargo, price, started, legs) VALUES (?, ?, ?, ?, ?, ?, ?, ?)";
    try (PreparedStatement p = c.prepareStatement(insert)) {
      p.setLong(1, 1000);
      p.setString(2, "Akka 'of' Kebnekaise ö");
      p.setBoolean(3, true);
      p.setDouble(4, 8848.25);
      p.setBytes(5, new byte[] {0, 1, (byte) 0xff});
      p.setBigDecimal(6, new BigDecimal("1234567890.10"));
      p.setObject(7, STARTED);
      p.setNull(8, Types.INTEGER);
      expect(p.executeUpdate(), 1);
    }
    try (PreparedStatement p = c.prepareStatement("SELECT * FROM flight WHERE id = ?")) {
      for (int i = 0; i < 8; i++) { // pgJDBC prepares by name and turns to binary after five runs
        p.setLong(1, 1000);
        try (ResultSet r = p.executeQuery()) {
          expect(r.next(), true);
          expect(r.getLong("id"), 1000L);
          expect(r.getString("name"), "Akka 'of' Kebnekaise ö");
          expect(r.getBoolean("leader"), true);
          expect(r.getDouble("height"), 8848.25);
          expect(r.getBytes("cargo")[2], (byte) 0xff);
          expect(r.getBigDecimal("price"), new BigDecimal("1234567890.10"));
          expect(r.getObject("started", OffsetDateTime.class).toInstant(), STARTED.toInstant());
          r.getInt("legs");
          expect(r.wasNull(), true);
        }
      }
    }
  }

  static void types(Connection c) throws Exception {
    Object[][] values = {
      {"int2", (short) -5}, {"int4", 7}, {"int8", 1L << 62}, {"float8", 1.5e300}, {"numeric", new BigDecimal("-0.000100")}, {"bool", true},
      {"text", ""}, {"date", java.time.LocalDate.of(2024, 2, 29)}, {"time", java.time.LocalTime.of(23, 59, 59)},
      {"timestamp", java.time.LocalDateTime.of(2024, 2, 29, 12, 0, 0, 1000)}, {"timestamptz", STARTED.withOffsetSameInstant(java.time.ZoneOffset.UTC)},
      {"uuid", java.util.UUID.fromString("6ba7b810-9dad-11d1-80b4-00c04fd430c8")},
    };
    for (Object[] v : values) {
      try (PreparedStatement p = c.prepareStatement("SELECT ?::" + v[0])) {
        for (int i = 0; i < 8; i++) {
          p.setObject(1, v[1]);
          try (ResultSet r = p.executeQuery()) {
            r.next();
            if (v[0].equals("int2")) expect(r.getShort(1), v[1]);
            else expect(r.getObject(1, v[1].getClass()), v[1]);
          }
        }
      }
    }
    try (PreparedStatement p = c.prepareStatement("SELECT ?, count(*) FROM flight WHERE id = ANY (?)")) {
      for (int i = 0; i < 8; i++) {
        p.setArray(1, c.createArrayOf("text", new String[] {"a b", null, "c\"d"}));
        p.setArray(2, c.createArrayOf("int8", new Long[] {1000L, 5L}));
        try (ResultSet r = p.executeQuery()) {
          r.next();
          expect(java.util.Arrays.asList((Object[]) r.getArray(1).getArray()), java.util.Arrays.asList("a b", null, "c\"d"));
          expect(r.getLong(2), 1L);
        }
      }
    }
  }

  static void generatedKeys(Connection c) throws Exception {
    try (PreparedStatement p =
        c.prepareStatement("INSERT INTO flight (name) VALUES (?)", Statement.RETURN_GENERATED_KEYS)) {
      p.setString(1, "Yksi");
      p.executeUpdate();
      try (ResultSet keys = p.getGeneratedKeys()) {
        expect(keys.next(), true);
        expect(keys.getLong("id") > 0, true);
      }
    }
  }

  static void batches(Connection c) throws Exception {
    try (PreparedStatement p = c.prepareStatement("INSERT INTO flight (id, name) VALUES (?, ?)")) {
      for (int i = 0; i < 500; i++) {
        p.setLong(1, 2000 + i);
        p.setString(2, "goose " + i);
        p.addBatch();
      }
      expect(p.executeBatch().length, 500);
    }
  }

  static void fetchSize(Connection c) throws Exception {
    c.setAutoCommit(false);
    try (PreparedStatement p = c.prepareStatement("SELECT id FROM flight WHERE id >= 2000 ORDER BY id")) {
      p.setFetchSize(70);
      int seen = 0;
      try (ResultSet r = p.executeQuery()) {
        while (r.next()) expect(r.getLong(1), 2000L + seen++);
      }
      expect(seen, 500);
    }
    c.commit();
    c.setAutoCommit(true);
  }

  static void transactions(Connection c) throws Exception {
    c.setAutoCommit(false);
    c.setTransactionIsolation(Connection.TRANSACTION_SERIALIZABLE);
    try (Statement s = c.createStatement()) {
      s.executeUpdate("INSERT INTO flight (id) VALUES (3000)");
      Savepoint savepoint = c.setSavepoint();
      s.executeUpdate("INSERT INTO flight (id) VALUES (3001)");
      c.rollback(savepoint);
      c.commit();
      c.setAutoCommit(true);
      expect(number(s, "SELECT count(*) FROM flight WHERE id >= 3000"), 1L);
    }
  }

  static void errors(Connection c) throws Exception {
    try (Statement s = c.createStatement()) {
      s.executeUpdate("INSERT INTO flight (id) VALUES (1000)");
      throw new AssertionError("a duplicate key went through");
    } catch (SQLException e) {
      expect(e.getSQLState(), "23505");
    }
  }

  static void copy(Connection c) throws Exception {
    var copies = c.unwrap(PGConnection.class).getCopyAPI();
    expect(copies.copyIn("COPY flight (id, name) FROM STDIN", new StringReader("4000\ta\n4001\tb\n")), 2L);
    StringWriter out = new StringWriter();
    copies.copyOut("COPY (SELECT id, name FROM flight WHERE id >= 4000 ORDER BY id) TO STDOUT", out);
    expect(out.toString(), "4000\ta\n4001\tb\n");
  }

  static void readOnly(Connection c) throws Exception {
    c.setAutoCommit(false);
    c.setReadOnly(true);
    try (Statement s = c.createStatement()) {
      s.executeUpdate("DELETE FROM flight");
      throw new AssertionError("a write went through");
    } catch (SQLException e) {
      expect(e.getSQLState(), "25006");
    }
    c.rollback();
    c.setReadOnly(false);
    c.setAutoCommit(true);
  }

  static void metadata(Connection c) throws Exception {
    DatabaseMetaData m = c.getMetaData();
    expect(m.getDatabaseProductName(), "PostgreSQL");
    expect(names(m.getTables(null, "public", "flight", new String[] {"TABLE"}), "TABLE_NAME"), List.of("flight"));
    expect(
        names(m.getColumns(null, "public", "flight", null), "COLUMN_NAME"),
        List.of("id", "name", "leader", "height", "cargo", "price", "started", "legs"));
    expect(names(m.getPrimaryKeys(null, "public", "flight"), "COLUMN_NAME"), List.of("id"));
    expect(names(m.getIndexInfo(null, "public", "flight", true, true), "COLUMN_NAME"), List.of("id"));
    try (Statement s = c.createStatement()) {
      s.execute("DROP TABLE IF EXISTS leg");
      s.execute("CREATE TABLE leg (id bigserial PRIMARY KEY, flight bigint NOT NULL REFERENCES flight (id), km numeric(8,2) DEFAULT 0)");
    }
    expect(names(m.getImportedKeys(null, "public", "leg"), "PKTABLE_NAME"), List.of("flight"));
    expect(names(m.getExportedKeys(null, "public", "flight"), "FKCOLUMN_NAME"), List.of("flight"));
    expect(names(m.getCrossReference(null, "public", "flight", null, "public", "leg"), "FK_NAME"), List.of("leg_flight_fkey"));
    try (ResultSet r = m.getColumns(null, "public", "leg", "km")) {
      r.next();
      expect(r.getInt("DATA_TYPE"), Types.NUMERIC);
      expect(r.getInt("COLUMN_SIZE"), 8);
      expect(r.getInt("DECIMAL_DIGITS"), 2);
    }
    for (ResultSet r : new ResultSet[] {m.getSchemas(), m.getCatalogs(), m.getTableTypes(), m.getTypeInfo(), m.getFunctions(null, null, "now"),
        m.getProcedures(null, null, "%"), m.getTablePrivileges(null, "public", "leg"), m.getColumnPrivileges(null, "public", "leg", "%"),
        m.getBestRowIdentifier(null, "public", "leg", DatabaseMetaData.bestRowSession, true), m.getVersionColumns(null, "public", "leg"),
        m.getUDTs(null, null, "%", null), m.getClientInfoProperties()}) {
      while (r.next()) r.getString(1);
      r.close();
    }
    try (Statement s = c.createStatement(); ResultSet r = s.executeQuery("SELECT l.id, l.km * 2 AS twice FROM leg l")) {
      ResultSetMetaData rm = r.getMetaData();
      expect(rm.isAutoIncrement(1), true);
      expect(rm.getColumnTypeName(2), "numeric");
      expect(rm.isNullable(1), ResultSetMetaData.columnNoNulls);
      expect(((org.postgresql.PGResultSetMetaData) rm).getBaseTableName(1), "leg");
    }
    try (Statement s = c.createStatement()) {
      s.execute("DROP TABLE leg");
    }
  }

  static void timeout(Connection c) throws Exception {
    try (Statement s = c.createStatement()) {
      s.setQueryTimeout(1);
      s.executeQuery("WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i % 1000 + 1 FROM n) SELECT count(*) FROM n");
      throw new AssertionError("it ended");
    } catch (SQLException e) {
      expect(e.getSQLState(), "57014");
    }
  }

  static long number(Statement s, String sql) throws SQLException {
    try (ResultSet r = s.executeQuery(sql)) {
      r.next();
      return r.getLong(1);
    }
  }

  static List<String> names(ResultSet r, String column) throws SQLException {
    List<String> names = new ArrayList<>();
    while (r.next()) names.add(r.getString(column));
    return names;
  }

  static void expect(Object got, Object want) {
    if (!got.equals(want)) throw new AssertionError("got " + got + ", want " + want);
  }
}
