package grant

import (
	"context"
	"errors"
)

// Assertion is an assertion that somebody else made and keeps fresh, such as a workload
// identity platform: as a Request's Auth it is private_key_jwt with their signature (RFC
// 7523 section 2.2), as its Assertion the grant itself (section 2.1). It is sent as it is, so
// it should be read again for every Request; AssertionFile does that for one in a file.
type Assertion struct{ Value Secret }

// Method implements Authenticator.
func (Assertion) Method() string { return "private_key_jwt" }

func (a Assertion) check(*Request) error {
	if a.Value == "" {
		return errors.New("the assertion is missing")
	}
	return nil
}

func (a Assertion) authenticate(_ context.Context, p *proof) error {
	return p.assert(string(a.Value), nil)
}

// Assertion implements AssertionSource.
func (a Assertion) Assertion(context.Context) (Secret, error) { return a.Value, nil }
