package clustertest

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"skein/internal/claims"
)

// registers are rows that clients read, write, and change if they hold what is expected, through whoever leads. What
// they were told must be what one machine without faults could have told (linearizability), which another program
// than ours decides. A read counts its readers, too: it is a commit, so that a leader that is none any more cannot answer it.
type registers struct {
	running sync.WaitGroup
	stop    context.CancelFunc

	mu   sync.Mutex
	next int // of values: none is written twice
	ops  []porcupine.Operation
}

const (
	registerKeys    = 3
	registerClients = 4
	registerPause   = 4 * time.Millisecond // so that a history stays small
	judgeTime       = 30 * time.Second
)

type action int

const (
	read action = iota
	write
	swap
)

// access is what a client asks for, and answer what it is told.
type access struct {
	do       action
	key      int
	expected int // swap
	value    int // write, swap
}

type answer struct {
	value   int  // read
	swapped bool // swap
	unknown bool
}

var registerModel = porcupine.Model{
	Partition: func(ops []porcupine.Operation) [][]porcupine.Operation {
		parts := make([][]porcupine.Operation, registerKeys)
		for _, op := range ops {
			k := op.Input.(access).key
			parts[k] = append(parts[k], op)
		}
		return parts
	},
	Init: func() any { return 0 },
	Step: func(state, input, output any) (bool, any) {
		holds, in, out := state.(int), input.(access), output.(answer)
		switch in.do {
		case write:
			return true, in.value
		case swap:
			if holds == in.expected {
				return out.unknown || out.swapped, in.value
			}
			return out.unknown || !out.swapped, holds
		default:
			return out.value == holds, holds
		}
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v → %+v", input, output) },
}

// newRegisters makes the table and lets the clients loose.
func newRegisters(e *elected, seed uint64) *registers {
	e.t.Helper()
	e.leader.query("CREATE TABLE registers (k int PRIMARY KEY, v int NOT NULL, readers int NOT NULL)")
	for k := range registerKeys {
		e.leader.query(fmt.Sprintf("INSERT INTO registers VALUES (%d, 0, 0)", k))
	}
	ctx, stop := context.WithCancel(context.Background())
	r := &registers{stop: stop}
	began := time.Now()
	for i := range registerClients {
		rng := rand.New(rand.NewPCG(seed, uint64(i)))
		r.running.Go(func() {
			last := 0 // value that this client has seen last
			each(ctx, e.url, func(conn *pgx.Conn) error {
				for ctx.Err() == nil {
					in := r.choose(rng, last)
					called := time.Since(began)
					out, err := in.perform(conn)
					r.note(i, in, out, err, called, time.Since(began))
					if err != nil {
						return err
					}
					if in.do == read {
						last = out.value
					}
					time.Sleep(registerPause)
				}
				return nil
			})
		})
	}
	e.t.Cleanup(r.end)
	return r
}

func (r *registers) choose(rng *rand.Rand, last int) access {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.next++
	return access{do: action(rng.IntN(3)), key: rng.IntN(registerKeys), expected: last, value: r.next}
}

func (in access) perform(conn *pgx.Conn) (out answer, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), claims.DefaultTimeout)
	defer cancel()
	switch in.do {
	case read:
		err = conn.QueryRow(ctx, "UPDATE registers SET readers = readers + 1 WHERE k = $1 RETURNING v", in.key).Scan(&out.value)
	case write:
		_, err = conn.Exec(ctx, "UPDATE registers SET v = $2 WHERE k = $1", in.key, in.value)
	case swap:
		var tag pgconn.CommandTag
		tag, err = conn.Exec(ctx, "UPDATE registers SET v = $3 WHERE k = $1 AND v = $2", in.key, in.expected, in.value)
		out.swapped = tag.RowsAffected() == 1
	}
	return out, err
}

