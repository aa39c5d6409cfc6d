package outbound_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/grantway/grantway/internal/outbound"
)

// TestMachineTransport goes to the metadata service and nowhere else that the guard forbids.
func TestMachineTransport(t *testing.T) {
	transport := outbound.New(outbound.Options{}).MachineTransport()
	defer transport.CloseIdleConnections()
	for url, refused := range map[string]bool{
		"http://169.254.169.254/latest/meta-data": false,
		"http://169.254.170.2/v2/credentials":     false,
		"https://169.254.169.254/":                true,
		"http://169.254.169.254:8080/":            true,
		"http://169.254.1.1/":                     true,
		"http://127.0.0.1/":                       true,
		"https://10.0.0.1/":                       true,
		"http://example.com/":                     true,
	} {
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // a dial is not waited for: what counts is whether the guard says no before it
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		if proxy, err := transport.Proxy(r); (err != nil) != refused || proxy != nil {
			t.Errorf("%s: %v, want refused %v", url, err, refused)
		}
	}
	for _, address := range []string{"127.0.0.1:80", "169.254.169.254:443", "10.0.0.1:443"} {
		_, err := transport.DialContext(t.Context(), "tcp", address)
		if !errors.As(err, new(*outbound.Refused)) || !strings.Contains(err.Error(), "refused to call") {
			t.Errorf("dial %s: %v, want refused", address, err)
		}
	}
}
