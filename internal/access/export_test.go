package access

import "context"

// Hashes is how many password hashes were worked out.
func (p *People) Hashes() int64 { return p.hasher.done.Load() }

// Tidy does now what is due every minute.
func (p *People) Tidy(ctx context.Context) error { return p.tidy(ctx) }

// InMemory is how many sessions are in memory.
func (p *People) InMemory() int {
	p.sessions.mu.RLock()
	defer p.sessions.mu.RUnlock()
	return len(p.sessions.m)
}
