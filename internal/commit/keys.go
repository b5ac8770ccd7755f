package commit

import (
	"hash/maphash"
	"sync"

	"skein/internal/history"
)

// MaxKey is how many bytes of a causality key tell it from others.
const MaxKey = 512

// keysPerGeneration bounds the memory for causality keys: there are two generations, of some 30 bytes for each key.
const keysPerGeneration = 64 << 10

// keys remembers, for one leadership, the newest commit under each causality key. What is forgotten counts as the newest that was
// forgotten, so that a reader waits for too much rather than too little; the same goes for keys whose hashes are equal.
type keys struct {
	mu       sync.Mutex
	seed     maphash.Seed
	floor    history.LSN // whatever is not in young or old is at or below
	young    map[uint64]history.LSN
	old      map[uint64]history.LSN
	youngest history.LSN // highest in young
	oldest   history.LSN // highest in old
}

// begin sets what every key counts as at first: what was committed in earlier epochs is below.
func (k *keys) begin(first history.LSN) { k.seed, k.floor = maphash.MakeSeed(), first }

func (k *keys) note(key string, lsn history.LSN) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.floor == 0 { // no leadership: nobody will ask
		return
	}
	if k.young == nil {
		k.young = map[uint64]history.LSN{}
	}
	h := k.hash(key)
	if _, known := k.young[h]; !known && len(k.young) >= keysPerGeneration {
		k.floor = max(k.floor, k.oldest)
		k.old, k.oldest = k.young, k.youngest
		k.young, k.youngest = map[uint64]history.LSN{}, 0
	}
	k.young[h] = max(k.young[h], lsn)
	k.youngest = max(k.youngest, lsn)
}

// newest gives the newest commit under a key, or a later one.
func (k *keys) newest(key string) history.LSN {
	k.mu.Lock()
	defer k.mu.Unlock()
	h := k.hash(key)
	return max(k.floor, k.young[h], k.old[h])
}

func (k *keys) hash(key string) uint64 { return maphash.String(k.seed, key[:min(len(key), MaxKey)]) }
