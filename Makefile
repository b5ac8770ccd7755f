# Everything a contributor runs often. `go build ./...` and `go test ./...` work without make.

GO       ?= go
FUZZTIME ?= 30s

.PHONY: build test race lint format bench fuzz soak mutants powercut clients

build:
	$(GO) build -o bin/skein ./cmd/skein

test race lint:
	.ci/run $@

format:
	$(GO) tool -modfile=tools.mod gofumpt -w .

# Skein beside PostgreSQL 15, alone and with followers; rewrites the tables in docs/PERFORMANCE.md.
bench:
	$(GO) run ./bench -update
	$(GO) run ./bench -replication -update

# Each fuzz target of the repository in turn.
fuzz:
	@grep -rl --include='*_test.go' '^func Fuzz' . | while read -r file; do \
	  for target in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\).*/\1/p' "$$file"); do \
	    echo "== $$(dirname "$$file") $$target"; \
	    $(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) "$$(dirname "$$file")" || exit 1; \
	  done; \
	done

# Long runs: kill -9 at random points for CRASHTEST_TIME, random faults of a cluster for CLUSTERTEST_TIME, random histories of failovers for
# FAILOVER_TIME; then clusters whose clocks jump, and processes that break the rules which nothing is lost by, which tests must notice.
# Power cuts of an ext4 file system need root; powercut alone does CRASHTEST_CUTS of them. Machines whose network is cut need root and nftables.
soak:
	$(GO) test -tags soak,powercut -run Soak -timeout 0 -v ./internal/...

# Skeins that break a rule, one after the other: some test must notice each. Ten minutes; part of soak.
mutants:
	$(GO) test -tags soak,powercut -run Mutation -timeout 0 -v ./internal/failover ./internal/crashtest ./internal/clustertest

powercut:
	$(GO) test -tags powercut -run PowerCut -timeout 0 -v ./internal/...

# Drivers of other languages; installs them from Debian and npm first (root only).
clients:
	clients/run --install
