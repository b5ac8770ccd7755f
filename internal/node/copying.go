package node

import (
	"fmt"
	"sync"

	"skein/internal/replication"
)

// copying is how far a copy is that this node takes. Clients and the terminal ask from other goroutines.
type copying struct {
	tell func(replication.Progress)

	mu sync.Mutex
	at replication.Progress
}

func (c *copying) set(p replication.Progress) {
	c.mu.Lock()
	c.at = p
	c.mu.Unlock()
	if c.tell != nil {
		c.tell(p)
	}
}

// String says it to a client.
func (c *copying) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.at.Total == 0 {
		return "This node follows another one, which it has not reached yet."
	}
	return fmt.Sprintf("This node is copying the cluster: %d of %d MB.", c.at.Done>>20, c.at.Total>>20)
}
