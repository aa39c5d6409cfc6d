//go:build !race

package console_test

import "time"

// many is how many credentials there are in a full list, which is shown within patience.
const (
	many     = 10_000
	patience = 100 * time.Millisecond
)