// note keeps what may have had an effect. What is unknown may have it at any later time.
func (r *registers) note(client int, in access, out answer, err error, called, returned time.Duration) {
	op := porcupine.Operation{ClientId: client, Input: in, Output: out, Call: int64(called), Return: int64(returned)}
	if err != nil {
		if in.do == read || pgconn.SafeToRetry(err) || claims.OutcomeOf(err) == claims.Refused {
			return
		}
		op.Output, op.Return = answer{unknown: true}, math.MaxInt64
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ops = append(r.ops, op)
}

func (r *registers) end() {
	r.stop()
	r.running.Wait()
}

// check ends the clients and judges what they were told.
func (r *registers) check(t *testing.T) {
	t.Helper()
	r.end()
	open := 0
	for _, op := range r.ops {
		if op.Return == math.MaxInt64 {
			open++
		}
	}
	began := time.Now()
	result := porcupine.CheckOperationsTimeout(registerModel, r.ops, judgeTime)
	t.Logf("registers: %d operations, %d of unknown outcome: %s, judged in %v", len(r.ops), open, result, time.Since(began).Round(time.Millisecond))
	if result == porcupine.Illegal {
		t.Errorf("what clients of the registers were told is not what one machine could have told")
	}
}

// The judge finds what it is there for.
func TestRegistersAreJudged(t *testing.T) {
	op := func(client int, from, till int64, in access, out answer) porcupine.Operation {
		return porcupine.Operation{ClientId: client, Input: in, Output: out, Call: from, Return: till}
	}
	put := func(client int, from, till int64, v int) porcupine.Operation {
		return op(client, from, till, access{do: write, value: v}, answer{})
	}
	get := func(client int, from, till int64, v int) porcupine.Operation {
		return op(client, from, till, access{do: read}, answer{value: v})
	}
	cas := func(client int, from, till int64, expected, v int, done bool) porcupine.Operation {
		return op(client, from, till, access{do: swap, expected: expected, value: v}, answer{swapped: done})
	}
	open := func(o porcupine.Operation) porcupine.Operation {
		o.Output, o.Return = answer{unknown: true}, math.MaxInt64
		return o
	}
	right := []porcupine.Operation{put(0, 1, 2, 1), get(1, 3, 4, 1), put(0, 5, 8, 2), get(1, 6, 7, 2), cas(2, 9, 10, 2, 3, true), get(0, 11, 12, 3)}
	for name, one := range map[string]struct {
		doctored []porcupine.Operation
		legal    bool
	}{
		"right":                            {right, true},
		"a stale read":                     {slices.Concat(right, []porcupine.Operation{get(3, 13, 14, 2)}), false},
		"a lost write":                     {slices.Concat(right, []porcupine.Operation{put(0, 13, 14, 4), get(1, 15, 16, 3)}), false},
		"a value from nowhere":             {slices.Concat(right, []porcupine.Operation{get(1, 15, 16, 77)}), false},
		"a swap of what was not there":     {slices.Concat(right, []porcupine.Operation{cas(1, 15, 16, 2, 5, true)}), false},
		"a swap that should have worked":   {slices.Concat(right, []porcupine.Operation{cas(1, 15, 16, 3, 5, false)}), false},
		"an unknown write that comes late": {slices.Concat(right, []porcupine.Operation{open(put(1, 3, 4, 9)), get(2, 20, 21, 9)}), true},
		"one that never comes":             {slices.Concat(right, []porcupine.Operation{open(put(1, 3, 4, 9))}), true},
		"one that comes and is lost":       {slices.Concat(right, []porcupine.Operation{open(put(1, 13, 14, 9)), get(2, 20, 21, 9), get(2, 22, 23, 3)}), false},
		"two values for two readers":       {slices.Concat(right, []porcupine.Operation{put(0, 13, 20, 4), put(1, 13, 20, 5), get(2, 14, 15, 4), get(2, 16, 17, 5), get(3, 18, 19, 4)}), false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := porcupine.CheckOperations(registerModel, one.doctored); got != one.legal {
				t.Errorf("legal: %v, want %v", got, one.legal)
			}
		})
	}
}
