package access

import (
	"net/netip"
	"testing"
)

// However many addresses fail in a minute, they make a bounded number of rows, and none is lost.
func TestFailuresAreBounded(t *testing.T) {
	var f failures
	ann := &person{}
	ann.Email = "ann@example.com"
	for n := range 1000 {
		f.count(ann, netip.AddrFrom4([4]byte{192, 0, byte(n / 200), byte(n % 200)}))
	}
	sum := 0
	for _, n := range f.counts {
		sum += n
	}
	if len(f.counts) != maxFailures+1 || sum != 1000 {
		t.Errorf("%d rows, %d failures", len(f.counts), sum)
	}
}
