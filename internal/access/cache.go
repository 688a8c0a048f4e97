package access

import "sync"

// cache keeps the grants of verified JWTs by the SHA-256 of the token. It holds at most two generations of
// maxYoung grants each. When the young generation is full it becomes the old one, and the grants of the
// previous old generation are dropped unless they were used meanwhile.
type cache struct {
	mu         sync.RWMutex // guards what follows
	young, old map[sum]*Grant
}

const maxYoung = 5_000

func (c *cache) get(s sum) *Grant {
	c.mu.RLock()
	g, young := c.young[s]
	if !young {
		g = c.old[s]
	}
	c.mu.RUnlock()
	if !young && g != nil {
		c.put(s, g)
	}
	return g
}

func (c *cache) put(s sum, g *Grant) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.young == nil || len(c.young) >= maxYoung {
		c.old, c.young = c.young, map[sum]*Grant{}
	}
	c.young[s] = g
}

func (c *cache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.young, c.old = nil, nil
}
