package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/grant"
)

// The exit codes.
const (
	exitDone    = 0
	exitFailed  = 1
	exitWrong   = 2
	exitNotOK   = 3
	exitRefused = 4
)

const exitCodes = `Exit codes:
  0  done
  1  failed: no hub, no network, a conflict, a fault of the hub; trying again may help
  2  the command line or a value is wrong; trying again does not help
  3  a credential does not work: its validation or its token request failed, its health
     is bad, or "curl --fail" got an error from the API
  4  not found, or not allowed for this client`

// exitOf is the exit code of each error of the hub; exitFailed is the others'.
var exitOf = map[grantway.Code]int{
	grantway.Malformed:        exitWrong,
	grantway.Invalid:          exitWrong,
	grantway.MethodNotAllowed: exitWrong,
	grantway.TooLarge:         exitWrong,
	grantway.UnsupportedMedia: exitWrong,
	grantway.TokenRefused:     exitNotOK,
	grantway.Unauthenticated:  exitRefused,
	grantway.Forbidden:        exitRefused,
	grantway.NotFound:         exitRefused,
}

// usageError is a command line that makes no sense.
type usageError struct{ message string }

func (e usageError) Error() string { return e.message }

func usagef(format string, args ...any) error { return usageError{fmt.Sprintf(format, args...)} }

// notOK is the answer "no" to a question the command asked: exit code 3. The message is
// empty when what was printed says all.
type notOK struct{ message string }

func (e notOK) Error() string { return e.message }

// exit prints err, if there is one, and returns the exit code.
func (c *cli) exit(err error) int {
	if err == nil {
		return exitDone
	}
	message, fields, code := c.explain(err)
	if message != "" {
		fmt.Fprintf(c.errs, "grantway: %s\n", printable(message))
	}
	for _, f := range fields {
		fmt.Fprintf(c.errs, "  %s %s\n", printable(f.Pointer), printable(f.Detail))
	}
	return code
}

// explain turns an error into what a person reads: what is wrong and what to do about it. The
// fields have names or places for pointers.
func (c *cli) explain(err error) (message string, fields []grantway.Field, code int) {
	var (
		usage  usageError
		no     notOK
		of     *grantway.Error
		placed placedError
		signIn *grant.Error
	)
	switch {
	case !c.running:
		return strings.TrimSpace(err.Error()) + "\nusage: " + c.usage, nil, exitWrong
	case errors.As(err, &usage):
		return err.Error(), nil, exitWrong
	case errors.As(err, &no):
		return err.Error(), nil, exitNotOK
	case errors.As(err, &of):
		message = strings.Replace(err.Error(), of.Error(), of.Message, 1)
		fields = slices.Clone(of.Fields)
		for i := range fields {
			if !errors.As(err, &placed) {
				fields[i].Pointer = fieldName(fields[i])
			}
		}
		if !of.RetryAt.IsZero() {
			fields = append(fields, grantway.Field{Pointer: "try again", Detail: "at " + of.RetryAt.Local().Format(time.DateTime)})
		}
		return message, fields, cmp.Or(exitOf[of.Code], exitFailed)
	case errors.Is(err, context.Canceled):
		return "interrupted", nil, exitFailed
	case errors.As(err, &signIn): // the only token request this program makes itself is the one to sign in
		message, code = c.explainSignIn(signIn)
		return message, nil, code
	}
	return err.Error(), nil, exitFailed
}

func (c *cli) explainSignIn(e *grant.Error) (string, int) {
	switch {
	case e.Stage == grant.StageAddress:
		return fmt.Sprintf("no hub answers at %s (%s); start it with \"grantway serve\", or set GRANTWAY_URL to where it is", c.hub, cmp.Or(e.Message, e.Error())), exitFailed
	case e.Code == "invalid_client":
		return fmt.Sprintf("the hub at %s does not know this client or its secret; check GRANTWAY_CLIENT_ID and GRANTWAY_CLIENT_SECRET, or whether owner.json is of this hub", c.hub), exitRefused
	case e.Code == "invalid_grant":
		return fmt.Sprintf("the hub at %s has ended this sign-in: it was not used for 30 days, or was taken back; run \"grantway login\" again", c.hub), exitRefused
	case e.Status == http.StatusNotFound:
		return fmt.Sprintf("what answers at %s is not a hub; check GRANTWAY_URL", c.hub), exitFailed
	}
	return fmt.Sprintf("sign in to the hub at %s: %v", c.hub, e), exitFailed
}

// fieldName is the pointer of a field as people call it: /inputs/client_id is client_id.
func fieldName(f grantway.Field) string {
	return strings.TrimPrefix(strings.TrimPrefix(f.Pointer, "/inputs/"), "/")
}
