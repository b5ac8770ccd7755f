// pgJDBC with several hosts: java -cp postgresql.jar Hosts.java LEADER FOLLOWER, both as host:port

import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.List;
import java.util.Map;
import java.util.Set;

class Hosts {
  static final Map<String, Set<Boolean>> WANTED = Map.of(
      "any", Set.of(true, false), "primary", Set.of(false), "secondary", Set.of(true), "preferSecondary", Set.of(true), "preferPrimary", Set.of(false));

  public static void main(String[] args) throws Exception {
    String leader = args[0], follower = args[1];
    for (var wanted : WANTED.entrySet()) {
      for (String hosts : List.of(leader + "," + follower, follower + "," + leader)) {
        try (Connection c = connect(hosts, "targetServerType=" + wanted.getKey())) {
          if (!wanted.getValue().contains(recovering(c))) throw new AssertionError(wanted.getKey() + " of " + hosts);
        }
      }
    }
    System.out.println("  ok the node that was asked for");

    // One connection that switches between reading and writing, as Spring and Hibernate do.
    try (Connection c = connect(follower, "readOnlyMode=transaction"); Statement s = c.createStatement()) {
      s.execute("DROP TABLE IF EXISTS parcel");
      s.execute("CREATE TABLE parcel (n int)");
      c.setAutoCommit(false);
      for (int n = 1; n <= 10; n++) {
        c.setReadOnly(false);
        s.execute("INSERT INTO parcel VALUES (" + n + ")");
        c.commit();
        c.setReadOnly(true);
        try (ResultSet r = s.executeQuery("SELECT count(*) FROM parcel")) {
          r.next();
          if (r.getInt(1) != n) throw new AssertionError(r.getInt(1) + " parcels of " + n);
        }
        c.commit();
      }
    }
    System.out.println("  ok own writes in read-only transactions");
  }

  static Connection connect(String hosts, String options) throws SQLException {
    return DriverManager.getConnection("jdbc:postgresql://" + hosts + "/skein?user=skein&" + options);
  }

  static boolean recovering(Connection c) throws SQLException {
    try (Statement s = c.createStatement(); ResultSet r = s.executeQuery("SELECT pg_is_in_recovery()")) {
      r.next();
      return r.getBoolean(1);
    }
  }
}
