package clustertest

// clockVariable tells a process with a patched clock which file says by how many seconds its wall clock is wrong.
const clockVariable = "SKEIN_TEST_CLOCK"

func (m *member) clock() string { return m.dir + ".clock" }
