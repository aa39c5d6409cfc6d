//go:build race

package console_test

import "time"

// Under the race detector the databases are ten times as slow and more, so the list is
// shorter, and times say little. BenchmarkList measures the real thing.
const (
	many     = 1_000
	patience = 10 * time.Second
)
